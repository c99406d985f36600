//! One call, from its admission to its answer.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use identity::Caller;
use kernel::ChargeId;
use ledger::Attachment;
use metering::{Admission, Bill, Call, Charged, Purchase, Surface, Usage, UsageSource};
use models::{
    CallError, ChatRequest, EmbeddingsRequest, Endpoint, Model, Place, Route, estimate_input,
};
use pricing::{CachedResponse, Tokens};
use serde_json::json;
use tokio::sync::oneshot;

use crate::ask::{Asked, CLIENT_GONE, Counted, Full, Trail};
use crate::cache::{Caching, Entry};
use crate::guard::Verdict;
use crate::relay::Relay;
use crate::replay::{MAX_ATTEMPTS, RepeatKey};
use crate::store::{self, Answer as Kept};
use crate::trace::{Trace, note_answer};
use crate::{Error, Gateway};

/// A request that is ready to be called: checked, and measured for its hold.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) caller: Arc<Caller>,
    pub(crate) request_id: Arc<str>,
    pub(crate) surface: Surface,
    pub(crate) endpoint: Endpoint,
    pub(crate) model: Arc<Model>,
    pub(crate) request: Request,
    pub(crate) stream: bool,
    pub(crate) strip_usage: bool,
    pub(crate) input_bound: u64,
    pub(crate) output_bound: u64,
    pub(crate) repeat: Option<RepeatKey>,
    pub(crate) caching: Caching,
    /// The guard does not let it pass.
    pub(crate) refused: bool,
    pub(crate) trace: Trace,
}

/// A request of one of the surfaces.
#[derive(Debug)]
pub(crate) enum Request {
    Chat(ChatRequest),
    Embeddings(EmbeddingsRequest),
}

impl Request {
    /// As it came.
    pub(crate) const fn body(&self) -> &Bytes {
        match self {
            Self::Chat(request) => request.body(),
            Self::Embeddings(request) => request.body(),
        }
    }

    /// As it goes to an upstream that calls the model so.
    pub(crate) fn body_for(&self, upstream_model: &str) -> Bytes {
        match self {
            Self::Chat(request) => request.body_for(upstream_model),
            Self::Embeddings(request) => request.body_for(upstream_model),
        }
    }
}

/// What the client gets.
#[derive(Debug)]
pub(crate) enum Answered {
    /// A complete answer, and what it cost.
    Full { content_type: String, body: Bytes, charged: Charged, told: Told, replayed: bool },
    /// A stream that has begun.
    Stream(Box<Relay>),
}

/// What an answer says of where it comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// The model that answered, if it is not the one asked for.
    pub(crate) fallback: Option<Arc<str>>,
    /// `hit`, `miss` or `off`, if the cache was asked for.
    pub(crate) cache: Option<&'static str>,
}

impl Told {
    pub(crate) fn of(prepared: &Prepared, place: &Place) -> Self {
        Self { fallback: place.fallback().cloned(), cache: prepared.caching.told() }
    }
}

