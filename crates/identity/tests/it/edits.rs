//! Changes at once, changes of what has changed, deletions, and what is written with a change.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use identity::{Change, Changed, Edit, Error, Filter, KeyChange, MemberChange, NewKey, OrgKind};
use store::Statement;

use crate::{everywhere, new_key, page, present};

fn named(name: impl Into<String>) -> Change {
    Change { name: Some(name.into()), disabled: None }
}

#[tokio::test]
async fn of_changes_made_for_one_version_one_counts() {
    for test in everywhere().await {
        let identity = &test.identity;
        let org = identity.create_org("org", OrgKind::Customer).await.unwrap();
        let changes = (0..20).map(|number| {
            let edit = Edit { change: named(number.to_string()), version: Some(1) };
            identity.change_org(&org.id, edit)
        });
        let outcomes = join_all(changes).await;
        let made: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        assert_eq!(made.len(), 1, "{}", test.on.kind);
        assert_eq!((made[0].version, &identity.org(&org.id).await.unwrap()), (2, made[0]));
        for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!(matches!(refused, Error::VersionMismatch { current: 2 }), "{refused:?}");
        }
    }
}

#[tokio::test]
async fn changes_at_once_do_not_undo_each_other() {
    for test in everywhere().await {
        let identity = &test.identity;
        let org = identity.create_org("org", OrgKind::Customer).await.unwrap();
        let key = identity.create_key(new_key(&org.id)).await.unwrap();
        let all = [
            KeyChange { name: Some("new".into()), ..Default::default() },
            KeyChange { scopes: Some(vec!["chat".into()]), ..Default::default() },
            KeyChange { models: Some(vec!["m".into()]), ..Default::default() },
            KeyChange {
                allowed_ips: Some(vec!["10.0.0.1".parse().unwrap()]),
                ..Default::default()
            },
            KeyChange { roles: Some(vec!["customer.admin".into()]), ..Default::default() },
        ];
        let changes = all.map(|change| identity.change_key(&key.id, Edit::from(change)));
        for outcome in join_all(changes).await {
            outcome.unwrap();
        }
        let now = identity.key(&key.id).await.unwrap();
        let limits =
            [now.limits.scopes.len(), now.limits.models.len(), now.limits.allowed_ips.len()];
        assert_eq!(
            (now.name.as_str(), limits, now.roles.len()),
            ("new", [1; 3], 1),
            "{}",
            test.on.kind
        );
        assert_eq!(now.version, 6, "{}", test.on.kind);
    }
}

#[tokio::test]
async fn what_is_deleted_stops_is_gone_and_is_kept() {
    for test in everywhere().await {
        let (identity, kind) = (&test.identity, test.on.kind);
        let org = identity.create_org("org", OrgKind::Customer).await.unwrap();
        let user = identity.create_user(&org.id, "user").await.unwrap();
        let new = NewKey { user_id: Some(user.id.clone()), ..new_key(&org.id) };
        let key = identity.create_key(new.clone()).await.unwrap();
        let other = identity.create_key(new_key(&org.id)).await.unwrap();
        assert_eq!(present(identity, &key).await, "ok");
        let late = identity.delete_user(&user.id, Some(7)).await;
        assert!(matches!(late, Err(Error::VersionMismatch { current: 1 })), "{late:?}");
        let gone = identity.delete_user(&user.id, Some(1)).await.unwrap();
        assert!(gone.disabled && gone.deleted_at.is_some());
        assert_eq!(
            (present(identity, &key).await, present(identity, &other).await),
            ("disabled", "ok")
        );
        identity.delete_key(&other.id, None).await.unwrap();
        assert_eq!(present(identity, &other).await, "disabled", "{kind}");
        let on = Change { name: None, disabled: Some(false) };
        let refusals = [
            identity.change_user(&user.id, on.clone()).await.err(),
            identity.delete_user(&user.id, None).await.err(),
            identity.user(&user.id).await.err(),
            identity.change_key(&other.id, on).await.err(),
            identity.create_key(new).await.err(),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, Some(Error::NotFound { .. })), "{kind}: {refusal:?}");
        }
        assert!(identity.list_users(&org.id, &page(9)).await.unwrap().rows.is_empty());
        let deleted = Filter { deleted: true, ..Filter::of(&org.id) };
        assert_eq!(identity.find_users(&deleted, &page(9)).await.unwrap().rows, [gone], "{kind}");
    }
}

