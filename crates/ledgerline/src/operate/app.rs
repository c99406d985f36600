//! `ledgerline app`

use clap::Subcommand;
use kernel::Timestamp;
use serde_json::json;

use super::member::{COLUMNS, Query};
use super::server::{Edit, Once, Part, Server, given, path};
use super::show::{Column, note, text};
use super::time::from_now;

const SIGNING: &[Column] = &[text("APP", "app_id"), text("DEERER", "deerer")];
const SECRET: &[Column] = &[text("APP", "app_id"), text("SECRET", "app_secret")];

thing_commands!("app", "an application", "apps");

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an application of an organization
    #[command(after_help = "Example:\n  APP=$(ledgerline app create ORG backend --get id)")]
    Create {
        /// The organization's id
        org: String,
        /// The application's name, 1 to 200 characters
        name: String,
        #[command(flatten)]
        once: Once,
    },
    /// List the applications of an organization, or of all
    #[command(after_help = "Example:\n  ledgerline app list --org ORG")]
    List {
        #[command(flatten)]
        query: Query,
        #[command(flatten)]
        part: Part,
    },
    /// Make the secret that an application signs with; the one before works on for a day
    #[command(after_help = "Examples:\n  ledgerline app secret ID\n  \
        ledgerline app secret ID --overlap 2h --get app_secret")]
    Secret {
        /// Its id
        id: String,
        /// How long the secret before works on, such as 2h
        #[arg(long, value_name = "SPAN", value_parser = from_now)]
        overlap: Option<Timestamp>,
        #[command(flatten)]
        once: Once,
    },
    /// Show how an application signs, or switch `Authorization: Deerer` off or on
    #[command(after_help = "Examples:\n  ledgerline app signing ID\n  \
        ledgerline app signing ID --deerer false")]
    Signing {
        /// Its id
        id: String,
        /// Whether `Authorization: Deerer` is taken from now on
        #[arg(long, value_name = "true|false")]
        deerer: Option<bool>,
    },
    /// Set all roles of an application, which its keys have as well
    #[command(after_help = "Example:\n  ledgerline app roles ID customer.viewer")]
    Roles {
        /// Its id
        id: String,
        /// All its roles from now on; none when absent
        roles: Vec<String>,
        #[command(flatten)]
        edit: Edit,
    },
    /// Delete an application: its keys stop working, its past stays
    #[command(after_help = "Example:\n  ledgerline app delete ID")]
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
    let at = |id: &str| path(&["admin", "apps", id]);
    match command {
        Command::Create { org, name, once } => {
            let of_org = path(&["admin", "orgs", &org, "apps"]);
            server.create(&of_org, json!({"name": name}), &once, COLUMNS).await
        }
        Command::List { query, part } => {
            server.list(&path(&["admin", "apps"]), &query, part, COLUMNS).await
        }
        Command::Secret { id, overlap, once } => {
            let body = given(&json!({"old_until": overlap}))?;
            server.create(&format!("{}/signing/secret", at(&id)), body, &once, SECRET).await?;
            note("the secret is not shown again");
            Ok(())
        }
        Command::Signing { id, deerer } => {
            let signing = format!("{}/signing", at(&id));
            match deerer {
                None => server.show(&signing, &json!({}), SIGNING).await,
                Some(on) => {
                    let edit = Edit::default();
                    server.change(&signing, json!({"deerer": on}), edit, SIGNING).await
                }
            }
        }
        Command::Roles { id, roles, edit } => {
            server.change(&at(&id), json!({"roles": roles}), edit, COLUMNS).await
        }
        Command::Delete { id, edit } => server.delete(&at(&id), edit, COLUMNS).await,
        Command::Thing(thing) => thing.run(server, COLUMNS).await,
    }
}
