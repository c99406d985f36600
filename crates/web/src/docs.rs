//! The API's documentation: the document, and two readers of it served without any network.

use axum::Router;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};

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

/// `/openapi.json`, `/docs` (Swagger UI) and `/redoc`.
pub fn router(document: String) -> Router {
    Router::new()
        .route(
            "/openapi.json",
            get(move || async move { ([(CONTENT_TYPE, "application/json")], document) }),
        )
        .route("/docs", get(|| async { Html(SWAGGER_PAGE) }))
        .route("/redoc", get(|| async { Html(REDOC_PAGE) }))
        .route("/docs/assets/swagger-ui-bundle.js", get(|| async { script(SWAGGER_JS) }))
        .route("/docs/assets/swagger-ui.css", get(|| async { asset(SWAGGER_CSS, "text/css") }))
        .route("/docs/assets/redoc.standalone.js", get(|| async { script(REDOC_JS) }))
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
