//! `/ws`: what happens in sessions, told while it happens.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use events::{Event, Subscription};
use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use kernel::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior};
use web::Path;

use super::visitor::{Visitor, has_origin_of};
use crate::connections::Connection;
use crate::hub::{Push, about, everything, topic};
use crate::{Agents, Error, Owner};

/// The largest message from a client, in bytes.
const LARGEST: usize = 64 * 1024;
/// What a connection that is quiet keeps for reading and for writing, in bytes; longer messages get more.
const SMALL: usize = 4 * 1024;
/// Sessions that one connection may listen to.
const MOST_SUBSCRIPTIONS: usize = 200;
/// All of the caller's sessions, those of the future included.
const EVERYTHING: &str = "*";
/// A client that takes nothing for so long is cut off.
const STALLED: Duration = Duration::from_secs(30);

/// What a client says.
#[derive(Debug, Deserialize)]
struct Said {
    #[serde(rename = "type")]
    kind: String,
    session_id: Option<String>,
}

/// Listen
///
/// A WebSocket. Send `{"type":"subscribe","session_id":…}` (`*` for all of yours), `unsubscribe`, `ping`
/// or `get_stats`; what happens comes as `session_update`, `workflow_state`, `stream` and `error`.
#[utoipa::path(get, path = "/ws/{client_id}", operation_id = "listen", tag = "ws",
    params(("client_id" = String, Path, description = "The client's own name for itself")),
    responses((status = 101, description = "A WebSocket"), (status = 401, description = "No valid credential"),
        (status = 403, description = "A page of another origin"), (status = 426, description = "Not a WebSocket's request"),
        (status = 429, description = "Too many connections")),
    security(("api_key" = [])))]
pub(super) async fn listen(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
    Path(_client_id): Path<String>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> web::Result<Response> {
    check_origin(&agents, &headers)?;
    let connection = agents.connect(&owner)?;
    let told = agents.hub().listen();
    let upgrade = upgrade
        .max_message_size(LARGEST)
        .max_frame_size(LARGEST)
        .read_buffer_size(SMALL)
        .write_buffer_size(SMALL);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let topics = BTreeMap::new();
        Listener { agents, owner, connection, topics, told, socket }.serve().await;
    }))
}

/// Browsers send cookies and reach this machine for any page: only pages that may call connect.
fn check_origin(agents: &Agents, headers: &HeaderMap) -> Result<(), Error> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let allowed = &agents.parts().origins;
    if has_origin_of(headers, host) || allowed.iter().any(|known| known == "*" || known == origin) {
        return Ok(());
    }
    Err(Error::Origin(crate::ids::shown(origin)))
}

/// Count connections
///
/// Yours, and what they listen to.
#[utoipa::path(get, path = "/ws/stats", operation_id = "get_ws_stats", tag = "ws",
    responses((status = 200, body = Object), (status = 401, description = "No valid credential")),
    security(("api_key" = [])))]
pub(super) async fn get_ws_stats(
    State(agents): State<Agents>,
    Visitor(owner): Visitor,
) -> Json<Value> {
    Json(json!(agents.connections(&owner)))
}

/// A client that listens.
struct Listener {
    agents: Agents,
    owner: Owner,
    connection: Connection,
    /// The sessions listened to, and under which topic they are told of.
    topics: BTreeMap<String, String>,
    told: Subscription,
    socket: WebSocket,
}

/// Why a connection ends.
enum End {
    /// The client has left, or cannot be reached.
    Gone,
    /// The server leaves.
    Leaving,
}

