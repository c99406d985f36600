//! `ledgerline role`

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::server::{Edit, Once, Part, Server, path};
use super::show::{Column, number, text};

const COLUMNS: &[Column] = &[
    text("ID", "id"),
    text("NAME", "name"),
    text("DISABLED", "disabled"),
    text("CREATED", "created_at"),
    number("VERSION", "version"),
];
const RULES: &[Column] =
    &[text("ID", "id"), text("ROLE", "role"), text("METHOD", "method"), text("PATH", "path")];
const ROUTES: &[Column] = &[
    text("METHOD", "method"),
    text("PATH", "path"),
    text("SCOPE", "scope"),
    text("ROLES", "roles"),
];

thing_commands!("role", "a role", "roles");

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a role
    #[command(after_help = "Example:\n  ledgerline role create platform.auditor Auditor")]
    Create {
        /// `<kind>.<name>`, such as customer.viewer
        id: String,
        /// What it is called, 1 to 200 characters
        name: String,
        #[command(flatten)]
        once: Once,
    },
    /// List the roles that were created
    #[command(after_help = "Example:\n  ledgerline role list --all")]
    List {
        #[command(flatten)]
        query: Query,
        #[command(flatten)]
        part: Part,
    },
    /// Delete a role: nobody has it any more
    #[command(after_help = "Example:\n  ledgerline role delete customer.viewer")]
    Delete {
        /// Its id
        id: String,
        #[command(flatten)]
        edit: Edit,
    },
    /// Let a role use routes
    #[command(
        after_help = "Examples:\n  ledgerline role allow platform.auditor GET /admin/audit\n  \
        ledgerline role allow platform.support '*' '/admin/**'"
    )]
    Allow {
        /// Whom the rule lets in: such as customer.viewer, '*.admin' or logined
        role: String,
        /// Such as GET; '*' for every method
        method: String,
        /// A path; '*' stands for a segment, '**' at the end for any number
        path: String,
        #[command(flatten)]
        once: Once,
    },
    /// List the rules that were added
    #[command(after_help = "Example:\n  ledgerline role rules")]
    Rules {
        #[command(flatten)]
        part: Part,
    },
    /// Take a rule back
    #[command(after_help = "Example:\n  ledgerline role forbid RULE")]
    Forbid {
        /// The rule's id
        rule: String,
    },
    /// List every route and who may use it
    #[command(after_help = "Example:\n  ledgerline role routes")]
    Routes,
    #[command(flatten)]
    Thing(Thing),
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct Query {
    /// Only what has this in its name
    #[arg(long)]
    name: Option<String>,
    /// Only what is disabled, or what is not
    #[arg(long, value_name = "true|false")]
    disabled: Option<bool>,
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    let (roles, rules) = (path(&["admin", "roles"]), path(&["admin", "rules"]));
    match command {
        Command::Create { id, name, once } => {
            server.create(&roles, json!({"id": id, "name": name}), &once, COLUMNS).await
        }
        Command::List { query, part } => server.list(&roles, &query, part, COLUMNS).await,
        Command::Delete { id, edit } => {
            server.delete(&path(&["admin", "roles", &id]), edit, COLUMNS).await
        }
        Command::Allow { role, method, path, once } => {
            let rule = json!({"role": role, "method": method, "path": path});
            server.create(&rules, rule, &once, RULES).await
        }
        Command::Rules { part } => server.list(&rules, &json!({}), part, RULES).await,
        Command::Forbid { rule } => {
            server.delete(&path(&["admin", "rules", &rule]), Edit::default(), RULES).await
        }
        Command::Routes => server.show("/admin/routes", &json!({}), ROUTES).await,
        Command::Thing(thing) => thing.run(server, COLUMNS).await,
    }
}
