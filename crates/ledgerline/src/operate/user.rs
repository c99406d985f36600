//! `ledgerline user`

use clap::Subcommand;
use serde_json::json;

use super::member::{COLUMNS, Query};
use super::server::{Edit, Once, Part, Server, path};

thing_commands!("user", "a user", "users");

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a user of an organization
    #[command(after_help = "Example:\n  USER_ID=$(ledgerline user create ORG Alice --get id)")]
    Create {
        /// The organization's id
        org: String,
        /// The user's name, 1 to 200 characters
        name: String,
        #[command(flatten)]
        once: Once,
    },
    /// List the users of an organization, or of all
    #[command(after_help = "Examples:\n  ledgerline user list --org ORG\n  \
        ledgerline user list --role customer.viewer --all")]
    List {
        #[command(flatten)]
        query: Query,
        #[command(flatten)]
        part: Part,
    },
    /// Set all roles of a user, which its keys have as well
    #[command(after_help = "Examples:\n  ledgerline user roles ID customer.viewer\n  \
        ledgerline user roles ID")]
    Roles {
        /// Its id
        id: String,
        /// All its roles from now on; none when absent
        roles: Vec<String>,
        #[command(flatten)]
        edit: Edit,
    },
    /// Delete a user: its keys stop working, its past stays
    #[command(after_help = "Example:\n  ledgerline user delete ID --if-version 2")]
    Delete {
        /// Its id
        id: String,
        #[command(flatten)]
        edit: Edit,
    },
    #[command(flatten)]
    Thing(Thing),
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    match command {
        Command::Create { org, name, once } => {
            let of_org = path(&["admin", "orgs", &org, "users"]);
            server.create(&of_org, json!({"name": name}), &once, COLUMNS).await
        }
        Command::List { query, part } => {
            server.list(&path(&["admin", "users"]), &query, part, COLUMNS).await
        }
        Command::Roles { id, roles, edit } => {
            let user = path(&["admin", "users", &id]);
            server.change(&user, json!({"roles": roles}), edit, COLUMNS).await
        }
        Command::Delete { id, edit } => {
            server.delete(&path(&["admin", "users", &id]), edit, COLUMNS).await
        }
        Command::Thing(thing) => thing.run(server, COLUMNS).await,
    }
}
