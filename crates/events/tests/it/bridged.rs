//! Two instances over a Redis that is killed, stalled and sent rubbish.

use std::time::{Duration, Instant};

use events::{Bus, Event, Subscription};
use testkit::RedisServer;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// An instance's bus, with somebody who listens.
struct Instance {
    bus: Bus,
    heard: Subscription,
    bridge: JoinHandle<()>,
}

impl Instance {
    async fn start(server: &RedisServer) -> Self {
        let (bus, bridge) = Bus::over(&server.redis());
        let heard = bus.subscribe("t");
        assert!(bus.failure().is_some());
        let bridge = tokio::spawn(bridge.run());
        let mut instance = Self { bus, heard, bridge };
        instance.connected(true).await;
        assert_eq!(instance.next().await, "gap");
        instance
    }

    async fn connected(&self, wanted: bool) {
        let change = async {
            while self.bus.failure().is_none() != wanted {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, change).await.unwrap_or_else(|_| panic!("connected: {wanted}"));
    }

    async fn next(&mut self) -> String {
        match timeout(PATIENCE, self.heard.next()).await.expect("something is heard") {
            Event::Gap => "gap".to_owned(),
            Event::Message(message) => String::from_utf8(message.payload.to_vec()).unwrap(),
        }
    }

    /// Gaps may be told more than once; what counts is that one is.
    async fn next_after_gap(&mut self) -> String {
        assert_eq!(self.next().await, "gap");
        loop {
            let heard = self.next().await;
            if heard != "gap" {
                return heard;
            }
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.bridge.abort();
    }
}

#[tokio::test]
async fn a_message_is_heard_once_on_every_instance() {
    let Some(server) = RedisServer::start().await else { return };
    let (mut one, mut two) = (Instance::start(&server).await, Instance::start(&server).await);
    let begun = Instant::now();
    for number in 0..1000 {
        one.bus.publish("t", number.to_string());
        one.bus.publish("other", "not heard");
    }
    for number in 0..1000 {
        assert_eq!(one.next().await, number.to_string());
        assert_eq!(two.next().await, number.to_string());
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    two.bus.publish("t", "back");
    assert_eq!(one.next().await, "back");
    assert_eq!(two.next().await, "back");
    // Its own messages come back over Redis: they are not heard again.
    sleep(Duration::from_millis(100)).await;
    assert_eq!((one.heard.try_next(), two.heard.try_next()), (None, None));
}

#[tokio::test]
async fn a_killed_redis_is_a_gap_and_the_way_is_made_again() {
    let Some(mut server) = RedisServer::start().await else { return };
    let (mut one, mut two) = (Instance::start(&server).await, Instance::start(&server).await);
    server.kill();
    one.connected(false).await;
    two.connected(false).await;
    assert_eq!((one.next().await, two.next().await), ("gap".to_owned(), "gap".to_owned()));
    one.bus.publish("t", "within the process");
    assert_eq!(one.next().await, "within the process");
    server.start_again().await;
    one.connected(true).await;
    two.connected(true).await;
    one.bus.publish("t", "again");
    assert_eq!(one.next_after_gap().await, "again");
    // Whether what was said in between arrives or not: there is a gap before what comes later.
    let heard = two.next_after_gap().await;
    if heard != "again" {
        assert_eq!(heard, "within the process");
        assert_eq!(two.next().await, "again");
    }
}

#[tokio::test]
async fn a_stalled_redis_is_noticed_and_publishing_never_waits() {
    let Some(server) = RedisServer::start().await else { return };
    let (one, mut two) = (Instance::start(&server).await, Instance::start(&server).await);
    server.stall();
    let begun = Instant::now();
    // More than can wait: some of it is lost.
    for number in 0..10_000 {
        one.bus.publish("t", number.to_string());
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    one.connected(false).await;
    two.connected(false).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    server.resume();
    one.connected(true).await;
    two.connected(true).await;
    one.bus.publish("t", "last");
    let mut heard = two.next_after_gap().await;
    while heard != "last" {
        heard = two.next().await;
    }
}

#[tokio::test]
async fn what_is_too_large_for_redis_is_a_gap_elsewhere() {
    let Some(server) = RedisServer::start().await else { return };
    let (mut one, mut two) = (Instance::start(&server).await, Instance::start(&server).await);
    one.bus.publish("t", vec![b'x'; 300 * 1024]);
    assert_eq!(one.next().await.len(), 300 * 1024);
    assert_eq!(two.next().await, "gap");
}

#[tokio::test]
async fn rubbish_on_redis_is_counted_and_passed_over() {
    let Some(server) = RedisServer::start().await else { return };
    let mut one = Instance::start(&server).await;
    let mut metrics = telemetry::Metrics::new();
    one.bus.register(&mut metrics);
    let mut stranger = server.redis().connection().await.unwrap();
    for rubbish in ["", "rubbish", "x\n", "\u{0}\n\u{0}"] {
        let channel = "ledgerline:events:t";
        redis::cmd("PUBLISH").arg(channel).arg(rubbish).exec_async(&mut stranger).await.unwrap();
    }
    redis::cmd("PUBLISH")
        .arg("other:events:t")
        .arg("mx\nno")
        .exec_async(&mut stranger)
        .await
        .unwrap();
    redis::cmd("PUBLISH")
        .arg("ledgerline:events:t")
        .arg("mx\nyes")
        .exec_async(&mut stranger)
        .await
        .unwrap();
    assert_eq!(one.next().await, "yes");
    let text = metrics.text().unwrap();
    assert!(text.contains("ledgerline_events_rejected_total 4"), "{text}");
    assert!(text.contains("ledgerline_events_received_total 1"), "{text}");
    assert!(text.contains("ledgerline_events_connected 1"), "{text}");
}
