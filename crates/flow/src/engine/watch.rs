//! Watching a run: what happened to it, and what models are saying, as it comes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ::store::Database;
use kernel::OrgId;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use super::Engine;
use super::feed::{Feed, Fresh, Places};
use super::view::Replay;
use crate::event::{Event, Logged};
use crate::{Error, Result, store};

/// Rows of the log read at once.
const PAGE: i64 = 200;
/// On a shared database, how often the log of a run is looked at that another process may carry out.
const LOOK: Duration = Duration::from_millis(500);

/// What a watcher of a run is told.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Something happened, and is on disk.
    Happened(Arc<Logged>),
    /// A model is saying something.
    Said(Said),
}

/// A piece of the text that a model is saying: live, and in no log. The step's end has the whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    /// The step.
    pub step: u64,
    /// Its attempt: another one begins the text anew.
    pub attempt: u32,
    /// How many bytes of the text came before.
    pub offset: usize,
    /// The piece.
    pub text: String,
}

/// A run being watched. Its events come in order and without gaps, however slow the watcher is;
/// a text of which a piece came is completed before its step's end.
#[derive(Debug)]
pub struct Watch {
    engine: Engine,
    org_id: OrgId,
    run: Arc<str>,
    feed: Arc<Feed>,
    bell: watch::Receiver<()>,
    seq: i64,
    places: Places,
    ready: VecDeque<News>,
    /// The log may have more than was read.
    stale: bool,
    /// Nothing was read yet: the run may have ended before.
    first: bool,
    over: bool,
}

impl Engine {
    /// Watches a run from the event after this number; 0 for all.
    pub async fn watch(&self, org_id: &OrgId, run: &str, after: i64) -> Result<Watch> {
        let run = self.find(org_id, run).await?.id;
        Ok(self.watch_found(org_id, run, after))
    }

    /// Watches the run that is to be replayed, from its first event.
    pub fn watch_replay(&self, org_id: &OrgId, replay: &Replay) -> Watch {
        self.watch_found(org_id, Arc::clone(&replay.run), 0)
    }

    pub(super) fn watch_found(&self, org_id: &OrgId, run: Arc<str>, after: i64) -> Watch {
        let feed = self.feeds.of(&run);
        Watch {
            engine: self.clone(),
            org_id: org_id.clone(),
            run,
            bell: feed.bell(),
            feed,
            seq: after,
            places: Places::new(),
            ready: VecDeque::new(),
            stale: true,
            first: true,
            over: false,
        }
    }
}

impl Watch {
    /// The run begins with this, and was watched before: all else comes by its feed.
    pub(super) fn begin(&mut self, first: Logged) {
        (self.stale, self.first) = (false, false);
        self.hear(Arc::new(first));
    }

    /// What comes next; `None` once the run's end was told. A call that is dropped loses nothing.
    pub async fn next(&mut self) -> Result<Option<News>> {
        loop {
            if let Some(news) = self.ready.pop_front() {
                return Ok(Some(news));
            }
            if self.over {
                return Ok(None);
            }
            // Whatever comes from here on rings again.
            self.bell.mark_unchanged();
            if self.stale {
                self.read_log().await?;
                continue;
            }
            match self.feed.after(self.seq, &self.places) {
                Fresh::Behind => self.stale = true,
                Fresh::Events(events) => events.into_iter().for_each(|event| self.hear(event)),
                Fresh::Texts(texts) if texts.is_empty() => self.wait().await?,
                Fresh::Texts(texts) => {
                    for (step, attempt, offset, text) in texts {
                        self.places.insert(step, (attempt, offset + text.len()));
                        self.ready.push_back(News::Said(Said { step, attempt, offset, text }));
                    }
                }
            }
        }
    }

    /// The number of the last event that was told.
    pub const fn seq(&self) -> i64 {
        self.seq
    }

    /// Whether more is there to be told at once, such as what was written together with the last
    /// event.
    pub async fn has_more(&mut self) -> Result<bool> {
        while self.ready.is_empty() && self.stale && !self.over {
            self.read_log().await?;
        }
        Ok(!self.ready.is_empty())
    }

    async fn read_log(&mut self) -> Result<()> {
        let database = &self.engine.database;
        let page = store::events_page(database, &self.run, self.seq, PAGE).await?;
        if self.first && page.is_empty() {
            let run = self.engine.find(&self.org_id, &self.run).await?;
            self.over = run.status.is_final();
        }
        self.first = false;
        self.stale = !page.is_empty();
        page.into_iter().for_each(|logged| self.hear(Arc::new(logged)));
        Ok(())
    }

    fn hear(&mut self, logged: Arc<Logged>) {
        self.seq = logged.seq;
        match &logged.event {
            Event::StepFinished { step, output, .. } => {
                if let Some((attempt, offset)) = self.places.remove(step)
                    && let Some(whole) = output.pointer("/message/content").and_then(Value::as_str)
                    && let Some(text) = whole.get(offset..).filter(|text| !text.is_empty())
                {
                    let (step, text) = (*step, text.to_owned());
                    self.ready.push_back(News::Said(Said { step, attempt, offset, text }));
                }
            }
            Event::StepFailed { step, .. } | Event::StepRetried { step, .. } => {
                self.places.remove(step);
            }
            Event::Finished { .. } => self.over = true,
            _ => {}
        }
        self.ready.push_back(News::Happened(logged));
    }

    async fn wait(&mut self) -> Result<()> {
        let elsewhere = matches!(self.engine.database, Database::MySql(_))
            && !self.engine.live.lock().contains_key(&self.run);
        let stopping = self.engine.stopping.clone();
        tokio::select! {
            biased;
            // The bell is the feed's, which this watcher keeps.
            _rung = self.bell.changed() => {}
            () = stopping.cancelled() => return Err(Error::Stopping),
            () = tokio::time::sleep(LOOK), if elsewhere => self.stale = true,
        }
        Ok(())
    }
}
