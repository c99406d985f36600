//! Words every other crate uses: ids, time, money amounts, pages, lines of CSV, YAML with its lines, secrets.
//! No I/O.
//!
//! Invariants:
//! - money is an integer ([`Amount`], billionths of a unit); no float touches it;
//! - instants are UTC microseconds ([`Timestamp`]) and come from an injected [`Clock`];
//! - a [`Secret`] never shows its value in `Debug`, `Display` or serialized form.

mod amount;
mod asset;
mod csv;
pub mod id;
mod page;
mod secret;
mod time;
pub mod yaml;
mod zone;

pub use amount::{Amount, AmountError};
pub use asset::{Asset, AssetError};
pub use csv::csv_line;
pub use id::{AppId, ChargeId, KeyId, OrgId, UserId};
pub use page::{Cursor, CursorError, Page, PageRequest};
pub use secret::Secret;
pub use time::{Clock, SharedClock, SystemClock, Timestamp};
pub use zone::{Span, UnknownZone, Zone};
