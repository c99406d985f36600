//! A streamed answer on its way to the client: relayed, counted, and settled at its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http_body::Frame;
use kernel::{ChargeId, Timestamp};
use metering::{Admission, Bill, Charged, Pace};
use models::{CallError, ChatStream, OnDisconnect, Piece, Place};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::ask::Trail;
use crate::cache::Entry;
use crate::call::{Prepared, Told, estimated, purchase, reported, way};
use crate::guard::{Found, StreamGuard};
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
    pace: Vec<Pace>,
    told: Told,
    upstream_time: Option<Duration>,
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
    /// Kept until the end: a stream that runs takes up room at its provider.
    place: Place,
    stream: ChatStream,
    trail: Trail,
    first_token_at: Option<Timestamp>,
    kept: Option<BytesMut>,
    /// Under what the cache keeps the answer, when it is whole.
    caching: Option<[u8; 32]>,
    guard: Option<StreamGuard>,
    /// The last frame, while what the guard held back goes before it.
    done: Option<Bytes>,
    whole: bool,
    extending: Option<Extending>,
    /// Frames that wait for more of the wallet to be held.
    waiting: Option<Bytes>,
}

impl Relay {
    pub(crate) fn new(
        gateway: Gateway,
        admission: Admission,
        prepared: Prepared,
        place: Place,
        stream: ChatStream,
        trail: Trail,
    ) -> Self {
        let (id, pace) = (admission.id().clone(), admission.pace().to_vec());
        let told = Told::of(&prepared, &place);
        let upstream_time = admission.upstream_time();
        let caching = prepared.caching.key().filter(|_| place.fallback().is_none());
        let kept = (prepared.repeat.is_some() || caching.is_some()).then(BytesMut::new);
        let guard = gateway.guard.clone().filter(|guard| guard.reads_output());
        let open = Open {
            gateway,
            admission: Some(admission),
            prepared,
            place,
            stream,
            trail,
            first_token_at: None,
            kept,
            caching,
            guard: guard.map(StreamGuard::new),
            done: None,
            whole: false,
            extending: None,
            waiting: None,
        };
        Self { id, pace, told, upstream_time, state: State::Open(Box::new(open)) }
    }

    /// How long the upstream took to begin.
    pub(crate) const fn upstream_time(&self) -> Option<Duration> {
        self.upstream_time
    }

    /// The call's id.
    pub(crate) const fn id(&self) -> &ChargeId {
        &self.id
    }

    /// How the caller's limits stood at admission.
    pub(crate) fn pace(&self) -> &[Pace] {
        &self.pace
    }

    /// What the answer says of where it comes from.
    pub(crate) const fn told(&self) -> &Told {
        &self.told
    }

    fn settle(&mut self, ending: Ending) {
        let State::Open(open) = std::mem::replace(&mut self.state, State::Ended) else { return };
        let failed = match &ending {
            Ending::Done(_) => None,
            Ending::Failed(error) => Some(error.record_code()),
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
    /// The next part, as far as it is paid for and may pass.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Error>> {
        if let Some(done) = self.done.take() {
            return Poll::Ready(Ok(Piece::Done(done)));
        }
        loop {
            let piece = ready!(self.poll_paid(cx))?;
            self.whole |= matches!(piece, Piece::Done(_));
            let passed = match self.guarded(piece) {
                Ok(piece) => piece,
                Err(Found) => return Poll::Ready(Err(Error::ContentRefused)),
            };
            if let Some(piece) = passed {
                if let Piece::Frames(frames) = &piece {
                    self.keep(frames);
                }
                return Poll::Ready(Ok(piece));
            }
        }
    }

    /// What of a part may pass now.
    fn guarded(&mut self, piece: Piece) -> Result<Option<Piece>, Found> {
        let Some(guard) = &mut self.guard else { return Ok(Some(piece)) };
        match piece {
            Piece::Frames(frames) => {
                let passed = guard.push(&frames)?;
                Ok((!passed.is_empty()).then_some(Piece::Frames(passed)))
            }
            Piece::Done(done) => {
                let rest = guard.finish()?;
                if rest.is_empty() {
                    return Ok(Some(Piece::Done(done)));
                }
                self.done = Some(done);
                Ok(Some(Piece::Frames(rest)))
            }
        }
    }

    /// The next part, as far as it is paid for.
    fn poll_paid(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Error>> {
        ready!(self.poll_extension(cx))?;
        if let Some(frames) = self.waiting.take() {
            return Poll::Ready(Ok(Piece::Frames(frames)));
        }
        let piece = match ready!(self.stream.poll_next(cx)) {
            Some(Ok(Piece::Frames(_))) if self.place.route().provider().is_disabled() => {
                return Poll::Ready(Err(Error::Upstream(CallError::CutOff)));
            }
            Some(Ok(piece)) => piece,
            Some(Err(error)) => {
                self.place.failed(&error);
                return Poll::Ready(Err(Error::Upstream(error)));
            }
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
        let drain = self.place.route().provider().on_disconnect() == OnDisconnect::Drain;
        let mut failed = None;
        if drain || self.prepared.repeat.is_some() {
            loop {
                match std::future::poll_fn(|cx| self.poll_piece(cx)).await {
                    Ok(Piece::Frames(_)) => {}
                    Ok(Piece::Done(_)) => break,
                    Err(error) => {
                        failed = Some(error.record_code());
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
            route: Some(way(self.place.route())),
            upstream_status: Some(200),
            error_code,
            client_gone,
            first_token_at: self.first_token_at,
            attempts: std::mem::take(&mut self.trail).into_attempts(),
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
        bill.purchase = purchase(self.place.route(), &bill.usage.tokens);
        let kept = self.kept.take().filter(|_| error_code.is_none() && self.whole);
        let kept: Option<Bytes> =
            kept.map(|body| [body.as_ref(), b"data: [DONE]\n\n"].concat().into());
        if let (Some(key), Some(body)) = (self.caching, &kept) {
            let entry = Entry {
                content_type: STREAM_TYPE.to_owned(),
                body: body.clone(),
                tokens: bill.usage.tokens,
                charge_id: admission.id().clone(),
            };
            self.gateway.answers.keep(key, entry).await;
        }
        let also = kept.filter(|_| self.prepared.repeat.is_some()).map(|body| {
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
        "balance": charged.balance, "seq": charged.seq,
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
