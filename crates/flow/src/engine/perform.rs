//! Effects: performed once their beginning is on disk, within their time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use kernel::ChargeId;
use metering::RunStep;
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::live::NotTaken;
use super::{Engine, Live};
use crate::calls::{ModelCall, StepEnd};
use crate::event::StepError;
use crate::machine::{Effect, Input, effect_of};

/// What is to be done, and under which name.
struct Order {
    effect: Result<Effect, StepError>,
    timeout: Duration,
    attempt: u32,
    /// The node's name.
    node: Arc<str>,
    /// Names this attempt for ever: for charges, and for whoever is called.
    key: String,
}

impl Engine {
    /// Performs the effect of a step and takes in its outcome.
    pub(super) async fn perform(self, live: Arc<Live>, step: u64, cut: CancellationToken) {
        let Some(order) = self.order(&live, step).await else { return };
        let effect = match order.effect {
            Ok(effect) => effect,
            Err(error) => return self.end(&live, step, Err(error)).await,
        };
        if let Effect::Llm { .. } = effect {
            let order = Order { effect: Ok(effect), ..order };
            return self.call_model(live, step, order, cut).await;
        }
        let work = AssertUnwindSafe(self.tools.perform(effect, &order.key)).catch_unwind();
        let outcome = tokio::select! {
            biased;
            () = cut.cancelled() => Err(StepError::new("cancelled", "it was cut off")),
            done = timeout(order.timeout, work) => match done {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_panicked)) => Err(StepError::new("internal", "the effect failed badly")),
                Err(_late) => {
                    let message = format!("no answer within {:?}", order.timeout);
                    Err(StepError::temporary("step_timeout", message))
                }
            },
        };
        self.end(&live, step, outcome).await;
    }

    async fn order(&self, live: &Live, step: u64) -> Option<Order> {
        live.look(|state| {
            let found = state.steps.get(&step)?;
            let node = state.node_of(&live.program, found);
            Some(Order {
                effect: effect_of(&live.program, state, found),
                timeout: node.map_or(Duration::from_mins(1), |node| node.timeout),
                attempt: found.attempt,
                node: node.map_or_else(|| Arc::from(""), |node| Arc::clone(&node.id)),
                key: format!("{}.{step}.{}", live.record.id, found.attempt),
            })
        })
        .await
    }

    async fn end(&self, live: &Arc<Live>, step: u64, outcome: Result<Value, StepError>) {
        self.end_step(live, step, outcome, None).await;
    }

    /// Takes in how a step ended, when nothing is charged for it.
    pub(crate) async fn end_step(
        &self,
        live: &Arc<Live>,
        step: u64,
        outcome: Result<Value, StepError>,
        charge: Option<String>,
    ) {
        let input = self.input_of(step, outcome, charge);
        if let Err(NotTaken::Lost) = self.take(live, input).await {
            tracing::warn!(run = %live.record.id, step, "a step ended here although its run is another process's");
        }
    }

    /// What an outcome means to the run; one that is too large is a failure.
    pub(crate) fn input_of(
        &self,
        step: u64,
        outcome: Result<Value, StepError>,
        charge: Option<String>,
    ) -> Input {
        match outcome {
            Ok(output) if crate::machine::value_size(&output) > self.config.max_value_bytes => {
                let most = self.config.max_value_bytes;
                let message = format!("the output has more than {most} bytes");
                Input::Failed { step, error: StepError::new("output_too_large", message), charge }
            }
            Ok(output) => Input::Finished { step, output, charge },
            Err(error) => Input::Failed { step, error, charge },
        }
    }

    async fn call_model(self, live: Arc<Live>, step: u64, order: Order, cut: CancellationToken) {
        let Order { effect, timeout, attempt, node, key } = order;
        let Ok(Effect::Llm { model, mut request, tools, prompt, json }) = effect else { return };
        let described = self.tools.describe(&tools);
        if !described.is_empty() {
            request.insert("tools".to_owned(), Value::Array(described));
        }
        let end = StepEnd::new(self.clone(), Arc::clone(&live), step, attempt);
        let run_id = Arc::clone(&live.record.id);
        let pipeline = Arc::clone(&live.record.name);
        let call = ModelCall {
            charge: ChargeId::from(key.as_str()),
            step: RunStep { run_id, step, pipeline, node },
            caller: Arc::clone(&live.record.caller),
            model,
            request,
            prompt,
            json,
            budget: live.budget.clone(),
            timeout,
            cut,
            end,
        };
        let called = AssertUnwindSafe(self.caller.call(call)).catch_unwind().await;
        if called.is_err() {
            let error = StepError::new("internal", "the call failed badly");
            self.end(&live, step, Err(error)).await;
        }
    }
}
