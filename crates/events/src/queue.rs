//! A subscription: the messages that wait for one subscriber.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Bus;

/// Messages that wait for one subscriber at most.
const MOST: usize = 1024;
/// Bytes that wait for one subscriber at most.
const LARGEST: usize = 4 * 1024 * 1024;

/// Something told under a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is about.
    pub topic: Arc<str>,
    /// What was said.
    pub payload: Bytes,
}

/// What a subscriber gets to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message.
    Message(Message),
    /// Messages may be lost: what they would have said must be read again. Those that come after
    /// it are newer.
    Gap,
}

/// Messages under the topics of some filters, from the moment of subscribing until it is dropped.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) filters: BTreeSet<String>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) bus: Bus,
}

impl Subscription {
    /// Listens to these from now on, topics or beginnings as in [`Bus::subscribe`], and no more to what
    /// it did before. A message that fits two of them comes twice.
    pub fn listen_to(&mut self, filters: impl IntoIterator<Item = String>) {
        let filters: BTreeSet<String> = filters.into_iter().collect();
        filters.difference(&self.filters).for_each(|new| self.bus.join(new, &self.queue));
        self.filters.difference(&filters).for_each(|old| self.bus.leave(old, &self.queue));
        self.filters = filters;
    }

    /// Waits for the next event. May be dropped at any time without losing one.
    pub async fn next(&mut self) -> Event {
        loop {
            // Asked for before looking: who puts something in afterwards wakes this.
            let ready = self.queue.ready.notified();
            if let Some(event) = self.queue.take() {
                return event;
            }
            ready.await;
        }
    }

    /// The next event, if one is there.
    pub fn try_next(&mut self) -> Option<Event> {
        self.queue.take()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.listen_to([]);
    }
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    ready: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Told before what waits.
    gap: bool,
    messages: VecDeque<Message>,
    bytes: usize,
}

impl Queue {
    /// Adds a message; false if there was no room: then what waits is given up for a gap, since
    /// the subscriber has to read again anyway.
    pub(crate) fn put(&self, message: &Message) -> bool {
        let mut waiting = self.waiting.lock();
        let bytes = waiting.bytes + message.payload.len();
        let fits = waiting.messages.len() < MOST && bytes <= LARGEST;
        if fits {
            waiting.messages.push_back(message.clone());
            waiting.bytes = bytes;
        } else {
            *waiting = Waiting { gap: true, ..Waiting::default() };
        }
        drop(waiting);
        self.ready.notify_one();
        fits
    }

    /// Gives up what waits for a gap.
    pub(crate) fn break_off(&self) {
        *self.waiting.lock() = Waiting { gap: true, ..Waiting::default() };
        self.ready.notify_one();
    }

    fn take(&self) -> Option<Event> {
        let mut waiting = self.waiting.lock();
        if std::mem::take(&mut waiting.gap) {
            return Some(Event::Gap);
        }
        let message = waiting.messages.pop_front()?;
        waiting.bytes -= message.payload.len();
        Some(Event::Message(message))
    }
}
