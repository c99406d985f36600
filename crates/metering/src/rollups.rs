//! Sums of usage records, kept with them: for reports, and to find records quickly.
//!
//! Periods are UTC: hours of an organization's calls by model and caller, days by organization and
//! provider, hours of the whole installation. A call counts in the hour in which its end was
//! committed. Each sum says between which operations its calls ended.

use ledger::{Attachment, Command, Finding, Key, Operation, Sum, Sums};

use crate::store::USAGE;
use crate::{Metering, Result, store};

/// An hour, in the microseconds of a [`kernel::Timestamp`].
pub(crate) const HOUR: i64 = 3_600_000_000;
/// A day, likewise.
pub(crate) const DAY: i64 = 24 * HOUR;
/// So many tokens of one call count at most: far beyond any, and no sum leaves the range.
const MOST_TOKENS: i64 = 1_000_000_000_000;

const FIGURES: &[(&str, Sum)] = &[
    ("calls", Sum::Rows),
    ("failed", Sum::Present("error_code")),
    ("released", Sum::Equal("status", "released")),
    ("cost", Sum::Total("cost")),
    ("input_tokens", Sum::Capped("input_tokens", MOST_TOKENS)),
    ("cached_input_tokens", Sum::Capped("cached_input_tokens", MOST_TOKENS)),
    ("cache_write_tokens", Sum::Capped("cache_write_tokens", MOST_TOKENS)),
    ("output_tokens", Sum::Capped("output_tokens", MOST_TOKENS)),
    ("reasoning_tokens", Sum::Capped("reasoning_tokens", MOST_TOKENS)),
    ("first_seq", Sum::First("op_seq")),
    ("last_seq", Sum::Last("op_seq")),
];

/// The sums kept of usage records: all that `ledgerline verify` compares with the records.
pub static ROLLUPS: [Sums; 3] = [
    Sums {
        table: "metering_hours",
        of: &USAGE,
        keys: &[
            ("org_id", Key::Column("org_id")),
            ("hour", Key::Period("ended_at", HOUR)),
            ("model", Key::Column("model")),
            ("currency", Key::Column("currency")),
            ("user_id", Key::Column("user_id")),
            ("app_id", Key::Column("app_id")),
            ("key_id", Key::Column("key_id")),
        ],
        sums: FIGURES,
    },
    Sums {
        table: "metering_days",
        of: &USAGE,
        keys: &[
            ("day", Key::Period("ended_at", DAY)),
            ("org_id", Key::Column("org_id")),
            ("provider", Key::Column("provider")),
            ("currency", Key::Column("currency")),
        ],
        sums: FIGURES,
    },
    Sums {
        table: "metering_totals",
        of: &USAGE,
        keys: &[
            ("hour", Key::Period("ended_at", HOUR)),
            ("model", Key::Column("model")),
            ("provider", Key::Column("provider")),
            ("currency", Key::Column("currency")),
        ],
        sums: FIGURES,
    },
];

/// Compares the sums with the records; for each table, the first that does not fit.
pub async fn verify_rollups(database: &::store::Database) -> ::store::Result<Vec<Finding>> {
    ledger::verify_sums(database, &ROLLUPS).await
}

impl Metering {
    /// Makes all sums anew from the records, in one operation: calls wait until it is done.
    pub async fn rebuild_rollups(&self) -> Result<()> {
        let run = |sql: &'static String| Attachment::Run { sql, cells: Vec::new() };
        let attachments = store::REBUILD.iter().map(run).collect();
        // A renewal of nothing moves no money.
        let nothing = Command::Renew { holds: Vec::new(), lease_until: self.now() };
        let operation = Operation::new(format!("rebuild:{}", kernel::id::new()), nothing);
        self.journal().submit(ledger::Unit::new(operation, attachments)).await?;
        Ok(())
    }
}
