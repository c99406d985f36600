//! The history as stored: written in one transaction with its figures, and read in order.

use ::store::{Database, Row, Statement, Value};
use kernel::Timestamp;

use super::{Where, figures, runs, search, sessions};
use crate::follow::Outcome;
use crate::records::{Figures, Record};
use crate::runs::Stored as Run;
use crate::sessions::Stored as Session;
use crate::{Error, Owner, Result};

/// A session that changed in between is read again, this often.
const TRIES: usize = 10;
/// Rows of one statement.
const ROWS: usize = 100;

/// What of a run is to be written.
pub(crate) struct Batch<'a> {
    /// As it will be.
    pub(crate) run: &'a Run,
    /// The last event that was written before.
    pub(crate) before: i64,
    pub(crate) look_at: Option<Timestamp>,
    pub(crate) records: &'a [Record],
    pub(crate) figures: &'a Figures,
    /// What the run leaves to its session, at its end.
    pub(crate) state: Option<Outcome<'a>>,
    pub(crate) now: Timestamp,
}

/// What became of a batch.
pub(crate) enum Written {
    /// It is written; the session as it is now, unless it is gone.
    Done(Option<Box<Session>>),
    /// Another process has written more.
    Passed,
}

/// Writes records, figures and how far the run is, or nothing of it.
pub(crate) async fn write(database: &Database, batch: &Batch<'_>) -> Result<Written> {
    for _ in 0..TRIES {
        let session = sessions::find_any(database, &batch.run.session_id).await?;
        let mut statements = vec![runs::recorded(batch.run, batch.before, batch.look_at)];
        statements.extend(figures::add(database, batch.run, batch.figures));
        let mut after = None;
        if let Some(session) = session {
            let next = grown(&session, batch);
            statements.push(sessions::grow(&session, &next, batch.now));
            statements.extend(rows(batch, session.history_seq));
            let (first, last) = (session.history_seq, next.history_seq);
            statements.extend(search::blocks(database, batch, first, last).await?);
            after = Some(next);
        }
        match database.transaction(statements).await {
            Ok(_) => return Ok(Written::Done(after.map(Box::new))),
            // Another run of the session was written, or this one by another process.
            Err(::store::Error::Unexpected { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let run = runs::find_any(database, &batch.run.execution_id).await?;
        if run.is_none_or(|run| run.recorded != batch.before) {
            return Ok(Written::Passed);
        }
    }
    Err(Error::Contended(batch.run.session_id.clone()))
}

fn grown(session: &Session, batch: &Batch<'_>) -> Session {
    let mut next = session.clone();
    next.history_seq += i64::try_from(batch.records.len()).unwrap_or(i64::MAX);
    if let Some(outcome) = batch.state.filter(|_| session.listed) {
        next.state = outcome.after(&session.state);
        next.view.updated_at = batch.now;
    }
    next
}

fn rows(batch: &Batch<'_>, last_seq: i64) -> Vec<Statement> {
    let run = batch.run;
    let numbered: Vec<(i64, &Record)> = (last_seq + 1..).zip(batch.records).collect();
    let parts = numbered.chunks(ROWS).map(|part| {
        let places = vec!["(?, ?, ?, ?, ?, ?, ?)"; part.len()].join(", ");
        let sql = format!(
            "INSERT INTO agents_history (session_id, seq, org_id, owner, at, record_type, body) VALUES {places}"
        );
        let args = part.iter().flat_map(|(seq, record)| {
            [
                Value::from(run.session_id.as_str()),
                Value::from(*seq),
                Value::from(run.org_id.as_str()),
                Value::from(run.owner.as_str()),
                Value::from(record.at.micros()),
                Value::from(record.detail.record_type()),
                Value::from(record.body(&run.session_id, &run.execution_id, *seq)),
            ]
        });
        Statement::new(sql, args.collect())
    });
    parts.collect()
}

/// Which records are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
    pub(crate) types: Vec<String>,
}

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) seq: i64,
    pub(crate) body: String,
}

const COLUMNS: &str = "seq, body FROM agents_history";

fn read(row: &Row) -> Result<Kept> {
    Ok(Kept { seq: row.int(0)?, body: row.text(1)?.to_owned() })
}

impl Filter {
    const fn is_everything(&self) -> bool {
        self.from.is_none() && self.to.is_none() && self.types.is_empty()
    }

