//! When an alert is told, and when it is not.

use alerts::{AlertChange, DeliveryFilter, NewAlert, Watcher};
use identity::OrgKind;
use kernel::PageRequest;
use store::Statement;

use crate::{cny, everywhere};

#[tokio::test]
async fn an_alert_is_told_once_for_each_fall_and_again_after_a_rise() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let (_alert, secret) = test.alert(50).await;
        let mut watcher = test.watcher();
        watcher.turn().await.unwrap();
        test.spend(49).await;
        // What is only set aside comes back.
        test.hold(30).await;
        watcher.turn().await.unwrap();
        assert!(test.deliveries().await.is_empty(), "{kind}: 51 are left");
        test.spend(1).await;
        watcher.turn().await.unwrap();
        assert_eq!(test.deliveries().await.len(), 1, "{kind}: at the amount is low");
        for _ in 0..3 {
            test.spend(1).await;
            watcher.turn().await.unwrap();
        }
        assert_eq!(test.deliveries().await.len(), 1, "{kind}: it was told");
        test.top_up(3).await;
        watcher.turn().await.unwrap();
        test.spend(1).await;
        watcher.turn().await.unwrap();
        assert_eq!(test.deliveries().await.len(), 1, "{kind}: it was not above");
        test.top_up(10).await;
        watcher.turn().await.unwrap();
        test.spend(20).await;
        watcher.turn().await.unwrap();
        assert_eq!(test.deliveries().await.len(), 2, "{kind}");

        // One after the other, the oldest first.
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 1);
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 1);
        assert_eq!(test.alerts.deliver_due().await.unwrap(), 0);
        let received = test.receiver.received();
        assert!(received.iter().all(|one| one.verifies(&secret)), "{kind}: {received:?}");
        let event = received[0].event();
        assert_eq!(event["type"], "wallet.low");
        let data = &event["data"];
        assert_eq!((&data["amount"], &data["posted"]), (&"50".into(), &"50".into()));
        assert_eq!((&data["held"], &data["available"]), (&"30".into(), &"20".into()));
        assert_eq!(data["org_id"], test.org.as_str());
        assert_eq!(received[1].event()["data"]["posted"], "39", "{kind}");
        let mut changed = received[0].clone();
        changed.body = changed.body.replace("\"posted\":\"50\"", "\"posted\":\"51\"");
        assert!(!changed.verifies(&secret), "{kind}: a changed body");
    }
}

#[tokio::test]
async fn many_calls_and_instances_tell_each_threshold_once() {
    for test in everywhere().await {
        let kind = test.on.kind;
        for amount in [75, 50, 25, 0] {
            test.alert(amount).await;
        }
        let other = test.another();
        let (mut one, mut two) = (test.watcher(), Watcher::new(other));
        for _ in 0..5 {
            let calls: Vec<_> = (0..20).map(|_| test.spend(1)).collect();
            let (_, first, second) =
                tokio::join!(futures_util::future::join_all(calls), one.turn(), two.turn());
            first.unwrap();
            second.unwrap();
            let (first, second) = tokio::join!(one.turn(), two.turn());
            first.unwrap();
            second.unwrap();
        }
        let told = test.deliveries().await;
        let mut amounts: Vec<String> = told
            .iter()
            .map(|one| one.event["data"]["amount"].as_str().unwrap().to_owned())
            .collect();
        amounts.sort();
        assert_eq!(amounts, ["0", "25", "50", "75"], "{kind}");
    }
}

