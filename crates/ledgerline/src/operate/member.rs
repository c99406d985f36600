//! What the lists of users and of applications have in common.

use clap::Args;
use serde::Serialize;

use super::show::{Column, number, text};

pub(crate) const COLUMNS: &[Column] = &[
    text("ID", "id"),
    text("NAME", "name"),
    text("ORG", "org_id"),
    text("ROLES", "roles"),
    text("DISABLED", "disabled"),
    text("CREATED", "created_at"),
    number("VERSION", "version"),
];

#[derive(Debug, Args, Serialize)]
pub(crate) struct Query {
    /// Only this organization's
    #[arg(long, value_name = "ORG")]
    #[serde(rename = "org_id")]
    org: Option<String>,
    /// Only those given this role
    #[arg(long)]
    role: Option<String>,
    /// Only what has this in its name
    #[arg(long)]
    name: Option<String>,
    /// Only what is disabled, or what is not
    #[arg(long, value_name = "true|false")]
    disabled: Option<bool>,
    /// The deleted instead of those that are there
    #[arg(long, num_args = 0, default_missing_value = "true")]
    deleted: Option<bool>,
}
