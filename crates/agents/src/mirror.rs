//! Sessions, workflows and history as files of the data folder, where the agent API's original has
//! them: `sessions/metadata.db`, `workflows/metadata.db`, `history/YYYYMM/SESSION.jsonl`.
//!
//! The database is the truth. The files follow it: whatever is in them can be made again, and nothing
//! is read from them but how far they are.

mod files;
mod tables;

use std::collections::HashMap;
use std::time::Duration;

use kernel::Timestamp;
use tokio::sync::Mutex;

use crate::store::{history, mirror as store};
use crate::{Agents, Error, Result};

pub(crate) use files::Files;
use tables::Tables;

/// How often what has changed is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A change may become visible so much later than its time says: another instance's clock, or a long
/// transaction.
const OVERLAP: Duration = Duration::from_mins(1);
/// Rows looked at in one go.
pub(crate) const AT_ONCE: usize = 500;
/// Records copied in one go.
const PART: usize = 1_000;
/// Sessions of which is remembered how far their files are.
const MOST_KNOWN: usize = 20_000;

/// The files, and how far they are.
#[derive(Debug)]
pub(crate) struct Mirror(Mutex<State>);

#[derive(Debug)]
struct State {
    files: Files,
    /// Opened when first needed.
    tables: Option<Tables>,
    /// Everything up to here is in the files, for each of the three.
    histories: Timestamp,
    sessions: Timestamp,
    workflows: Timestamp,
    /// The last number in a session's files.
    known: HashMap<String, i64>,
    /// The rows that were put, as of when.
    put: HashMap<String, Timestamp>,
}

impl Mirror {
    pub(crate) fn new(files: Files) -> Self {
        let start = Timestamp::default();
        Self(Mutex::new(State {
            files,
            tables: None,
            histories: start,
            sessions: start,
            workflows: start,
            known: HashMap::new(),
            put: HashMap::new(),
        }))
    }
}

