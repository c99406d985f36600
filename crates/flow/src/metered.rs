//! The metered way to call models: every call is priced, held, settled and recorded.

use std::sync::Arc;

use bytes::Bytes;
use kernel::Timestamp;
use metering::{Admission, Bill, Call, Metering, Purchase, Surface, Usage, UsageSource};
use models::{
    Answer, AnswerUsage, Assembly, CallError, ChatRequest, ChatStream, Endpoint, Model, ModelKind,
    Models, Piece, Place, UpstreamCall, answer_usage, estimate_input,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::calls::ModelCall;
use crate::event::StepError;

/// Calls the configured models.
pub(crate) struct Metered {
    metering: Metering,
    models: Arc<Models>,
    default: Option<String>,
}

/// A request that is ready: checked, and bounded for its hold.
struct Ready {
    model: Arc<Model>,
    request: ChatRequest,
    input_bound: u64,
    output_bound: u64,
}

/// What has been heard of the upstream, also if the call ends before its answer does.
#[derive(Default)]
struct Heard {
    /// The way that was asked last.
    place: Option<Place>,
    /// An upstream streams, so that watchers see the text and a cut costs what came until then.
    stream: Option<Box<ChatStream>>,
    assembly: Assembly,
    /// One may answer in one piece all the same.
    full: Option<(Value, AnswerUsage)>,
    first_token_at: Option<Timestamp>,
}

impl Metered {
    pub(crate) const fn new(
        metering: Metering,
        models: Arc<Models>,
        default: Option<String>,
    ) -> Self {
        Self { metering, models, default }
    }

    pub(crate) async fn call(&self, call: ModelCall) {
        let ready = match self.ready(&call) {
            Ok(ready) => ready,
            Err(error) => return call.end.fail(error, None).await,
        };
        let now = self.metering.now();
        let quoted = self.metering.prices().quote(
            ready.model.name(),
            &call.caller.org_id,
            Some(&call.step),
            now,
        );
        let ceiling = quoted
            .and_then(|(price, _terms)| Ok(price.ceiling(ready.input_bound, ready.output_bound)?));
        let reserved = ceiling.map_err(|error| refused(&error)).and_then(|amount| {
            call.budget.reserve(amount).map_err(|left| {
                let message =
                    format!("the call may cost {amount}, and {left} of the run's budget is left");
                StepError::new("budget_exceeded", message)
            })
        });
        let reserved = match reserved {
            Ok(reserved) => reserved,
            Err(error) => return call.end.fail(error, None).await,
        };
        self.admitted(call, ready).await;
        drop(reserved);
    }

    fn ready(&self, call: &ModelCall) -> Result<Ready, StepError> {
        let default = self.default.as_deref().filter(|name| !name.is_empty());
        let mut names = std::iter::once(call.model.as_str()).chain(default);
        let model = names.find_map(|name| self.models.find(name)).cloned();
        let model =
            model.filter(|model| model.config().kind == ModelKind::Chat).ok_or_else(|| {
                StepError::new(
                    "model_not_found",
                    format!("there is no chat model {:?}", call.model),
                )
            })?;
        if let Err(error) = call.caller.limits.check_model(model.name()) {
            return Err(StepError::new("model_not_allowed", error.to_string()));
        }
        let mut request = call.request.clone();
        request.insert("model".to_owned(), json!(model.name().as_ref()));
        request.insert("stream".to_owned(), json!(true));
        let body = Bytes::from(Value::Object(request).to_string());
        let request = ChatRequest::parse(&body)
            .map_err(|error| StepError::new("invalid_request", error.to_string()))?;
        let config = model.config();
        Ok(Ready {
            input_bound: request.input_bound(config.image_tokens),
            output_bound: request.output_bound(config.max_output_tokens),
            request,
            model,
        })
    }

    async fn admitted(&self, call: ModelCall, ready: Ready) {
        let asked = Call {
            id: call.charge.clone(),
            // A second process that believes to own the run has the same.
            fresh: false,
            caller: Arc::clone(&call.caller),
            surface: Surface::Chat,
            model: Arc::clone(ready.model.name()),
            stream: true,
            input_bound: ready.input_bound,
            output_bound: ready.output_bound,
            fingerprint: None,
            request_id: Arc::clone(&call.step.run_id),
            step: Some(call.step.clone()),
        };
        let mut admission = match self.metering.admit(asked).await {
            Ok(admission) => admission,
            Err(error) => return call.end.fail(refused(&error), None).await,
        };
        let mut heard = Heard::default();
        let outcome = self.ask(&call, &ready, &mut admission, &mut heard).await;
        // What is cut off is cut off now, not when it is written.
        let used = heard.used(&ready);
        let paid = heard.place.as_ref().zip(used.as_ref());
        let bill = Bill {
            route: heard.place.as_ref().map(|place| way(place.route())),
            purchase: paid.and_then(|(place, used)| purchase(place.route(), used)),
            upstream_status: heard.has_answered().then_some(200),
            first_token_at: heard.first_token_at,
            client_gone: outcome.as_ref().is_err_and(|error| error.code == "cancelled"),
            error_code: outcome.as_ref().err().map(record_code),
            usage: used.unwrap_or_default(),
            ..Bill::default()
        };
        drop(heard);
        match outcome {
            Err(error) if bill.usage.source == UsageSource::None => {
                self.release(call, admission, bill, error).await;
            }
            outcome => self.settle(call, admission, bill, outcome).await,
        }
    }

    /// Charges the call, and writes with the charge what it means to the run.
    async fn settle(
        &self,
        call: ModelCall,
        admission: Admission,
        bill: Bill,
        outcome: Result<Value, StepError>,
    ) {
        let outcome = outcome.and_then(|answer| value_of(&call, &answer));
        let mut ending = call.end.charged(outcome, &call.charge).await;
        let also = ending.attachments();
        match self.metering.settle(admission, bill, also).await {
            Ok(charged) => ending.written(charged.cost).await,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, charge = %call.charge, "a call's end is not written");
                ending.lost();
            }
        }
    }

    /// Nothing was received: nothing is charged.
    async fn release(&self, call: ModelCall, admission: Admission, bill: Bill, error: StepError) {
        let bill = Bill { purchase: None, ..bill };
        if let Err(failure) = self.metering.release(admission, bill).await {
            tracing::error!(error = &failure as &dyn std::error::Error, charge = %call.charge, "a call is not released");
        }
        call.end.fail(error, Some(&call.charge)).await;
    }

    /// Asks, and listens to the end, within the call's time and until it is cut off.
    async fn ask(
        &self,
        call: &ModelCall,
        ready: &Ready,
        admission: &mut Admission,
        heard: &mut Heard,
    ) -> Result<Value, StepError> {
        let asking = async {
            let asked_at = Instant::now();
            self.ask_all(call, ready, heard).await?;
            admission.upstream_took(asked_at.elapsed());
            self.listen(call, heard).await
        };
        tokio::select! {
            biased;
            () = call.cut.cancelled() => Err(StepError::new("cancelled", "the call was cut off")),
            answered = tokio::time::timeout(call.timeout, asking) => {
                answered.unwrap_or_else(|_late| Err(StepError::temporary(
                    "step_timeout", format!("no answer within {:?}", call.timeout))))
            }
        }
    }

    /// Asks the routes in turn, as long as nothing was received.
    async fn ask_all(
        &self,
        call: &ModelCall,
        ready: &Ready,
        heard: &mut Heard,
    ) -> Result<(), StepError> {
        let mut search = ready.model.search();
        let mut outcome = Err(StepError::temporary(
            "provider_unavailable",
            "every provider of the model is busy, resting or switched off",
        ));
        while let Some(place) = search.take() {
            let place = heard.place.insert(place);
            let route = place.route();
            let asked = UpstreamCall {
                endpoint: Endpoint::Chat,
                body: ready.request.body_for(route.upstream_model()),
                stream: true,
                strip_usage: false,
                request_id: Arc::clone(&call.step.run_id),
                traceparent: None,
            };
            let answer = async { begun(route.provider().call(asked).await?).await }.await;
            match answer {
                Ok(Begun::Full(answer, usage)) => {
                    place.answered();
                    heard.full = Some((answer, usage));
                    return Ok(());
                }
                Ok(Begun::Stream(stream)) => {
                    place.answered();
                    heard.stream = Some(stream);
                    return Ok(());
                }
                Err(error) => {
                    place.failed(&error);
                    outcome = Err(failed(&error));
                    if !error.is_worth_another() {
                        break;
                    }
                }
            }
        }
        outcome
    }

    /// Listens to the answer's end, and tells watchers its text as it comes.
    async fn listen(&self, call: &ModelCall, heard: &mut Heard) -> Result<Value, StepError> {
        if let Some((answer, _)) = &heard.full {
            heard.first_token_at = Some(self.metering.now());
            return Ok(answer.clone());
        }
        let Heard { place: Some(place), stream: Some(stream), assembly, first_token_at, .. } =
            heard
        else {
            return Err(StepError::temporary("upstream_error", "the upstream has not answered"));
        };
        while let Some(piece) = stream.next().await {
            let frames = match piece {
                Ok(Piece::Frames(_)) if place.route().provider().is_disabled() => {
                    return Err(failed(&CallError::CutOff));
                }
                Ok(Piece::Frames(frames)) => frames,
                Ok(Piece::Done(_)) => break,
                Err(error) => {
                    place.failed(&error);
                    return Err(failed(&error));
                }
            };
            if first_token_at.is_none() && stream.tally().content_frames > 0 {
                *first_token_at = Some(self.metering.now());
            }
            let said = assembly.push(&frames);
            if !said.is_empty() {
                call.end.say(&said);
            }
        }
        if stream.tally().failed && !stream.tally().finished {
            return Err(StepError::temporary(
                "upstream_error",
                "the upstream's stream ended in an error",
            ));
        }
        Ok(assembly.answer())
    }
}

