//! The bus within a process.

use std::time::Duration;

use events::{Bus, Event, Subscription};

fn said(subscription: &mut Subscription) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(event) = subscription.try_next() {
        all.push(match event {
            Event::Gap => "gap".to_owned(),
            Event::Message(message) => {
                let text = String::from_utf8(message.payload.to_vec()).unwrap();
                format!("{} {text}", message.topic)
            }
        });
    }
    all
}

#[tokio::test]
async fn a_message_reaches_those_who_listen_to_its_topic_in_order() {
    let bus = Bus::new();
    bus.publish("prices", "before");
    let mut prices = bus.subscribe("prices");
    let mut runs = bus.subscribe("runs.*");
    let mut all = bus.subscribe("*");
    for (topic, text) in
        [("prices", "1"), ("runs.a", "2"), ("run", "3"), ("runs.b", "4"), ("prices.x", "5")]
    {
        bus.publish(topic, text);
    }
    assert_eq!(said(&mut prices), ["prices 1"]);
    assert_eq!(said(&mut runs), ["runs.a 2", "runs.b 4"]);
    assert_eq!(said(&mut all), ["prices 1", "runs.a 2", "run 3", "runs.b 4", "prices.x 5"]);
    drop(all);
    bus.publish("prices", "6");
    assert_eq!(said(&mut prices), ["prices 6"]);
}

#[tokio::test]
async fn who_is_too_slow_is_told_of_a_gap_and_then_hears_what_is_newer() {
    let bus = Bus::new();
    let (mut slow, mut quick) = (bus.subscribe("t"), bus.subscribe("t"));
    let mut heard = 0;
    for number in 0..1030 {
        bus.publish("t", number.to_string());
        heard += said(&mut quick).len();
    }
    assert_eq!(heard, 1030);
    let told = said(&mut slow);
    assert_eq!(told[0], "gap");
    // The message that did not fit is lost too: only what came after it is there.
    assert_eq!(told[1..], ["t 1025", "t 1026", "t 1027", "t 1028", "t 1029"]);
    for _ in 0..5 {
        bus.publish("t", vec![0; 1024 * 1024]);
    }
    assert_eq!(slow.try_next(), Some(Event::Gap));
    assert_eq!(slow.try_next(), None);
}

#[tokio::test]
async fn who_waits_is_woken() {
    let bus = Bus::new();
    let mut waiting = bus.subscribe("t");
    assert!(tokio::time::timeout(Duration::from_millis(20), waiting.next()).await.is_err());
    let waiter = tokio::spawn(async move { waiting.next().await });
    tokio::task::yield_now().await;
    bus.publish("t", "now");
    let event = tokio::time::timeout(Duration::from_secs(5), waiter).await.unwrap().unwrap();
    assert!(matches!(event, Event::Message(message) if &message.payload[..] == b"now"));
    assert_eq!(bus.failure(), None);
}

#[tokio::test]
async fn a_subscriber_changes_what_it_listens_to_and_loses_nothing_that_waits() {
    let bus = Bus::new();
    let mut own = bus.subscribe_later();
    bus.publish("a", "before");
    assert!(said(&mut own).is_empty());
    own.listen_to(["a".to_owned(), "runs.*".to_owned()]);
    bus.publish("a", "1");
    own.listen_to(["b".to_owned(), "runs.*".to_owned()]);
    for (topic, text) in [("a", "no"), ("b", "2"), ("runs.7", "3"), ("run", "no")] {
        bus.publish(topic, text);
    }
    assert_eq!(said(&mut own), ["a 1", "b 2", "runs.7 3"]);
    // One that is left by one stays with the other.
    let mut other = bus.subscribe("runs.*");
    own.listen_to([]);
    bus.publish("runs.8", "4");
    assert!(said(&mut own).is_empty());
    assert_eq!(said(&mut other), ["runs.8 4"]);
}
