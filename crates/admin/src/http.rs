//! The routes of `/admin`.

mod access;
mod activations;
mod alerts;
mod audit;
mod keys;
mod limits;
mod members;
mod money;
mod orgs;
mod prices;
mod providers;
mod signing;
mod statement;
mod usage;

use std::sync::Arc;

use ::alerts::Alerts;
use axum::Router;
use axum::extract::FromRef;
use identity::{Filter, Identity, Rule};
use kernel::{Cursor, OrgId, PageRequest};
use ledger::Journal;
use metering::Metering;
use models::Models;
use store::Database;
use web::{Routes, routes};

/// What the routes of `/admin` work on.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Who is who.
    pub identity: Identity,
    /// The one door to money.
    pub journal: Journal,
    /// Usage records.
    pub metering: Metering,
    /// Models and the providers they come from.
    pub models: Arc<Models>,
    /// Low-balance alerts.
    pub alerts: Alerts,
    /// For reading balances.
    pub database: Database,
}

impl FromRef<Admin> for Identity {
    fn from_ref(admin: &Admin) -> Self {
        admin.identity.clone()
    }
}

/// Who may use which route, and what scope a key needs for it.
const RULES: &[Rule] = &[
    Rule { method: "GET", path: "/admin/**", roles: &["platform.admin"], scope: "admin:read" },
    Rule { method: "*", path: "/admin/**", roles: &["platform.admin"], scope: "admin:write" },
];

impl Admin {
    /// Deletes what is kept for repeated requests and is older than a day; returns how many.
    pub async fn purge_outcomes(&self) -> store::Result<u64> {
        crate::store::purge_outcomes(&self.database, self.metering.now()).await
    }
}

/// The routes of `/admin`, to be nested there.
pub fn router(admin: Admin) -> Router {
    let routes = routes();
    admin.identity.govern(routes.paths("/admin"), RULES);
    web::speak(routes.router(), web::Dialect::Problem).with_state(admin)
}

/// Their documentation.
pub fn document() -> utoipa::openapi::OpenApi {
    utoipa::openapi::OpenApi::default().nest("/admin", routes().document())
}

fn routes() -> Routes<Admin> {
    directory()
        .merge(access_routes())
        .routes(routes!(money::create_grant))
        .routes(routes!(money::get_wallet))
        .routes(routes!(money::create_adjustment))
        .routes(routes!(money::create_reversal))
        .routes(routes!(money::list_lots))
        .routes(routes!(statement::get_statement))
        .routes(routes!(limits::list_limits, limits::set_limit))
        .routes(routes!(limits::set_time_zone))
        .routes(routes!(usage::list_usage))
        .routes(routes!(usage::summarize_usage))
        .routes(routes!(usage::export_usage))
        .routes(routes!(usage::get_usage))
        .routes(routes!(providers::list_providers))
        .routes(routes!(providers::set_provider_state))
        .routes(routes!(usage::explain_charge))
        .merge(alert_routes())
        .merge(price_routes())
}

/// Low-balance alerts.
fn alert_routes() -> Routes<Admin> {
    Routes::new()
        .routes(routes!(alerts::create_alert, alerts::list_alerts))
        .routes(routes!(alerts::get_alert, alerts::change_alert, alerts::delete_alert))
        .routes(routes!(alerts::list_alert_deliveries))
        .routes(routes!(alerts::redeliver_alert))
}

/// Organizations and what belongs to them.
fn directory() -> Routes<Admin> {
    Routes::new()
        .routes(routes!(orgs::create_org, orgs::list_orgs))
        .routes(routes!(orgs::get_org, orgs::change_org))
        .routes(routes!(members::create_user, members::list_users))
        .routes(routes!(members::find_users))
        .routes(routes!(members::get_user, members::change_user, members::delete_user))
        .routes(routes!(members::create_app, members::list_apps))
        .routes(routes!(members::find_apps))
        .routes(routes!(members::get_app, members::change_app, members::delete_app))
        .routes(routes!(keys::create_key, keys::list_keys))
        .routes(routes!(keys::find_keys))
        .routes(routes!(keys::get_key, keys::change_key, keys::delete_key))
        .routes(routes!(signing::get_app_signing, signing::change_app_signing))
        .routes(routes!(signing::create_app_secret))
        .routes(routes!(keys::rotate_key))
}

/// Who may do what, and who did.
fn access_routes() -> Routes<Admin> {
    Routes::new()
        .routes(routes!(access::create_role, access::list_roles))
        .routes(routes!(access::get_role, access::change_role, access::delete_role))
        .routes(routes!(access::create_rule, access::list_rules))
        .routes(routes!(access::delete_rule))
        .routes(routes!(access::list_routes))
        .routes(routes!(audit::list_audit))
}

/// The price book.
fn price_routes() -> Routes<Admin> {
    Routes::new()
        .routes(routes!(prices::create_price_version, prices::list_price_versions))
        .routes(routes!(prices::validate_prices))
        .routes(routes!(activations::activate_prices, activations::list_price_activations))
        .routes(routes!(activations::cancel_price_activation))
        .routes(routes!(prices::get_price_version))
        .routes(routes!(prices::get_price_file))
        .routes(routes!(prices::simulate_prices))
        .routes(routes!(activations::get_price_terms, activations::set_price_terms))
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

/// Which part of a list.
#[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct PartQuery {
    /// 1 to 1000, 50 by default
    limit: Option<u32>,
    /// The `next` of the page before
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

impl From<PartQuery> for PageRequest {
    fn from(PartQuery { limit, cursor }: PartQuery) -> Self {
        Self { limit, cursor }
    }
}

/// What a list is asked for.
#[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// 1 to 1000, 50 by default
    limit: Option<u32>,
    /// The `next` of the page before
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
    /// Only what has this in its name
    name: Option<String>,
    /// Only what is disabled, or what is not
    disabled: Option<bool>,
    /// The deleted instead of those that are there
    deleted: Option<bool>,
}

/// Which users or applications.
#[derive(Debug, Default, serde::Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
struct MemberQuery {
    /// Only this organization's
    #[param(value_type = Option<String>)]
    org_id: Option<OrgId>,
    /// Only those given this role
    role: Option<String>,
}

impl ListQuery {
    /// What is asked for, beside what the resource narrows itself.
    fn parts(self, filter: Filter) -> (Filter, PageRequest) {
        let page = PageRequest { limit: self.limit, cursor: self.cursor };
        let (name, disabled) = (self.name, self.disabled);
        (Filter { name, disabled, deleted: self.deleted.unwrap_or(false), ..filter }, page)
    }
}

impl From<MemberQuery> for Filter {
    fn from(MemberQuery { org_id, role }: MemberQuery) -> Self {
        Self { org_id, role, ..Self::default() }
    }
}
