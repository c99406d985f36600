//! What goes on beside the runs: taking up those of ended processes, timers, and signs of life.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ::store::Database;
use kernel::Timestamp;

use super::{Engine, Ticket};
use crate::event::Status;
use crate::machine::Input;
use crate::{Error, Result, store};

/// Without anything due the clock is looked at so often: it may have been set.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);

/// Between two looks at the tools of MCP servers.
const SOONEST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_mins(10);

impl Engine {
    /// Takes up the runs that ended processes have left, and works until the engine is closed.
    pub async fn run(&self) {
        if let Err(error) = self.recover().await {
            tracing::error!(error = &error as &dyn std::error::Error, "runs cannot be taken up");
        }
        let shared = matches!(self.database, Database::MySql(_));
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = self.keep_time() => {}
            () = self.keep_lease(), if shared => {}
            () = self.keep_tools(), if !self.tools.mcp().is_empty() => {}
        }
    }

    /// Puts the runs of ended processes in line, and looks up what is due next.
    pub async fn recover(&self) -> Result<()> {
        self.ensure_lease().await?;
        for status in [Status::Running, Status::Cancelling, Status::Queued] {
            let mut after = String::new();
            loop {
                let now = self.clock.now();
                let page = store::orphans(&self.database, status, &after, now).await?;
                let Some(last) = page.last() else { break };
                after = last.id.to_string();
                for open in page {
                    if !self.live.lock().contains_key(&open.id) {
                        self.queue.push(Ticket {
                            run: open.id,
                            org_id: open.org_id,
                            begun: open.begun,
                        });
                    }
                }
                self.dispatch();
            }
        }
        *self.next_due.lock() = Some(Timestamp::from_micros(0));
        self.wake.notify_one();
        Ok(())
    }

    /// Asks the MCP servers for their tools, soon again if one has not answered.
    async fn keep_tools(&self) {
        let mut pause = SOONEST_LOOK;
        loop {
            pause = match self.tools.mcp().refresh().await {
                0 => LONGEST_LOOK,
                _missing => (pause * 2).min(LONGEST_LOOK),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Wakes runs when their time has come.
    async fn keep_time(&self) {
        loop {
            if let Err(error) = self.wake_due().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "waiting runs cannot be woken"
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let first = self.timers.lock().first().map(|(at, _)| *at);
            let next = first.into_iter().chain(*self.next_due.lock()).min();
            let sleep = next.map_or(LONGEST_SLEEP, |at| at.since(self.clock.now()));
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(sleep.min(LONGEST_SLEEP)) => {}
            }
        }
    }

    /// Wakes the runs whose time has come by now.
    pub async fn wake_due(&self) -> Result<()> {
        let now = self.clock.now();
        loop {
            let due = {
                let mut timers = self.timers.lock();
                match timers.first() {
                    Some((at, _)) if *at <= now => timers.pop_first(),
                    _ => None,
                }
            };
            let Some((_, run)) = due else { break };
            // One that left memory meanwhile has its time in the database.
            let at_work = self.live.lock().contains_key(&run);
            if at_work {
                self.wake_run(run);
            }
        }
        while self.next_due.lock().take_if(|at| *at <= now).is_some() {
            let found = store::due(&self.database, now).await;
            let (due, next) = found.inspect_err(|_error| self.due_at(Some(now)))?;
            let woken: Vec<_> = due.into_iter().map(|open| self.wake_run(open.id)).collect();
            // Those that are being woken count as due until they are written.
            for task in woken {
                drop(task.await);
            }
            self.due_at(next);
        }
        Ok(())
    }

    /// A waiting run must be looked at then.
    pub(super) fn due_at(&self, at: Option<Timestamp>) {
        let mut next = self.next_due.lock();
        *next = next.iter().copied().chain(at).min();
    }

    fn wake_run(&self, run: Arc<str>) -> tokio::task::JoinHandle<()> {
        let engine = self.clone();
        self.tasks.spawn(async move {
            match engine.told(&run, Input::Wake).await {
                Ok(()) | Err(Error::TakenOver) => {}
                Err(error) => {
                    tracing::error!(%run, error = &error as &dyn std::error::Error, "a run cannot be woken");
                }
            }
        })
    }

    /// On a shared database: says that this process lives while it has runs, and takes up those of
    /// processes that no longer do.
    async fn keep_lease(&self) {
        let mut turn = tokio::time::interval(self.config.lease() / 3);
        loop {
            turn.tick().await;
            let done = async {
                if !self.queue.is_idle() {
                    self.renew().await?;
                }
                self.recover().await?;
                let long_ago = self.clock.now().micros() - 86_400_000_000;
                store::forget_owners(&self.database, Timestamp::from_micros(long_ago)).await
            };
            if let Err(error) = done.await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "runs cannot be looked after"
                );
            }
        }
    }

    /// Before this process takes a run: others must see that it lives.
    pub(super) async fn ensure_lease(&self) -> Result<()> {
        let half = self.config.lease() / 2;
        let needed = self.clock.now().after(half).micros();
        let shared = matches!(self.database, Database::MySql(_));
        if !shared || self.lease_until.load(Ordering::Relaxed) >= needed {
            return Ok(());
        }
        self.renew().await
    }

    async fn renew(&self) -> Result<()> {
        let until = self.clock.now().after(self.config.lease());
        store::renew(&self.database, &self.owner, until).await?;
        self.lease_until.store(until.micros(), Ordering::Relaxed);
        Ok(())
    }
}
