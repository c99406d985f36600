//! The routes of `/api/v1`.

mod accounting;
mod balance;
mod changes;
mod health;
mod listing;
mod pricing;
mod sync;
mod users;

use axum::Router;
use axum::extract::FromRef;
use identity::{Identity, Rule};
use std::sync::Arc;
use web::{Routes, routes};

pub use sync::{sync_document, sync_router};

use crate::{Customers, Sync};

/// What the routes of `/api/v1` work on.
#[derive(Clone)]
struct State {
    sync: Sync,
    checks: Arc<[web::Check]>,
}

impl FromRef<State> for Customers {
    fn from_ref(state: &State) -> Self {
        state.sync.customers().clone()
    }
}

impl FromRef<State> for Identity {
    fn from_ref(state: &State) -> Self {
        state.sync.customers().parts().identity.clone()
    }
}

impl FromRef<State> for Sync {
    fn from_ref(state: &State) -> Self {
        state.sync.clone()
    }
}

impl State {
    fn new(sync: Sync, checks: Vec<web::Check>) -> Self {
        Self { sync, checks: checks.into() }
    }
}

/// Who may use which route, and what scope a key needs for it.
const RULES: &[Rule] = &[
    Rule { method: "GET", path: "/api/v1/health", roles: &["any"], scope: "" },
    Rule { method: "GET", path: "/api/v1/**", roles: &["logined"], scope: "account:read" },
    Rule { method: "*", path: "/api/v1/**", roles: &["logined"], scope: "account:write" },
];

/// The routes of `/api/v1`, to be nested there; `checks` are what its health is made of.
pub fn router(sync: &Sync, checks: Vec<web::Check>) -> Router {
    let routes = routes();
    sync.customers().parts().identity.govern(routes.paths("/api/v1"), RULES);
    web::speak(routes.router(), web::Dialect::Envelope).with_state(State::new(sync.clone(), checks))
}

/// Their documentation.
pub fn document() -> utoipa::openapi::OpenApi {
    utoipa::openapi::OpenApi::default().nest("/api/v1", routes().document())
}

fn routes() -> Routes<State> {
    Routes::new()
        .routes(routes!(health::get_health))
        .routes(routes!(balance::get_balance))
        .routes(routes!(accounting::create_record, accounting::list_records))
        .routes(routes!(users::list_users))
        .routes(routes!(pricing::list_prices))
        .routes(routes!(changes::list_changes))
        .routes(routes!(changes::create_event))
}
