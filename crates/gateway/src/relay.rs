//! A streamed answer on its way to the client: relayed, counted, and settled at its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body::Frame;
use kernel::{ChargeId, Timestamp};
use metering::{Admission, Bill, Charged};
use models::{CallError, ChatStream, OnDisconnect, Piece, Route};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::call::{Prepared, estimated, reported, way};
use crate::store::{self, Answer};
use crate::{Error, Gateway};

/// A repeatable stream larger than this is not kept for its repeat.
const LARGEST_KEPT: usize = 1024 * 1024;
const STREAM_TYPE: &str = "text/event-stream; charset=utf-8";

/// A streamed answer on its way to the client.
///
/// Dropped before its end (the client has left), it ends the call by itself: cut off and charged
/// for what was passed on, or read to its end, as the provider's policy says.
#[derive(Debug)]
pub(crate) struct Relay {
    id: ChargeId,
    state: State,
}

#[derive(Debug)]
enum State {
    Open(Box<Open>),
    /// The settlement is on its way to the disk; these bytes follow it.
    Settling(JoinHandle<Result<Charged, metering::Error>>, Ending),
    /// The last bytes.
    Last(Bytes),
    Ended,
}

#[derive(Debug)]
enum Ending {
    Done(Bytes),
    Failed(Error),
}

type Extending = JoinHandle<(Admission, metering::Result<()>)>;

/// A stream that has not ended.
#[derive(Debug)]
struct Open {
    gateway: Gateway,
    admission: Option<Admission>,
    prepared: Prepared,
    route: Route,
    stream: ChatStream,
    first_token_at: Option<Timestamp>,
    kept: Option<BytesMut>,
    extending: Option<Extending>,
    /// Frames that wait for more of the wallet to be held.
    waiting: Option<Bytes>,
}

impl Relay {
    pub(crate) fn new(
        gateway: Gateway,
        admission: Admission,
        prepared: Prepared,
        route: Route,
        stream: ChatStream,
    ) -> Self {
        let id = admission.id().clone();
        let kept = prepared.repeat.as_ref().map(|_| BytesMut::new());
        let open = Open {
            gateway,
            admission: Some(admission),
            prepared,
            route,
            stream,
            first_token_at: None,
            kept,
            extending: None,
            waiting: None,
        };
        Self { id, state: State::Open(Box::new(open)) }
    }

    /// The call's id.
    pub(crate) const fn id(&self) -> &ChargeId {
        &self.id
    }

    fn settle(&mut self, ending: Ending) {
        let State::Open(open) = std::mem::replace(&mut self.state, State::Ended) else { return };
        let failed = match &ending {
            Ending::Done(_) => None,
            Ending::Failed(error) => Some(error.stream_code()),
        };
        let calls = open.gateway.calls.clone();
        let settling = calls.spawn(open.end(failed, false));
        self.state = State::Settling(settling, ending);
    }
}

impl http_body::Body for Relay {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Last(bytes) => {
                    let bytes = std::mem::take(bytes);
                    self.state = State::Ended;
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                State::Settling(settling, ending) => {
                    let outcome = ready!(settling.poll_unpin(cx));
                    let bytes =
                        last_bytes(outcome, std::mem::replace(ending, Ending::Done(Bytes::new())));
                    self.state = State::Last(bytes);
                }
                State::Open(open) => match ready!(open.poll_piece(cx)) {
                    Ok(Piece::Frames(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Ok(Piece::Done(bytes)) => self.settle(Ending::Done(bytes)),
                    Err(error) => self.settle(Ending::Failed(error)),
                },
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let State::Open(open) = std::mem::replace(&mut self.state, State::Ended) {
            let calls = open.gateway.calls.clone();
            drop(calls.spawn(open.client_left()));
        }
    }
}

impl Open {
    /// The next part, as far as it is paid for.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Error>> {
        ready!(self.poll_extension(cx))?;
        if let Some(frames) = self.waiting.take() {
            return Poll::Ready(Ok(Piece::Frames(frames)));
        }
        let piece = match ready!(self.stream.poll_next(cx)) {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Poll::Ready(Err(Error::Upstream(error))),
            None => {
                return Poll::Ready(Err(Error::Upstream(CallError::Broken(
                    "it ended twice".to_owned(),
                ))));
            }
        };
        let Piece::Frames(frames) = piece else { return Poll::Ready(Ok(piece)) };
        if self.first_token_at.is_none() && self.stream.tally().content_frames > 0 {
            self.first_token_at = Some(self.gateway.metering.now());
        }
        self.keep(&frames);
        if !self.must_extend() {
            return Poll::Ready(Ok(Piece::Frames(frames)));
        }
        self.extend();
        self.waiting = Some(frames);
        ready!(self.poll_extension(cx))?;
        let frames = self.waiting.take().unwrap_or_default();
        Poll::Ready(Ok(Piece::Frames(frames)))
    }

    fn keep(&mut self, frames: &Bytes) {
        if let Some(kept) = &mut self.kept {
            if kept.len() + frames.len() > LARGEST_KEPT {
                self.kept = None;
            } else {
                kept.extend_from_slice(frames);
            }
        }
    }