pub(crate) type Reply = oneshot::Sender<Result<Answered, Error>>;

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

    async fn run(self, mut prepared: Prepared, mut reply: Reply) {
        let kept = self.kept(&mut prepared).await;
        let mut admission = match self.admit(&prepared).await {
            Ok(Admitted::New(admission)) => admission,
            Ok(Admitted::Before(answered)) => return drop(reply.send(Ok(*answered))),
            Err(error) => {
                prepared.trace.refused(&error);
                return drop(reply.send(Err(error)));
            }
        };
        admission.trace(prepared.trace.span.take());
        let mut trail = Trail::default();
        if prepared.refused {
            let refused = self.fail(admission, trail, Error::ContentRefused, None).await;
            return drop(reply.send(Err(refused)));
        }
        if let Some((entry, price)) = kept {
            let outcome = self.give_again(admission, &prepared, &entry, price).await;
            return drop(reply.send(outcome));
        }
        let asked_at = Instant::now();
        let asked = tokio::select! {
            biased;
            asked = self.ask(&prepared, &mut trail, &mut reply) => asked,
            lost = admission.lost() => return drop(reply.send(Err(lost.into()))),
        };
        admission.upstream_took(asked_at.elapsed());
        match asked {
            Asked::Full(place, full) => {
                let outcome = self.finish(admission, &prepared, &place, full, trail).await;
                drop(reply.send(outcome));
            }
            Asked::Stream(place, stream) => {
                let relay = Relay::new(self, admission, prepared, place, *stream, trail);
                // If the client has left, the relay is dropped, and ends the call by itself.
                drop(reply.send(Ok(Answered::Stream(Box::new(relay)))));
            }
            Asked::Failed(error) => {
                let outcome = self.fail(admission, trail, error, None).await;
                drop(reply.send(Err(outcome)));
            }
            Asked::Left => self.abandon(admission, trail).await,
        }
    }

    async fn finish(
        &self,
        mut admission: Admission,
        prepared: &Prepared,
        place: &Place,
        full: Full,
        trail: Trail,
    ) -> Result<Answered, Error> {
        let Full { content_type, body, usage } = full;
        let usage = match usage {
            Counted::Reported(usage) => reported(usage),
            Counted::Estimated(output) => estimated(prepared, output),
        };
        let purchase = purchase(place.route(), &usage.tokens);
        let body = match self.guard.as_ref().map_or(Verdict::Fine, |guard| guard.output(&body)) {
            Verdict::Fine => body,
            Verdict::Masked(body) => body,
            Verdict::Refused => {
                return Err(self.fail(admission, trail, Error::ContentRefused, purchase).await);
            }
        };
        let keep = prepared.caching.key().filter(|_| place.fallback().is_none()).map(|key| {
            let entry = Entry {
                content_type: content_type.clone(),
                body: body.clone(),
                tokens: usage.tokens,
                charge_id: admission.id().clone(),
            };
            (key, entry)
        });
        note_answer(&mut admission, &body);
        let also = kept_row(&admission, prepared, &content_type, &body);
        let bill = Bill {
            route: Some(way(place.route())),
            upstream_status: Some(200),
            first_token_at: Some(self.metering.now()),
            purchase,
            attempts: trail.into_attempts(),
            usage,
            ..Bill::default()
        };
        let charged = self.metering.settle(admission, bill, also).await?;
        if let Some((key, entry)) = keep {
            self.answers.keep(key, entry).await;
        }
        let told = Told::of(prepared, place);
        Ok(Answered::Full { content_type, body, charged, told, replayed: false })
    }

    /// The answer that the cache has for this call, which then needs no larger hold.
    async fn kept(&self, prepared: &mut Prepared) -> Option<(Arc<Entry>, CachedResponse)> {
        let Caching::On(key, price) = prepared.caching else { return None };
        let entry = self.answers.find(&key).await?;
        prepared.input_bound = entry.tokens.context();
        prepared.output_bound = entry.tokens.produced();
        Some((entry, price))
    }

    /// Answers from the cache, at a price of its own.
    async fn give_again(
        &self,
        admission: Admission,
        prepared: &Prepared,
        entry: &Entry,
        price: CachedResponse,
    ) -> Result<Answered, Error> {
        let raw = json!({"cached_response": price, "first_charge_id": entry.charge_id});
        let usage = Usage {
            tokens: entry.tokens,
            source: UsageSource::Cache,
            anomalies: None,
            raw: Some(raw.to_string()),
        };
        let (content_type, body) = (entry.content_type.clone(), entry.body.clone());
        let also = kept_row(&admission, prepared, &content_type, &body);
        let bill = Bill {
            usage,
            cached: Some(price),
            first_token_at: Some(self.metering.now()),
            ..Bill::default()
        };
        let charged = self.metering.settle(admission, bill, also).await?;
        let told = Told { cache: Some("hit"), ..Told::default() };
        Ok(Answered::Full { content_type, body, charged, told, replayed: false })
    }

    /// The client gets nothing: nothing is charged.
    async fn fail(
        &self,
        admission: Admission,
        trail: Trail,
        error: Error,
        purchase: Option<Purchase>,
    ) -> Error {
        let upstream_status = match &error {
            Error::Upstream(CallError::Refused(refusal)) => Some(refusal.status),
            _ => None,
        };
        let bill = Bill {
            route: trail.last_route(),
            upstream_status,
            error_code: Some(error.record_code()),
            purchase,
            attempts: trail.into_attempts(),
            ..Bill::default()
        };
        match self.metering.release(admission, bill).await {
            Ok(_) => error,
            Err(failure) => failure.into(),
        }
    }

    /// The client left before anything came.
    async fn abandon(&self, admission: Admission, trail: Trail) {
        let bill = Bill {
            route: trail.last_route(),
            client_gone: true,
            error_code: Some(CLIENT_GONE),
            attempts: trail.into_attempts(),
            ..Bill::default()
        };
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
            return Ok(Admitted::New(self.take_hold(prepared, call).await?));
        };
        for attempt in 1..=MAX_ATTEMPTS {
            let id = key.charge_id(attempt);
            let call = Self::call_of(prepared, id.clone(), Some(key.fingerprint));
            match self.take_hold(prepared, call).await {
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

    /// A complete answer leaves when it is settled, so that its hold needs no wait of its own; the first
    /// frames of a stream leave before.
    async fn take_hold(&self, prepared: &Prepared, call: Call) -> metering::Result<Admission> {
        if prepared.stream {
            self.metering.admit(call).await
        } else {
            self.metering.admit_ahead(call).await
        }
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
            seq: record.op_seq.unwrap_or(0),
            balance: self.metering.available(org_id, record.currency).await?,
            pace: Vec::new(),
            upstream_time: None,
        };
        let Kept { content_type, body } = kept;
        let told = Told::default();
        Ok(Some(Answered::Full { content_type, body, charged, told, replayed: true }))
    }

    fn call_of(prepared: &Prepared, id: ChargeId, fingerprint: Option<[u8; 16]>) -> Call {
        Call {
            id,
            // A key makes the same id again.
            fresh: fingerprint.is_none(),
            caller: Arc::clone(&prepared.caller),
            surface: prepared.surface,
            model: Arc::clone(prepared.model.name()),
            stream: prepared.stream,
            input_bound: prepared.input_bound,
            output_bound: prepared.output_bound,
            fingerprint,
            request_id: Arc::clone(&prepared.request_id),
            step: None,
        }
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every call is new: a box would cost each an allocation"
)]
enum Admitted {
    New(Admission),
    Before(Box<Answered>),
}

