//! An upstream on a port of its own that does as it is told.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use models::sim::{SimRequest, Style};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;

/// What it does with one request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Does {
    /// Answers it.
    Answer,
    /// Refuses it with this status.
    Refuse(u16),
    /// Refuses it with 429 and wants to be left alone for so many seconds.
    Rest(u64),
    /// Never answers.
    Hang,
    /// Breaks off before a byte of the answer.
    Cut,
    /// Breaks off after the first frames, or bytes.
    CutLate,
    /// Status 200 with an error instead of an answer.
    Pretend,
    /// Sends one frame, and the rest when it is let go on.
    Wait,
}

/// An upstream on a port of its own; when told nothing more, it answers.
pub(crate) struct Upstream {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    pub(crate) state: Arc<Inner>,
}

pub(crate) struct Inner {
    told: Mutex<VecDeque<Does>>,
    asked: Mutex<Vec<Value>>,
    go_on: Semaphore,
}

impl Upstream {
    pub(crate) async fn start(name: &'static str) -> Self {
        let state = Arc::new(Inner {
            told: Mutex::new(VecDeque::new()),
            asked: Mutex::new(Vec::new()),
            go_on: Semaphore::new(0),
        });
        let router =
            Router::new().route("/v1/chat/completions", post(chat)).with_state(Arc::clone(&state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { name, url, state }
    }

    /// One that nobody can connect to.
    pub(crate) async fn down(name: &'static str) -> Self {
        let mut upstream = Self::start(name).await;
        "http://127.0.0.1:9/v1".clone_into(&mut upstream.url);
        upstream
    }

    pub(crate) fn tell(&self, all: &[Does]) {
        self.state.told.lock().extend(all);
    }

    /// Forgets what it has been told and asked.
    pub(crate) fn reset(&self) {
        self.state.told.lock().clear();
        self.state.asked.lock().clear();
    }

    /// The requests it got.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.state.asked.lock().clone()
    }

    pub(crate) fn go_on(&self) {
        self.state.go_on.add_permits(1);
    }
}

async fn chat(State(upstream): State<Arc<Inner>>, body: Bytes) -> Response {
    upstream.asked.lock().push(serde_json::from_slice(&body).unwrap());
    let does = upstream.told.lock().pop_front().unwrap_or(Does::Answer);
    let request = SimRequest::parse(&body).unwrap();
    match does {
        Does::Refuse(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Does::Rest(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds.to_string())]).into_response()
        }
        Does::Hang => std::future::pending().await,
        _ => answer(&upstream, does, &request),
    }
}

fn answer(upstream: &Arc<Inner>, does: Does, request: &SimRequest) -> Response {
    const ERROR: &[u8] = b"{\"error\":{\"message\":\"out of memory\"}}";
    let reply = request.answer().unwrap();
    if !request.stream() {
        let whole = reply.full(Style::Normal);
        return json(match does {
            Does::Cut => cut(vec![]),
            Does::CutLate => cut(vec![whole.slice(..10)]),
            Does::Pretend => Body::from(ERROR),
            _ => Body::from(whole),
        });
    }
    let frames = reply.frames(Style::Normal, None);
    event_stream(match does {
        Does::Cut => cut(vec![]),
        Does::CutLate => cut(frames[..3].to_vec()),
        Does::Pretend => Body::from([b"data: ", ERROR, b"\n\ndata: [DONE]\n\n"].concat()),
        Does::Wait => waiting(Arc::clone(upstream), frames),
        _ => Body::from_stream(stream::iter(frames.into_iter().map(Ok::<_, std::io::Error>))),
    })
}

/// These bytes, then a broken connection.
fn cut(sent: Vec<Bytes>) -> Body {
    let broken = stream::once(async {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        Err(std::io::Error::other("cut"))
    });
    Body::from_stream(stream::iter(sent.into_iter().map(Ok)).chain(broken))
}

/// Two frames (the second has a word), and each of the others when it is let go on.
fn waiting(upstream: Arc<Inner>, frames: Vec<Bytes>) -> Body {
    let frames = stream::iter(frames.into_iter().enumerate()).then(move |(at, frame)| {
        let upstream = Arc::clone(&upstream);
        async move {
            if at > 1 {
                upstream.go_on.acquire().await.unwrap().forget();
            }
            Ok::<_, std::io::Error>(frame)
        }
    });
    Body::from_stream(frames)
}

fn json(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

fn event_stream(body: Body) -> Response {
    ([(CONTENT_TYPE, "text/event-stream")], body).into_response()
}
