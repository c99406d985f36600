//! Keys: secret, expiry, rotation, last use.

use std::time::Duration;

use identity::{
    Change, CreatedKey, Error, Identity, Key, NewKey, OrgKind, PLATFORM, Role, Rotation,
};
use kernel::{Clock as _, OrgId, Timestamp};

use crate::{everywhere, new_key, page, present};

const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const DISABLE: Change = Change { name: None, disabled: Some(true) };

async fn shown(identity: &Identity, org_id: &OrgId, key: &CreatedKey) -> Key {
    let listed = identity.list_keys(org_id, &page(100)).await.unwrap().rows;
    listed.into_iter().find(|row| row.id == key.id).unwrap()
}

#[tokio::test]
async fn a_keys_secret_is_nowhere_but_in_the_answer() {
    for test in everywhere().await {
        let key = test.identity.create_key(new_key(&PLATFORM.into())).await.unwrap();
        let api_key = key.api_key.expose();
        assert!(!format!("{key:?} {:?}", test.identity).contains(api_key));
        let listed = shown(&test.identity, &PLATFORM.into(), &key).await;
        let (prefix, secret) = api_key.split_at(13);
        assert_eq!(format!("{}_", listed.prefix), prefix);
        assert!(!serde_json::to_string(&listed).unwrap().contains(secret));
        let rows = test.on.database.query("SELECT * FROM identity_keys", &[]).await.unwrap();
        assert_eq!(rows.len(), 1);
        for value in rows[0].values() {
            let stored = match value {
                store::Value::Text(text) => text.as_bytes(),
                store::Value::Bytes(bytes) => bytes,
                store::Value::Int(_) | store::Value::Null => continue,
            };
            let mut parts = secret.as_bytes().windows(8);
            assert!(!parts.any(|part| stored.windows(8).any(|other| part == other)));
        }
    }
}

#[tokio::test]
async fn only_the_whole_key_is_known() {
    for test in everywhere().await {
        let identity = &test.identity;
        let key = identity.create_key(new_key(&PLATFORM.into())).await.unwrap();
        let api_key = key.api_key.expose();
        let (start, last) = api_key.split_at(api_key.len() - 1);
        let other = format!("{start}{}", if last == "A" { "B" } else { "A" });
        let longer = format!("{api_key} ");
        for wrong in ["", "llk_", start, &other, &longer, &"x".repeat(1 << 20)] {
            let refused = identity.authenticate(wrong).await;
            assert!(matches!(refused, Err(Error::UnknownKey)), "{}: {refused:?}", test.on.kind);
        }
        assert_eq!(present(identity, &key).await, "ok");
    }
}

#[tokio::test]
async fn a_key_ends_at_its_time_also_while_it_is_known() {
    for test in everywhere().await {
        let identity = &test.identity;
        let ends = test.clock.now().after(MINUTE);
        let new = NewKey { expires_at: Some(ends), ..new_key(&PLATFORM.into()) };
        let key = identity.create_key(new).await.unwrap();
        test.clock.set(Timestamp::from_micros(ends.micros() - 1));
        assert_eq!(present(identity, &key).await, "ok", "{}", test.on.kind);
        test.clock.set(ends);
        assert_eq!(present(identity, &key).await, "expired", "{}", test.on.kind);
    }
}

#[tokio::test]
async fn a_key_belongs_to_members_of_its_own_organization() {
    for test in everywhere().await {
        let identity = &test.identity;
        let mine = identity.create_org("mine", OrgKind::Customer).await.unwrap();
        let other = identity.create_org("other", OrgKind::Customer).await.unwrap();
        let user = identity.create_user(&other.id, "user").await.unwrap();
        let app = identity.create_app(&other.id, "app").await.unwrap();
        let of_user = NewKey { user_id: Some(user.id), ..new_key(&mine.id) };
        let of_app = NewKey { app_id: Some(app.id), ..new_key(&mine.id) };
        for new in [of_user, of_app] {
            let refused = identity.create_key(new).await;
            assert!(matches!(refused, Err(Error::NotFound { .. })), "{}", test.on.kind);
        }
        assert!(identity.list_keys(&mine.id, &page(9)).await.unwrap().rows.is_empty());
    }
}

