//! The schema of this crate.

/// The tables of this crate.
pub const MIGRATIONS: &[store::Migration] = &[
    store::Migration {
        name: "0002_ledger",
        sqlite: include_str!("../migrations/sqlite/0002_ledger.sql"),
        mysql: include_str!("../migrations/mysql/0002_ledger.sql"),
    },
    store::Migration {
        name: "0005_ledger_lots",
        sqlite: include_str!("../migrations/sqlite/0005_ledger_lots.sql"),
        mysql: include_str!("../migrations/mysql/0005_ledger_lots.sql"),
    },
];
