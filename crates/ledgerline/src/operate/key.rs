//! `ledgerline key`

use clap::{Args, Subcommand};
use kernel::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::server::{Edit, Once, Part, Server, given, path};
use super::show::{Column, note, number, text};
use super::time::{from_now, future};
use crate::failure::usage;

const COLUMNS: &[Column] = &[
    text("ID", "id"),
    text("NAME", "name"),
    text("ORG", "org_id"),
    text("PREFIX", "prefix"),
    text("DISABLED", "disabled"),
    text("EXPIRES", "expires_at"),
    text("LAST USED", "last_used_at"),
    text("SCOPES", "scopes"),
    text("MODELS", "models"),
    text("IPS", "allowed_ips"),
    number("VERSION", "version"),
];
const CREATED: &[Column] = &[text("ID", "id"), text("KEY", "api_key")];

thing_commands!("key", "an API key", "keys");

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create an API key; its secret is shown this once
    #[command(after_help = "Examples:\n  ledgerline key create ORG production --get api_key\n  \
        ledgerline key create ORG batch --scope chat --model 'sim-*' --ip 10.0.0.0/8 --expires 90d\n  \
        read -r ID KEY < <(ledgerline key create ORG laptop --get id,api_key)")]
    Create(New),
    /// List the API keys of an organization, or of all
    #[command(after_help = "Examples:\n  ledgerline key list --org ORG\n  \
        ledgerline key list --disabled true --all")]
    List {
        #[command(flatten)]
        query: Query,
        #[command(flatten)]
        part: Part,
    },
    /// Limit what an API key may be used for; each list that is given replaces the one before
    #[command(
        after_help = "Examples:\n  ledgerline key limit ID --scope chat --model sim-small\n  \
        ledgerline key limit ID --any-model --never-expires\n\n\
        How much it may use is set by `ledgerline limit set … --key ID`."
    )]
    Limit(NewLimits),
    /// Create an API key's successor; the old key works on for a while
    #[command(after_help = "Examples:\n  ledgerline key rotate ID --get api_key\n  \
        ledgerline key rotate ID --overlap 2h --expires 365d")]
    Rotate {
        /// The old key's id
        id: String,
        /// How long the old key works on, at most: a day when absent
        #[arg(long, value_name = "SPAN", value_parser = from_now)]
        overlap: Option<Timestamp>,
        /// When the new key stops working: an instant, or so long from now
        #[arg(long, value_name = "TIME", value_parser = future)]
        expires: Option<Timestamp>,
        #[command(flatten)]
        edit: Edit,
        #[command(flatten)]
        once: Once,
    },
    /// Set the roles that an API key has beside `member` or `admin`
    #[command(after_help = "Example:\n  ledgerline key roles ID customer.viewer")]
    Roles {
        /// Its id
        id: String,
        /// All its roles from now on; none when absent
        roles: Vec<String>,
        #[command(flatten)]
        edit: Edit,
    },
    /// Revoke an API key for good: it stops working within a second, what it did stays
    #[command(after_help = "Example:\n  ledgerline key revoke ID")]
    Revoke {
        /// Its id
        id: String,
        #[command(flatten)]
        edit: Edit,
    },
    #[command(flatten)]
    Thing(Thing),
}

/// A key to be created, as the server takes it.
#[derive(Debug, Args, Serialize)]
pub(crate) struct New {
    /// The organization's id
    #[serde(skip)]
    org: String,
    /// The key's name, 1 to 200 characters
    name: String,
    /// What it is in its organization
    #[arg(long, value_parser = ["member", "admin"], default_value = "member")]
    role: String,
    /// A role beside that, such as customer.viewer; any number
    #[arg(long = "with-role", value_name = "ROLE")]
    roles: Vec<String>,
    /// What it may be used for, such as chat; any number; everything when absent
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A model it may call, such as 'sim-*'; any number; all when absent
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// An address it may be used from, such as 10.0.0.0/8; any number; all when absent
    #[arg(long = "ip", value_name = "ADDRESS")]
    allowed_ips: Vec<String>,
    /// When it stops working: an instant, or so long from now, such as 90d
    #[arg(long = "expires", value_name = "TIME", value_parser = future)]
    expires_at: Option<Timestamp>,
    /// The user it belongs to
    #[arg(long = "user", value_name = "USER")]
    user_id: Option<String>,
    /// The application it belongs to
    #[arg(long = "app", value_name = "APP")]
    app_id: Option<String>,
    #[command(flatten)]
    #[serde(skip)]
    once: Once,
}