/// An answer that has begun: until then another route can be asked.
enum Begun {
    Full(Value, AnswerUsage),
    Stream(Box<ChatStream>),
}

async fn begun(answer: Answer) -> Result<Begun, CallError> {
    let broken = |what: &str| Err(CallError::Broken(what.to_owned()));
    match answer {
        Answer::Full { body, .. } => match answer_usage(&body) {
            AnswerUsage::Failed => broken("a success that is an error, or not JSON"),
            usage => Ok(Begun::Full(serde_json::from_slice(&body).unwrap_or_default(), usage)),
        },
        Answer::Stream(mut stream) => match stream.next().await {
            Some(Ok(_)) if stream.tally().is_only_an_error() => {
                broken("the stream begins with an error")
            }
            Some(Ok(piece)) => {
                stream.unread(piece);
                Ok(Begun::Stream(stream))
            }
            Some(Err(error)) => Err(error),
            None => broken("the stream is empty"),
        },
    }
}

impl Heard {
    const fn has_answered(&self) -> bool {
        self.stream.is_some() || self.full.is_some()
    }

    /// What the call has used: as reported, or else counted here; `None` if nothing came.
    fn used(&self, ready: &Ready) -> Option<Usage> {
        let counted = |output| {
            let name = self.place.as_ref().map_or("", |place| place.route().upstream_model());
            estimated(estimate_input(&ready.request.body_for(name)), output)
        };
        if let Some((_, usage)) = &self.full {
            return match usage {
                AnswerUsage::Reported(usage) => Some(reported(usage)),
                AnswerUsage::Estimated(output) => Some(counted(*output)),
                AnswerUsage::Failed => None,
            };
        }
        let tally = self.stream.as_ref()?.tally();
        let received = tally.received();
        let mut used = match tally.usage.as_ref().filter(|usage| usage.is_usable()) {
            Some(usage) => reported(usage),
            None if received == 0 && !tally.finished => return None,
            None => counted(received),
        };
        if let (None, Some(usage)) = (&used.raw, &tally.usage) {
            used.raw = Some(usage.raw.clone());
            used.anomalies = usage.anomaly_text();
        }
        Some(used)
    }
}

