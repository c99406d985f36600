//! The routes of the agent API.

mod analytics;
mod answer;
mod asked;
mod history;
mod pace;
mod root;
mod runs;
mod sessions;
mod visitor;
mod workflows;
mod ws;

use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRef, FromRequest as _, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use http::{HeaderName, HeaderValue, Method};
use identity::{Identity, Rule};
use utoipa::openapi::OpenApi;
use web::{Dialect, Routes, routes};

use crate::Agents;

pub(crate) use pace::Pace;

/// Below these, and in this dialect, is the agent API.
pub const PATHS: &[(&str, Dialect)] = &[
    ("/sessions", Dialect::Agents),
    ("/workflows", Dialect::Agents),
    ("/history", Dialect::Agents),
    ("/analytics", Dialect::Agents),
    ("/ws", Dialect::Agents),
];

/// The largest request.
const LARGEST: usize = 1024 * 1024;

/// Who may use which route, and what scope a key needs for it.
const RULES: &[Rule] = &[
    Rule { method: "GET", path: "/sessions/**", roles: &["logined"], scope: "agents:read" },
    Rule { method: "*", path: "/sessions/**", roles: &["logined"], scope: "agents:write" },
    Rule { method: "GET", path: "/workflows/**", roles: &["logined"], scope: "agents:read" },
    Rule { method: "*", path: "/workflows/**", roles: &["logined"], scope: "agents:write" },
    Rule { method: "GET", path: "/history/**", roles: &["logined"], scope: "agents:read" },
    Rule { method: "*", path: "/history/**", roles: &["logined"], scope: "agents:write" },
    Rule { method: "GET", path: "/analytics/**", roles: &["logined"], scope: "agents:read" },
    Rule { method: "GET", path: "/ws/**", roles: &["logined"], scope: "agents:read" },
];

impl FromRef<Agents> for Identity {
    fn from_ref(agents: &Agents) -> Self {
        agents.parts().identity.clone()
    }
}

/// The agent API, to be merged: its paths are whole, with and without a slash at their end.
pub fn router(agents: &Agents) -> Router {
    let routes = routes().with_slashes();
    agents.parts().identity.govern(routes.paths(""), RULES);
    let router = routes
        .router()
        .route("/", axum::routing::get(root::greet))
        .layer(from_fn(read_whole))
        .layer(DefaultBodyLimit::max(LARGEST))
        .layer(from_fn_with_state(agents.clone(), pace::paced));
    web::speak(router, Dialect::Agents)
        .layer(from_fn_with_state(agents.clone(), dress))
        .with_state(agents.clone())
}

/// Its description.
pub fn document() -> OpenApi {
    routes().document()
}

fn routes() -> Routes<Agents> {
    of_sessions().merge(of_workflows()).merge(of_history()).merge(of_figures())
}

fn of_sessions() -> Routes<Agents> {
    Routes::new()
        .routes(routes!(sessions::list_sessions, sessions::create_session))
        .routes(routes!(sessions::get_session, sessions::update_session, sessions::delete_session))
        .routes(routes!(sessions::save_session))
        .routes(routes!(sessions::restore_session))
}

fn of_workflows() -> Routes<Agents> {
    Routes::new()
        .routes(routes!(runs::run_session))
        .routes(routes!(runs::stream_session))
        .routes(routes!(workflows::list_workflows, workflows::create_workflow))
        .routes(routes!(workflows::load_workflow))
        .routes(routes!(workflows::search_workflows))
        .routes(routes!(
            workflows::get_workflow,
            workflows::update_workflow,
            workflows::delete_workflow
        ))
        .routes(routes!(workflows::get_visualization))
        .routes(routes!(runs::run_workflow))
        .routes(routes!(runs::stream_workflow))
        .routes(routes!(runs::list_executions))
        .routes(routes!(runs::get_execution))
        .routes(routes!(runs::stream_execution))
        .routes(routes!(runs::answer_execution))
        .routes(routes!(runs::cancel_execution))
}

fn of_history() -> Routes<Agents> {
    Routes::new()
        .routes(routes!(history::get_session_history))
        .routes(routes!(history::get_session_statistics))
        .routes(routes!(history::list_histories))
        .routes(routes!(history::list_messages))
        .routes(routes!(history::search_messages))
        .routes(routes!(history::export_session))
        .routes(routes!(history::create_bookmark))
        .routes(routes!(history::list_bookmarks))
        .routes(routes!(history::delete_bookmark))
        .routes(routes!(history::get_history_statistics))
        .routes(routes!(history::list_activity))
        .routes(routes!(history::clean_up_history))
        .routes(routes!(history::aggregate_session))
}

fn of_figures() -> Routes<Agents> {
    Routes::new()
        .routes(routes!(analytics::get_performance))
        .routes(routes!(analytics::get_tokens))
        .routes(routes!(analytics::get_cost))
        .routes(routes!(analytics::get_errors))
        .routes(routes!(analytics::get_trends))
        .routes(routes!(analytics::get_dashboard))
        .routes(routes!(analytics::get_analytics_health))
        .routes(routes!(ws::get_ws_stats))
        .routes(routes!(ws::listen))
}

/// Reads the body before anything is answered, wanted or not: a connection with a body that nobody has
/// read must be closed, and the client's next request would be lost with it.
async fn read_whole(request: Request, next: Next) -> web::Result<Response> {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(next.run(request).await);
    }
    let (parts, body) = request.into_parts();
    let limited = Request::from_parts(parts.clone(), body);
    let web::Body(bytes) = web::Body::from_request(limited, &()).await?;
    Ok(next.run(Request::from_parts(parts, Body::from(bytes))).await)
}

/// The headers that every answer has.
async fn dress(State(agents): State<Agents>, request: Request, next: Next) -> Response {
    const ALWAYS: [(&str, &str); 3] = [
        ("x-frame-options", "DENY"),
        ("x-xss-protection", "1; mode=block"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
    ];
    let begun = Instant::now();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if agents.parts().config.environment == "production" {
        let value = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(http::header::STRICT_TRANSPORT_SECURITY, value);
    }
    let took = format!("{:.6}", begun.elapsed().as_secs_f64());
    if let Ok(took) = HeaderValue::from_str(&took) {
        headers.insert(HeaderName::from_static("x-process-time"), took);
    }
    response
}