#[derive(Debug, Args, Serialize)]
pub(crate) struct Query {
    /// Only this organization's
    #[arg(long, value_name = "ORG")]
    #[serde(rename = "org_id")]
    org: Option<String>,
    /// Only this user's
    #[arg(long, value_name = "USER")]
    #[serde(rename = "user_id")]
    user: Option<String>,
    /// Only this application's
    #[arg(long, value_name = "APP")]
    #[serde(rename = "app_id")]
    app: Option<String>,
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

#[derive(Debug, Args)]
pub(crate) struct NewLimits {
    /// Its id
    id: String,
    /// What it may be used for, such as chat; any number
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// It may be used for everything
    #[arg(long, conflicts_with = "scopes")]
    any_scope: bool,
    /// A model it may call, such as 'sim-*'; any number
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<String>,
    /// It may call every model
    #[arg(long, conflicts_with = "models")]
    any_model: bool,
    /// An address it may be used from, such as 10.0.0.0/8; any number
    #[arg(long = "ip", value_name = "ADDRESS")]
    ips: Vec<String>,
    /// It may be used from everywhere
    #[arg(long, conflicts_with = "ips")]
    any_ip: bool,
    #[command(flatten)]
    end: End,
    #[command(flatten)]
    edit: Edit,
}

#[derive(Debug, Args)]
struct End {
    /// When it stops working: an instant, or so long from now, such as 90d
    #[arg(long, value_name = "TIME", value_parser = future)]
    expires: Option<Timestamp>,
    /// It does not stop working by itself
    #[arg(long, conflicts_with = "expires")]
    never_expires: bool,
}

impl NewLimits {
    /// What is to change: a list that is empty stands for everything, null for no end.
    fn change(&self) -> Map<String, Value> {
        let lists = [
            ("scopes", &self.scopes, self.any_scope),
            ("models", &self.models, self.any_model),
            ("allowed_ips", &self.ips, self.any_ip),
        ];
        let mut change = Map::new();
        for (name, list, any) in lists {
            if any || !list.is_empty() {
                change.insert(name.to_owned(), json!(list));
            }
        }
        if self.end.never_expires || self.end.expires.is_some() {
            change.insert("expires_at".to_owned(), json!(self.end.expires));
        }
        change
    }
}

pub(crate) async fn run(command: Command, server: &Server) -> anyhow::Result<()> {
    let at = |id: &str| path(&["admin", "keys", id]);
    match command {
        Command::Create(new) => {
            let of_org = path(&["admin", "orgs", &new.org, "keys"]);
            server.create(&of_org, given(&new)?, &new.once, CREATED).await?;
            keep_it(server);
            Ok(())
        }
        Command::List { query, part } => {
            server.list(&path(&["admin", "keys"]), &query, part, COLUMNS).await
        }
        Command::Limit(limits) => {
            let change = limits.change();
            if change.is_empty() {
                return Err(usage("nothing to change: give --scope, --model, --ip or --expires"));
            }
            server.change(&at(&limits.id), change, limits.edit, COLUMNS).await
        }
        Command::Rotate { id, overlap, expires, edit, once } => {
            let body = given(&json!({"old_until": overlap, "expires_at": expires}))?;
            let rotate = format!("{}/rotate", at(&id));
            server.create_for(&rotate, body, edit, &once, CREATED).await?;
            keep_it(server);
            Ok(())
        }
        Command::Roles { id, roles, edit } => {
            server.change(&at(&id), json!({"roles": roles}), edit, COLUMNS).await
        }
        Command::Revoke { id, edit } => server.delete(&at(&id), edit, COLUMNS).await,
        Command::Thing(thing) => thing.run(server, COLUMNS).await,
    }
}

fn keep_it(server: &Server) {
    if server.how.is_for_people() {
        note("the key is not shown again");
    }
}
