//! The routes of the protocols.

mod a2a;
mod assistants;
mod flows;
mod mcp;
mod order;
mod runs;
mod threads;

use axum::Router;
use axum::extract::FromRef;
use identity::{Identity, Rule};
use web::{Routes, routes};

use crate::Protocols;

impl FromRef<Protocols> for Identity {
    fn from_ref(protocols: &Protocols) -> Self {
        protocols.identity.clone()
    }
}

const READ: &str = "flows:read";
const RUN: &str = "flows:run";
const WRITE: &str = "flows:write";

/// Who may use which route, and what scope a key needs for it.
const RULES: &[Rule] = &[
    Rule { method: "*", path: "/flows/**", roles: &["logined"], scope: WRITE },
    Rule { method: "GET", path: "/flows/**", roles: &["logined"], scope: READ },
    Rule { method: "GET", path: "/ok", roles: &["any"], scope: "" },
    Rule { method: "GET", path: "/info", roles: &["any"], scope: "" },
    Rule { method: "*", path: "/assistants/**", roles: &["logined"], scope: READ },
    Rule { method: "*", path: "/threads/**", roles: &["logined"], scope: RUN },
    Rule { method: "GET", path: "/threads/**", roles: &["logined"], scope: READ },
    Rule { method: "POST", path: "/threads/search", roles: &["logined"], scope: READ },
    Rule { method: "POST", path: "/threads/count", roles: &["logined"], scope: READ },
    Rule { method: "POST", path: "/threads/{thread_id}/history", roles: &["logined"], scope: READ },
    Rule {
        method: "POST",
        path: "/threads/{thread_id}/state/checkpoint",
        roles: &["logined"],
        scope: READ,
    },
    Rule { method: "GET", path: "/.well-known/agent-card.json", roles: &["any"], scope: "" },
    Rule { method: "POST", path: "/mcp", roles: &["logined"], scope: RUN },
    Rule { method: "POST", path: "/a2a", roles: &["logined"], scope: RUN },
    Rule { method: "*", path: "/runs/**", roles: &["logined"], scope: RUN },
];

/// The routes, to be merged at the root: that is where clients of LangGraph look for them.
pub fn router(protocols: &Protocols) -> Router {
    let routes = routes();
    protocols.identity.govern(routes.paths(""), RULES);
    // Errors are problem JSON, as everywhere at the root.
    routes.router().with_state(protocols.clone())
}

/// Their documentation.
pub fn document() -> utoipa::openapi::OpenApi {
    routes().document()
}

fn routes() -> Routes<Protocols> {
    Routes::new()
        .routes(routes!(flows::publish_flow, flows::list_flows))
        .routes(routes!(flows::import_flow))
        .routes(routes!(flows::get_flow))
        .routes(routes!(assistants::get_ok))
        .routes(routes!(assistants::get_info))
        .routes(routes!(assistants::create_assistant))
        .routes(routes!(assistants::search_assistants))
        .routes(routes!(assistants::count_assistants))
        .routes(routes!(assistants::get_assistant))
        .routes(routes!(assistants::get_assistant_graph))
        .routes(routes!(assistants::get_assistant_schemas))
        .routes(routes!(a2a::get_agent_card))
        .routes(routes!(a2a::call_a2a))
        .routes(routes!(mcp::call_mcp))
        .merge(thread_routes())
        .merge(run_routes())
}

fn thread_routes() -> Routes<Protocols> {
    Routes::new()
        .routes(routes!(threads::create_thread))
        .routes(routes!(threads::search_threads))
        .routes(routes!(threads::count_threads))
        .routes(routes!(threads::get_thread, threads::change_thread, threads::delete_thread))
        .routes(routes!(threads::copy_thread))
        .routes(routes!(threads::get_thread_state, threads::set_thread_state))
        .routes(routes!(threads::get_thread_checkpoint))
        .routes(routes!(threads::find_thread_checkpoint))
        .routes(routes!(threads::get_thread_history, threads::search_thread_history))
}

fn run_routes() -> Routes<Protocols> {
    Routes::new()
        .routes(routes!(runs::create_run, runs::list_runs))
        .routes(routes!(runs::stream_run))
        .routes(routes!(runs::wait_run))
        .routes(routes!(runs::get_run, runs::delete_run))
        .routes(routes!(runs::join_run))
        .routes(routes!(runs::join_run_stream))
        .routes(routes!(runs::cancel_run))
        .routes(routes!(runs::create_stateless_run))
        .routes(routes!(runs::stream_stateless_run))
        .routes(routes!(runs::wait_stateless_run))
        .routes(routes!(runs::create_run_batch))
        .routes(routes!(runs::cancel_runs))
}
