//! Who listens to what, and how a message gets there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use store::Redis;
use telemetry::{Counter, Metrics};

use crate::bridge::{Bridge, Outbox};
use crate::queue::Queue;
use crate::{Message, Subscription};

/// The way messages take. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Bus(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    subscribers: RwLock<Subscribers>,
    /// To the other instances, if there can be any.
    outbox: Option<Outbox>,
    published: Counter,
    received: Counter,
    gaps: Counter,
}

#[derive(Debug, Default)]
struct Subscribers {
    /// By topic.
    exact: HashMap<Box<str>, Vec<Arc<Queue>>>,
    /// By what topics begin with.
    beginnings: Vec<(Box<str>, Arc<Queue>)>,
}

impl Bus {
    /// A bus within this process.
    pub fn new() -> Self {
        Self::default()
    }

    /// A bus that also reaches the other instances on this Redis, while the [`Bridge`] runs.
    pub fn over(redis: &Redis) -> (Self, Bridge) {
        let (outbox, inbox) = Outbox::new();
        let bus = Self(Arc::new(Shared { outbox: Some(outbox), ..Shared::default() }));
        let bridge = Bridge::new(bus.clone(), redis.clone(), inbox);
        (bus, bridge)
    }

    /// Tells everybody who listens to the topic, here at once and elsewhere soon. Never waits. A
    /// payload should be small: what has changed, not how it is now.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>) {
        let message = Message { topic: topic.into(), payload: payload.into() };
        self.0.published.inc();
        self.deliver(&message);
        if let Some(outbox) = &self.0.outbox {
            outbox.put(message);
        }
    }

    /// Listens to one topic (`prices`), or to all that begin alike (`runs.*`).
    pub fn subscribe(&self, filter: &str) -> Subscription {
        let mut subscription = self.subscribe_later();
        subscription.listen_to([filter.to_owned()]);
        subscription
    }

    /// Listens to nothing until [`Subscription::listen_to`] says to what.
    pub fn subscribe_later(&self) -> Subscription {
        Subscription { filters: BTreeSet::new(), queue: Arc::default(), bus: self.clone() }
    }

    pub(crate) fn join(&self, filter: &str, queue: &Arc<Queue>) {
        let mut subscribers = self.0.subscribers.write();
        match filter.strip_suffix('*') {
            Some(start) => subscribers.beginnings.push((start.into(), Arc::clone(queue))),
            None => subscribers.exact.entry(filter.into()).or_default().push(Arc::clone(queue)),
        }
    }

    /// Whether other instances are reached, while the bridge runs and Redis answers.
    pub fn is_bridged(&self) -> bool {
        self.0.outbox.is_some()
    }

    /// Why other instances are not reached at present; `None` also if there is no Redis to reach
    /// them by.
    pub fn failure(&self) -> Option<String> {
        self.0.outbox.as_ref().and_then(Outbox::failure)
    }

    /// Adds this bus's figures.
    pub fn register(&self, metrics: &mut Metrics) {
        let shared = &self.0;
        metrics.add("ledgerline_events_published", "Messages told", shared.published.clone());
        let help = "Messages of other instances";
        metrics.add("ledgerline_events_received", help, shared.received.clone());
        let help = "Subscribers told that they have missed messages";
        metrics.add("ledgerline_events_gaps", help, shared.gaps.clone());
        if let Some(outbox) = &shared.outbox {
            outbox.register(metrics);
        }
    }

    /// Takes in a message of another instance.
    pub(crate) fn receive(&self, message: &Message) {
        self.0.received.inc();
        self.deliver(message);
    }

    fn deliver(&self, message: &Message) {
        let subscribers = self.0.subscribers.read();
        let exact = subscribers.exact.get(&*message.topic).into_iter().flatten();
        let begins = subscribers.beginnings.iter();
        let begins = begins.filter(|(start, _)| message.topic.starts_with(&**start));
        for queue in exact.chain(begins.map(|(_, queue)| queue)) {
            if !queue.put(message) {
                self.0.gaps.inc();
            }
        }
    }

    /// Tells every subscriber that something may be lost.
    pub(crate) fn break_off(&self) {
        let subscribers = self.0.subscribers.read();
        let begins = subscribers.beginnings.iter().map(|(_, queue)| queue);
        for queue in subscribers.exact.values().flatten().chain(begins) {
            queue.break_off();
            self.0.gaps.inc();
        }
    }

    pub(crate) fn leave(&self, filter: &str, queue: &Arc<Queue>) {
        let mut subscribers = self.0.subscribers.write();
        if let Some(beginning) = filter.strip_suffix('*') {
            let gone =
                |start: &str, other: &Arc<Queue>| start == beginning && Arc::ptr_eq(other, queue);
            subscribers.beginnings.retain(|(start, other)| !gone(start, other));
        } else if let Some(others) = subscribers.exact.get_mut(filter) {
            others.retain(|other| !Arc::ptr_eq(other, queue));
            if others.is_empty() {
                subscribers.exact.remove(filter);
            }
        }
    }
}