    fn within(&self, session: &Session) -> Where {
        let mut condition = Where::new("session_id = ?", session.view.session_id.as_str());
        if let Some(from) = self.from {
            condition.and("at >= ?", from.micros());
        }
        if let Some(to) = self.to {
            condition.and("at <= ?", to.micros());
        }
        condition.and_any_of("record_type", &self.types);
        condition
    }
}

/// Records of a session in their order, and how many fit in all.
pub(crate) async fn page(
    database: &Database,
    session: &Session,
    filter: &Filter,
    (limit, offset): (u32, u32),
) -> Result<(Vec<Kept>, i64)> {
    let mut condition = filter.within(session);
    let (limit, mut skip) = (i64::from(limit), i64::from(offset));
    // Without gaps the place of a record is its number.
    let total = if filter.is_everything() {
        condition.and("seq >= ?", session.history_from.saturating_add(skip));
        skip = 0;
        session.history_seq - session.history_from + 1
    } else {
        condition.count(database, "agents_history").await?
    };
    let more = [limit.into(), skip.into()];
    let rows = condition.read(database, COLUMNS, "ORDER BY seq LIMIT ? OFFSET ?", &more).await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}

/// Records of a session behind the one of this number, up to another, at most so many.
pub(crate) async fn after(
    database: &Database,
    session_id: &str,
    (after, up_to): (i64, i64),
    most: usize,
) -> Result<Vec<Kept>> {
    let mut condition = Where::new("session_id = ?", session_id);
    condition.and("seq > ?", after);
    condition.and("seq <= ?", up_to);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = condition.read(database, COLUMNS, "ORDER BY seq LIMIT ?", &[most.into()]).await?;
    rows.iter().map(read).collect()
}

/// The records of these numbers, in order.
pub(crate) async fn these(
    database: &Database,
    session_id: &str,
    numbers: &[i64],
) -> Result<Vec<Kept>> {
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else {
        return Ok(Vec::new());
    };
    let places = vec!["?"; numbers.len()].join(", ");
    let mut condition = Where::new("session_id = ?", session_id);
    condition.and("seq >= ?", *first);
    condition.and("seq <= ?", *last);
    let tail = format!("AND seq IN ({places}) ORDER BY seq");
    let numbers: Vec<Value> = numbers.iter().map(|number| Value::from(*number)).collect();
    let rows = condition.read(database, COLUMNS, &tail, &numbers).await?;
    rows.iter().map(read).collect()
}

/// The types of records that a session has.
pub(crate) async fn types(database: &Database, session_id: &str) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT record_type FROM agents_history WHERE session_id = ?";
    let rows = database.query(sql, &[session_id.into()]).await?;
    rows.iter().map(|row| Ok(row.text(0)?.to_owned())).collect()
}

/// What happened last in what the owner sees, newest first.
pub(crate) async fn newest(
    database: &Database,
    owner: &Owner,
    session: Option<&Session>,
    record_type: Option<&str>,
    limit: u32,
) -> Result<Vec<Kept>> {
    let (mut condition, order) = match session {
        Some(session) => {
            (Where::new("session_id = ?", session.view.session_id.as_str()), "ORDER BY seq DESC")
        }
        None => (Where::seen_by(owner), "ORDER BY at DESC, session_id DESC, seq DESC"),
    };
    if let Some(record_type) = record_type {
        condition.and("record_type = ?", record_type);
    }
    let tail = format!("{order} LIMIT ?");
    let rows = condition.read(database, COLUMNS, &tail, &[i64::from(limit).into()]).await?;
    rows.iter().map(read).collect()
}

/// When a session's first and last records are from.
pub(crate) async fn times(
    database: &Database,
    session_id: &str,
) -> Result<Option<(Timestamp, Timestamp)>> {
    let sql = "SELECT MIN(at), MAX(at) FROM agents_history WHERE session_id = ?";
    let row = database.query_one(sql, &[session_id.into()]).await?;
    let Some(row) = row else { return Ok(None) };
    let bounds = row.opt_int(0)?.zip(row.opt_int(1)?);
    Ok(bounds.map(|(first, last)| (Timestamp::from_micros(first), Timestamp::from_micros(last))))
}

