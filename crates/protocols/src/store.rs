//! All SQL of this crate.

use ::store::{Database, Migration, Row, Statement, Value};
use kernel::{OrgId, Timestamp};
use ledger::{Attachment, Table};
use serde_json::{Map, Value as Json};

use crate::Result;

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "0053_protocols",
    sqlite: include_str!("../migrations/sqlite/0053_protocols.sql"),
    mysql: include_str!("../migrations/mysql/0053_protocols.sql"),
}];

type Fields = Map<String, Json>;

/// A thread as stored.
#[derive(Clone, Debug)]
pub(crate) struct ThreadRow {
    pub(crate) id: String,
    pub(crate) metadata: Fields,
    /// Set by hand since the last run.
    pub(crate) fields: Option<Fields>,
    pub(crate) last_run: Option<String>,
    pub(crate) stateless: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl ThreadRow {
    /// A thread that is empty.
    pub(crate) fn new(id: String, now: Timestamp) -> Self {
        Self {
            id,
            metadata: Fields::new(),
            fields: None,
            last_run: None,
            stateless: false,
            created_at: now,
            updated_at: now,
        }
    }
}

/// A run of a thread as stored.
#[derive(Clone, Debug)]
pub(crate) struct RunRow {
    pub(crate) id: String,
    pub(crate) thread_id: String,
    pub(crate) assistant: String,
    /// The engine's run, which is not there if its start failed with the process.
    pub(crate) flow_run: String,
    pub(crate) after_seq: i64,
    pub(crate) until_seq: Option<i64>,
    pub(crate) metadata: Fields,
    pub(crate) created_at: Timestamp,
}

const THREAD: &str = "SELECT id, metadata, fields, last_run, stateless, created_at, updated_at FROM \
    protocols_threads WHERE org_id = ?";
const RUN: &str = "SELECT id, thread_id, assistant, flow_run, after_seq, until_seq, metadata, created_at \
    FROM protocols_runs WHERE org_id = ?";

static THREADS: Table = Table {
    name: "protocols_threads",
    columns: &[
        "org_id",
        "id",
        "metadata",
        "fields",
        "last_run",
        "stateless",
        "created_at",
        "updated_at",
    ],
    audited: false,
};

static RUNS: Table = Table {
    name: "protocols_runs",
    columns: &[
        "org_id",
        "id",
        "thread_id",
        "assistant",
        "flow_run",
        "after_seq",
        "until_seq",
        "metadata",
        "created_at",
    ],
    audited: false,
};

fn thread_cells(org_id: &OrgId, thread: &ThreadRow) -> Vec<Value> {
    vec![
        org_id.as_str().into(),
        thread.id.as_str().into(),
        text(&thread.metadata).into(),
        Value::from(thread.fields.as_ref().map(text)),
        Value::from(thread.last_run.as_deref()),
        thread.stateless.into(),
        thread.created_at.micros().into(),
        thread.updated_at.micros().into(),
    ]
}

fn run_cells(org_id: &OrgId, run: &RunRow) -> Vec<Value> {
    vec![
        org_id.as_str().into(),
        run.id.as_str().into(),
        run.thread_id.as_str().into(),
        run.assistant.as_str().into(),
        run.flow_run.as_str().into(),
        run.after_seq.into(),
        Value::from(run.until_seq),
        text(&run.metadata).into(),
        run.created_at.micros().into(),
    ]
}

/// The rows of a run and the thread that is made for it.
pub(crate) fn rows_of_one(org_id: &OrgId, thread: &ThreadRow, run: &RunRow) -> Vec<Attachment> {
    let thread = ThreadRow { last_run: Some(run.id.clone()), ..thread.clone() };
    let row = |table, values: Vec<Value>| Attachment::Insert {
        table,
        cells: values.into_iter().map(Into::into).collect(),
    };
    vec![row(&THREADS, thread_cells(org_id, &thread)), row(&RUNS, run_cells(org_id, run))]
}

/// Adds a thread; false if its id is taken.
pub(crate) async fn add_thread(
    database: &Database,
    org_id: &OrgId,
    thread: &ThreadRow,
) -> Result<bool> {
    let sql = "INSERT INTO protocols_threads (org_id, id, metadata, fields, last_run, stateless, created_at, \
               updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
    match database.execute(Statement::new(sql, thread_cells(org_id, thread))).await {
        Err(error) if error.is_duplicate() => Ok(false),
        outcome => Ok(outcome.map(|_one| true)?),
    }
}

pub(crate) async fn find_thread(
    database: &Database,
    org_id: &OrgId,
    id: &str,
) -> Result<Option<ThreadRow>> {
    let sql = format!("{THREAD} AND id = ?");
    let row = database.query_one(&sql, &[org_id.as_str().into(), id.into()]).await?;
    row.as_ref().map(read_thread).transpose()
}

/// Threads that are listed, the last changed first.
pub(crate) async fn list_threads(
    database: &Database,
    org_id: &OrgId,
    most: i64,
) -> Result<Vec<ThreadRow>> {
    let sql = format!("{THREAD} AND stateless = 0 ORDER BY updated_at DESC, id DESC LIMIT ?");
    let rows = database.query(&sql, &[org_id.as_str().into(), most.into()]).await?;
    rows.iter().map(read_thread).collect()
}

/// Changes what people may change of a thread.
pub(crate) async fn change_thread(
    database: &Database,
    org_id: &OrgId,
    thread: &ThreadRow,
) -> Result<()> {
    let sql = "UPDATE protocols_threads SET metadata = ?, fields = ?, updated_at = ? WHERE org_id = ? AND id = ?";
    let args = vec![
        text(&thread.metadata).into(),
        Value::from(thread.fields.as_ref().map(text)),
        thread.updated_at.micros().into(),
        org_id.as_str().into(),
        thread.id.as_str().into(),
    ];
    database.execute(Statement::new(sql, args)).await?;
    Ok(())
}

/// Deletes a thread and the record of its runs.
pub(crate) async fn remove_thread(database: &Database, org_id: &OrgId, id: &str) -> Result<()> {
    let args = || vec![org_id.as_str().into(), id.into()];
    let runs = "DELETE FROM protocols_runs WHERE org_id = ? AND thread_id = ?";
    let thread = "DELETE FROM protocols_threads WHERE org_id = ? AND id = ?";
    let both = vec![Statement::new(runs, args()), Statement::new(thread, args())];
    database.transaction(both).await?;
    Ok(())
}

/// Puts a run at the thread's end if its last one still is `before`; false if another was faster.
/// A run that goes on with the engine's run of the one before ends that one's part.
pub(crate) async fn add_run(
    database: &Database,
    org_id: &OrgId,
    run: &RunRow,
    before: Option<&str>,
) -> Result<bool> {
    let claim = "UPDATE protocols_threads SET last_run = ?, fields = NULL, updated_at = ? \
                 WHERE org_id = ? AND id = ? AND COALESCE(last_run, '') = ?";
    let claimed = vec![
        run.id.as_str().into(),
        run.created_at.micros().into(),
        org_id.as_str().into(),
        run.thread_id.as_str().into(),
        before.unwrap_or_default().into(),
    ];
    let insert = "INSERT INTO protocols_runs (org_id, id, thread_id, assistant, flow_run, after_seq, until_seq, \
                  metadata, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let inserted = Statement::new(insert, run_cells(org_id, run));
    let mut all = vec![Statement::one(claim, claimed), inserted];
    if run.after_seq > 0 {
        let sql = "UPDATE protocols_runs SET until_seq = ? WHERE org_id = ? AND id = ?";
        let before = before.unwrap_or_default();
        let ended = vec![run.after_seq.into(), org_id.as_str().into(), before.into()];
        all.push(Statement::new(sql, ended));
    }
    match database.transaction(all).await {
        Err(::store::Error::Unexpected { .. }) => Ok(false),
        outcome => Ok(outcome.map(|_all| true)?),
    }
}

/// Takes a run away; if it is its thread's last, `before` is again, and its part goes on.
pub(crate) async fn remove_run(
    database: &Database,
    org_id: &OrgId,
    run: &RunRow,
    before: Option<&str>,
) -> Result<()> {
    let run_args = vec![org_id.as_str().into(), run.id.as_str().into()];
    let back = vec![
        Value::from(before),
        org_id.as_str().into(),
        run.thread_id.as_str().into(),
        run.id.as_str().into(),
    ];
    let before = before.unwrap_or_default();
    let again = vec![
        org_id.as_str().into(),
        before.into(),
        org_id.as_str().into(),
        run.thread_id.as_str().into(),
        before.into(),
    ];
    let both = vec![
        Statement::new("DELETE FROM protocols_runs WHERE org_id = ? AND id = ?", run_args),
        Statement::new(
            "UPDATE protocols_threads SET last_run = ? WHERE org_id = ? AND id = ? AND last_run = ?",
            back,
        ),
        Statement::new(
            "UPDATE protocols_runs SET until_seq = NULL WHERE org_id = ? AND id = ? AND EXISTS \
             (SELECT 1 FROM protocols_threads WHERE org_id = ? AND id = ? AND last_run = ?)",
            again,
        ),
    ];
    database.transaction(both).await?;
    Ok(())
}

pub(crate) async fn find_run(
    database: &Database,
    org_id: &OrgId,
    id: &str,
) -> Result<Option<RunRow>> {
    let sql = format!("{RUN} AND id = ?");
    let row = database.query_one(&sql, &[org_id.as_str().into(), id.into()]).await?;
    row.as_ref().map(read_run).transpose()
}

/// A thread's runs, newest first.
pub(crate) async fn list_runs(
    database: &Database,
    org_id: &OrgId,
    thread_id: &str,
    most: i64,
) -> Result<Vec<RunRow>> {
    let sql = format!("{RUN} AND thread_id = ? ORDER BY id DESC LIMIT ?");
    let args = [org_id.as_str().into(), thread_id.into(), most.into()];
    database.query(&sql, &args).await?.iter().map(read_run).collect()
}

/// Runs that begin something, of a thread or of all, newest first.
pub(crate) async fn list_tasks(
    database: &Database,
    org_id: &OrgId,
    thread_id: Option<&str>,
    before: Option<&str>,
    most: i64,
) -> Result<Vec<RunRow>> {
    let mut sql = format!("{RUN} AND after_seq = 0 AND id < ?");
    let mut args = vec![org_id.as_str().into(), Value::from(before.unwrap_or("~"))];
    if let Some(thread_id) = thread_id {
        sql.push_str(" AND thread_id = ?");
        args.push(thread_id.into());
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    args.push(most.into());
    database.query(&sql, &args).await?.iter().map(read_run).collect()
}

/// How many there are.
pub(crate) async fn count_tasks(
    database: &Database,
    org_id: &OrgId,
    thread_id: Option<&str>,
) -> Result<i64> {
    let mut sql =
        "SELECT COUNT(*) FROM protocols_runs WHERE org_id = ? AND after_seq = 0".to_owned();
    let mut args = vec![org_id.as_str().into()];
    if let Some(thread_id) = thread_id {
        sql.push_str(" AND thread_id = ?");
        args.push(thread_id.into());
    }
    Ok(database.query_one(&sql, &args).await?.map_or(Ok(0), |row| row.int(0))?)
}

fn text(fields: &Fields) -> String {
    serde_json::to_string(fields).unwrap_or_default()
}

fn fields(text: &str) -> Fields {
    serde_json::from_str(text).unwrap_or_default()
}

fn read_thread(row: &Row) -> Result<ThreadRow> {
    Ok(ThreadRow {
        id: row.text(0)?.to_owned(),
        metadata: fields(row.text(1)?),
        fields: row.opt_text(2)?.map(fields),
        last_run: row.opt_text(3)?.map(str::to_owned),
        stateless: row.flag(4)?,
        created_at: Timestamp::from_micros(row.int(5)?),
        updated_at: Timestamp::from_micros(row.int(6)?),
    })
}

fn read_run(row: &Row) -> Result<RunRow> {
    Ok(RunRow {
        id: row.text(0)?.to_owned(),
        thread_id: row.text(1)?.to_owned(),
        assistant: row.text(2)?.to_owned(),
        flow_run: row.text(3)?.to_owned(),
        after_seq: row.int(4)?,
        until_seq: row.opt_int(5)?,
        metadata: fields(row.text(6)?),
        created_at: Timestamp::from_micros(row.int(7)?),
    })
}