impl Listener {
    async fn serve(mut self) {
        let config = &self.agents.parts().config;
        let every = Duration::from_secs(config.websocket_ping_interval.max(1));
        let patience = Duration::from_secs(config.websocket_ping_timeout.max(1));
        let mut beat = heartbeat(every);
        let mut heard = Instant::now();
        let leaving = self.agents.leaving().clone();
        let end = loop {
            let outcome = tokio::select! {
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => {
                        heard = Instant::now();
                        self.take(message).await
                    }
                    _ => Err(End::Gone),
                },
                news = self.told.next() => self.pass_on(news).await,
                _ = beat.tick() => {
                    if heard.elapsed() > every + patience {
                        Err(End::Gone)
                    } else {
                        self.send(Message::Ping(bytes::Bytes::new())).await
                    }
                }
                () = leaving.cancelled() => Err(End::Leaving),
            };
            if let Err(end) = outcome {
                break end;
            }
        };
        if matches!(end, End::Leaving) {
            let reason = "the server is stopping".into();
            let close = CloseFrame { code: close_code::AWAY, reason };
            drop(self.send(Message::Close(Some(close))).await);
        }
    }

    fn now(&self) -> Timestamp {
        self.agents.now()
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(STALLED, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(End::Gone),
        }
    }

    async fn reply(&mut self, message: Value) -> Result<(), End> {
        self.send(Message::text(message.to_string())).await
    }

    async fn take(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Text(text) => match serde_json::from_str::<Said>(&text) {
                Ok(said) => self.answer(said).await,
                Err(_misfit) => self.refuse("a message is JSON with a type", None).await,
            },
            Message::Binary(_) => self.refuse("messages are text", None).await,
            Message::Close(_) => Err(End::Gone),
            Message::Ping(_) | Message::Pong(_) => Ok(()),
        }
    }

    async fn refuse(&mut self, why: &str, session_id: Option<&str>) -> Result<(), End> {
        let at = self.now();
        self.reply(
            json!({"type": "error", "error": why, "session_id": session_id, "timestamp": at}),
        )
        .await
    }

    async fn answer(&mut self, said: Said) -> Result<(), End> {
        let at = self.now();
        match (said.kind.as_str(), said.session_id) {
            ("ping", _) => self.reply(json!({"type": "pong", "timestamp": at})).await,
            ("get_stats", _) => {
                let data = json!(self.agents.connections(&self.owner));
                self.reply(json!({"type": "stats", "data": data, "timestamp": at})).await
            }
            ("subscribe", Some(id)) => self.subscribe(id).await,
            ("unsubscribe", Some(id)) => {
                self.topics.remove(&id);
                self.listen();
                self.reply(json!({"type": "unsubscribed", "session_id": id, "timestamp": at})).await
            }
            ("subscribe" | "unsubscribe", None) => self.refuse("session_id is missing", None).await,
            _ => {
                let known = "use subscribe, unsubscribe, ping or get_stats";
                self.refuse(known, None).await
            }
        }
    }

    async fn subscribe(&mut self, id: String) -> Result<(), End> {
        if self.topics.len() >= MOST_SUBSCRIPTIONS {
            let why = format!("a connection listens to {MOST_SUBSCRIPTIONS} sessions at most");
            return self.refuse(&why, Some(&id)).await;
        }
        let topic = if id == EVERYTHING {
            everything(&self.owner)
        } else {
            match self.agents.find_history(&self.owner, &id).await {
                Ok(found) => topic(&found.org_id, &found.owner, &id),
                Err(_unknown) => {
                    let why = "会话不存在: there is no such session";
                    return self.refuse(why, Some(&id)).await;
                }
            }
        };
        let at = self.now();
        let reply = json!({"type": "subscribed", "session_id": id, "timestamp": at});
        self.topics.insert(id, topic);
        self.listen();
        self.reply(reply).await
    }

    /// Hears of what is subscribed to, and of nothing else: of all who are connected, only those are
    /// woken whom a message concerns.
    fn listen(&mut self) {
        self.connection.listens_to(self.topics.keys().cloned().collect());
        match self.topics.get(EVERYTHING) {
            // It includes the others.
            Some(all) => self.told.listen_to([all.clone()]),
            None => self.told.listen_to(self.topics.values().cloned()),
        }
    }

    /// What waits here may be of a session that is no longer listened to.
    fn concerns(&self, message: &events::Message) -> bool {
        about(message).is_some_and(|about| {
            let listens = [about.session_id, EVERYTHING];
            listens.iter().any(|id| self.topics.contains_key(*id))
                && self.owner.sees(self.owner.org_id(), about.owner)
        })
    }

    async fn pass_on(&mut self, news: Event) -> Result<(), End> {
        match news {
            Event::Message(message) if self.concerns(&message) => {
                match std::str::from_utf8(&message.payload) {
                    Ok(text) => self.send(Message::text(text)).await,
                    Err(_not_ours) => Ok(()),
                }
            }
            Event::Message(_) => Ok(()),
            // It was too slow: instead of what it missed it is told how things stand.
            Event::Gap => self.snapshot().await,
        }
    }

    async fn snapshot(&mut self) -> Result<(), End> {
        let ids: Vec<String> = self.topics.keys().cloned().collect();
        for id in ids.iter().filter(|id| *id != EVERYTHING) {
            match self.agents.find_history(&self.owner, id).await {
                Ok(session) => {
                    let push = Push::session(&session.view, "snapshot", self.now());
                    self.send(Message::text(push.text)).await?;
                }
                Err(Error::UnknownSession(_)) => {
                    let at = self.now();
                    let data = json!({"event": "deleted"});
                    let gone = json!({"type": "session_update", "session_id": id, "data": data,
                        "timestamp": at});
                    self.reply(gone).await?;
                }
                Err(_unreadable) => return Err(End::Gone),
            }
        }
        let at = self.now();
        self.reply(json!({"type": "gap", "timestamp": at})).await
    }
}

fn heartbeat(every: Duration) -> Interval {
    let mut beat = tokio::time::interval_at(Instant::now() + every, every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}