/// The way as usage records name it.
fn way(route: &models::Route) -> metering::Route {
    metering::Route {
        provider: Arc::clone(route.provider().name()),
        upstream_model: Arc::clone(route.upstream_model()),
    }
}

/// What the upstream asks for it, if its prices are known.
fn purchase(route: &models::Route, used: &Usage) -> Option<Purchase> {
    let cost = route.cost()?;
    let amount = cost.charge(&used.tokens).ok()?;
    Some(Purchase { amount, currency: cost.currency() })
}

/// What the step gives: the message, what was asked, and the value for its field.
fn value_of(call: &ModelCall, answer: &Value) -> Result<Value, StepError> {
    let choice = answer.pointer("/choices/0").cloned().unwrap_or_default();
    let message = choice.get("message").cloned().ok_or_else(|| {
        StepError::temporary("upstream_broken", "the upstream's answer has no message")
    })?;
    let text = message.get("content").and_then(Value::as_str).unwrap_or_default();
    let value = if call.json { json_in(text)? } else { json!(text) };
    Ok(json!({
        "message": message,
        "prompt": call.prompt,
        "value": value,
        "finish_reason": choice.get("finish_reason"),
        "usage": answer.get("usage"),
    }))
}

/// The JSON that a model was asked for, also where it is fenced.
fn json_in(text: &str) -> Result<Value, StepError> {
    let inner = text.trim();
    let inner =
        inner.strip_prefix("```json").or_else(|| inner.strip_prefix("```")).unwrap_or(inner);
    let inner = inner.strip_suffix("```").unwrap_or(inner);
    serde_json::from_str(inner.trim()).map_err(|error| {
        StepError::temporary("not_json", format!("the model's answer is not JSON: {error}"))
    })
}

