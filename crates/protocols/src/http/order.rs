//! What a request for a run says, as the LangGraph SDK writes it.

use kernel::OrgId;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::threads::refuse;
use crate::encode::Mode;
use crate::runs::{Asked, Strategy};
use crate::{Error, Protocols};

type Fields = Map<String, Value>;

/// A run that is asked for.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewRun {
    /// A flow's name, or an assistant's id.
    assistant_id: String,
    /// What it is given: fields of the flow.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    input: Option<Fields>,
    /// `{"resume": ANSWER}`, or of several questions `{"resume": {ID: ANSWER}}`.
    #[serde(default)]
    command: Option<Command>,
    /// Kept with the run, up to 16 KiB.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    metadata: Option<Fields>,
    /// `configurable` becomes the field `config`.
    #[serde(default)]
    config: Option<RunConfig>,
    /// Becomes the field `context`.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    context: Option<Value>,
    /// `values` (the default), `updates`, `messages`, `messages-tuple`, `events`, `custom`, or several.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    stream_mode: Option<OneOrMany>,
    /// `reject` (the default), `interrupt` or `rollback`.
    #[serde(default)]
    multitask_strategy: Option<String>,
    /// `reject` (the default) or `create`: what becomes of an unknown thread.
    #[serde(default)]
    if_not_exists: Option<String>,
    /// `continue` (the default) or `cancel`.
    #[serde(default)]
    on_disconnect: Option<String>,
    /// Of a batch: the thread.
    #[serde(default)]
    pub(super) thread_id: Option<String>,
    /// What is not supported.
    #[serde(flatten)]
    #[schema(ignore)]
    others: Fields,
}

/// What answers a question.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Command {
    /// The answer, or answers by the ids of their interrupts.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    resume: Option<Value>,
    /// Not supported.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    update: Option<Value>,
    /// Not supported.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    goto: Option<Value>,
}

/// A run's configuration.
#[derive(Deserialize, ToSchema)]
pub(super) struct RunConfig {
    /// Put into the run's metadata.
    #[serde(default)]
    tags: Vec<String>,
    /// Becomes the field `config`.
    #[schema(value_type = Option<Object>)]
    #[serde(default)]
    configurable: Option<Fields>,
    /// Not supported: a flow has `limits.steps`.
    #[serde(default)]
    recursion_limit: Option<u64>,
}

/// One name or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What a request for a run comes to.
pub(super) struct Order {
    pub(super) asked: Asked,
    pub(super) modes: Vec<Mode>,
    /// Make the thread if there is none.
    pub(super) create: bool,
    pub(super) cancel_on_leave: bool,
}

impl NewRun {
    /// Reads the request; what is not supported is refused by name.
    pub(super) async fn order(self, protocols: &Protocols, org_id: &OrgId) -> web::Result<Order> {
        let given = |name: &str| {
            self.others.get(name).is_some_and(|value| !value.is_null() && *value != json!([]))
        };
        let command = self.command.as_ref();
        refuse(&[
            ("command.update", command.is_some_and(|command| command.update.is_some())),
            ("command.goto", command.is_some_and(|command| command.goto.is_some())),
            ("checkpoint", given("checkpoint") || given("checkpoint_id")),
            ("interrupt_before: a flow has its own", given("interrupt_before")),
            ("interrupt_after: a flow has its own", given("interrupt_after")),
            ("webhook", given("webhook")),
            ("after_seconds", given("after_seconds")),
            ("feedback_keys", given("feedback_keys")),
            (
                "config.recursion_limit: a flow has limits.steps",
                self.config.as_ref().is_some_and(|config| config.recursion_limit.is_some()),
            ),
        ])?;
        let definition = protocols.graph_of(org_id, &self.assistant_id).await?;
        let pinned = self.assistant_id == definition.id.as_ref();
        let assistant = if pinned { definition.id.to_string() } else { definition.name };
        let resume = self.command.and_then(|command| command.resume);
        let mut input = self.input;
        let mut metadata = self.metadata.unwrap_or_default();
        let configurable = self.config.as_ref().and_then(|config| config.configurable.clone());
        if let Some(tags) = self.config.map(|config| config.tags).filter(|tags| !tags.is_empty()) {
            metadata.insert("tags".to_owned(), json!(tags));
        }
        let more = [("config", configurable.map(Value::Object)), ("context", self.context)];
        for (name, value) in more.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            if resume.is_some() {
                return Err(Error::Unsupported(format!("{name} of a run that goes on")).into());
            }
            input.get_or_insert_default().insert(name.to_owned(), value);
        }
        Ok(Order {
            asked: Asked {
                assistant,
                input,
                resume,
                metadata,
                strategy: strategy(self.multitask_strategy.as_deref())?,
            },
            modes: modes(self.stream_mode)?,
            create: self.if_not_exists.as_deref() == Some("create"),
            cancel_on_leave: self.on_disconnect.as_deref() == Some("cancel"),
        })
    }
}

fn strategy(name: Option<&str>) -> Result<Strategy, Error> {
    match name {
        None | Some("reject") => Ok(Strategy::Reject),
        Some("interrupt") => Ok(Strategy::Interrupt),
        Some("rollback") => Ok(Strategy::Rollback),
        Some("enqueue") => Err(Error::Unsupported("multitask_strategy: enqueue".to_owned())),
        Some(_) => {
            let why = "must be reject, interrupt or rollback".to_owned();
            Err(Error::Invalid("multitask_strategy", why))
        }
    }
}

fn modes(given: Option<OneOrMany>) -> Result<Vec<Mode>, Error> {
    let names = match given {
        None => return Ok(vec![Mode::Values]),
        Some(OneOrMany::One(name)) => vec![name],
        Some(OneOrMany::Many(names)) => names,
    };
    names.iter().map(|name| mode(name)).collect()
}

/// A mode by the name that clients use.
pub(super) fn mode(name: &str) -> Result<Mode, Error> {
    Mode::parse(name).ok_or_else(|| {
        let known = Mode::ALL.map(|(name, _)| name).join(", ");
        Error::Invalid("stream_mode", format!("must be of {known}"))
    })
}
