//! Who is let in, on every database there is.
#![cfg(test)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use identity::{
    Config, Error, Identity, MIGRATIONS, NewKey, OrgChange, OrgKind, PLATFORM, Role, ServerSecret,
};
use kernel::{Clock as _, OrgId, PageRequest, Secret};
use testkit::{FakeClock, TestDatabase, databases};

fn secret(text: &str) -> ServerSecret {
    let config = Config { secret: Secret::from(text.repeat(32)) };
    ServerSecret::load(&config, Path::new("unused")).unwrap()
}

async fn open(test: &TestDatabase, clock: &FakeClock) -> Identity {
    Identity::open(test.database.clone(), secret("a"), Arc::new(clock.clone())).await.unwrap()
}

fn key(org_id: &OrgId) -> NewKey {
    NewKey {
        org_id: org_id.clone(),
        user_id: None,
        app_id: None,
        name: "test".to_owned(),
        role: Role::Member,
        expires_at: None,
    }
}

#[tokio::test]
async fn a_key_leads_to_its_caller_and_nothing_else_does() {
    for test in databases(MIGRATIONS).await {
        let identity = open(&test, &FakeClock::default()).await;
        let org = identity.create_org("Acme", OrgKind::Customer).await.unwrap();
        let app = identity.create_app(&org.id, "shop").await.unwrap();
        let created = identity
            .create_key(NewKey { app_id: Some(app.id.clone()), ..key(&org.id) })
            .await
            .unwrap();
        let presented = created.api_key.expose();
        let (prefix, rest) = presented.split_at(12);
        let caller = identity.authenticate(presented).await.unwrap();
        assert_eq!(
            (&caller.org_id, &caller.app_id, caller.role),
            (&org.id, &Some(app.id), Role::Member)
        );
        for wrong in [
            "",
            "llk_",
            presented.trim_start_matches('l'),
            &presented.to_lowercase(),
            &format!("{presented} "),
        ] {
            assert!(
                matches!(identity.authenticate(wrong).await, Err(Error::UnknownKey)),
                "{}",
                test.kind
            );
        }
        let stored =
            test.database.query("SELECT prefix, hash, name FROM identity_keys", &[]).await.unwrap();
        assert!(stored.iter().all(|row| !format!("{row:?}").contains(rest)));
        assert_eq!(stored[0].text(0).unwrap(), prefix);
    }
}

#[tokio::test]
async fn what_is_disabled_or_expired_stops_working() {
    for test in databases(MIGRATIONS).await {
        let clock = FakeClock::default();
        let identity = open(&test, &clock).await;
        let org = identity.create_org("Acme", OrgKind::Customer).await.unwrap();
        let expires_at = Some(clock.now().after(Duration::from_mins(1)));
        let created = identity.create_key(NewKey { expires_at, ..key(&org.id) }).await.unwrap();
        let presented = created.api_key.expose();
        identity.authenticate(presented).await.unwrap();
        identity.set_key_disabled(created.id.as_str(), true).await.unwrap();
        assert!(matches!(identity.authenticate(presented).await, Err(Error::DisabledKey)));
        identity.set_key_disabled(created.id.as_str(), false).await.unwrap();
        identity.authenticate(presented).await.unwrap();
        let off = OrgChange { disabled: Some(true), name: None };
        identity.change_org(&org.id, off).await.unwrap();
        assert!(matches!(identity.authenticate(presented).await, Err(Error::DisabledKey)));
        let on = OrgChange { disabled: Some(false), name: Some("Acme 2".to_owned()) };
        assert_eq!(identity.change_org(&org.id, on).await.unwrap().name, "Acme 2");
        clock.advance(Duration::from_mins(1));
        assert!(
            matches!(identity.authenticate(presented).await, Err(Error::ExpiredKey)),
            "{}",
            test.kind
        );
    }
}

#[tokio::test]
async fn another_instance_sees_a_disabled_key_within_a_second() {
    for test in databases(MIGRATIONS).await {
        let clock = FakeClock::default();
        let (one, two) = (open(&test, &clock).await, open(&test, &clock).await);
        let org = one.create_org("Acme", OrgKind::Customer).await.unwrap();
        let created = one.create_key(key(&org.id)).await.unwrap();
        let presented = created.api_key.expose();
        two.authenticate(presented).await.unwrap();
        one.set_key_disabled(created.id.as_str(), true).await.unwrap();
        let begun = std::time::Instant::now();
        while two.authenticate(presented).await.is_ok() {
            assert!(begun.elapsed() < Duration::from_millis(1_200), "{}", test.kind);
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn lists_are_paged_and_members_belong_to_their_organization() {
    for test in databases(MIGRATIONS).await {
        let identity = open(&test, &FakeClock::default()).await;
        let one = identity.create_org("one", OrgKind::Customer).await.unwrap();
        let two = identity.create_org("two", OrgKind::Distributor).await.unwrap();
        for number in 0..5 {
            identity.create_user(&one.id, &format!("user {number}")).await.unwrap();
        }
        let mut page = PageRequest { limit: Some(2), cursor: None };
        let mut names = Vec::new();
        loop {
            let users = identity.list_users(&one.id, &page).await.unwrap();
            names.extend(users.rows.into_iter().map(|user| user.name));
            match users.next {
                Some(next) => page.cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(names, ["user 0", "user 1", "user 2", "user 3", "user 4"], "{}", test.kind);
        assert!(
            identity.list_users(&two.id, &PageRequest::default()).await.unwrap().rows.is_empty()
        );
        let user = identity.create_user(&one.id, "foreign").await.unwrap();
        let foreign = NewKey { user_id: Some(user.id), ..key(&two.id) };
        assert!(matches!(
            identity.create_key(foreign).await,
            Err(Error::NotFound { what: "user", .. })
        ));
        let nowhere = identity.create_key(key(&"nobody".into())).await;
        assert!(matches!(nowhere, Err(Error::NotFound { what: "organization", .. })));
        for name in ["", "   ", &"x".repeat(201)] {
            assert!(matches!(identity.create_org(name, OrgKind::Customer).await, Err(Error::Name)));
        }
    }
}

#[tokio::test]
async fn a_database_of_another_secret_is_refused() {
    for test in databases(MIGRATIONS).await {
        let clock = FakeClock::default();
        let identity = open(&test, &clock).await;
        assert_eq!(identity.org(&PLATFORM.into()).await.unwrap().kind, OrgKind::Platform);
        assert!(!identity.has_admin_key().await.unwrap());
        identity.create_key(NewKey { role: Role::Admin, ..key(&PLATFORM.into()) }).await.unwrap();
        assert!(identity.has_admin_key().await.unwrap());
        let other =
            Identity::open(test.database.clone(), secret("b"), Arc::new(clock.clone())).await;
        assert!(matches!(other, Err(Error::OtherSecret)), "{}", test.kind);
        open(&test, &clock).await;
    }
}
