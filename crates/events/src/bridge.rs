//! The way to the other instances: publish and subscribe on Redis, made anew whenever it breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use store::Redis;
use telemetry::{Counter, Metrics};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::frame::Frame;
use crate::{Bus, Message};

/// Messages on their way out; when there are more, some are lost, and the others are told so.
const WAITING: usize = 4096;
/// A larger payload stays here; the other instances are told of a gap instead.
const LARGEST: usize = 256 * 1024;
/// Messages sent at once.
const BATCH: usize = 256;
/// How often something is sent, if only to see that it comes back.
const BEAT: Duration = Duration::from_secs(1);
/// Redis has failed when it has not answered, or nothing sent has come back, for so long.
const PATIENCE: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Where gaps and beats are sent; no topic of a message.
const CONTROL: &str = "!";

/// Messages on their way out, and how it is with the way.
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: Sender<Message>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// Why there is no way at present.
    failure: Mutex<Option<String>>,
    /// Messages were lost, and the others do not yet know it.
    lossy: AtomicBool,
    rejected: Counter,
}

/// What comes out of an [`Outbox`].
#[derive(Debug)]
pub(crate) struct Inbox {
    receiver: Receiver<Message>,
    state: Arc<State>,
}

impl Outbox {
    pub(crate) fn new() -> (Self, Inbox) {
        let (sender, receiver) = channel(WAITING);
        let state = Arc::new(State {
            failure: Mutex::new(Some("not yet connected".to_owned())),
            lossy: AtomicBool::new(false),
            rejected: Counter::default(),
        });
        (Self { sender, state: Arc::clone(&state) }, Inbox { receiver, state })
    }

    pub(crate) fn put(&self, message: Message) {
        if message.payload.len() > LARGEST || self.sender.try_send(message).is_err() {
            self.state.lossy.store(true, Ordering::Release);
        }
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.state.failure.lock().clone()
    }

    pub(crate) fn register(&self, metrics: &mut Metrics) {
        let state = Arc::clone(&self.state);
        let connected = move || i64::from(state.failure.lock().is_none());
        let help = "1 while other instances are reached over Redis";
        metrics.add_read("ledgerline_events_connected", help, connected);
        let help = "Messages on Redis that no instance can have written";
        metrics.add("ledgerline_events_rejected", help, self.state.rejected.clone());
    }
}

/// The way to the other instances. It works while [`run`](Self::run) does.
#[derive(Debug)]
pub struct Bridge {
    bus: Bus,
    redis: Redis,
    inbox: Inbox,
    /// Told apart by this name: each start of a process has another.
    me: String,
}

/// Why a way has ended.
#[derive(Debug)]
enum Broken {
    Redis(redis::RedisError),
    Silent,
    Ended,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Redis(error) => write!(f, "Redis failed: {error}"),
            Self::Silent => f.write_str("Redis does not answer"),
            Self::Ended => f.write_str("Redis has closed the connection"),
        }
    }
}

impl From<redis::RedisError> for Broken {
    fn from(error: redis::RedisError) -> Self {
        Self::Redis(error)
    }
}

/// An open way.
struct Way<'a> {
    bridge: &'a mut Bridge,
    writer: MultiplexedConnection,
    /// When something sent from here last came back.
    heard: Instant,
}

impl Bridge {
    pub(crate) fn new(bus: Bus, redis: Redis, inbox: Inbox) -> Self {
        Self { bus, redis, inbox, me: kernel::id::new() }
    }

