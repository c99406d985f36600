//! The operator's commands: `/admin` of a running server, one file for each noun.

#[macro_use]
mod thing;

mod alert;
mod app;
mod audit;
mod key;
mod limit;
mod member;
mod model;
mod org;
mod price;
mod provider;
mod role;
mod server;
mod show;
mod sync;
mod time;
mod usage;
mod user;
mod wallet;

use clap::{Args, Subcommand};

use self::server::With;

/// What an operator looks after.
#[derive(Debug, Subcommand)]
pub(crate) enum Operate {
    /// Organizations: customers, distributors, providers, and the platform itself
    #[command(after_help = "Examples:\n  ledgerline org create Acme\n  \
        ledgerline org list --kind customer --all")]
    Org(Noun<org::Command>),
    /// Users: the people of an organization
    #[command(after_help = "Examples:\n  ledgerline user create ORG Alice\n  \
        ledgerline user list --org ORG")]
    User(Noun<user::Command>),
    /// Applications: external systems that call for an organization
    #[command(after_help = "Examples:\n  ledgerline app create ORG backend\n  \
        ledgerline app secret APP")]
    App(Noun<app::Command>),
    /// API keys
    #[command(after_help = "Examples:\n  ledgerline key create ORG production --model 'gpt-*'\n  \
        ledgerline key rotate KEY --overlap 2h")]
    Key(Noun<key::Command>),
    /// Roles, the rules that let them use routes, and the routes
    #[command(after_help = "Examples:\n  ledgerline role create platform.auditor Auditor\n  \
        ledgerline role allow platform.auditor GET /admin/audit")]
    Role(Noun<role::Command>),
    /// Wallets: money given, corrected and moved back; lots and statements
    #[command(after_help = "Examples:\n  ledgerline wallet grant ORG 100 --reason 'invoice 1'\n  \
        ledgerline wallet statement ORG --month 2026-11 --format csv --output november.csv")]
    Wallet(Noun<wallet::Command>),
    /// Limits of organizations, users and keys
    #[command(
        after_help = "Examples:\n  ledgerline limit set ORG requests 60 --per minute --key KEY\n  \
        ledgerline limit show ORG"
    )]
    Limit(Noun<limit::Command>),
    /// Low-balance alerts: set, listed, and what was told of them
    #[command(
        after_help = "Examples:\n  ledgerline alert create ORG 10 https://example.com/hook\n  \
        ledgerline alert deliveries ORG --state failed"
    )]
    Alert(Noun<alert::Command>),
    /// Prices: versions checked, recorded, tried and activated; charges explained
    #[command(after_help = "Examples:\n  ledgerline price record prices.yaml\n  \
        ledgerline price explain CHARGE")]
    Price(Noun<price::Command>),
    /// Models and what they cost
    #[command(after_help = "Example:\n  ledgerline model list")]
    Model(Noun<model::Command>),
    /// Providers: upstream accounts, taken out of use and back
    #[command(
        after_help = "Examples:\n  ledgerline provider list\n  ledgerline provider drain NAME"
    )]
    Provider(Noun<provider::Command>),
    /// Calls: found, added up, exported
    #[command(after_help = "Examples:\n  ledgerline usage sum --month 2026-11 --by org,day\n  \
        ledgerline usage export --org ORG --month 2026-11 --output november.csv")]
    Usage(Noun<usage::Command>),
    /// Following an upstream: how it stands, and asking it now
    #[command(after_help = "Examples:\n  ledgerline sync list\n  ledgerline sync run users")]
    Sync(Noun<sync::Command>),
    /// The audit log: what administrators did
    #[command(after_help = "Example:\n  ledgerline audit list --action key.create")]
    Audit(Noun<audit::Command>),
}

/// Commands about one noun, and the server they are for.
#[derive(Debug, Args)]
pub(crate) struct Noun<C: Subcommand> {
    #[command(flatten)]
    with: With,
    #[command(subcommand)]
    command: C,
}

/// Carries out a command.
pub(crate) async fn run(what: Operate) -> anyhow::Result<()> {
    match what {
        Operate::Org(Noun { with, command }) => org::run(command, &with.server()?).await,
        Operate::User(Noun { with, command }) => user::run(command, &with.server()?).await,
        Operate::App(Noun { with, command }) => app::run(command, &with.server()?).await,
        Operate::Key(Noun { with, command }) => key::run(command, &with.server()?).await,
        Operate::Role(Noun { with, command }) => role::run(command, &with.server()?).await,
        Operate::Wallet(Noun { with, command }) => wallet::run(command, &with.server()?).await,
        Operate::Limit(Noun { with, command }) => limit::run(command, &with.server()?).await,
        Operate::Alert(Noun { with, command }) => alert::run(command, &with.server()?).await,
        Operate::Price(Noun { with, command }) => price::run(command, &with.server()?).await,
        Operate::Model(Noun { with, command }) => model::run(command, &with.server()?).await,
        Operate::Provider(Noun { with, command }) => provider::run(command, &with.server()?).await,
        Operate::Usage(Noun { with, command }) => usage::run(command, &with.server()?).await,
        Operate::Sync(Noun { with, command }) => sync::run(command, &with.server()?).await,
        Operate::Audit(Noun { with, command }) => audit::run(command, &with.server()?).await,
    }
}
