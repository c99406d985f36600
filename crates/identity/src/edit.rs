//! How things change: read, altered, and written if nobody was faster; with what others must write
//! in the same transaction.

use std::fmt;
use std::sync::Arc;

use kernel::{OrgId, Page, PageRequest, Timestamp};
use serde::Serialize;
use serde_json::Value;
use store::{Row, Statement};

use crate::store::{self as rows, Filter, Thing};
use crate::{Change, Error, Identity, Result};

/// A change that others always come before is given up after so many.
const ATTEMPTS: usize = 10;

/// A change and the version it was made for, if its author said.
#[derive(Clone, Debug, Default)]
pub struct Edit<C> {
    /// What is to change.
    pub change: C,
    /// The version that the author has seen: with another one, nothing changes.
    pub version: Option<i64>,
}

impl<C> From<C> for Edit<C> {
    fn from(change: C) -> Self {
        Self { change, version: None }
    }
}

impl Edit<Change> {
    pub(crate) fn checked(self) -> Result<Self> {
        Ok(Self { change: self.change.checked()?, version: self.version })
    }
}

/// A change, as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Such as `create`, `change`, `delete`.
    pub verb: &'static str,
    /// Such as `key`.
    pub what: &'static str,
    /// Its id.
    pub id: String,
    /// The organization it belongs to, if it does to one.
    pub org_id: Option<OrgId>,
    /// How it was; `None` when it was not there.
    pub before: Option<Value>,
    /// How it is. Never with a secret.
    pub after: Option<Value>,
}

type Write = dyn Fn(&[Changed]) -> Vec<Statement> + Send + Sync;

/// Who writes down what changes.
#[derive(Clone)]
pub(crate) struct Witness {
    write: Arc<Write>,
    /// What a new key's secret is derived from, so that a repeated request gives it again.
    pub(crate) seed: Option<Arc<str>>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Witness")
    }
}

/// What has a version and can be listed, changed and deleted.
pub(crate) trait Record: Clone + PartialEq + Serialize + Send + Sync {
    const THING: Thing;
    fn id(&self) -> &str;
    fn org_id(&self) -> Option<&OrgId>;
    fn version(&mut self) -> &mut i64;
    /// When it was deleted; `None` for what never is.
    fn deletion(&mut self) -> Option<(&mut Option<Timestamp>, &mut bool)>;
    fn read(row: &Row) -> Result<Self>;
    /// The columns that can change, with their values.
    fn columns(&self) -> Vec<(&'static str, store::Value)>;

    fn is_deleted(&mut self) -> bool {
        self.deletion().is_some_and(|(at, _)| at.is_some())
    }

    fn shown(&self) -> Option<Value> {
        serde_json::to_value(self).ok()
    }
}

pub(crate) fn created<T: Record>(record: &T) -> Changed {
    Changed { before: None, ..changed("create", record, record) }
}

fn changed<T: Record>(verb: &'static str, before: &T, after: &T) -> Changed {
    Changed {
        verb,
        what: T::THING.noun(),
        id: after.id().to_owned(),
        org_id: after.org_id().cloned(),
        before: before.shown(),
        after: after.shown(),
    }
}

impl Identity {
    /// The same service, whose every change is written together with the statements that `write`
    /// makes of it, or not at all. With a `seed`, of which the caller's repeated request has the
    /// same, the secret of a key created can be [derived](Identity::derived_key) again.
    #[must_use]
    pub fn witnessed<W>(&self, seed: Option<Arc<str>>, write: W) -> Self
    where
        W: Fn(&[Changed]) -> Vec<Statement> + Send + Sync + 'static,
    {
        Self(Arc::clone(&self.0), Some(Witness { write: Arc::new(write), seed }))
    }

    /// What must be written in the transaction of these changes.
    pub fn witness(&self, changes: &[Changed]) -> Vec<Statement> {
        self.1.as_ref().map_or_else(Vec::new, |witness| (witness.write)(changes))
    }

    /// Writes the statements and what must be written with them; from then on this instance goes by
    /// them, the others within a second.
    pub(crate) async fn write(
        &self,
        mut statements: Vec<Statement>,
        changes: &[Changed],
    ) -> Result<()> {
        statements.extend(self.witness(changes));
        self.0.database.transaction(statements).await?;
        self.forget();
        self.0.changed.notify_one();
        Ok(())
    }

    /// Writes something new.
    pub(crate) async fn insert<T: Record>(
        &self,
        insertion: Statement,
        record: &T,
        mut more: Vec<Statement>,
    ) -> Result<()> {
        more.insert(0, insertion);
        self.write(more, &[created(record)]).await
    }

    pub(crate) async fn get<T: Record>(&self, id: &str) -> Result<T> {
        let found: Option<T> = rows::find(&self.0.database, id).await?;
        found.filter(|record| !record.clone().is_deleted()).ok_or_else(|| T::THING.missing(id))
    }

    pub(crate) async fn list<T: Record>(
        &self,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<T>> {
        let found = rows::list(&self.0.database, filter, page).await?;
        Ok(Page::from_fetched(found, page, |record: &T| record.id().to_owned()))
    }

    /// Alters it as it is at this moment. What changes nothing writes nothing.
    pub(crate) async fn edit<T: Record>(
        &self,
        id: &str,
        version: Option<i64>,
        alter: impl Fn(&mut T) -> Result<()> + Send + Sync,
    ) -> Result<T> {
        self.edit_as("change", id, version, |record| alter(record).map(|()| Vec::new())).await
    }

    /// As [`Identity::edit`], under a name of its own, and with more to write in the same
    /// transaction.
    pub(crate) async fn edit_as<T: Record>(
        &self,
        verb: &'static str,
        id: &str,
        version: Option<i64>,
        alter: impl Fn(&mut T) -> Result<Vec<(Statement, Changed)>> + Send + Sync,
    ) -> Result<T> {
        for _ in 0..ATTEMPTS {
            let mut before: T = self.get(id).await?;
            let seen = *before.version();
            if version.is_some_and(|version| version != seen) {
                return Err(Error::VersionMismatch { current: seen });
            }
            let mut after = before.clone();
            let also = alter(&mut after)?;
            if after == before && also.is_empty() {
                return Ok(after);
            }
            *after.version() = seen.saturating_add(1);
            let mut statements = vec![rows::update(&mut after, seen)];
            if T::THING == Thing::Role {
                statements.push(rows::new_access_version());
            }
            let mut changes = vec![changed(verb, &before, &after)];
            for (statement, change) in also {
                statements.push(statement);
                changes.push(change);
            }
            match self.write(statements, &changes).await {
                // Somebody was faster: alter what it is now.
                Err(Error::Store(cause)) if is_unexpected(&cause) => {}
                outcome => return outcome.map(|()| after),
            }
        }
        Err(Error::Contended)
    }

    /// Marks it deleted: it stays in the books of what happened, and is nowhere else.
    pub(crate) async fn delete<T: Record>(&self, id: &str, version: Option<i64>) -> Result<T> {
        let now = self.0.clock.now();
        let mark = |record: &mut T| {
            if let Some((at, disabled)) = record.deletion() {
                *at = Some(now);
                *disabled = true;
            }
            Ok(Vec::new())
        };
        self.edit_as("delete", id, version, mark).await
    }
}

fn is_unexpected(cause: &store::Error) -> bool {
    matches!(cause, store::Error::Unexpected { .. })
}
