//! The databases: embedded SQLite, or any MySQL-compatible server, behind one small surface.
//!
//! Statements are written once, portable (`?` placeholders, integers, text, bytes), and run on
//! either through [`Database`]. Reads go to reader connections; writes are whole transactions
//! given as data ([`Statement`]s), so no caller can wait in the middle of one.
//!
//! Invariants:
//! - SQLite has exactly one writing connection, and one process per data folder ([`DataFolder`]);
//! - an acknowledged write is on disk (`synchronous=FULL`);
//! - migrations run forward only, once, in the order of their names, checked by hash.
//!
//! Tables: `schema_migrations`.

mod cache;
mod config;
mod database;
mod error;
mod folder;
mod list;
mod migrate;
mod mysql;
mod reader;
mod redis;
mod snapshot;
mod sqlite;
mod value;

pub use cache::Cache;
pub use config::Config;
pub use database::{Database, Pending};
pub use error::Error;
pub use folder::DataFolder;
pub use list::{Column, List, ListRequest, Listed, Order, Position};
pub use migrate::Migration;
pub use mysql::MySql;
pub use reader::Reader;
pub use redis::{Redis, RedisConfig};
pub use snapshot::Snapshot;
pub use sqlite::{Sqlite, bind as bind_sqlite};
pub use value::{Expect, Row, Statement, Value};

/// What a store operation gives.
pub type Result<T> = std::result::Result<T, Error>;
