//! Calls of models within runs: the seam to whoever makes them.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use identity::Caller;
use kernel::ChargeId;
use metering::{Metering, RunStep};
use models::Models;
use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::engine::{Ending, Engine, Live};
use crate::event::StepError;
use crate::metered::Metered;

/// Makes the calls of models: takes one over, and ends its step by its [`StepEnd`].
#[derive(Clone)]
pub struct ModelCaller(Arc<dyn Fn(ModelCall) -> Calling + Send + Sync>);

/// A call being made.
pub type Calling = Pin<Box<dyn Future<Output = ()> + Send>>;

impl ModelCaller {
    /// The caller that does this.
    pub fn new(call: impl Fn(ModelCall) -> Calling + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }

    /// The caller of the configured models: every call is priced, held, settled and recorded.
    /// `default` is called where a definition names a model that is not offered.
    pub fn metered(metering: Metering, models: Arc<Models>, default: Option<String>) -> Self {
        let shared = Arc::new(Metered::new(metering, models, default));
        Self::new(move |call| {
            let shared = Arc::clone(&shared);
            Box::pin(async move { shared.call(call).await })
        })
    }

    /// Makes a call.
    pub fn call(&self, call: ModelCall) -> Calling {
        (self.0)(call)
    }
}

impl fmt::Debug for ModelCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelCaller")
    }
}

/// A call that a run asks for.
#[derive(Debug)]
pub struct ModelCall {
    /// Names this attempt for ever: `RUN.STEP.ATTEMPT`.
    pub charge: ChargeId,
    /// The run and its step, for the usage record.
    pub step: RunStep,
    /// Who pays.
    pub caller: Arc<Caller>,
    /// The model's name as the definition says it.
    pub model: String,
    /// The request without the model.
    pub request: Map<String, Value>,
    /// What was asked, if it becomes part of the conversation.
    pub prompt: Option<String>,
    /// The answer must be JSON.
    pub json: bool,
    /// What the run may still spend.
    pub budget: Budget,
    /// The call has failed if it has no answer by then.
    pub timeout: Duration,
    /// Cancelled when the call is to be cut off.
    pub cut: CancellationToken,
    /// How its step ends.
    pub end: StepEnd,
}

/// How a step of a run is ended by whoever carried it out. One that is dropped is tried again when
/// the run is next taken up.
#[derive(Debug)]
pub struct StepEnd {
    engine: Engine,
    live: Arc<Live>,
    step: u64,
    attempt: u32,
}

impl StepEnd {
    pub(crate) const fn new(engine: Engine, live: Arc<Live>, step: u64, attempt: u32) -> Self {
        Self { engine, live, step, attempt }
    }

    /// Tells whoever watches the run a piece of the answer's text. Waits for nobody and writes
    /// nothing: the step's end has the whole text.
    pub fn say(&self, piece: &str) {
        self.live.feed.say(self.step, self.attempt, piece);
    }

    /// The step failed, and this is written now.
    pub async fn fail(self, error: StepError, charge: Option<&ChargeId>) {
        let charge = charge.map(ToString::to_string);
        self.engine.end_step(&self.live, self.step, Err(error), charge).await;
    }

    /// The step ended, and this is about to be written with its charge: attach what
    /// [`Ending::attachments`] gives to the operation that charges, then say [`Ending::written`].
    pub async fn charged(self, outcome: Result<Value, StepError>, charge: &ChargeId) -> Ending {
        let input = self.engine.input_of(self.step, outcome, Some(charge.to_string()));
        self.engine.ending(&self.live, input).await
    }
}
