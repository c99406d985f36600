//! What people do to runs: answer them, and cancel them.

use std::sync::Arc;

use kernel::OrgId;
use serde_json::Value;

use super::Engine;
use super::live::NotTaken;
use crate::event::Event;
use crate::machine::{Input, Refused};
use crate::{Error, Result, store};

/// A run that leaves memory just then is loaded again, this often.
const TRIES: usize = 8;

impl Engine {
    /// Answers the question of a waiting step. The first answer counts: the same again is fine,
    /// another is [`Error::Answered`]. True for the one that counts.
    pub async fn answer(
        &self,
        org_id: &OrgId,
        run: &str,
        step: u64,
        answer: Value,
    ) -> Result<bool> {
        self.check_size(crate::machine::value_size(&answer))?;
        let found = self.find(org_id, run).await?;
        let input = Input::Answer { step, answer: answer.clone() };
        match self.tell(&found.id, input).await {
            Err(Error::NotWaiting) => {
                let events = store::events(&self.database, run, 0).await?;
                let first = events.iter().find_map(|logged| match &logged.event {
                    Event::StepAnswered { step: known, answer } if *known == step => Some(answer),
                    _ => None,
                });
                match first {
                    Some(first) if *first == answer => Ok(false),
                    Some(_) => Err(Error::Answered),
                    None => Err(Error::NotWaiting),
                }
            }
            outcome => outcome.map(|()| true),
        }
    }

    /// Cancels a run: effects under way are cut off and what they used is charged. A run that has
    /// ended stays as it is.
    pub async fn cancel(&self, org_id: &OrgId, run: &str) -> Result<()> {
        let found = self.find(org_id, run).await?;
        if found.status.is_final() {
            return Ok(());
        }
        self.tell(&found.id, Input::Cancel).await
    }

    /// Takes something in, in a task of its own: whoever asked may leave, the run may not be left
    /// half-way.
    async fn tell(&self, run: &Arc<str>, input: Input) -> Result<()> {
        if self.stopping.is_cancelled() {
            return Err(Error::Stopping);
        }
        self.ensure_lease().await?;
        let (engine, run) = (self.clone(), Arc::clone(run));
        let told = self.tasks.spawn(async move { engine.told(&run, input).await });
        told.await.unwrap_or(Err(Error::Stopping))
    }

    pub(super) async fn told(&self, run: &Arc<str>, input: Input) -> Result<()> {
        for _ in 0..TRIES {
            let live = self.live(run, false).await?;
            match self.take(&live, input.clone()).await {
                Ok(()) => return Ok(()),
                Err(NotTaken::Retired) => tokio::task::yield_now().await,
                Err(NotTaken::Lost) => return Err(Error::TakenOver),
                Err(NotTaken::Refused(Refused::NotWaiting)) => return Err(Error::NotWaiting),
                Err(NotTaken::Refused(Refused::Mismatch(why))) => return Err(Error::Mismatch(why)),
            }
        }
        Err(Error::TakenOver)
    }
}
