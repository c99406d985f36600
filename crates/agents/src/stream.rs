//! A run as a stream of events: each has an id, and the same id is always the same bytes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse;
use flow::{Event, Logged, News, Replay, Said, Status, Watch};
use futures_util::Stream;
use serde_json::{Value, json};

use crate::runs::Stored;
use crate::{Agents, Error, Owner, Result};

/// Whether a run that asks something has more to say is known by then.
const QUIET: Duration = Duration::from_millis(200);

/// The place in a stream that `Last-Event-ID` names: an execution and the last event of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) execution_id: String,
    pub(crate) seq: i64,
}

impl Place {
    /// Reads `EXECUTION:NUMBER`.
    pub(crate) fn read(text: &str) -> Result<Self> {
        let bad = || Error::Query("Last-Event-ID", "send the last event's id unchanged".to_owned());
        let (id, seq) = text.split_once(':').ok_or_else(bad)?;
        let seq = seq.parse().ok().filter(|seq| *seq >= 0).ok_or_else(bad)?;
        crate::ids::check_execution(id)?;
        Ok(Self { execution_id: id.to_owned(), seq })
    }
}

/// A run that is being sent.
struct Sending {
    agents: Agents,
    run: Stored,
    watch: Watch,
    replay: Replay,
    /// Everything up to here was sent.
    sent: i64,
}

impl Agents {
    /// What happens to a run, from the event after `after` on, until it ends or waits for an answer;
    /// what models say meanwhile, as it comes.
    pub(crate) async fn stream(
        &self,
        owner: &Owner,
        execution_id: &str,
        after: i64,
    ) -> Result<impl Stream<Item = std::result::Result<sse::Event, Infallible>> + use<>> {
        let run = self.find_run(owner, execution_id).await?;
        let engine = &self.parts().engine;
        // From the beginning: what a step is is said when it begins.
        let watch = engine.watch(&run.org_id, &run.run_id, 0).await?;
        let replay = engine.replay(&run.org_id, &run.run_id).await?;
        let sending = Sending { agents: self.clone(), run, watch, replay, sent: after };
        Ok(futures_util::stream::unfold(sending, |mut sending| async move {
            let event = sending.next().await?;
            Some((Ok(event), sending))
        }))
    }
}

impl Sending {
    async fn next(&mut self) -> Option<sse::Event> {
        let leaving = self.agents.leaving().clone();
        loop {
            let next = tokio::select! {
                next = tokio::time::timeout(QUIET, self.watch.next()) => next,
                () = leaving.cancelled() => return None,
            };
            match next {
                Ok(Ok(Some(News::Happened(logged)))) => match self.event(&logged).await {
                    Ok(Some(event)) => return Some(event),
                    Ok(None) => {}
                    Err(error) => return cut(&error),
                },
                Ok(Ok(Some(News::Said(said)))) => return Some(self.said(&said)),
                Ok(Ok(None) | Err(flow::Error::Stopping)) => return None,
                Ok(Err(error)) => return cut(&error),
                // It goes on only when somebody answers: the stream can be taken up again then.
                Err(_quiet) if self.asks() => return None,
                Err(_quiet) => {}
            }
        }
    }

    fn asks(&self) -> bool {
        self.replay.status() == Status::Waiting && !self.replay.snapshot().questions.is_empty()
    }

    /// An event as it is sent, unless it was before.
    async fn event(&mut self, logged: &Logged) -> Result<Option<sse::Event>> {
        let before = step_of(&logged.event).and_then(|step| self.replay.node_of(step));
        self.replay.apply(logged);
        if logged.seq <= self.sent {
            return Ok(None);
        }
        let node = match &logged.event {
            Event::Passed { node, .. }
            | Event::Planned { node, .. }
            | Event::StepStarted { node, .. } => Some(Arc::clone(node)),
            _ => before,
        };
        let chunk = match &logged.event {
            Event::Finished { .. } => self.last_chunk(logged).await?,
            _ => self.chunk(logged, node.as_deref()),
        };
        self.sent = logged.seq;
        let id = format!("{}:{}", self.run.execution_id, logged.seq);
        Ok(Some(sse::Event::default().id(id).data(chunk.to_string())))
    }

    /// A piece of a text. It has no id: who comes back gets the whole with the step's end.
    fn said(&self, said: &Said) -> sse::Event {
        let chunk = json!({
            "type": "stream", "execution_id": self.run.execution_id.as_ref(),
            "workflow_id": self.run.workflow_id, "session_id": self.run.session_id,
            "current_node": self.replay.node_of(said.step), "step": said.step,
            "attempt": said.attempt, "offset": said.offset, "chunk": said.text,
            "timestamp": self.agents.now(),
        });
        sse::Event::default().data(chunk.to_string())
    }

    fn chunk(&self, logged: &Logged, node: Option<&str>) -> Value {
        let mut data = serde_json::to_value(&logged.event).unwrap_or_default();
        let mut event = None;
        if let Value::Object(members) = &mut data {
            event = members.remove("type");
            if let Some(node) = node {
                members.insert("current_node".to_owned(), json!(node));
            }
            if let Event::StepFinished { output, .. } = &logged.event
                && output["message"].is_object()
            {
                members.insert("messages".to_owned(), json!([output["message"]]));
            }
        }
        json!({
            "type": "state_update", "execution_id": self.run.execution_id.as_ref(),
            "workflow_id": self.run.workflow_id, "session_id": self.run.session_id,
            "event": event, "seq": logged.seq, "data": data, "timestamp": logged.at,
        })
    }

    async fn last_chunk(&self, logged: &Logged) -> Result<Value> {
        // As it is stored: why it was stopped may have been noted since it was read.
        let database = &self.agents.parts().database;
        let stored = crate::store::runs::find_any(database, &self.run.execution_id).await?;
        let run = stored.as_ref().unwrap_or(&self.run);
        let record = self.agents.parts().engine.find(&run.org_id, &run.run_id).await?;
        let told = run.told_by(&record, Vec::new());
        Ok(json!({
            "type": told.status, "execution_id": told.execution_id, "workflow_id": told.workflow_id,
            "session_id": told.session_id, "seq": logged.seq, "started_at": told.started_at,
            "completed_at": logged.at, "result": told.result, "error": told.error,
            "error_type": told.error_type, "cost": told.cost, "timestamp": logged.at,
        }))
    }
}

/// The stream is cut, so that nobody takes it for whole.
fn cut(error: &(dyn std::error::Error + 'static)) -> Option<sse::Event> {
    tracing::warn!(error, "a stream of a run is cut");
    None
}

const fn step_of(event: &Event) -> Option<u64> {
    match event {
        Event::StepWaiting { step, .. }
        | Event::StepSleeping { step, .. }
        | Event::StepAnswered { step, .. }
        | Event::StepFinished { step, .. }
        | Event::StepFailed { step, .. }
        | Event::StepRetried { step, .. } => Some(*step),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_were_sent() {
        let place = Place::read("exec_20261121_174800_1f73e8a0:17").unwrap();
        assert_eq!((place.execution_id.as_str(), place.seq), ("exec_20261121_174800_1f73e8a0", 17));
        for text in ["", "17", "exec_x:1", "exec_20261121_174800_1f73e8a0:-1", "a:b:c"] {
            assert!(Place::read(text).is_err(), "{text}");
        }
    }
}
