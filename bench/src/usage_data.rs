//! Usage records for measuring how they are found: as many as asked for, over 90 days.
//!
//! They are written straight into the data folder of an installation: records and the sums over
//! them, nothing else. Finding records reads neither operations nor the hash chain, so there are
//! none: the folder is for reading, and `ledgerline verify` would rightly refuse it. The sums are
//! made and compared by the same code as everywhere.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use ledger::Table;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use store::{Database, Sqlite};

use crate::process::{Process, told};

const DAYS: u64 = 90;
const MICROS_PER_DAY: u64 = 86_400_000_000;
/// 2026-01-01 00:00 UTC.
const BEGIN: u64 = 1_767_225_600_000_000;
const ORGS: u64 = 1_000;
const KEYS: u64 = 10;
const MODELS: u64 = 12;
const PROVIDERS: u64 = 4;
/// One call of so many is made with a key that is hardly used.
const RARE: u64 = 100_000;
const PER_TRANSACTION: u64 = 200_000;
const ERRORS: [&str; 4] =
    ["upstream_rate_limited", "upstream_timeout", "upstream_error", "upstream_unreachable"];

#[derive(Args)]
pub(crate) struct UsageDataArgs {
    /// The built binary
    #[arg(long, default_value = "target/release/ledgerline")]
    ledgerline: PathBuf,
    /// The data folder to make
    #[arg(long)]
    data: PathBuf,
    /// How many records
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
}

pub(crate) async fn run(args: UsageDataArgs) -> anyhow::Result<()> {
    let begun = Instant::now();
    let customer = install(&args.ledgerline, &args.data)?;
    let file = args.data.join("ledgerline.db");
    write(&file, args.rows, &customer)?;
    crate::say(&format!("{} records in {:?}", args.rows, begun.elapsed()))?;
    let database = Database::Sqlite(Sqlite::open(&file)?);
    let findings = metering::verify_rollups(&database).await?;
    anyhow::ensure!(findings.is_empty(), "the sums do not fit: {findings:?}");
    database.close().await;
    crate::say(&format!("sums made and compared after {:?}", begun.elapsed()))
}

/// Starts and stops a demo installation; returns its customer, who gets most of the calls.
fn install(ledgerline: &Path, data: &Path) -> anyhow::Result<String> {
    Process::serve(ledgerline, data, None)?.stop()?;
    told(data, "/customer/org_id")
}

/// The same numbers in every run.
struct Numbers(u64);

impl Numbers {
    /// Splitmix64.
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Below the limit, small numbers far more often.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a choice among a thousand"
    )]
    fn skewed(&mut self, limit: u64, power: i32) -> u64 {
        let share = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (share.powi(power) * limit as f64) as u64
    }
}

/// The organization of this rank.
pub(crate) fn org(rank: u64, customer: &str) -> String {
    if rank == 0 { customer.to_owned() } else { format!("0197a000-0000-7000-8000-{rank:012}") }
}

/// A key of an organization; the last one is hardly used.
pub(crate) fn key(rank: u64, key: u64) -> String {
    format!("0197b000-{rank:04}-7000-8000-{key:012}")
}

pub(crate) const RARE_KEY: u64 = KEYS;

/// A model's name.
pub(crate) fn model(number: u64) -> String {
    format!("model-{number}")
}

/// The request of a record.
pub(crate) fn request(number: u64) -> String {
    format!("0197c{:03x}-{:04x}-7000-8000-{number:012}", (number >> 16) & 0xfff, number & 0xffff)
}

fn write(file: &Path, rows: u64, customer: &str) -> anyhow::Result<()> {
    let mut connection = Connection::open(file)?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "cache_size", -2_000_000)?;
    let table: &Table = &metering::USAGE;
    let places = vec!["?"; table.columns.len()].join(", ");
    let insert =
        format!("INSERT INTO {} ({}) VALUES ({places})", table.name, table.columns.join(", "));
    let mut numbers = Numbers(7);
    let mut next = 0;
    while next < rows {
        let transaction = connection.transaction()?;
        {
            let mut statement = transaction.prepare_cached(&insert)?;
            let end = rows.min(next + PER_TRANSACTION);
            for number in next..end {
                let record = Record::new(number, rows, &mut numbers, customer);
                statement.execute(params_from_iter(
                    table.columns.iter().map(|column| record.value(column)),
                ))?;
            }
            next = end;
        }
        transaction.commit()?;
    }
    let transaction = connection.transaction()?;
    for statement in metering::ROLLUPS.iter().flat_map(ledger::Sums::rebuild) {
        transaction.execute(&statement, [])?;
    }
    Ok(transaction.commit()?)
}

