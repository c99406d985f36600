//! One call, from its admission to its answer.

use std::sync::Arc;

use bytes::Bytes;
use identity::Caller;
use kernel::ChargeId;
use metering::{Admission, Bill, Call, Charged, Surface, Usage, UsageSource};
use models::{
    Answer, AnswerUsage, CallError, Endpoint, Model, OnDisconnect, Route, UpstreamCall,
    answer_usage, estimate_input,
};
use pricing::Tokens;
use tokio::sync::oneshot;

use crate::relay::Relay;
use crate::replay::{MAX_ATTEMPTS, RepeatKey};
use crate::store::{self, Answer as Kept};
use crate::{Error, Gateway};

/// A request that is ready to be called: checked, and its body prepared for each route.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) caller: Arc<Caller>,
    pub(crate) request_id: Arc<str>,
    pub(crate) surface: Surface,
    pub(crate) endpoint: Endpoint,
    pub(crate) model: Arc<Model>,
    pub(crate) stream: bool,
    pub(crate) strip_usage: bool,
    pub(crate) input_bound: u64,
    pub(crate) output_bound: u64,
    pub(crate) repeat: Option<RepeatKey>,
    pub(crate) way: Way,
    pub(crate) others: Vec<Way>,
}

/// A route, and the request as it goes there.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) route: Route,
    pub(crate) body: Bytes,
}

impl Way {
    /// The ways to a model in the order to try them: the first, and the others.
    pub(crate) fn all(model: &Model, body_for: impl Fn(&str) -> Bytes) -> (Self, Vec<Self>) {
        let way =
            |route: &Route| Self { route: route.clone(), body: body_for(&route.upstream_model) };
        let (first, others) = model.routes();
        (way(first), others.into_iter().map(way).collect())
    }
}

/// What the client gets.
#[derive(Debug)]
pub(crate) enum Answered {
    /// A complete answer, and what it cost.
    Full { content_type: String, body: Bytes, charged: Charged, replayed: bool },
    /// A stream that has begun.
    Stream(Box<Relay>),
}

type Reply = oneshot::Sender<Result<Answered, Error>>;

impl Gateway {
    /// Makes the call in a task of its own, so that it ends in the books whatever the client does.
    pub(crate) async fn call(&self, prepared: Prepared) -> Result<Answered, Error> {
        let (reply, answered) = oneshot::channel();
        if self.calls.is_closed() {
            return Err(Error::Stopping);
        }
        let gateway = self.clone();
        self.calls.spawn(async move { gateway.run(prepared, reply).await });
        answered.await.unwrap_or(Err(Error::Stopping))
    }

    async fn run(self, prepared: Prepared, mut reply: Reply) {
        let admission = match self.admit(&prepared).await {
            Ok(Admitted::New(admission)) => admission,
            Ok(Admitted::Before(answered)) => return drop(reply.send(Ok(*answered))),
            Err(error) => return drop(reply.send(Err(error))),
        };
        // A call that can be repeated is finished, so that the repeat finds its answer.
        let finish = prepared.repeat.is_some();
        let (route, answer) = tokio::select! {
            biased;
            answered = self.ask(&prepared) => answered,
            () = left(&mut reply, &prepared, finish) => return self.abandon(admission, &prepared).await,
        };
        match answer {
            Ok(Answer::Full { content_type, body }) => {
                let outcome = self.finish(admission, &prepared, &route, content_type, body).await;
                drop(reply.send(outcome));
            }
            Ok(Answer::Stream(stream)) => {
                let relay = Relay::new(self, admission, prepared, route, *stream);
                // If the client has left, the relay is dropped, and ends the call by itself.
                drop(reply.send(Ok(Answered::Stream(Box::new(relay)))));
            }
            Err(error) => {
                let outcome = self.fail(admission, &route, error).await;
                drop(reply.send(Err(outcome)));
            }
        }
    }

    /// Asks the routes in turn, as long as nothing has reached the upstream.
    async fn ask(&self, prepared: &Prepared) -> (Route, Result<Answer, CallError>) {
        let mut way = &prepared.way;
        let mut others = prepared.others.iter();
        loop {
            let call = UpstreamCall {
                endpoint: prepared.endpoint,
                body: way.body.clone(),
                stream: prepared.stream,
                strip_usage: prepared.strip_usage,
                request_id: Arc::clone(&prepared.request_id),
            };
            let outcome = begun(way.route.provider.call(call).await).await;
            match (&outcome, others.len()) {
                (Err(error), 1..) if error.is_safe_to_retry() => {
                    tracing::warn!(provider = %way.route.provider.name(), %error, "the next route is tried");
                    way = others.next().unwrap_or(way);
                }
                _ => return (way.route.clone(), outcome),
            }
        }
    }

    async fn finish(
        &self,
        admission: Admission,
        prepared: &Prepared,
        route: &Route,
        content_type: String,
        body: Bytes,
    ) -> Result<Answered, Error> {
        let usage = match answer_usage(&body) {
            AnswerUsage::Reported(usage) => reported(usage),
            AnswerUsage::Estimated(output) => estimated(prepared, output),
            AnswerUsage::Failed => {
                let error = CallError::Broken("a success that is an error, or not JSON".to_owned());
                return Err(self.fail(admission, route, error).await);
            }
        };
        let mut also = Vec::new();
        if prepared.repeat.is_some() {
            let kept = Kept { content_type: content_type.clone(), body: body.clone() };
            also.push(store::answer_row(admission.id(), &prepared.caller.org_id, &kept));
        }
        let bill = Bill {
            usage,
            route: Some(way(route)),
            upstream_status: Some(200),
            first_token_at: Some(self.metering.now()),
            ..Bill::default()
        };
        let charged = self.metering.settle(admission, bill, also).await?;
        Ok(Answered::Full { content_type, body, charged, replayed: false })
    }

