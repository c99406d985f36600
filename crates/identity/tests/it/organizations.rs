//! Organizations, users and applications.

use std::slice::from_ref;

use identity::{Change, Error, OrgKind, PLATFORM};
use kernel::PageRequest;

use crate::{everywhere, new_key, page, present};

fn renamed(name: &str) -> Change {
    Change { name: Some(name.to_owned()), disabled: None }
}

fn switched(disabled: bool) -> Change {
    Change { name: None, disabled: Some(disabled) }
}

#[tokio::test]
async fn what_is_created_is_found_listed_and_changed() {
    for test in everywhere().await {
        let (identity, kind) = (&test.identity, test.on.kind);
        let org = identity.create_org("  东方 Büro 🙂 ", OrgKind::Distributor).await.unwrap();
        assert_eq!((org.name.as_str(), org.disabled), ("东方 Büro 🙂", false), "{kind}");
        assert_eq!(identity.org(&org.id).await.unwrap(), org, "{kind}");
        let user = identity.create_user(&org.id, "用户").await.unwrap();
        let app = identity.create_app(&org.id, "app").await.unwrap();
        assert_eq!(identity.list_users(&org.id, &page(9)).await.unwrap().rows, from_ref(&user));
        assert_eq!(identity.list_apps(&org.id, &page(9)).await.unwrap().rows, from_ref(&app));
        let other = identity.create_org("other", OrgKind::Customer).await.unwrap();
        assert!(identity.list_users(&other.id, &page(9)).await.unwrap().rows.is_empty(), "{kind}");
        assert!(identity.list_apps(&other.id, &page(9)).await.unwrap().rows.is_empty(), "{kind}");

        let changed = identity.change_org(&org.id, renamed("新名字")).await.unwrap();
        assert_eq!((changed.name.as_str(), changed.disabled), ("新名字", false), "{kind}");
        let changed = identity.change_org(&org.id, switched(true)).await.unwrap();
        assert_eq!((changed.name.as_str(), changed.disabled), ("新名字", true), "{kind}");
        let changed = identity.change_user(&user.id, switched(true)).await.unwrap();
        assert_eq!((changed.name.as_str(), changed.disabled), ("用户", true), "{kind}");
        let changed = identity.change_app(&app.id, renamed("other")).await.unwrap();
        assert_eq!((changed.name.as_str(), changed.disabled), ("other", false), "{kind}");
        let unchanged = identity.change_app(&app.id, Change::default()).await.unwrap();
        assert_eq!(unchanged, changed, "{kind}");
    }
}

#[tokio::test]
async fn names_have_1_to_200_characters() {
    for test in everywhere().await {
        let identity = &test.identity;
        let longest = "界".repeat(200);
        let org = identity.create_org(&longest, OrgKind::Customer).await.unwrap();
        assert_eq!(identity.org(&org.id).await.unwrap().name, longest, "{}", test.on.kind);
        for name in ["", " \t", &"x".repeat(201)] {
            let refusals = [
                identity.create_org(name, OrgKind::Customer).await.err(),
                identity.change_org(&org.id, renamed(name)).await.err(),
                identity.create_user(&org.id, name).await.err(),
                identity.create_app(&org.id, name).await.err(),
            ];
            for refusal in refusals {
                assert!(matches!(refusal, Some(Error::Name)), "{name:?}: {refusal:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_does_not_exist_is_said_to() {
    for test in everywhere().await {
        let identity = &test.identity;
        let long = "x".repeat(10_000);
        let refusals = [
            identity.org(&"nobody".into()).await.err(),
            identity.change_org(&"nobody".into(), Change::default()).await.err(),
            identity.create_user(&"nobody".into(), "u").await.err(),
            identity.list_apps(&"nobody".into(), &page(1)).await.err(),
            identity.change_user(&"nobody".into(), Change::default()).await.err(),
            identity.change_app(&"nobody".into(), Change::default()).await.err(),
            identity.create_key(new_key(&"nobody".into())).await.err(),
            identity.change_key(&long.as_str().into(), Change::default()).await.err(),
        ];
        for refusal in refusals {
            let Some(Error::NotFound { id, .. }) = refusal else {
                panic!("{}: {refusal:?}", test.on.kind);
            };
            assert!(id == "nobody" || id == "x".repeat(64), "{id}");
        }
    }
}

#[tokio::test]
async fn a_list_gives_every_row_once_over_its_pages() {
    for test in everywhere().await {
        let identity = &test.identity;
        for n in 0..7 {
            identity.create_org(&n.to_string(), OrgKind::Customer).await.unwrap();
        }
        let (mut names, mut request) = (Vec::new(), page(3));
        loop {
            let page = identity.list_orgs(&request).await.unwrap();
            names.extend(page.rows.into_iter().map(|org| org.name));
            let Some(next) = page.next else { break };
            request = PageRequest { cursor: Some(next), ..request };
        }
        names.sort_unstable();
        assert_eq!(names, ["0", "1", "2", "3", "4", "5", "6", PLATFORM], "{}", test.on.kind);
    }
}

#[tokio::test]
async fn the_platform_stays() {
    for test in everywhere().await {
        let identity = &test.identity;
        let refused = identity.change_org(&PLATFORM.into(), switched(true)).await;
        assert!(matches!(refused, Err(Error::PlatformOrg)), "{}: {refused:?}", test.on.kind);
        let key = identity.create_key(new_key(&PLATFORM.into())).await.unwrap();
        assert_eq!(present(identity, &key).await, "ok");
        let renamed = identity.change_org(&PLATFORM.into(), renamed("Us")).await.unwrap();
        assert_eq!(renamed.name, "Us");
    }
}

#[tokio::test]
async fn keys_stop_with_whatever_they_belong_to() {
    for test in everywhere().await {
        let (identity, kind) = (&test.identity, test.on.kind);
        let org = identity.create_org("org", OrgKind::Customer).await.unwrap();
        let user = identity.create_user(&org.id, "user").await.unwrap();
        let app = identity.create_app(&org.id, "app").await.unwrap();
        let mut new = new_key(&org.id);
        (new.user_id, new.app_id) = (Some(user.id.clone()), Some(app.id.clone()));
        let key = identity.create_key(new).await.unwrap();
        let caller = identity.authenticate(key.api_key.expose()).await.unwrap();
        assert_eq!(caller.user_id, Some(user.id.clone()), "{kind}");
        assert_eq!(caller.app_id, Some(app.id.clone()), "{kind}");
        assert_eq!((&caller.org_id, &caller.key_id), (&org.id, &Some(key.id.clone())), "{kind}");
        for (disabled, wanted) in [(true, "disabled"), (false, "ok")] {
            identity.change_org(&org.id, switched(disabled)).await.unwrap();
            assert_eq!(present(identity, &key).await, wanted, "{kind}: organization");
        }
        for (disabled, wanted) in [(true, "disabled"), (false, "ok")] {
            identity.change_user(&user.id, switched(disabled)).await.unwrap();
            assert_eq!(present(identity, &key).await, wanted, "{kind}: user");
        }
        for (disabled, wanted) in [(true, "disabled"), (false, "ok")] {
            identity.change_app(&app.id, switched(disabled)).await.unwrap();
            assert_eq!(present(identity, &key).await, wanted, "{kind}: application");
        }
        for (disabled, wanted) in [(true, "disabled"), (false, "ok")] {
            identity.change_key(&key.id, switched(disabled)).await.unwrap();
            assert_eq!(present(identity, &key).await, wanted, "{kind}: key");
        }
    }
}
