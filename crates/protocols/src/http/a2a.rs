//! `/.well-known/agent-card.json` and `/a2a`: `Agent2Agent` over JSON-RPC.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use identity::{Authenticated, Caller};
use serde_json::{Value, json};
use web::Body;

use crate::a2a::{self, Task, VERSION, WRONG_VERSION, artifact_id, push_not_supported};
use crate::rpc::{self, Call, Failure, METHOD_NOT_FOUND};
use crate::runs::Follow;
use crate::store::RunRow;
use crate::{Protocols, sse};

type Outcome<T> = Result<T, Failure>;

/// Where this server was asked, as its client wrote it.
fn base(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = if text("x-forwarded-proto") == Some("https") { "https" } else { "http" };
    format!("{scheme}://{}", text("host").unwrap_or("localhost"))
}

/// The agent card
#[utoipa::path(get, path = "/.well-known/agent-card.json", operation_id = "get_agent_card", tag = "a2a",
    responses((status = 200, body = serde_json::Value)))]
pub(super) async fn get_agent_card(_anyone: identity::Anyone, headers: HeaderMap) -> Json<Value> {
    Json(a2a::card(&base(&headers)))
}

/// Talk to flows by A2A 1.0
///
/// JSON-RPC: `SendMessage`, `SendStreamingMessage`, `GetTask`, `ListTasks`, `CancelTask`, `SubscribeToTask`,
/// `GetExtendedAgentCard`. Streams are server-sent events.
#[utoipa::path(post, path = "/a2a", operation_id = "call_a2a", tag = "a2a",
    request_body = serde_json::Value,
    responses((status = 200, description = "The answer, also one that is an error", body = serde_json::Value),
        (status = 401, description = "No valid API key")),
    security(("api_key" = [])))]
pub(super) async fn call_a2a(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    Body(body): Body,
) -> Response {
    let call = match rpc::parse(&body) {
        Ok(call) => call,
        Err(failure) => return Json(rpc::answer(None, Err(failure))).into_response(),
    };
    let id = call.id.clone();
    let outcome = match check_version(&headers) {
        Ok(()) => answered(&protocols, &caller, &headers, call).await,
        Err(failure) => Err(failure),
    };
    match outcome {
        Ok(Answered::Value(value)) => Json(rpc::answer(id.as_ref(), Ok(value))).into_response(),
        Ok(Answered::Stream(stream)) => streamed(protocols, caller, id, *stream),
        Err(failure) => Json(rpc::answer(id.as_ref(), Err(failure))).into_response(),
    }
}

fn check_version(headers: &HeaderMap) -> Outcome<()> {
    match headers.get("a2a-version").and_then(|version| version.to_str().ok()) {
        None | Some("" | "1" | VERSION) => Ok(()),
        Some(other) => {
            let message = format!("A2A {other:.20} is not spoken here, but {VERSION}");
            Err(Failure::new(WRONG_VERSION, message))
        }
    }
}

/// What a call gives.
enum Answered {
    Value(Value),
    Stream(Box<Streaming>),
}

/// A task that is told as it goes.
struct Streaming {
    first: Task,
    follow: Follow,
}

