//! Asking the upstreams: attempt after attempt, as long as nothing has reached the client.

use std::time::Duration;

use bytes::Bytes;
use kernel::Timestamp;
use metering::Attempt;
use models::{
    Answer, AnswerUsage, CallError, ChatStream, OnDisconnect, Place, Search, UpstreamCall,
    answer_usage,
};
use tokio::time::Instant;

use crate::call::{Prepared, Reply, way};
use crate::{Error, Gateway};

/// What a usage record says of a call whose client did not wait.
pub(crate) const CLIENT_GONE: &str = "client_gone";

/// How the asking has ended.
#[derive(Debug)]
pub(crate) enum Asked {
    /// With a complete answer.
    Full(Place, Full),
    /// With a stream whose first frame is there.
    Stream(Place, Box<ChatStream>),
    /// Without an answer.
    Failed(Error),
    /// The client has left.
    Left,
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Full {
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
    pub(crate) usage: Counted,
}

/// Who counted its tokens.
#[derive(Debug)]
pub(crate) enum Counted {
    /// The upstream.
    Reported(models::Usage),
    /// Nobody: so many tokens of output by our estimate.
    Estimated(u64),
}

/// The attempts of one call that are over. Empty for a call that is answered at its first.
#[derive(Debug, Default)]
pub(crate) struct Trail(Vec<Attempt>);

/// An attempt that is under way.
#[derive(Debug)]
struct Running {
    place: Place,
    started_at: Timestamp,
}

impl Trail {
    /// The way of the last attempt.
    pub(crate) fn last_route(&self) -> Option<metering::Route> {
        self.0.last().map(|attempt| attempt.route.clone())
    }

    /// For the usage record.
    pub(crate) fn into_attempts(self) -> Vec<Attempt> {
        self.0
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn add(&mut self, running: &Running, ended_at: Timestamp, end: End<'_>) {
        let (status, error_code) = match end {
            End::Answered => (Some(200), None),
            End::Failed(error) => (status_of(error), Some(Error::call_code(error))),
            End::Left => (None, Some(CLIENT_GONE)),
        };
        self.0.push(Attempt {
            route: way(running.place.route()),
            model: running.place.fallback().cloned(),
            started_at: running.started_at,
            ended_at,
            status,
            error_code,
        });
    }
}

/// How an attempt ends.
#[derive(Clone, Copy)]
enum End<'a> {
    Answered,
    Failed(&'a CallError),
    Left,
}

const fn status_of(error: &CallError) -> Option<u16> {
    match error {
        CallError::Refused(refusal) => Some(refusal.status),
        _ => None,
    }
}

/// What one attempt has brought.
enum Brought {
    Full(Full),
    Stream(Box<ChatStream>),
}

impl Gateway {
    /// Asks the ways to the model in turn until one answers. All attempts belong to the one hold;
    /// `trail` has those that are over also when this ends early.
    pub(crate) async fn ask(
        &self,
        prepared: &Prepared,
        trail: &mut Trail,
        reply: &mut Reply,
    ) -> Asked {
        let begun = Instant::now();
        let mut search = prepared.model.search();
        let mut last = None;
        loop {
            let Some(place) = search.take() else {
                let open = search.any_open() && self.is_in_time(begun);
                match (last.take(), open) {
                    (None, _) => return Asked::Failed(Error::NoWay(search.no_way())),
                    (Some(error), false) => return Asked::Failed(Error::Upstream(error)),
                    (Some(error), true) => last = Some(error),
                }
                if !self.pause(&mut search, prepared, reply).await {
                    return Asked::Left;
                }
                continue;
            };
            let mut running = Running { place, started_at: self.metering.now() };
            let Some(brought) = attempt(prepared, &running.place, reply).await else {
                trail.add(&running, self.metering.now(), End::Left);
                return Asked::Left;
            };
            let error = match brought {
                Ok(brought) => return self.answered(running, brought, trail),
                Err(error) => error,
            };
            running.place.failed(&error);
            trail.add(&running, self.metering.now(), End::Failed(&error));
            if !self.may_try_again(&error, trail, begun) {
                return Asked::Failed(Error::Upstream(error));
            }
            let provider = running.place.route().provider().name();
            tracing::warn!(%provider, %error, "an attempt has failed: another follows");
            last = Some(error);
        }
    }

    fn answered(&self, mut running: Running, brought: Brought, trail: &mut Trail) -> Asked {
        running.place.answered();
        if trail.count() > 0 {
            trail.add(&running, self.metering.now(), End::Answered);
        }
        match brought {
            Brought::Full(full) => Asked::Full(running.place, full),
            Brought::Stream(stream) => Asked::Stream(running.place, stream),
        }
    }

    fn may_try_again(&self, error: &CallError, trail: &Trail, begun: Instant) -> bool {
        let routing = self.models.routing();
        let most = usize::try_from(routing.max_attempts).unwrap_or(usize::MAX);
        error.is_worth_another() && trail.count() < most && self.is_in_time(begun)
    }

    fn is_in_time(&self, begun: Instant) -> bool {
        begun.elapsed() < Duration::from_millis(self.models.routing().retry_for_ms)
    }

    /// Waits before another round over the same ways; false if the client has left meanwhile.
    async fn pause(&self, search: &mut Search<'_>, prepared: &Prepared, reply: &mut Reply) -> bool {
        let any = getrandom::u32().unwrap_or_default();
        let pause = self.models.routing().pause(search.again(), any);
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = reply.closed(), if prepared.repeat.is_none() => false,
        }
    }
}

/// One attempt, as far as it can still be told by a status; `None` if the client has left.
async fn attempt(
    prepared: &Prepared,
    place: &Place,
    reply: &mut Reply,
) -> Option<Result<Brought, CallError>> {
    let route = place.route();
    let call = UpstreamCall {
        endpoint: prepared.endpoint,
        body: prepared.request.body_for(route.upstream_model()),
        stream: prepared.stream,
        strip_usage: prepared.strip_usage,
        request_id: prepared.request_id.clone(),
        traceparent: prepared.trace.parent.clone(),
    };
    // A call that can be repeated is finished, so that the repeat finds its answer.
    let finish =
        prepared.repeat.is_some() || route.provider().on_disconnect() == OnDisconnect::Drain;
    let brought = async { checked(route.provider().call(call).await?).await };
    tokio::select! {
        biased;
        brought = brought => Some(brought),
        () = reply.closed(), if !finish => None,
    }
}

/// A stream counts as answered when its first frame is there, a complete answer when it is one:
/// before that, another attempt can be made.
async fn checked(answer: Answer) -> Result<Brought, CallError> {
    let broken = |what: &str| CallError::Broken(what.to_owned());
    match answer {
        Answer::Full { content_type, body } => {
            let usage = match answer_usage(&body) {
                AnswerUsage::Reported(usage) => Counted::Reported(usage),
                AnswerUsage::Estimated(output) => Counted::Estimated(output),
                AnswerUsage::Failed => {
                    return Err(broken("a success that is an error, or not JSON"));
                }
            };
            Ok(Brought::Full(Full { content_type, body, usage }))
        }
        Answer::Stream(mut stream) => {
            match stream.next().await {
                Some(Ok(_)) if stream.tally().is_only_an_error() => {
                    return Err(broken("the stream begins with an error"));
                }
                Some(Ok(piece)) => stream.unread(piece),
                Some(Err(error)) => return Err(error),
                None => return Err(broken("the stream is empty")),
            }
            Ok(Brought::Stream(stream))
        }
    }
}
