//! Embedded SQLite: one writing connection, a few reading ones.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use parking_lot::{FairMutex, FairMutexGuard, Mutex};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::Semaphore;

use crate::{Error, Expect, Result, Row, Statement, Value};

/// Before 3.51.3 two connections could corrupt a database in WAL mode.
const OLDEST: i32 = 3_051_003;
/// Enough for short reads beside one writer; each idle connection costs about 100 KiB.
const READERS: usize = 4;
/// The write-ahead log is copied into the database file beside the writer, after so many commits and
/// changed rows: many small commits touch the same pages, which are then copied once, and the disk is
/// left to the writer for seconds; of large commits a few are enough.
const CHECKPOINT_COMMITS: u64 = 64;
const CHECKPOINT_ROWS: u64 = 6_000;
/// Pages of 4 KiB in the log at which the writer itself finishes the copy, so that the log can start
/// again from its beginning; little is left to copy by then.
const CHECKPOINT_PAGES: i64 = 16_000;
/// The log's file when all those pages are in it: each with its header, after the log's own.
const LOG_BYTES: u64 = 32 + CHECKPOINT_PAGES.unsigned_abs() * (4096 + 24);
/// So much room is made while the writer waits: a fraction of a millisecond.
static ROOM_STEP: [u8; 256 * 1024] = [0; 256 * 1024];
const STATEMENT_CACHE: usize = 256;

/// A SQLite database file, owned by this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sqlite {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    /// Fair, so that the journal, which locks again at once, lets others in.
    writer: FairMutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    reader_slots: Semaphore,
    /// The log was emptied for good: no more room is made in it.
    closed: AtomicBool,
    /// Transactions begun, and rows changed before, since the log was last copied.
    commits: AtomicU64,
    rows: AtomicU64,
    checkpointer: Checkpointer,
}

