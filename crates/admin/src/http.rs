//! The routes of `/admin`.

mod keys;
mod money;
mod orgs;
mod usage;

use axum::Router;
use axum::extract::FromRef;
use identity::Identity;
use ledger::Journal;
use metering::Metering;
use store::Database;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What the routes of `/admin` work on.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Who is who.
    pub identity: Identity,
    /// The one door to money.
    pub journal: Journal,
    /// Usage records.
    pub metering: Metering,
    /// For reading balances.
    pub database: Database,
}

impl FromRef<Admin> for Identity {
    fn from_ref(admin: &Admin) -> Self {
        admin.identity.clone()
    }
}

/// The routes of `/admin`, to be nested there.
pub fn router(admin: Admin) -> Router {
    let (routes, _document) = routes().split_for_parts();
    web::speak(routes, web::Dialect::Problem).with_state(admin)
}

/// Their documentation.
pub fn document() -> utoipa::openapi::OpenApi {
    let (_routes, document) = routes().split_for_parts();
    utoipa::openapi::OpenApi::default().nest("/admin", document)
}

fn routes() -> OpenApiRouter<Admin> {
    OpenApiRouter::new()
        .routes(routes!(orgs::create_org, orgs::list_orgs))
        .routes(routes!(orgs::get_org, orgs::change_org))
        .routes(routes!(orgs::create_user, orgs::list_users))
        .routes(routes!(orgs::create_app, orgs::list_apps))
        .routes(routes!(keys::create_key, keys::list_keys))
        .routes(routes!(orgs::change_user))
        .routes(routes!(orgs::change_app))
        .routes(routes!(keys::change_key))
        .routes(routes!(keys::rotate_key))
        .routes(routes!(money::create_grant))
        .routes(routes!(money::get_wallet))
        .routes(routes!(usage::list_usage))
}

/// A page of anything.
#[derive(serde::Serialize, utoipa::ToSchema)]
struct Listing<T> {
    /// The rows.
    rows: Vec<T>,
    /// The `cursor` of the next page; null on the last.
    next: Option<String>,
}

impl<T> From<kernel::Page<T>> for Listing<T> {
    fn from(page: kernel::Page<T>) -> Self {
        Self { rows: page.rows, next: page.next.map(|next| next.to_string()) }
    }
}