#[tokio::test]
async fn a_rotated_key_and_its_successor_overlap() {
    for test in everywhere().await {
        let (identity, kind) = (&test.identity, test.on.kind);
        let org = identity.create_org("org", OrgKind::Customer).await.unwrap();
        let old = identity.create_key(new_key(&org.id)).await.unwrap();
        assert_eq!(present(identity, &old).await, "ok", "{kind}");
        let new = identity.rotate_key(&old.id, Rotation::default()).await.unwrap();
        let listed = shown(identity, &org.id, &new).await;
        assert_eq!((listed.name.as_str(), listed.expires_at), ("key", None), "{kind}");
        assert_eq!((present(identity, &old).await, present(identity, &new).await), ("ok", "ok"));
        test.clock.advance(DAY);
        assert_eq!(present(identity, &old).await, "expired", "{kind}");
        assert_eq!(present(identity, &new).await, "ok", "{kind}");

        let at_once = Rotation {
            old_until: Some(test.clock.now()),
            expires_at: Some(test.clock.now().after(DAY)),
        };
        let third = identity.rotate_key(&new.id, at_once).await.unwrap();
        assert_eq!(present(identity, &new).await, "expired", "{kind}");
        assert_eq!(present(identity, &third).await, "ok", "{kind}");
        let ends = shown(identity, &org.id, &third).await.expires_at;
        assert_eq!(ends, at_once.expires_at, "{kind}");
        let later = Rotation { old_until: ends.map(|end| end.after(DAY)), expires_at: None };
        identity.rotate_key(&third.id, later).await.unwrap();
        assert_eq!(shown(identity, &org.id, &third).await.expires_at, ends, "{kind}: not longer");
    }
}

#[tokio::test]
async fn a_key_that_does_not_work_has_no_successor() {
    for test in everywhere().await {
        let (identity, org) = (&test.identity, PLATFORM.into());
        let past = NewKey { expires_at: Some(test.clock.now()), ..new_key(&org) };
        let expired = identity.create_key(past).await.unwrap();
        let disabled = identity.create_key(new_key(&org)).await.unwrap();
        identity.change_key(&disabled.id, DISABLE).await.unwrap();
        for key in [&expired, &disabled] {
            let refused = identity.rotate_key(&key.id, Rotation::default()).await;
            assert!(matches!(refused, Err(Error::KeyNotActive)), "{}: {refused:?}", test.on.kind);
        }
        assert_eq!(identity.list_keys(&org, &page(9)).await.unwrap().rows.len(), 2);
        let unknown = identity.rotate_key(&"nobody".into(), Rotation::default()).await;
        assert!(matches!(unknown, Err(Error::NotFound { .. })), "{unknown:?}");
    }
}

#[tokio::test]
async fn an_administrator_is_somebody_whose_key_works() {
    for test in everywhere().await {
        let identity = &test.identity;
        assert!(!identity.has_admin_key().await.unwrap());
        identity.create_key(new_key(&PLATFORM.into())).await.unwrap();
        assert!(!identity.has_admin_key().await.unwrap(), "a member's key is no administrator's");
        let ends = Some(test.clock.now().after(DAY));
        let admin = NewKey { role: Role::Admin, expires_at: ends, ..new_key(&PLATFORM.into()) };
        let first = identity.create_key(admin.clone()).await.unwrap();
        assert!(identity.has_admin_key().await.unwrap());
        identity.change_key(&first.id, DISABLE).await.unwrap();
        assert!(!identity.has_admin_key().await.unwrap());
        identity.create_key(admin).await.unwrap();
        assert!(identity.has_admin_key().await.unwrap());
        test.clock.advance(DAY);
        assert!(!identity.has_admin_key().await.unwrap(), "{}", test.on.kind);
    }
}

#[tokio::test]
async fn the_last_use_is_written_and_a_refused_one_is_none() {
    for test in everywhere().await {
        let (identity, org, kind) = (&test.identity, PLATFORM.into(), test.on.kind);
        let key = identity.create_key(new_key(&org)).await.unwrap();
        let idle = identity.create_key(new_key(&org)).await.unwrap();
        assert_eq!(present(identity, &key).await, "ok");
        identity.change_key(&idle.id, DISABLE).await.unwrap();
        assert_eq!(present(identity, &idle).await, "disabled");
        assert_eq!(shown(identity, &org, &key).await.last_used_at, None, "{kind}: lazily");
        let first = test.clock.now();
        identity.record_uses().await.unwrap();
        assert_eq!(shown(identity, &org, &key).await.last_used_at, Some(first), "{kind}");
        assert_eq!(shown(identity, &org, &idle).await.last_used_at, None, "{kind}");
    }
}