/// A thread that copies the write-ahead log beside the writer, when told to; it ends, and is joined,
/// with its owner.
#[derive(Debug)]
struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    fn start(path: &Path) -> Result<Self> {
        let connection = connect(path)?;
        let (wake, woken) = sync_channel(1);
        let work = move || {
            while woken.recv().is_ok() {
                let copied = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
                if let Err(error) = copied {
                    tracing::warn!(%error, "the write-ahead log cannot be copied");
                }
            }
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(work);
        let thread = thread.map_err(|source| Error::File { path: path.to_owned(), source })?;
        Ok(Self { wake: Some(wake), thread: Some(thread) })
    }

    fn wake(&self) {
        if let Some(wake) = &self.wake {
            // A full channel means that it is about to work anyway.
            wake.try_send(()).unwrap_or_default();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    /// Called with the writer locked, so that nobody else counts.
    fn checkpoint_when_due(&self, rows: u64) {
        let commits = self.commits.fetch_add(1, Ordering::Relaxed);
        let changed = rows.saturating_sub(self.rows.load(Ordering::Relaxed));
        if commits >= CHECKPOINT_COMMITS && changed >= CHECKPOINT_ROWS {
            self.commits.store(0, Ordering::Relaxed);
            self.rows.store(rows, Ordering::Relaxed);
            self.checkpointer.wake();
        }
    }

    fn make_room(&self) -> Result<()> {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        let failed = |source| Error::File { path: path.clone().into(), source };
        let file = std::fs::OpenOptions::new().write(true).open(&path).map_err(failed)?;
        while self.extend(&file).map_err(failed)? {
            // Not left to the next commit.
            file.sync_data().map_err(failed)?;
        }
        Ok(())
    }

    /// Adds a step of zeros behind all that is in the log; whether it did.
    fn extend(&self, log: &File) -> std::io::Result<bool> {
        let _nobody_writes = self.writer.lock();
        let length = log.metadata()?.len();
        if length >= LOG_BYTES || self.closed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        log.write_all_at(&ROOM_STEP, length)?;
        Ok(true)
    }
}

impl Sqlite {
    /// Opens or creates the file, in WAL mode with `synchronous=FULL`.
    pub fn open(path: &Path) -> Result<Self> {
        if rusqlite::version_number() < OLDEST {
            return Err(Error::SqliteTooOld(rusqlite::version().to_owned()));
        }
        let writer = connect(path)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        writer.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        let readers = (0..READERS).map(|_| connect_reader(path)).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            shared: Arc::new(Shared {
                path: path.to_owned(),
                writer: FairMutex::new(writer),
                readers: Mutex::new(readers),
                reader_slots: Semaphore::new(READERS),
                closed: AtomicBool::new(false),
                commits: AtomicU64::new(0),
                rows: AtomicU64::new(0),
                checkpointer: Checkpointer::start(path)?,
            }),
        })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// The writing connection. Blocks the thread while another has it: never hold it across an
    /// await.
    pub fn writer(&self) -> FairMutexGuard<'_, Connection> {
        let writer = self.shared.writer.lock();
        self.shared.checkpoint_when_due(writer.total_changes());
        writer
    }

    /// Nobody has the writing connection now.
    pub fn is_free(&self) -> bool {
        !self.shared.writer.is_locked()
    }

    /// Runs `work` with a reading connection, on a thread that may block.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let _slot = self.shared.reader_slots.acquire().await.map_err(|_closed| Error::TaskLost)?;
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || {
            let taken = shared.readers.lock().pop();
            let connection = taken.map_or_else(|| connect_reader(&shared.path), Ok)?;
            let outcome = work(&connection);
            shared.readers.lock().push(connection);
            outcome
        })
        .await
        .map_err(|_panicked| Error::TaskLost)?
    }

    /// Fills the write-ahead log's file up to the length at which the log starts again, beside the
    /// writer. A commit into a file that grows waits for the file system's own log too, which on a
    /// fast disk takes half as long again. What SQLite finds after its last page it ignores.
    pub async fn make_room(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.make_room())
            .await
            .map_err(|_panicked| Error::TaskLost)?
    }

    /// Copies the write-ahead log into the database file and empties it.
    pub(crate) async fn checkpoint(&self) {
        let shared = Arc::clone(&self.shared);
        let folding = move || {
            let writer = shared.writer.lock();
            shared.closed.store(true, Ordering::Relaxed);
            writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        };
        match tokio::task::spawn_blocking(folding).await {
            Ok(Ok(0)) => {}
            Ok(Ok(_)) => tracing::debug!("the write-ahead log is in use and stays"),
            Ok(Err(error)) => tracing::warn!(%error, "the write-ahead log stays"),
            Err(_panicked) => tracing::warn!("the write-ahead log stays"),
        }
    }

    pub(crate) async fn query(&self, sql: String, args: Vec<Value>) -> Result<Vec<Row>> {
        self.read(move |connection| query(connection, &sql, &args)).await
    }

    pub(crate) async fn transaction(&self, statements: Vec<Statement>) -> Result<Vec<u64>> {
        let sqlite = self.clone();
        tokio::task::spawn_blocking(move || run_all(&mut sqlite.writer(), &statements))
            .await
            .map_err(|_panicked| Error::TaskLost)?
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "busy_timeout", 5_000)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

pub(crate) fn connect_reader(path: &Path) -> Result<Connection> {
    let connection = connect(path)?;
    connection.pragma_update(None, "query_only", "ON")?;
    Ok(connection)
}

pub(crate) fn query(connection: &Connection, sql: &str, args: &[Value]) -> Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns = statement.column_count();
    let mut cursor = statement.query(rusqlite::params_from_iter(args.iter().map(bind)))?;
    let mut rows = Vec::new();
    while let Some(row) = cursor.next()? {
        let values = (0..columns).map(|at| read_value(row.get_ref(at)?)).collect::<Result<_>>()?;
        rows.push(Row::new(values));
    }
    Ok(rows)
}

fn read_value(value: ValueRef<'_>) -> Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(_) => {
            return Err(Error::Shape { column: 0, wanted: "integer", found: "real" });
        }
        ValueRef::Text(text) => Value::from(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::from(bytes),
    })
}

/// A value as SQLite takes it, without copying.
pub fn bind(value: &Value) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match value {
        Value::Null => ValueRef::Null,
        Value::Int(number) => ValueRef::Integer(*number),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Bytes(bytes) => ValueRef::Blob(bytes),
    })
}

fn run_all(connection: &mut Connection, statements: &[Statement]) -> Result<Vec<u64>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut changed = Vec::with_capacity(statements.len());
    for statement in statements {
        let mut prepared = transaction.prepare_cached(&statement.sql)?;
        let rows =
            prepared.execute(rusqlite::params_from_iter(statement.args.iter().map(bind)))? as u64;
        if statement.expect == Expect::One && rows != 1 {
            return Err(Error::Unexpected { statement: statement.sql.clone().into_owned() });
        }
        changed.push(rows);
    }
    transaction.commit()?;
    Ok(changed)
}