    /// What has come is no longer covered by the hold.
    fn must_extend(&self) -> bool {
        let covered = self.admission.as_ref().map_or(u64::MAX, Admission::output_bound);
        self.stream.tally().received() > covered
    }

    fn extend(&mut self) {
        let Some(mut admission) = self.admission.take() else { return };
        let received = self.stream.tally().received();
        let slice = self.prepared.model.config().output_slice_tokens.max(1);
        let more = received.saturating_sub(admission.output_bound()).saturating_add(slice);
        let metering = self.gateway.metering.clone();
        self.extending = Some(self.gateway.calls.spawn(async move {
            let outcome = metering.extend(&mut admission, more).await;
            (admission, outcome)
        }));
    }

    fn poll_extension(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(extending) = &mut self.extending else { return Poll::Ready(Ok(())) };
        let joined = ready!(extending.poll_unpin(cx));
        self.extending = None;
        Poll::Ready(match joined {
            Ok((admission, outcome)) => {
                self.admission = Some(admission);
                outcome.map_err(Error::from)
            }
            Err(_cancelled) => Err(Error::Stopping),
        })
    }

    /// The client has left before the end.
    async fn client_left(mut self: Box<Self>) -> Result<Charged, metering::Error> {
        let drain = self.route.provider.on_disconnect() == OnDisconnect::Drain;
        let mut failed = None;
        if drain || self.prepared.repeat.is_some() {
            loop {
                match std::future::poll_fn(|cx| self.poll_piece(cx)).await {
                    Ok(Piece::Frames(_)) => {}
                    Ok(Piece::Done(_)) => break,
                    Err(error) => {
                        failed = Some(error.stream_code());
                        break;
                    }
                }
            }
        } else if let Some(extending) = self.extending.take()
            && let Ok((admission, _)) = extending.await
        {
            self.admission = Some(admission);
        }
        let outcome = self.end(failed, true).await;
        if let Err(error) = &outcome {
            tracing::error!(error = error as &dyn std::error::Error, "a stream is not settled");
        }
        outcome
    }

    /// Charges what was received, or nothing if nothing was.
    async fn end(
        mut self: Box<Self>,
        error_code: Option<&'static str>,
        client_gone: bool,
    ) -> Result<Charged, metering::Error> {
        let Some(admission) = self.admission.take() else { return Err(metering::Error::Busy) };
        let tally = self.stream.tally();
        let reported_usage = tally.usage.clone().filter(models::Usage::is_usable);
        let received = tally.received();
        let mut bill = Bill {
            route: Some(way(&self.route)),
            upstream_status: Some(200),
            error_code,
            client_gone,
            first_token_at: self.first_token_at,
            ..Bill::default()
        };
        if reported_usage.is_none() && received == 0 && !tally.finished {
            return self.gateway.metering.release(admission, bill).await;
        }
        bill.usage = match reported_usage {
            Some(usage) => reported(usage),
            None => estimated(&self.prepared, received),
        };
        if let (None, Some(usage)) = (&bill.usage.raw, &tally.usage) {
            bill.usage.raw = Some(usage.raw.clone());
            bill.usage.anomalies = usage.anomaly_text();
        }
        let kept = self.kept.take().filter(|_| error_code.is_none());
        let also = kept.map(|body| {
            let body = [body.as_ref(), b"data: [DONE]\n\n"].concat().into();
            let answer = Answer { content_type: STREAM_TYPE.to_owned(), body };
            store::answer_row(admission.id(), &self.prepared.caller.org_id, &answer)
        });
        self.gateway.metering.settle(admission, bill, also.into_iter().collect()).await
    }
}

/// What follows the settlement: a comment with the charge, and the upstream's last frame or the
/// error that ended the stream.
fn last_bytes(
    outcome: Result<Result<Charged, metering::Error>, tokio::task::JoinError>,
    ending: Ending,
) -> Bytes {
    let charged = match outcome {
        Ok(Ok(charged)) => charged,
        Ok(Err(error)) => return error_frame(error.into()),
        Err(_cancelled) => return error_frame(Error::Stopping),
    };
    let charge = json!({
        "charge_id": charged.id, "cost": charged.cost, "currency": charged.currency,
        "balance": charged.balance,
    });
    let mut bytes = format!(": ledgerline {charge}\n\n").into_bytes();
    match ending {
        Ending::Done(done) => bytes.extend_from_slice(&done),
        Ending::Failed(error) => bytes.extend_from_slice(&error_frame(error)),
    }
    bytes.into()
}

/// An error as the last frame of a stream that has begun.
fn error_frame(error: Error) -> Bytes {
    let error = web::Error::from(error);
    let frame = web::Dialect::OpenAi.body(&error);
    format!("data: {frame}\n\n").into()
}

impl Error {
    /// The code that a usage record keeps of a stream that failed.
    fn stream_code(&self) -> &'static str {
        match self {
            Self::Upstream(error) => Self::call_code(error),
            Self::Metering(metering::Error::InsufficientFunds { .. }) => "insufficient_balance",
            _ => "internal",
        }
    }
}
