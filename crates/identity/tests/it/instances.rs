//! Several instances on one database.

use std::time::{Duration, Instant};

use identity::{Change, Error, OrgKind, PLATFORM};

use crate::{everywhere, new_key, open, page, present};

#[tokio::test]
async fn another_secret_is_refused() {
    for test in everywhere().await {
        let refused = open(&test.on, &test.clock, 'b').await;
        assert!(matches!(refused, Err(Error::OtherSecret)), "{}", test.on.kind);
        open(&test.on, &test.clock, 'a').await.unwrap();
    }
}

#[tokio::test]
async fn instances_that_start_at_once_agree_on_one_platform() {
    for test in everywhere().await {
        let starting = (0..8).map(|_| open(&test.on, &test.clock, 'a'));
        for started in futures_util::future::join_all(starting).await {
            started.unwrap();
        }
        let orgs = test.identity.list_orgs(&page(9)).await.unwrap().rows;
        assert_eq!(orgs.len(), 1, "{}", test.on.kind);
        assert_eq!((orgs[0].id.as_str(), orgs[0].kind), (PLATFORM, OrgKind::Platform));
    }
}

#[tokio::test]
async fn a_key_disabled_elsewhere_stops_within_a_second() {
    for test in everywhere().await {
        let elsewhere = open(&test.on, &test.clock, 'a').await.unwrap();
        let key = test.identity.create_key(new_key(&PLATFORM.into())).await.unwrap();
        assert_eq!(present(&test.identity, &key).await, "ok");
        let disable = Change { name: None, disabled: Some(true) };
        elsewhere.change_key(&key.id, disable).await.unwrap();
        let disabled_at = Instant::now();
        while present(&test.identity, &key).await == "ok" {
            // The promised second, and as much again for a busy test machine.
            assert!(disabled_at.elapsed() < Duration::from_secs(2), "{}", test.on.kind);
            tokio::task::yield_now().await;
        }
        assert_eq!(present(&test.identity, &key).await, "disabled", "{}", test.on.kind);
    }
}
