//! Versions, activations, terms: what counts when and for whom.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock as _, OrgId, PageRequest};
use metering::{Error, PriceBookError, Terms, VersionState};

use crate::{Test, at, everywhere, metering, read, version};

fn file(price: u64) -> String {
    let rates = format!("input_per_million: '{price}000000', output_per_million: '0'");
    format!("currency: CNY\nrules: [{{model: m, rates: {{{rates}}}}}]")
}

async fn recorded(test: &Test, price: u64) -> String {
    let prices = test.metering.prices();
    let now = test.clock.now();
    let (record, _) =
        prices.create_version(&version(&file(price)), None, now, vec![]).await.unwrap();
    record.version.id().to_string()
}

fn refusal(error: Error) -> PriceBookError {
    match error {
        Error::PriceBook(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_version_counts_from_its_start_until_the_next_one_does() {
    for test in everywhere().await {
        let prices = test.metering.prices().clone();
        let (five, seven) = (recorded(&test, 5).await, recorded(&test, 7).await);
        assert_eq!(test.quoted(), "1", "the configuration's");
        assert_eq!(prices.state(&five, test.clock.now()), VersionState::Draft);
        let now = test.clock.now();
        let (one, two) = (at("2026-01-01T10:00:00Z"), at("2026-01-01T11:00:00Z"));
        prices.activate(Some(&five), Some(one), None, now, |_| vec![]).await.unwrap();
        prices.activate(Some(&seven), Some(two), None, now, |_| vec![]).await.unwrap();
        assert_eq!(prices.state(&five, now), VersionState::Scheduled);
        for (time, price, state) in [
            ("2026-01-01T09:59:59.999999Z", "1", VersionState::Scheduled),
            ("2026-01-01T10:00:00Z", "5", VersionState::InForce),
            ("2026-01-01T10:59:59.999999Z", "5", VersionState::InForce),
            ("2026-01-01T11:00:00Z", "7", VersionState::Past),
            // The clock steps back: a call's price follows the time that its record names.
            ("2026-01-01T10:59:59Z", "5", VersionState::InForce),
        ] {
            test.clock.set(at(time));
            assert_eq!(test.quoted(), price, "{}: {time}", test.on.kind);
            assert_eq!(prices.state(&five, test.clock.now()), state, "{time}");
        }
        prices.activate(None, None, None, test.clock.now(), |_| vec![]).await.unwrap();
        assert_eq!(test.quoted(), "1", "back to the configuration's");
    }
}

#[tokio::test]
async fn at_once_means_before_all_others_also_after_the_clock_has_stepped_back() {
    for test in everywhere().await {
        let (five, seven) = (recorded(&test, 5).await, recorded(&test, 7).await);
        let prices = test.metering.prices();
        prices.activate(Some(&five), None, None, test.clock.now(), |_| vec![]).await.unwrap();
        let before = test.clock.now();
        test.clock.set(kernel::Timestamp::from_micros(before.micros() - 3_000_000));
        prices.activate(Some(&seven), None, None, test.clock.now(), |_| vec![]).await.unwrap();
        test.clock.set(before);
        assert_eq!(test.quoted(), "7", "{}", test.on.kind);
    }
}

#[tokio::test]
async fn what_has_been_stays_and_what_is_to_come_can_be_cancelled() {
    for test in everywhere().await {
        let prices = test.metering.prices();
        let five = recorded(&test, 5).await;
        let now = test.clock.now();
        let past = kernel::Timestamp::from_micros(now.micros() - 1);
        let refused =
            prices.activate(Some(&five), Some(past), None, now, |_| vec![]).await.unwrap_err();
        assert_eq!(refusal(refused), PriceBookError::StartsInThePast);
        let unknown =
            prices.activate(Some("nothing"), None, None, now, |_| vec![]).await.unwrap_err();
        assert_eq!(refusal(unknown), PriceBookError::UnknownVersion("nothing".to_owned()));
        let later = now.after(Duration::from_mins(1));
        let waiting =
            prices.activate(Some(&five), Some(later), None, now, |_| vec![]).await.unwrap();
        let cancelled = prices.cancel(waiting.revision, now, |_| vec![]).await.unwrap();
        assert_eq!(cancelled.cancelled_at, Some(now));
        let again = prices.cancel(waiting.revision, now, |_| vec![]).await.unwrap_err();
        assert_eq!(refusal(again), PriceBookError::NotWaiting(waiting.revision));
        test.clock.advance(Duration::from_secs(61));
        assert_eq!(test.quoted(), "1", "{}", test.on.kind);
        let begun =
            prices.activate(Some(&five), None, None, test.clock.now(), |_| vec![]).await.unwrap();
        let late = prices.cancel(begun.revision, test.clock.now(), |_| vec![]).await.unwrap_err();
        assert_eq!(refusal(late), PriceBookError::NotWaiting(begun.revision));
        let listed = prices.list_activations(&PageRequest::default()).await.unwrap();
        let revisions: Vec<i64> = listed.rows.iter().map(|row| row.revision).collect();
        assert_eq!(revisions, [begun.revision, waiting.revision], "{}", test.on.kind);
    }
}

#[tokio::test]
async fn another_instance_follows_and_a_restart_finds_the_same() {
    for test in everywhere().await {
        let clock: kernel::SharedClock = Arc::new(test.clock.clone());
        let other = metering(&test.on, test.journal.clone(), Arc::clone(&clock)).await;
        let price = |metering: &metering::Metering| {
            let org = OrgId::from("anybody");
            let (quote, _) = metering.prices().quote("m", &org, None, test.clock.now()).unwrap();
            quote.charge(&read(1)).unwrap().to_string()
        };
        let following = tokio::spawn(other.prices().clone().keep_fresh());
        test.activate(&file(9)).await;
        tokio::time::timeout(Duration::from_secs(5), async {
            while price(&other) != "9" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the other instance follows");
        following.abort();
        let restarted = metering(&test.on, test.journal.clone(), clock).await;
        assert_eq!(price(&restarted), "9", "{}", test.on.kind);
    }
}

#[tokio::test]
async fn changes_made_at_the_same_time_all_count_in_some_order() {
    for test in everywhere().await {
        let mut ids = Vec::new();
        for price in 1..=4 {
            ids.push(recorded(&test, price).await);
        }
        let activating = ids.iter().map(|id| {
            let (prices, id, now) = (test.metering.prices().clone(), id.clone(), test.clock.now());
            tokio::spawn(
                async move { prices.activate(Some(&id), None, None, now, |_| vec![]).await },
            )
        });
        let mut revisions = Vec::new();
        for activated in activating.collect::<Vec<_>>() {
            revisions.push(activated.await.unwrap().unwrap().revision);
        }
        revisions.sort_unstable();
        assert_eq!(revisions, [1, 2, 3, 4], "{}", test.on.kind);
        let last = test.metering.prices().list_activations(&PageRequest::default()).await.unwrap();
        let last = last.rows[0].version_id.clone().unwrap();
        let in_force = test.metering.prices().state(&last, test.clock.now());
        assert_eq!(in_force, VersionState::InForce, "{}", test.on.kind);
    }
}

#[tokio::test]
async fn the_configuration_prices_what_the_version_in_force_does_not_name() {
    for test in everywhere().await {
        let other = file(3).replace("model: m", "model: another");
        test.activate(&other).await;
        assert_eq!(test.quoted(), "1");
        let models = test.metering.prices().models(test.clock.now());
        assert_eq!(models, ["another", "m"].map(Arc::<str>::from), "{}", test.on.kind);
        let gold = file(3).replace("model: m", "model: m, plan: gold");
        test.activate(&gold).await;
        let org = OrgId::from("anybody");
        let refused = test.metering.prices().quote("m", &org, None, test.clock.now()).unwrap_err();
        assert!(matches!(refused, Error::Unpriced(model) if model == "m"), "{}", test.on.kind);
    }
}

#[tokio::test]
async fn versions_are_recorded_once_and_listed_last_first() {
    for test in everywhere().await {
        let prices = test.metering.prices();
        let mut expected = Vec::new();
        for price in 1..=5 {
            test.clock.advance(Duration::from_secs(1));
            expected.insert(0, recorded(&test, price).await);
        }
        let (_, new) = prices
            .create_version(&version(&file(3)), None, test.clock.now(), vec![])
            .await
            .unwrap();
        assert!(!new);
        let mut page = PageRequest { limit: Some(2), cursor: None };
        let mut ids = Vec::new();
        loop {
            let listed = prices.list_versions(&page).await.unwrap();
            ids.extend(listed.rows.iter().map(|row| row.version.id().to_string()));
            let Some(next) = listed.next else { break };
            page.cursor = Some(next);
        }
        assert_eq!(ids[..5], expected, "{}", test.on.kind);
        assert_eq!(ids.len(), 6, "and the configuration's");
        assert_eq!(prices.state(&ids[5], test.clock.now()), VersionState::Configured);
    }
}

#[tokio::test]
async fn terms_choose_the_rules_that_count() {
    let text = "currency: CNY\nrules:\n\
        - {model: m, rates: {input_per_million: '1000000', output_per_million: '0'}}\n\
        - {model: m, plan: gold, percent: '50'}\n\
        - {model: m, distributor: d, percent: '120'}\n\
        - {model: m, customer: vip, percent: '10'}\n";
    for test in everywhere().await {
        test.activate(text).await;
        let terms = |distributor: Option<&str>, plan: Option<&str>| Terms {
            distributor_id: distributor.map(str::to_owned),
            plan: plan.map(str::to_owned),
        };
        let prices = test.metering.prices();
        for (org, given, cost) in [
            ("a", None, "100"),
            ("b", Some(terms(None, Some("gold"))), "50"),
            ("c", Some(terms(Some("d"), Some("gold"))), "60"),
            ("vip", Some(terms(Some("d"), None)), "12"),
        ] {
            if let Some(terms) = &given {
                let org = OrgId::from(org);
                prices.set_terms(&org, terms, None, test.clock.now(), vec![]).await.unwrap();
                assert_eq!(prices.terms(&org).await.unwrap(), *terms);
            }
            assert_eq!(test.cost(org, read(100)).await, cost, "{}: {org}", test.on.kind);
        }
        test.verify().await;
    }
}