async fn answered(
    protocols: &Protocols,
    caller: &Arc<Caller>,
    headers: &HeaderMap,
    Call { method, params, .. }: Call,
) -> Outcome<Answered> {
    let org_id = &caller.org_id;
    let id = || {
        let id = params.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        id.ok_or_else(|| Failure::params("id is missing"))
    };
    let length = |at: &str| {
        let length = params.pointer(at).and_then(Value::as_u64);
        length.and_then(|length| usize::try_from(length).ok())
    };
    let value = match method.as_str() {
        "SendMessage" => {
            let (first, run) = protocols.a2a_send(caller, &params).await?;
            if params.pointer("/configuration/returnImmediately") != Some(&json!(true)) {
                protocols.a2a_settled(org_id, &run).await?;
            }
            let task = protocols.a2a_task(org_id, &first.id).await?;
            json!({"task": task.json(length("/configuration/historyLength"))})
        }
        "SendStreamingMessage" => {
            let (first, run) = protocols.a2a_send(caller, &params).await?;
            return following(protocols, caller, &first, &run).await;
        }
        "SubscribeToTask" => {
            let task = protocols.a2a_open_task(org_id, id()?).await?;
            let whole = RunRow { until_seq: None, ..task.first };
            return following(protocols, caller, &whole, &whole).await;
        }
        "GetTask" => protocols.a2a_task(org_id, id()?).await?.json(length("/historyLength")),
        "ListTasks" => protocols.a2a_list(org_id, &params).await?,
        "CancelTask" => protocols.a2a_cancel(org_id, id()?).await?.json(None),
        "GetExtendedAgentCard" => protocols.extended_card(&base(headers), org_id).await?,
        push if push.ends_with("TaskPushNotificationConfig")
            || push.ends_with("PushNotificationConfigs") =>
        {
            return Err(push_not_supported());
        }
        other => {
            return Err(Failure::new(METHOD_NOT_FOUND, format!("there is no method {other:.64}")));
        }
    };
    Ok(Answered::Value(value))
}

async fn following(
    protocols: &Protocols,
    caller: &Arc<Caller>,
    first: &RunRow,
    run: &RunRow,
) -> Outcome<Answered> {
    let first = protocols.a2a_task(&caller.org_id, &first.id).await?;
    let follow = protocols.a2a_follow(&caller.org_id, run).await?;
    Ok(Answered::Stream(Box::new(Streaming { first, follow })))
}

/// The task, then its texts as they come, then how it stands.
fn streamed(
    protocols: Protocols,
    caller: Arc<Caller>,
    id: Option<Value>,
    streaming: Streaming,
) -> Response {
    let Streaming { first, follow } = streaming;
    let begin = json!({"task": first.json(None)});
    let begin = sse::frame(None, None, &rpc::answer(id.as_ref(), Ok(begin)));
    let told: HashSet<String> = HashSet::new();
    let state = Some((follow, told));
    let rest = stream::unfold(state, move |state| {
        let (protocols, caller, id, task) =
            (protocols.clone(), Arc::clone(&caller), id.clone(), first.clone());
        async move {
            let (mut follow, mut told) = state?;
            let frame = |value| sse::frame(None, None, &rpc::answer(id.as_ref(), Ok(value)));
            let next = tokio::time::timeout(sse::HEARTBEAT, follow.next()).await;
            let (text, state) = match next {
                Err(_quiet) => (": heartbeat\n\n".to_owned(), Some((follow, told))),
                Ok(Ok(Some(parts))) => {
                    let mut text = String::new();
                    for part in parts.iter().filter(|part| part.event == "messages") {
                        let Some(piece) = task.piece(part, false) else { continue };
                        let again = !told.insert(artifact_id(&piece));
                        text.extend(task.piece(part, again).map(frame));
                    }
                    (text, Some((follow, told)))
                }
                Ok(Ok(None)) => {
                    let last = protocols.a2a_task(&caller.org_id, &task.first.id).await;
                    let words = last.map(|task| task.last_words());
                    let text = match words {
                        Ok(words) => words.into_iter().map(frame).collect(),
                        Err(failure) => {
                            sse::frame(None, None, &rpc::answer(id.as_ref(), Err(failure)))
                        }
                    };
                    (text, None)
                }
                Ok(Err(error)) => {
                    let failure = Failure::from(error);
                    (sse::frame(None, None, &rpc::answer(id.as_ref(), Err(failure))), None)
                }
            };
            Some((Ok(Bytes::from(text)), state))
        }
    });
    let begin = stream::iter([Ok(Bytes::from(begin))]);
    sse::response(stream::StreamExt::chain(begin, rest))
}