fn reported(usage: &models::Usage) -> Usage {
    Usage {
        tokens: usage.tokens,
        source: UsageSource::Reported,
        anomalies: usage.anomaly_text(),
        raw: Some(usage.raw.clone()),
    }
}

fn estimated(input: u64, output: u64) -> Usage {
    let mut usage = Usage { source: UsageSource::Estimated, ..Usage::default() };
    usage.tokens.input = input;
    usage.tokens.output = output;
    usage
}

/// What a usage record says of a failed call.
fn record_code(error: &StepError) -> &'static str {
    match error.code.as_str() {
        "cancelled" => "client_gone",
        "step_timeout" | "upstream_timeout" => "upstream_timeout",
        _ => "upstream_error",
    }
}

/// Why a call was not admitted.
fn refused(error: &metering::Error) -> StepError {
    let message = error.to_string();
    match error {
        metering::Error::InsufficientFunds { .. } => {
            StepError::new("insufficient_balance", message)
        }
        metering::Error::Unpriced(_) => StepError::new("unpriced_model", message),
        metering::Error::Repeated | metering::Error::Conflict => {
            StepError::new("interrupted", message)
        }
        _ => StepError::temporary("not_admitted", message),
    }
}

fn failed(error: &CallError) -> StepError {
    let message = error.to_string();
    match error {
        CallError::Refused(refusal)
            if matches!(refusal.status, 400 | 401 | 403 | 404 | 413 | 422) =>
        {
            StepError::new("upstream_refused", message)
        }
        CallError::TooLarge(_) => StepError::new("upstream_too_large", message),
        CallError::Connect(_) => StepError::temporary("upstream_unreachable", message),
        CallError::CutOff => StepError::temporary("provider_disabled", message),
        CallError::Timeout(_) => StepError::temporary("upstream_timeout", message),
        CallError::Broken(_) | CallError::Refused(_) => {
            StepError::temporary("upstream_error", message)
        }
    }
}