#[tokio::test]
async fn lists_are_narrowed() {
    for test in everywhere().await {
        let identity = &test.identity;
        let org = identity.create_org("org %", OrgKind::Provider).await.unwrap();
        let (one, two) = (
            identity.create_user(&org.id, "Ann").await.unwrap(),
            identity.create_user(&org.id, "Joann").await.unwrap(),
        );
        let edit = MemberChange {
            roles: Some(vec!["provider.admin".into()]),
            disabled: Some(true),
            name: None,
        };
        let two = identity.change_user(&two.id, Edit::from(edit)).await.unwrap();
        let of_one = NewKey { user_id: Some(one.id.clone()), ..new_key(&org.id) };
        let key = identity.create_key(of_one).await.unwrap();
        identity.create_key(new_key(&org.id)).await.unwrap();
        let ids = async |filter: Filter| -> Vec<String> {
            let found = identity.find_users(&filter, &page(9)).await.unwrap();
            found.rows.iter().map(|user| user.id.to_string()).collect()
        };
        let both = vec![one.id.to_string(), two.id.to_string()];
        assert_eq!(ids(Filter { name: Some("nn".into()), ..Filter::default() }).await, both);
        assert_eq!(
            ids(Filter { name: Some("Joa".into()), ..Filter::of(&org.id) }).await,
            both[1..]
        );
        assert_eq!(ids(Filter { disabled: Some(false), ..Filter::default() }).await, both[..1]);
        assert_eq!(
            ids(Filter { role: Some("provider.admin".into()), ..Filter::default() }).await,
            both[1..]
        );
        assert!(
            ids(Filter { role: Some("provider.adm".into()), ..Filter::default() }).await.is_empty()
        );
        assert!(ids(Filter { name: Some("%".into()), ..Filter::default() }).await.is_empty());
        let filter = Filter { user_id: Some(one.id), ..Filter::default() };
        let keys = identity.find_keys(&filter, &page(9)).await.unwrap().rows;
        assert_eq!(
            keys.iter().map(|key| &key.id).collect::<Vec<_>>(),
            [&key.id],
            "{}",
            test.on.kind
        );
        let filter = Filter { kind: Some(OrgKind::Provider), ..Filter::default() };
        assert_eq!(identity.find_orgs(&filter, &page(9)).await.unwrap().rows, [org]);
    }
}

#[tokio::test]
async fn a_change_and_what_is_written_with_it_are_one() {
    for test in everywhere().await {
        let seen: Arc<Mutex<Vec<Changed>>> = Arc::default();
        let note = Arc::clone(&seen);
        let watched = test.identity.witnessed(None, move |changes| {
            note.lock().unwrap().extend_from_slice(changes);
            Vec::new()
        });
        let org = watched.create_org("org", OrgKind::Customer).await.unwrap();
        watched.change_org(&org.id, named("other")).await.unwrap();
        watched.change_org(&org.id, named("other")).await.unwrap();
        let key = watched.create_key(new_key(&org.id)).await.unwrap();
        watched.rotate_key(&key.id, identity::Rotation::default()).await.unwrap();
        let told: Vec<_> = {
            let seen = seen.lock().unwrap();
            let text = serde_json::to_string(&*seen).unwrap();
            assert!(!text.contains(key.api_key.expose()), "a secret is written down");
            let change = &seen[1];
            assert_eq!(change.before.as_ref().unwrap()["name"], "org");
            assert_eq!(change.after.as_ref().unwrap()["name"], "other");
            seen.iter().map(|change| format!("{}.{}", change.what, change.verb)).collect()
        };
        assert_eq!(told, ["org.create", "org.change", "key.create", "key.rotate", "key.create"]);

        let failing = test.identity.witnessed(None, |_changes| {
            vec![Statement::new("INSERT INTO nowhere (x) VALUES (1)", vec![])]
        });
        assert!(failing.create_org("lost", OrgKind::Customer).await.is_err());
        assert!(failing.change_org(&org.id, named("lost")).await.is_err());
        assert!(failing.delete_key(&key.id, None).await.is_err());
        let filter = Filter { name: Some("lost".into()), ..Filter::default() };
        assert!(test.identity.find_orgs(&filter, &page(9)).await.unwrap().rows.is_empty());
        assert_eq!(present(&test.identity, &key).await, "ok", "{}", test.on.kind);
    }
}

#[tokio::test]
async fn a_seeded_key_can_be_given_again_and_no_other_can() {
    for test in everywhere().await {
        let org = test.identity.create_org("org", OrgKind::Customer).await.unwrap();
        let seeded = test.identity.witnessed(Some("seed".into()), |_changes| Vec::new());
        let key = seeded.create_key(new_key(&org.id)).await.unwrap();
        assert_eq!(present(&test.identity, &key).await, "ok");
        let again = test.identity.derived_key("seed", &key.id);
        assert_eq!(again.expose(), key.api_key.expose());
        assert_ne!(test.identity.derived_key("other", &key.id).expose(), key.api_key.expose());
        let plain = test.identity.create_key(new_key(&org.id)).await.unwrap();
        assert_ne!(test.identity.derived_key("seed", &plain.id).expose(), plain.api_key.expose());
    }
}
