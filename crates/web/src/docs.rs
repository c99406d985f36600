//! The API's documentation: the document, and two readers of it served without any network.

use std::sync::Arc;

use axum::Router;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use tokio::sync::OnceCell;
use utoipa::openapi::OpenApi;

use crate::Error;

const SWAGGER_JS: &[u8] = include_bytes!("../assets/swagger-ui-bundle.js.gz");
const SWAGGER_CSS: &[u8] = include_bytes!("../assets/swagger-ui.css.gz");
const REDOC_JS: &[u8] = include_bytes!("../assets/redoc.standalone.js.gz");

const SWAGGER_PAGE: &str = r##"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Ledgerline API</title>
<link rel="stylesheet" href="/docs/assets/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true});</script>
</body></html>"##;

const REDOC_PAGE: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Ledgerline API</title></head>
<body style="margin:0"><div id="redoc"></div>
<script src="/docs/assets/redoc.standalone.js"></script>
<script>Redoc.init("/openapi.json", {disableSearch: true}, document.getElementById("redoc"));</script>
</body></html>"#;

/// The API's description, made when somebody first asks for it.
#[derive(Debug)]
struct Document {
    make: fn() -> OpenApi,
    made: OnceCell<Bytes>,
}

/// `/openapi.json`, as `make` gives it, `/docs` (Swagger UI) and `/redoc`.
pub fn router(make: fn() -> OpenApi) -> Router {
    let document = Arc::new(Document { make, made: OnceCell::new() });
    Router::new()
        .route("/openapi.json", get(move || async move { document.answer().await }))
        .route("/docs", get(|| async { Html(SWAGGER_PAGE) }))
        .route("/redoc", get(|| async { Html(REDOC_PAGE) }))
        .route("/docs/assets/swagger-ui-bundle.js", get(|| async { script(SWAGGER_JS) }))
        .route("/docs/assets/swagger-ui.css", get(|| async { asset(SWAGGER_CSS, "text/css") }))
        .route("/docs/assets/redoc.standalone.js", get(|| async { script(REDOC_JS) }))
}

impl Document {
    async fn answer(&self) -> crate::Result<Response> {
        let made = self.made.get_or_try_init(|| written(self.make)).await?;
        Ok(([(CONTENT_TYPE, "application/json")], made.clone()).into_response())
    }
}

/// The description as JSON. It takes some milliseconds, in which a lane would serve nobody.
async fn written(make: fn() -> OpenApi) -> crate::Result<Bytes> {
    let text = tokio::task::spawn_blocking(move || make().to_json()).await;
    let text = text.map_err(|panicked| Error::internal(&panicked))?;
    text.map(Bytes::from).map_err(|error| Error::internal(&error))
}

fn script(gzipped: &'static [u8]) -> Response {
    asset(gzipped, "text/javascript")
}

/// Kept compressed in the binary and sent so: every browser takes gzip.
fn asset(gzipped: &'static [u8], content_type: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CONTENT_ENCODING, "gzip"),
        (CACHE_CONTROL, "public, max-age=86400"),
    ];
    (headers, gzipped).into_response()
}
