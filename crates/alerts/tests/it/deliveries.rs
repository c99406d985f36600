//! What becomes of what there is to tell.

use std::time::Duration;

use alerts::{Config, DeliveryState, Watcher};
use kernel::PageRequest;

use crate::{Test, everywhere};

/// An alert that is low, its id and secret.
async fn low(test: &Test) -> (String, String) {
    let (alert, secret) = test.alert(50).await;
    test.spend(60).await;
    test.watcher().turn().await.unwrap();
    (alert.id, secret)
}

#[tokio::test]
async fn a_receiver_that_was_away_is_told_later_under_the_same_id() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let (_, secret) = low(&test).await;
        test.receiver.answer(503);
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 1);
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 0, "{kind}: there is a pause");
        let waiting = test.deliveries().await.remove(0);
        assert_eq!((waiting.state, waiting.attempts), (DeliveryState::Waiting, 1), "{kind}");
        assert_eq!(waiting.last_status, Some(503));
        assert!(waiting.last_error.unwrap().contains("503"));
        test.clock.advance(Duration::from_secs(5));
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 1);
        test.receiver.answer(200);
        test.clock.advance(Duration::from_secs(10));
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 1);
        let told = test.deliveries().await.remove(0);
        assert_eq!((told.state, told.attempts), (DeliveryState::Delivered, 3), "{kind}");
        assert_eq!((told.last_status, told.last_error, told.next_at), (Some(200), None, None));
        let received = test.receiver.received();
        assert_eq!(received.len(), 3);
        for one in &received {
            assert!(one.verifies(&secret), "{kind}: each attempt is signed anew");
            assert_eq!(one.header("webhook-id"), told.id);
            assert_eq!(one.header("content-type"), "application/json");
        }
        let times: Vec<&str> = received.iter().map(|one| one.header("webhook-timestamp")).collect();
        assert!(times[0] < times[1] && times[1] < times[2], "{times:?}");
    }
}

#[tokio::test]
async fn what_is_never_taken_is_given_up_and_can_be_sent_again() {
    for test in everywhere().await {
        let kind = test.on.kind;
        low(&test).await;
        test.receiver.answer(500);
        let mut attempts = 0;
        for _ in 0..200 {
            attempts += test.alerts.deliver_due().await.unwrap();
            if test.deliveries().await[0].state != DeliveryState::Waiting {
                break;
            }
            test.clock.advance(Duration::from_hours(1));
        }
        let failed = test.deliveries().await.remove(0);
        assert_eq!((failed.state, failed.next_at), (DeliveryState::Failed, None), "{kind}");
        assert!((20..=25).contains(&attempts), "{kind}: {attempts} in a day, one an hour");
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 0);
        test.receiver.answer(200);
        let again = test.alerts.redeliver(&test.identity, &test.org, &failed.id).await.unwrap();
        assert_eq!((again.state, again.attempts), (DeliveryState::Waiting, 0), "{kind}");
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 1);
        assert_eq!(test.deliveries().await[0].state, DeliveryState::Delivered, "{kind}");
        let other = test.alerts.redeliver(&test.identity, &"other".into(), &failed.id).await;
        assert!(other.is_err(), "{kind}: another organization's");
    }
}

#[tokio::test]
async fn instances_send_once_and_take_over_from_one_that_has_died() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let (_, secret) = low(&test).await;
        test.receiver.script.lock().silent = true;
        let other = test.another();
        {
            // It dies when its webhook has arrived, before it can write that down.
            let dying = test.alerts.deliver_due();
            tokio::select! {
                _ = dying => panic!("{kind}: nobody answers"),
                () = test.receiver.came.notified() => {}
            }
        }
        test.receiver.script.lock().silent = false;
        assert_eq!(other.deliver_due().await.unwrap(), 0, "{kind}: the lease is the dead one's");
        test.clock.advance(Duration::from_secs(22));
        let (one, two) = tokio::join!(other.deliver_due(), test.alerts.deliver_due());
        assert_eq!(one.unwrap() + two.unwrap(), 1, "{kind}");
        let received = test.receiver.received();
        assert_eq!(received.len(), 2, "{kind}");
        assert_eq!(received[0].header("webhook-id"), received[1].header("webhook-id"));
        assert_eq!(received[0].body, received[1].body);
        assert!(received.iter().all(|one| one.verifies(&secret)));
        assert_eq!(test.deliveries().await[0].state, DeliveryState::Delivered, "{kind}");
    }
}