/// What one record is made of.
struct Record {
    number: u64,
    org: String,
    app: Option<String>,
    key: String,
    model: String,
    provider: String,
    error: Option<&'static str>,
    input: i64,
    output: i64,
    ended_at: u64,
}

impl Record {
    fn new(number: u64, rows: u64, numbers: &mut Numbers, customer: &str) -> Self {
        let rank = numbers.skewed(ORGS, 3);
        let rare = number % RARE == 17;
        let key_number = if rare { RARE_KEY } else { numbers.skewed(KEYS, 2) };
        let failed = numbers.below(100) == 0;
        let error = usize::try_from(numbers.skewed(4, 3)).unwrap_or(0);
        Self {
            number,
            org: org(rank, customer),
            app: (key_number % 2 == 0)
                .then(|| format!("0197d000-{rank:04}-7000-8000-000000000001")),
            key: key(rank, key_number),
            model: model(numbers.skewed(MODELS, 2)),
            provider: format!("provider-{}", numbers.skewed(PROVIDERS, 2)),
            error: ERRORS.get(error).copied().filter(|_| failed),
            input: i64::try_from(numbers.below(4_000)).unwrap_or(0),
            output: i64::try_from(numbers.below(1_000)).unwrap_or(0),
            ended_at: BEGIN + number * (DAYS * MICROS_PER_DAY / rows),
        }
    }

    /// The value of a column; of one that is not known here, zero.
    fn value(&self, column: &str) -> Value {
        let settled = self.error.is_none();
        let figure = |value: i64| Value::Integer(if settled { value } else { 0 });
        let number = i64::try_from(self.number).unwrap_or(i64::MAX / 4);
        let at = |before: u64| Value::Integer(i64::try_from(self.ended_at - before).unwrap_or(0));
        let text = |text: &str| Value::Text(text.to_owned());
        let or_null = |value: Option<&str>| value.map_or(Value::Null, text);
        match column {
            "op_seq" => Value::Integer(2 * number + 2),
            "hold_seq" => Value::Integer(2 * number + 1),
            "id" | "request_id" => Value::Text(request(self.number)),
            "org_id" => text(&self.org),
            "app_id" => or_null(self.app.as_deref()),
            "key_id" => text(&self.key),
            "surface" => text("chat"),
            "model" | "upstream_model" => text(&self.model),
            "provider" => text(&self.provider),
            "status" => text(if settled { "settled" } else { "released" }),
            "error_code" => or_null(self.error),
            "upstream_status" => Value::Integer(if settled { 200 } else { 503 }),
            "currency" => text("CNY"),
            "cost" => figure(20 * self.input + 60 * self.output),
            "price_id" => text("3f1c2ab49d5e4d0aa9c1e2f3b4c5d6e7"),
            "held" => Value::Integer(500_000),
            "input_tokens" => figure(self.input),
            "output_tokens" => figure(self.output),
            "usage_source" => text(if settled { "reported" } else { "none" }),
            "raw_usage" if settled => Value::Text(format!(
                "{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{}}}",
                self.input,
                self.output,
                self.input + self.output
            )),
            "raw_usage" | "user_id" | "anomalies" => Value::Null,
            "started_at" => at(1_500_000),
            "first_token_at" => at(900_000),
            "ended_at" => at(0),
            _ => Value::Integer(0),
        }
    }
}

/// The time that the records cover, as RFC 3339 seconds after its beginning.
pub(crate) const fn instant(after_micros: u64) -> u64 {
    BEGIN + after_micros
}

/// How long the records' time is.
pub(crate) const SPAN: u64 = DAYS * MICROS_PER_DAY;