    /// Carries messages for as long as it is polled. Whenever the way breaks and whenever it is made
    /// again, subscribers are told of a gap.
    pub async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            let Err(broken) = self.connect_and_carry().await;
            let failure = broken.to_string();
            let before = self.inbox.state.failure.lock().replace(failure.clone());
            if before.is_none() {
                self.bus.break_off();
            }
            // A failure that goes on is told once.
            if before.as_ref() != Some(&failure) {
                tracing::warn!(
                    reason = failure,
                    "other instances are not told of changes: they see them later"
                );
            }
            if begun.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect_and_carry(&mut self) -> Result<std::convert::Infallible, Broken> {
        let pattern = format!("{}*", self.channel(""));
        let opened = timeout(PATIENCE, async {
            let mut reader = self.redis.client().get_async_pubsub().await?;
            reader.psubscribe(pattern).await?;
            Ok((reader, self.redis.connection().await?))
        });
        let (reader, writer) =
            opened.await.map_err(|_elapsed| Broken::Silent)?.map_err(Broken::Redis)?;
        let mut messages = std::pin::pin!(reader.into_on_message());
        let mut way = Way { bridge: self, writer, heard: Instant::now() };
        way.open().await?;
        way.carry(messages.as_mut()).await
    }

    fn channel(&self, topic: &str) -> String {
        format!("{}events:{topic}", self.redis.prefix())
    }

    fn topic<'c>(&self, channel: &'c str) -> Option<&'c str> {
        channel.strip_prefix(self.redis.prefix())?.strip_prefix("events:")
    }
}

impl Way<'_> {
    /// What was told here and elsewhere before this moment may have been lost.
    async fn open(&mut self) -> Result<(), Broken> {
        self.send(&[]).await?;
        self.bridge.bus.break_off();
        if self.bridge.inbox.state.failure.lock().take().is_some() {
            tracing::info!("other instances are told of changes over Redis");
        }
        Ok(())
    }

    async fn carry(
        &mut self,
        mut messages: impl Stream<Item = redis::Msg> + Unpin,
    ) -> Result<std::convert::Infallible, Broken> {
        let mut turn = interval(BEAT);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                message = messages.next() => self.take_in(&message.ok_or(Broken::Ended)?),
                _ = self.bridge.inbox.receiver.recv_many(&mut batch, BATCH) => {
                    let sent = self.send(&batch).await;
                    batch.clear();
                    sent?;
                }
                _ = turn.tick() => {
                    if self.heard.elapsed() > PATIENCE {
                        return Err(Broken::Silent);
                    }
                    self.send(&[]).await?;
                }
            }
        }
    }

    fn take_in(&mut self, message: &redis::Msg) {
        let bridge = &mut *self.bridge;
        let topic = bridge.topic(message.get_channel_name());
        let frame = Frame::read(message.get_payload_bytes());
        match (topic, frame) {
            (Some(_), Some((sender, _))) if sender == bridge.me.as_bytes() => {
                self.heard = Instant::now();
            }
            (Some(topic), Some((_, Frame::Message(payload)))) => {
                bridge.bus.receive(&Message { topic: topic.into(), payload });
            }
            (Some(_), Some((_, Frame::Gap))) => bridge.bus.break_off(),
            (Some(_), Some((_, Frame::Beat))) => {}
            _ => drop(bridge.inbox.state.rejected.inc()),
        }
    }

    /// Sends messages, if any, what is lost, and a sign of life. What cannot be sent is lost.
    async fn send(&mut self, batch: &[Message]) -> Result<(), Broken> {
        let bridge = &*self.bridge;
        let lossy = &bridge.inbox.state.lossy;
        let mut pipeline = redis::pipe();
        let mut add = |topic: &str, frame: &Frame| {
            pipeline.publish(bridge.channel(topic), frame.write(&bridge.me)).ignore();
        };
        for message in batch {
            add(&message.topic, &Frame::Message(message.payload.clone()));
        }
        let gap = lossy.swap(false, Ordering::AcqRel);
        add(CONTROL, if gap { &Frame::Gap } else { &Frame::Beat });
        let sent = timeout(PATIENCE, pipeline.query_async::<()>(&mut self.writer)).await;
        let sent = sent.unwrap_or_else(|_elapsed| {
            Err(redis::RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)))
        });
        if sent.is_err() && (gap || !batch.is_empty()) {
            lossy.store(true, Ordering::Release);
        }
        Ok(sent?)
    }
}