#[tokio::test]
async fn neither_redirections_nor_private_addresses_are_followed() {
    for test in everywhere().await {
        let kind = test.on.kind;
        low(&test).await;
        test.receiver.answer(307);
        test.alerts.deliver_due().await.unwrap();
        let waiting = test.deliveries().await.remove(0);
        assert_eq!((waiting.state, waiting.last_status), (DeliveryState::Waiting, Some(307)));
        let paths: Vec<String> = test.receiver.received().into_iter().map(|one| one.path).collect();
        assert_eq!(paths, ["/hook"], "{kind}");
        // The operator does not allow it any more.
        let strict = test.another_with(Config { timeout_seconds: 1, ..Config::default() });
        test.clock.advance(Duration::from_mins(1));
        assert_eq!(strict.deliver_due().await.unwrap(), 1);
        let waiting = test.deliveries().await.remove(0);
        assert!(waiting.last_error.unwrap().contains("no public address"), "{kind}");
        assert_eq!(test.receiver.received().len(), 1, "{kind}");
        // One that is gone for ever says so.
        test.receiver.answer(410);
        test.clock.advance(Duration::from_mins(1));
        test.alerts.deliver_due().await.unwrap();
        assert_eq!(test.deliveries().await[0].state, DeliveryState::Failed, "{kind}");
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_holds_up_nobody_else() {
    for test in everywhere().await {
        let kind = test.on.kind;
        low(&test).await;
        test.receiver.script.lock().silent = true;
        let begun = tokio::time::Instant::now();
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 1);
        assert!(begun.elapsed() < Duration::from_secs(10), "{kind}");
        let waiting = test.deliveries().await.remove(0);
        assert!(waiting.last_error.unwrap().contains("no answer within 1 s"), "{kind}");
    }
}

#[tokio::test]
async fn an_alert_that_is_deleted_tells_nothing_more() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let (id, _) = low(&test).await;
        let at = (&test.org, id.as_str());
        test.alerts.delete(&test.identity, at, Some(1)).await.unwrap();
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 0, "{kind}");
        let given_up = test.deliveries().await.remove(0);
        assert_eq!(given_up.state, DeliveryState::Failed, "{kind}");
        let all = test.alerts.list(&test.org, &PageRequest::default()).await.unwrap();
        assert!(all.rows.is_empty());
        // Sent again, it finds nobody to tell.
        test.alerts.redeliver(&test.identity, &test.org, &given_up.id).await.unwrap();
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 1);
        let told = test.deliveries().await.remove(0);
        assert_eq!(told.last_error.as_deref(), Some("the alert was deleted"), "{kind}");
        assert!(test.receiver.received().is_empty());
        let mut watcher = Watcher::new(test.alerts.clone());
        watcher.turn().await.unwrap();
    }
}

/// As it runs in a server: by itself, within the time that is promised.
#[tokio::test]
async fn a_running_service_tells_within_two_seconds() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let running = tokio::spawn(test.alerts.clone().run());
        let (_, secret) = test.alert(50).await;
        test.spend(60).await;
        let came = tokio::time::timeout(Duration::from_secs(2), test.receiver.came.notified());
        assert!(came.await.is_ok(), "{kind}");
        assert!(test.receiver.received()[0].verifies(&secret));
        running.abort();
    }
}
