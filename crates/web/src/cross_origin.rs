//! Which web pages may call.

use axum::Router;
use http::HeaderValue;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::Config;

/// An origin in `server.cors_origins` is not one.
#[derive(Debug, thiserror::Error)]
#[error("server.cors_origins: {0:?} is not an origin such as https://app.example.com")]
pub struct CrossOriginError(String);

/// Lets pages of the configured origins call; without any, the router as it is.
pub fn cross_origin(router: Router, config: &Config) -> Result<Router, CrossOriginError> {
    let origins = &config.cors_origins;
    if origins.is_empty() {
        return Ok(router);
    }
    let layer = CorsLayer::new().allow_methods(Any).allow_headers(Any).expose_headers(Any);
    if origins.iter().any(|origin| origin == "*") {
        return Ok(router.layer(layer.allow_origin(Any)));
    }
    let values = origins.iter().map(|origin| {
        let plain = origin.starts_with("http://") || origin.starts_with("https://");
        HeaderValue::from_str(origin)
            .ok()
            .filter(|_| plain)
            .ok_or_else(|| CrossOriginError(origin.clone()))
    });
    let values = values.collect::<Result<Vec<_>, _>>()?;
    Ok(router.layer(layer.allow_origin(AllowOrigin::list(values))))
}