#[tokio::test]
async fn a_fall_is_told_however_the_process_before_it_ended() {
    for test in everywhere().await {
        let kind = test.on.kind;
        test.alert(50).await;
        test.watcher().turn().await.unwrap();
        test.spend(60).await;
        // Between the fall and what is told of it nothing can come: what cannot be told is not noted.
        let stop = match kind {
            "sqlite" => {
                "CREATE TRIGGER stop BEFORE INSERT ON alerts_deliveries \
                 BEGIN SELECT RAISE(ABORT, 'stopped'); END"
            }
            _ => {
                "CREATE TRIGGER stop BEFORE INSERT ON alerts_deliveries FOR EACH ROW \
                 SIGNAL SQLSTATE '45000'"
            }
        };
        let run = |sql: &'static str| test.on.database.execute(Statement::new(sql, vec![]));
        run(stop).await.unwrap();
        let mut watcher = test.watcher();
        assert!(watcher.turn().await.is_err(), "{kind}");
        assert!(watcher.turn().await.is_err(), "{kind}: it is tried again");
        run("DROP TRIGGER stop").await.unwrap();
        assert!(test.deliveries().await.is_empty());
        // Another process, which has seen nothing.
        Watcher::new(test.another()).turn().await.unwrap();
        assert_eq!(test.deliveries().await.len(), 1, "{kind}");
        watcher.turn().await.unwrap();
        assert_eq!(test.deliveries().await.len(), 1, "{kind}");
    }
}

#[tokio::test]
async fn an_alert_is_looked_at_when_it_is_made_or_gets_another_amount() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let (alert, _) = test.alert(100).await;
        assert_eq!(test.deliveries().await.len(), 1, "{kind}: low from the beginning");
        let at = (&test.org, alert.id.as_str());
        let change = |units| AlertChange { amount: Some(cny(units)), url: None };
        let changed = test.alerts.change(&test.identity, at, None, &change(40)).await.unwrap();
        assert_eq!((changed.low, changed.version), (false, 2));
        assert_eq!(test.deliveries().await.len(), 1, "{kind}");
        test.alerts.change(&test.identity, at, Some(2), &change(200)).await.unwrap();
        assert_eq!(test.deliveries().await.len(), 2, "{kind}");
        let stale = test.alerts.change(&test.identity, at, Some(2), &change(1)).await;
        assert!(
            matches!(
                stale,
                Err(alerts::Error::Identity(identity::Error::VersionMismatch { current: 3 }))
            ),
            "{stale:?}"
        );
        // A wallet that has not begun is not low.
        let org = test.identity.create_org("New", OrgKind::Customer).await.unwrap().id;
        let new = NewAlert {
            currency: "CNY".parse().unwrap(),
            amount: cny(5),
            url: test.receiver.url.clone(),
        };
        test.alerts.create(&test.identity, &org, new).await.unwrap();
        test.watcher().turn().await.unwrap();
        let (filter, page) = (DeliveryFilter::default(), PageRequest::default());
        let none = test.alerts.deliveries(&org, &filter, &page).await.unwrap();
        assert!(none.rows.is_empty(), "{kind}");
    }
}

#[tokio::test]
async fn what_cannot_be_called_or_is_too_much_is_refused() {
    for test in everywhere().await {
        let kind = test.on.kind;
        let create = async |amount: i64, url: &str| {
            let currency = "CNY".parse().unwrap();
            let new = NewAlert { currency, amount: cny(amount), url: url.to_owned() };
            test.alerts.create(&test.identity, &test.org, new).await
        };
        for url in [
            "",
            "hook",
            "ftp://example.com/",
            "http://10.0.0.1/",
            "http://[::1]/",
            "http://169.254.169.254/latest/meta-data",
            "https://user:password@example.com/",
            &format!("https://example.com/{}", "a".repeat(2_000)),
        ] {
            let refused = create(1, url).await;
            assert!(matches!(refused, Err(alerts::Error::Url(_))), "{kind} {url}: {refused:?}");
        }
        assert!(matches!(create(-1, "https://example.com/").await, Err(alerts::Error::Amount)));
        for _ in 0..20 {
            create(1, "https://example.com/").await.unwrap();
        }
        let refused = create(1, "https://example.com/").await;
        assert!(matches!(refused, Err(alerts::Error::TooMany)), "{kind}: {refused:?}");
    }
}