/// The row that keeps the answer of a call that can be repeated.
fn kept_row(
    admission: &Admission,
    prepared: &Prepared,
    content_type: &str,
    body: &Bytes,
) -> Vec<Attachment> {
    let kept = prepared.repeat.as_ref().map(|_| {
        let kept = Kept { content_type: content_type.to_owned(), body: body.clone() };
        store::answer_row(admission.id(), &prepared.caller.org_id, &kept)
    });
    kept.into_iter().collect()
}

/// The way as usage records name it.
pub(crate) fn way(route: &Route) -> metering::Route {
    metering::Route {
        provider: Arc::clone(route.provider().name()),
        upstream_model: Arc::clone(route.upstream_model()),
    }
}

/// What the upstream asks for these tokens, if its prices are known.
pub(crate) fn purchase(route: &Route, tokens: &Tokens) -> Option<Purchase> {
    let cost = route.cost()?;
    match cost.charge(tokens) {
        Ok(amount) => Some(Purchase { amount, currency: cost.currency() }),
        Err(error) => {
            tracing::error!(provider = %route.provider().name(), %error, "the purchase cost is not recorded");
            None
        }
    }
}

/// What the upstream reported.
pub(crate) fn reported(usage: models::Usage) -> Usage {
    let anomalies = usage.anomaly_text();
    Usage { tokens: usage.tokens, source: UsageSource::Reported, anomalies, raw: Some(usage.raw) }
}

/// What was counted here: the output as it came, and the input by its size.
pub(crate) fn estimated(prepared: &Prepared, output: u64) -> Usage {
    let input = estimate_input(prepared.request.body());
    let tokens = Tokens { input, output, ..Tokens::default() };
    Usage { tokens, source: UsageSource::Estimated, ..Usage::default() }
}
