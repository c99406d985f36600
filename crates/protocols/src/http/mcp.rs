//! `/mcp`: the Model Context Protocol over HTTP, without sessions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use identity::{Authenticated, Caller};
use serde_json::{Value, json};
use web::Body;

use crate::encode::{Mode, Place};
use crate::mcp::{MODERN, WITH_HANDSHAKE, server_info};
use crate::rpc::{self, Call, Failure, INVALID_PARAMS, METHOD_NOT_FOUND};
use crate::runs::Follow;
use crate::sse::{Guard, HEARTBEAT};
use crate::store::RunRow;
use crate::{Protocols, sse};

const HEADER_MISMATCH: i64 = -32020;
const UNSUPPORTED_VERSION: i64 = -32022;
/// The method that runs a tool.
const CALL: &str = "tools/call";
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// Use flows as tools
///
/// MCP's streamable HTTP: one JSON-RPC message to a request. Flows are tools; the answer of a call is
/// a stream if `_meta.progressToken` asks for progress.
#[utoipa::path(post, path = "/mcp", operation_id = "call_mcp", tag = "mcp",
    request_body = serde_json::Value,
    responses((status = 200, description = "The answer, also one that is an error", body = serde_json::Value),
        (status = 202, description = "A notification was taken"),
        (status = 400, description = "The headers do not fit the message"), (status = 401, description = "No valid API key")),
    security(("api_key" = [])))]
pub(super) async fn call_mcp(
    State(protocols): State<Protocols>,
    Authenticated(caller): Authenticated,
    headers: HeaderMap,
    Body(body): Body,
) -> Response {
    let call = match rpc::parse(&body) {
        Ok(call) => call,
        Err(failure) => return failed(None, failure),
    };
    let modern = match is_modern(&headers, &call) {
        Ok(modern) => modern,
        Err(failure) => return failed(call.id.as_ref(), failure),
    };
    let Some(id) = call.id.clone() else { return StatusCode::ACCEPTED.into_response() };
    if call.method == CALL {
        return match protocols.mcp_begin(&caller, &call.params).await {
            Ok(run) => {
                called(&protocols, caller, run, Asked { id, modern, params: call.params }).await
            }
            Err(failure) => failed(Some(&id), failure),
        };
    }
    match protocols.mcp_answer(&caller.org_id, &call.method, &call.params).await {
        Ok(value) => {
            let value = dressed(&call.method, value, modern);
            Json(rpc::answer(Some(&id), Ok(value))).into_response()
        }
        Err(failure) => failed(Some(&id), failure),
    }
}

/// Whether a message is of the version without sessions; its headers must then fit it.
fn is_modern(headers: &HeaderMap, call: &Call) -> Result<bool, Failure> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("mcp-protocol-version") {
        None => return Ok(false),
        Some(version) if WITH_HANDSHAKE.contains(&version) => return Ok(false),
        Some(MODERN) => {}
        Some(other) => {
            let supported: Vec<&str> = std::iter::once(MODERN).chain(WITH_HANDSHAKE).collect();
            let message = format!("version {other:.20} is not spoken here");
            let data = Some(json!({"supported": supported, "requested": other}));
            return Err(Failure { code: UNSUPPORTED_VERSION, message, data });
        }
    }
    let name = call.params.get("name").and_then(Value::as_str);
    let fits = call.id.is_none()
        || (text("mcp-method") == Some(call.method.as_str())
            && (call.method != CALL || text("mcp-name") == name));
    if fits {
        Ok(true)
    } else {
        Err(Failure::new(HEADER_MISMATCH, "Mcp-Method or Mcp-Name does not fit the body"))
    }
}

/// A result with what its version wants besides.
fn dressed(method: &str, mut result: Value, modern: bool) -> Value {
    let Some(members) = result.as_object_mut().filter(|_| modern) else { return result };
    members.insert("resultType".to_owned(), json!("complete"));
    if matches!(method, "tools/list" | "server/discover") {
        members.insert("ttlMs".to_owned(), json!(0));
        members.insert("cacheScope".to_owned(), json!("private"));
    }
    let meta = members.entry("_meta").or_insert_with(|| json!({}));
    if let Some(meta) = meta.as_object_mut() {
        meta.insert(SERVER_INFO.to_owned(), server_info());
    }
    result
}

fn failed(id: Option<&Value>, failure: Failure) -> Response {
    let status = match failure.code {
        METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        // What a tool is given wrongly is told to the model.
        INVALID_PARAMS => StatusCode::OK,
        rpc::INTERNAL_ERROR => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    let body = Json(rpc::answer(id, Err(failure)));
    (status, body).into_response()
}

/// How a tool was called.
struct Asked {
    id: Value,
    modern: bool,
    params: Value,
}

async fn called(
    protocols: &Protocols,
    caller: Arc<Caller>,
    run: RunRow,
    Asked { id, modern, params }: Asked,
) -> Response {
    // Without sessions, closing the connection is how a call is given up.
    let left = protocols.left(&caller.org_id, &run, modern);
    let token = params.pointer("/_meta/progressToken").cloned();
    if let Some(token) = token {
        return match protocols
            .follow(&caller.org_id, &run, vec![Mode::MessagesTuple], Place::default())
            .await
        {
            Ok(follow) => progressing(Progress {
                protocols: protocols.clone(),
                caller,
                run,
                follow,
                guard: Guard::new(left),
                id,
                modern,
                token,
                told: 0,
            }),
            Err(error) => failed(Some(&id), error.into()),
        };
    }
    let protocols = protocols.clone();
    let answer = async move {
        let ended = protocols.mcp_end(&caller.org_id, &run).await;
        Ok(rpc::answer(Some(&id), ended.map(|value| dressed(CALL, value, modern))))
    };
    sse::late_json(answer, left)
}

/// A call whose client wants to know how far it is.
struct Progress {
    protocols: Protocols,
    caller: Arc<Caller>,
    run: RunRow,
    follow: Follow,
    guard: Guard,
    id: Value,
    modern: bool,
    token: Value,
    told: u64,
}

impl Progress {
    /// The next frames; true if they are the last.
    async fn next(&mut self) -> (String, bool) {
        let Ok(next) = tokio::time::timeout(HEARTBEAT, self.follow.next()).await else {
            return (": heartbeat\n\n".to_owned(), false);
        };
        if let Ok(Some(parts)) = next {
            let texts = parts.iter().filter(|part| part.event == "messages");
            let texts = texts.filter_map(|part| part.data.pointer("/0/content")?.as_str());
            let mut frames = String::new();
            for text in texts.filter(|text| !text.is_empty()) {
                self.told += 1;
                let params =
                    json!({"progressToken": self.token, "progress": self.told, "message": text});
                let told =
                    json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
                frames.push_str(&sse::frame(None, Some("message"), &told));
            }
            return (frames, false);
        }
        let ended = self.protocols.mcp_end(&self.caller.org_id, &self.run).await;
        let ended = ended.map(|value| dressed(CALL, value, self.modern));
        self.guard.ended();
        (sse::frame(None, Some("message"), &rpc::answer(Some(&self.id), ended)), true)
    }
}

fn progressing(progress: Progress) -> Response {
    let frames = stream::unfold(Some(progress), |progress| async move {
        let mut progress = progress?;
        let (frames, last) = progress.next().await;
        Some((Ok(Bytes::from(frames)), (!last).then_some(progress)))
    });
    sse::response(frames)
}
