//! `/api/v1`: what a customer's server asks and posts: balance, accounting, users, prices.
//!
//! The functions of [`Customers`] are the same operations for programs that link this crate.
//!
//! Invariants:
//! - a caller sees and charges its own organization; only an administrator names others' users;
//! - a post under one key is made at most once, for ever, and a repeat gives the first answer;
//! - an accounting record is written with its movement of money or not at all, and never changed;
//! - one instance at a time follows an upstream; a page is kept together with how far it goes.
//!
//! Tables: `accounting_records`, `customers_feed`, `sync_state`, `users_cache`, `pricing_cache`, `uapi_cache`,
//! `llmage_cache`.

mod accounting;
mod balance;
mod client;
mod config;
mod entity;
mod error;
mod feed;
mod followers;
mod http;
mod prices;
mod service;
mod store;
mod sync;
mod users;

pub use accounting::{Post, Posted, RecordFilter};
pub use balance::Wallet;
pub use client::{Answer, Ask, Client, ClientError, Credential};
pub use config::Config;
pub use entity::Entity;
pub use error::Error;
pub use feed::{Catalogue, FeedPage, FeedRequest, FeedRow, Offer};
pub use followers::{FollowerConfig, Followers};
pub use http::{document, router, sync_document, sync_router};
pub use prices::Price;
pub use service::{Customers, Parts};
pub use store::{AccountingRecord, MIGRATIONS, RECORDS};
pub use sync::{Heard, Run, Sync, SyncStatus, UpstreamConfig};
pub use users::UserRow;

/// What an operation of this crate gives.
pub type Result<T> = std::result::Result<T, Error>;