    /// Nothing was received: nothing is charged.
    async fn fail(&self, admission: Admission, route: &Route, error: CallError) -> Error {
        let upstream_status = match &error {
            CallError::Refused(refusal) => Some(refusal.status),
            _ => None,
        };
        let bill = Bill {
            route: Some(way(route)),
            upstream_status,
            error_code: Some(Error::call_code(&error)),
            ..Bill::default()
        };
        match self.metering.release(admission, bill).await {
            Ok(_) => Error::Upstream(error),
            Err(failure) => failure.into(),
        }
    }

    /// The client left before anything came.
    async fn abandon(&self, admission: Admission, prepared: &Prepared) {
        let route = Some(way(&prepared.way.route));
        let bill =
            Bill { route, client_gone: true, error_code: Some("client_gone"), ..Bill::default() };
        if let Err(error) = self.metering.release(admission, bill).await {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "an abandoned call is not released"
            );
        }
    }

    /// Admits the call, or finds that it was made before.
    async fn admit(&self, prepared: &Prepared) -> Result<Admitted, Error> {
        let Some(key) = &prepared.repeat else {
            let call = Self::call_of(prepared, ChargeId::generate(), None);
            return Ok(Admitted::New(self.metering.admit(call).await?));
        };
        for attempt in 1..=MAX_ATTEMPTS {
            let id = key.charge_id(attempt);
            let call = Self::call_of(prepared, id.clone(), Some(key.fingerprint));
            match self.metering.admit(call).await {
                Ok(admission) => return Ok(Admitted::New(admission)),
                Err(metering::Error::Repeated) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(answered) = self.earlier(&id, prepared).await? {
                return Ok(Admitted::Before(Box::new(answered)));
            }
        }
        Err(Error::AttemptsUsedUp)
    }

    /// The answer of an earlier attempt; `None` if it ended without a charge.
    async fn earlier(&self, id: &ChargeId, prepared: &Prepared) -> Result<Option<Answered>, Error> {
        let org_id = &prepared.caller.org_id;
        let Some(record) = self.metering.usage(id, Some(org_id)).await? else {
            return if self.metering.is_running(id).await? {
                Err(Error::InProgress)
            } else {
                Ok(None)
            };
        };
        if record.status != metering::UsageStatus::Settled {
            return Ok(None);
        }
        let kept =
            store::find_answer(&self.database, id, org_id).await?.ok_or(Error::AnswerGone)?;
        let charged = Charged {
            id: id.clone(),
            cost: record.cost,
            currency: record.currency,
            balance: self.metering.available(org_id, record.currency).await?,
        };
        let Kept { content_type, body } = kept;
        Ok(Some(Answered::Full { content_type, body, charged, replayed: true }))
    }

    fn call_of(prepared: &Prepared, id: ChargeId, fingerprint: Option<[u8; 16]>) -> Call {
        Call {
            id,
            caller: Arc::clone(&prepared.caller),
            surface: prepared.surface,
            model: Arc::clone(prepared.model.name()),
            stream: prepared.stream,
            input_bound: prepared.input_bound,
            output_bound: prepared.output_bound,
            fingerprint,
            request_id: Arc::clone(&prepared.request_id),
        }
    }
}

/// A stream counts as answered when its first frame is there: before that, its failure can still be
/// told by a status.
async fn begun(answer: Result<Answer, CallError>) -> Result<Answer, CallError> {
    let Ok(Answer::Stream(mut stream)) = answer else { return answer };
    match stream.next().await {
        Some(Ok(piece)) => stream.unread(piece),
        Some(Err(error)) => return Err(error),
        None => return Err(CallError::Broken("the stream is empty".to_owned())),
    }
    Ok(Answer::Stream(stream))
}

enum Admitted {
    New(Admission),
    Before(Box<Answered>),
}

/// Resolves when the client has left and the call is to be cut off.
async fn left(reply: &mut Reply, prepared: &Prepared, finish: bool) {
    if finish || prepared.way.route.provider.on_disconnect() == OnDisconnect::Drain {
        std::future::pending::<()>().await;
    }
    reply.closed().await;
}

/// The way as usage records name it.
pub(crate) fn way(route: &Route) -> metering::Route {
    metering::Route {
        provider: Arc::clone(route.provider.name()),
        upstream_model: Arc::clone(&route.upstream_model),
    }
}

/// What the upstream reported.
pub(crate) fn reported(usage: models::Usage) -> Usage {
    let anomalies = usage.anomaly_text();
    Usage { tokens: usage.tokens, source: UsageSource::Reported, anomalies, raw: Some(usage.raw) }
}

/// What was counted here: the output as it came, and the input by its size.
pub(crate) fn estimated(prepared: &Prepared, output: u64) -> Usage {
    let input = estimate_input(&prepared.way.body);
    let tokens = Tokens { input, output, ..Tokens::default() };
    Usage { tokens, source: UsageSource::Estimated, ..Usage::default() }
}