impl Agents {
    /// Keeps the files up to date until the service is closed.
    pub async fn keep_mirror(&self) {
        if !self.parts().config.mirror {
            return;
        }
        let mut turn = tokio::time::interval(LOOK_EVERY);
        loop {
            tokio::select! {
                () = self.0.stopping.cancelled() => return,
                _ = turn.tick() => {}
            }
            if let Err(error) = self.mirror_all().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the files of sessions and histories are behind"
                );
            }
        }
    }

    /// Makes all files anew.
    pub async fn rebuild_mirror(&self) -> Result<()> {
        if !self.parts().config.mirror {
            return Ok(());
        }
        {
            let mut state = self.mirror().0.lock().await;
            let start = Timestamp::default();
            (state.histories, state.sessions, state.workflows) = (start, start, start);
            state.known.clear();
            state.put.clear();
            let files = state.files.clone();
            in_files(move || files.remove_all()).await?;
            state.tables().await?.clear().await?;
        }
        self.mirror_all().await
    }

    /// Brings the files up to date.
    pub(crate) async fn mirror_all(&self) -> Result<()> {
        let mut state = self.mirror().0.lock().await;
        self.mirror_histories(&mut state).await?;
        self.mirror_tables(&mut state).await
    }

    async fn mirror_histories(&self, state: &mut State) -> Result<()> {
        let database = &self.parts().database;
        if state.histories == Timestamp::default() {
            let files = state.files.clone();
            state.histories = in_files(move || files.read_position()).await?;
        }
        let begun = state.histories;
        let mut from = (earlier(begun), String::new());
        loop {
            let changed = store::recorded(database, &from).await?;
            for row in &changed {
                self.mirror_history(state, &row.session_id, row.history_seq).await?;
                state.histories = state.histories.max(row.at);
            }
            match changed.last() {
                Some(last) if changed.len() == AT_ONCE => from = (last.at, last.session_id.clone()),
                _ => break,
            }
        }
        if state.histories > begun {
            let (files, position) = (state.files.clone(), state.histories);
            in_files(move || files.write_position(position)).await?;
        }
        Ok(())
    }

    /// Appends what a session's files do not have.
    async fn mirror_history(&self, state: &mut State, id: &str, last: i64) -> Result<()> {
        let mut after = if let Some(known) = state.known.get(id) {
            *known
        } else {
            let (files, id) = (state.files.clone(), id.to_owned());
            in_files(move || files.last_number(&id)).await?
        };
        while after < last {
            let part = history::after(&self.parts().database, id, (after, last), PART).await?;
            let Some(end) = part.last().map(|kept| kept.seq) else { break };
            let (files, name) = (state.files.clone(), id.to_owned());
            in_files(move || files.append(&name, &part)).await?;
            after = end;
        }
        if state.known.len() >= MOST_KNOWN {
            state.known.clear();
        }
        state.known.insert(id.to_owned(), after.max(last));
        Ok(())
    }

    async fn mirror_tables(&self, state: &mut State) -> Result<()> {
        let database = &self.parts().database;
        let mut from = (earlier(state.sessions), String::new());
        loop {
            let rows = store::sessions(database, &from).await?;
            let Some(last) = rows.last() else { break };
            from = (last.at, last.id.clone());
            let (at, more) = (last.at, rows.len() == AT_ONCE);
            let rows = state.new_ones(rows);
            if !rows.is_empty() {
                state.tables().await?.put_sessions(&rows).await?;
            }
            state.sessions = state.sessions.max(at);
            if !more {
                break;
            }
        }
        let mut from = (earlier(state.workflows), String::new());
        loop {
            let rows = store::workflows(database, &from).await?;
            let Some(last) = rows.last() else { break };
            from = (last.at, last.id.clone());
            let (at, more) = (last.at, rows.len() == AT_ONCE);
            let rows = state.new_ones(rows);
            if !rows.is_empty() {
                state.tables().await?.put_workflows(&rows).await?;
            }
            state.workflows = state.workflows.max(at);
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// A session is gone: so are its files.
    pub(crate) async fn unmirror_session(&self, id: &str) -> Result<()> {
        if !self.parts().config.mirror {
            return Ok(());
        }
        let mut state = self.mirror().0.lock().await;
        state.known.remove(id);
        let (files, name) = (state.files.clone(), id.to_owned());
        in_files(move || files.remove(&name).map(drop)).await?;
        state.tables().await?.forget("sessions", id).await
    }

    /// A workflow is gone.
    pub(crate) async fn unmirror_workflow(&self, id: &str) -> Result<()> {
        if !self.parts().config.mirror {
            return Ok(());
        }
        self.mirror().0.lock().await.tables().await?.forget("workflows", id).await
    }

    /// Makes a session's files anew after its first records were removed; how many files are gone.
    pub(crate) async fn clean_mirror(&self, id: &str) -> Result<u64> {
        if !self.parts().config.mirror {
            return Ok(0);
        }
        let mut state = self.mirror().0.lock().await;
        let (files, name) = (state.files.clone(), id.to_owned());
        let before = in_files(move || files.remove(&name)).await?;
        let session = crate::store::sessions::find_any(&self.parts().database, id).await?;
        let Some(session) = session else { return Ok(before) };
        state.known.insert(id.to_owned(), session.history_from - 1);
        self.mirror_history(&mut state, id, session.history_seq).await?;
        let (files, name) = (state.files.clone(), id.to_owned());
        let after = in_files(move || files.count(&name)).await?;
        Ok(before.saturating_sub(after))
    }
}

impl State {
    /// The rows that were not put as they are now.
    fn new_ones(&mut self, rows: Vec<store::Mirrored>) -> Vec<store::Mirrored> {
        if self.put.len() >= MOST_KNOWN {
            self.put.clear();
        }
        let new = |row: &store::Mirrored| self.put.insert(row.id.clone(), row.at) != Some(row.at);
        rows.into_iter().filter(new).collect()
    }

    async fn tables(&mut self) -> Result<&Tables> {
        if self.tables.is_none() {
            self.tables = Some(Tables::open(self.files.root()).await?);
        }
        self.tables.as_ref().ok_or(Error::Damaged("mirror"))
    }
}

fn earlier(at: Timestamp) -> Timestamp {
    let overlap = i64::try_from(OVERLAP.as_micros()).unwrap_or_default();
    Timestamp::from_micros(at.micros().saturating_sub(overlap).max(0))
}

/// Files are read and written on threads that may block.
async fn in_files<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => Ok(outcome?),
        Err(_ended) => Err(Error::Damaged("mirror")),
    }
}