/// The sessions with records from before this time, and the number up to which all are.
pub(crate) async fn older(
    database: &Database,
    owner: &Owner,
    before: Timestamp,
) -> Result<Vec<(String, i64)>> {
    let mut condition = Where::seen_by(owner);
    condition.and("at < ?", before.micros());
    let select = "session_id, MAX(seq) FROM agents_history";
    let rows = condition.read(database, select, "GROUP BY session_id", &[]).await?;
    let mut sessions = Vec::with_capacity(rows.len());
    for row in &rows {
        let (id, last) = (row.text(0)?.to_owned(), row.int(1)?);
        let kept = "SELECT MIN(seq) FROM agents_history WHERE session_id = ? AND at >= ?";
        let row = database.query_one(kept, &[id.as_str().into(), before.micros().into()]).await?;
        let kept = row.map(|row| row.opt_int(0)).transpose()?.flatten();
        sessions.push((id, kept.map_or(last, |kept| last.min(kept - 1))));
    }
    Ok(sessions)
}

/// Removes a session's records up to this number; how many there were.
pub(crate) async fn forget(database: &Database, session: &Session, up_to: i64) -> Result<u64> {
    let id = session.view.session_id.as_str();
    let sql =
        "UPDATE agents_sessions SET history_from = ? WHERE session_id = ? AND history_from = ?";
    let args = vec![(up_to + 1).into(), id.into(), session.history_from.into()];
    let delete = "DELETE FROM agents_history WHERE session_id = ? AND seq <= ?";
    let statements = vec![
        Statement::one(sql, args),
        Statement::new(delete, vec![id.into(), up_to.into()]),
        search::forget(id, up_to),
    ];
    match database.transaction(statements).await {
        Ok(changed) => Ok(changed.get(1).copied().unwrap_or_default()),
        // Somebody else cleans up as well.
        Err(::store::Error::Unexpected { .. }) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// The owner's sessions that have a history, the newest first, and how many there are.
pub(crate) async fn sessions(
    database: &Database,
    owner: &Owner,
    (limit, offset): (u32, u32),
) -> Result<(Vec<(Session, i64)>, i64)> {
    let mut condition = Where::seen_by(owner);
    condition.and("history_seq >= history_from AND listed = ?", true);
    let total = condition.count(database, "agents_sessions").await?;
    let tail = "ORDER BY recorded_at DESC, session_id DESC LIMIT ? OFFSET ?";
    let more = [i64::from(limit).into(), i64::from(offset).into()];
    let rows = sessions::read_where(database, &condition, tail, &more).await?;
    let counted = |session: Session| {
        let records = session.history_seq - session.history_from + 1;
        (session, records)
    };
    Ok((rows.into_iter().map(counted).collect(), total))
}

/// A record with its place among all that its owner sees.
pub(crate) struct Placed {
    pub(crate) place: Place,
    pub(crate) body: String,
}

/// When, in which session, and which of its records.
pub(crate) type Place = (i64, String, i64);

/// Records of a time, of one session or (with an empty one) of all, behind a place.
pub(crate) async fn between(
    database: &Database,
    owner: &Owner,
    session_id: &str,
    filter: &Filter,
    behind: Option<Place>,
    most: u32,
) -> Result<Vec<Placed>> {
    let mut condition = Where::seen_by(owner);
    if !session_id.is_empty() {
        condition.and("session_id = ?", session_id);
    }
    let from = filter.from.map_or(i64::MIN, Timestamp::micros);
    condition.and("at >= ?", behind.as_ref().map_or(from, |(at, ..)| *at));
    condition.and("at <= ?", filter.to.map_or(i64::MAX, Timestamp::micros));
    if let Some((at, session, seq)) = behind {
        condition.and("(at > ?", at);
        condition.or("session_id > ?", session.as_str());
        condition.or("(session_id = ?", session);
        condition.and("seq > ?))", seq);
    }
    let select = "at, session_id, seq, body FROM agents_history";
    let tail = "ORDER BY at, session_id, seq LIMIT ?";
    let rows = condition.read(database, select, tail, &[i64::from(most).into()]).await?;
    let read = |row: &Row| {
        let place = (row.int(0)?, row.text(1)?.to_owned(), row.int(2)?);
        Ok(Placed { place, body: row.text(3)?.to_owned() })
    };
    rows.iter().map(read).collect()
}
