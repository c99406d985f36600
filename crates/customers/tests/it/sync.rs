//! Following an upstream: whatever goes wrong between, what is kept ends up as the upstream has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use customers::{Entity, Heard, Run, Sync, UpstreamConfig};
use http::StatusCode;
use identity::Change;
use kernel::Secret;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{Test, everywhere};

/// An upstream that answers as a test says.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    /// Id to (time, deleted, name).
    rows: BTreeMap<String, (i64, bool, String)>,
    now: i64,
    down: bool,
    /// How often it was asked for models.
    asked: usize,
}

impl Scripted {
    async fn serve(&self) -> String {
        let router = Router::new().fallback(answer).with_state(self.clone());
        serve(router).await
    }

    fn put(&self, id: &str, at: i64, name: &str) {
        let mut script = self.0.lock();
        script.now = script.now.max(at);
        script.rows.insert(id.to_owned(), (at, false, name.to_owned()));
    }

    fn bury(&self, id: &str, at: i64) {
        let mut script = self.0.lock();
        script.now = script.now.max(at);
        script.rows.insert(id.to_owned(), (at, true, String::new()));
    }

    fn asked(&self) -> usize {
        self.0.lock().asked
    }
}

/// The change feed over the script's rows.
async fn answer(
    State(script): State<Scripted>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let mut script = script.0.lock();
    script.asked += usize::from(query["entity"] == "llmage");
    if script.down {
        return (StatusCode::BAD_GATEWAY, "no upstream").into_response();
    }
    let number = |name: &str| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(0_i64);
    let (since, after) = (number("since"), query.get("after").cloned().unwrap_or_default());
    let full = query.contains_key("full");
    let mut rows: Vec<_> = script.rows.iter().collect();
    if full {
        rows.retain(|(id, (_, deleted, _))| **id > after && !deleted);
    } else {
        rows.sort_by_key(|(id, (at, ..))| (*at, id.as_str()));
        rows.retain(|(id, (at, ..))| (*at, id.as_str()) > (since, after.as_str()));
    }
    let more = rows.len() > 2;
    let row = |(id, (at, deleted, name)): &(&String, &(i64, bool, String))| json!({"id": id, "org_id": "", "updated_at": at, "deleted": deleted, "data": {"name": name}});
    let rows: Vec<Value> = rows.iter().take(2).map(row).collect();
    axum::Json(json!({"status": "ok", "data": {"rows": rows, "more": more, "now": script.now}}))
        .into_response()
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

impl Test {
    fn follow(&self, url: &str, key: &str) -> Sync {
        let config = UpstreamConfig {
            url: url.to_owned(),
            dapi_key: Secret::from(key),
            overlap_seconds: 10,
            page_rows: 3,
            ..UpstreamConfig::default()
        };
        Sync::new(self.customers.clone(), config, Arc::new(self.clock.clone())).unwrap()
    }

    /// What is kept: id and name (or data) of what is not deleted.
    async fn kept(&self, table: &str) -> Vec<String> {
        let sql = format!("SELECT id, data FROM {table} WHERE deleted = 0 ORDER BY id");
        let rows = self.on.database.query(&sql, &[]).await.unwrap();
        let text = |row: &store::Row| {
            let data: Value = serde_json::from_str(row.text(1).unwrap()).unwrap();
            let name = ["name", "username", "orgname", "model"]
                .iter()
                .find_map(|name| data[name].as_str());
            let off = if data["disabled"] == true { " off" } else { "" };
            format!("{} {}{off}", row.text(0).unwrap(), name.unwrap_or_default())
        };
        rows.iter().map(text).collect()
    }

    async fn run(&self, sync: &Sync, run: Run) {
        sync.request(Entity::Llmage, run).await.unwrap();
        sync.turn().await.unwrap();
    }
}

/// How one entity is doing: its word, and its last error.
async fn doing(sync: &Sync) -> (&'static str, String) {
    let all = sync.status().await.unwrap();
    let status = all.into_iter().find(|status| status.entity == Entity::Llmage).unwrap();
    (status.state, status.last_error.unwrap_or_default())
}

const SECOND: i64 = 1_000_000;

#[tokio::test]
async fn what_is_kept_is_what_the_upstream_has() {
    for (upstream, follower) in everywhere().await.into_iter().zip(everywhere().await) {
        for at in 0..7 {
            upstream.identity.create_user(&upstream.org_id, &format!("user {at}")).await.unwrap();
        }
        let url = serve(upstream.router.clone()).await;
        let sync = follower.follow(&url, &upstream.administrator().await);
        sync.turn().await.unwrap();
        let kind = upstream.on.kind;
        assert_eq!(
            follower.kept("users_cache").await.len(),
            9,
            "{kind}: two organizations, seven users"
        );
        assert_eq!(
            follower.kept("pricing_cache").await,
            ["embed embed", "large large", "small small"]
        );
        upstream.clock.advance(Duration::from_secs(100));
        follower.clock.advance(Duration::from_secs(100));
        let new = upstream.identity.create_user(&upstream.org_id, "new").await.unwrap();
        let off = Change { name: Some("renamed".to_owned()), disabled: Some(true) };
        let page = kernel::PageRequest::default();
        let users = upstream.identity.list_users(&upstream.org_id, &page).await.unwrap();
        let changed = users.rows[0].id.clone();
        upstream.identity.change_user(&changed, off).await.unwrap();
        sync.turn().await.unwrap();
        let kept = follower.kept("users_cache").await;
        assert_eq!(kept.len(), 10, "{kind}");
        for expected in [format!("user:{} new", new.id), format!("user:{changed} renamed off")] {
            assert!(kept.contains(&expected), "{kind} {expected} {kept:?}");
        }
        assert!(sync.status().await.unwrap().iter().all(|status| status.state == "current"));
    }
}

#[tokio::test]
async fn late_early_repeated_and_deleted_rows_end_up_right() {
    for test in everywhere().await {
        let script = Scripted::default();
        let sync = test.follow(&script.serve().await, "key");
        for (id, at) in [("a", 100), ("b", 101), ("c", 102), ("d", 103), ("e", 104)] {
            script.put(id, at * SECOND, "first");
        }
        test.run(&sync, Run::Changes).await;
        let kind = test.on.kind;
        assert_eq!(test.kept("llmage_cache").await.len(), 5, "{kind}");
        // Committed late: with an earlier time than what was heard.
        script.put("late", 98 * SECOND, "late");
        script.bury("b", 105 * SECOND);
        script.put("c", 106 * SECOND, "second");
        test.run(&sync, Run::Changes).await;
        let expected = ["a first", "c second", "d first", "e first", "late late"];
        assert_eq!(test.kept("llmage_cache").await, expected, "{kind}");
        // An old answer that comes again changes nothing that is newer.
        script.put("c", 99 * SECOND, "first");
        script.put("b", 99 * SECOND, "first");
        test.run(&sync, Run::Changes).await;
        assert_eq!(test.kept("llmage_cache").await, expected, "{kind}");
        // What no change told is found by asking for everything.
        script.0.lock().rows.remove("a");
        script.put("never told", SECOND, "told");
        test.run(&sync, Run::Changes).await;
        assert_eq!(test.kept("llmage_cache").await, expected, "{kind}");
        test.run(&sync, Run::Everything).await;
        let expected = ["b first", "c first", "d first", "e first", "late late", "never told told"];
        assert_eq!(test.kept("llmage_cache").await, expected, "{kind}");
    }
}

#[tokio::test]
async fn a_failing_upstream_is_asked_more_and_more_seldom_and_goes_on_where_it_was() {
    for test in everywhere().await {
        let script = Scripted::default();
        let sync = test.follow(&script.serve().await, "key");
        test.run(&sync, Run::Changes).await;
        script.0.lock().down = true;
        let mut pauses = Vec::new();
        for _ in 0..4 {
            test.run(&sync, Run::Changes).await;
            let (word, error) = doing(&sync).await;
            assert_eq!(
                (word, error.contains("502")),
                ("failing", true),
                "{} {error}",
                test.on.kind
            );
            let asked = script.asked();
            let mut waited = 0;
            while script.asked() == asked {
                test.clock.advance(Duration::from_secs(10));
                sync.turn().await.unwrap();
                waited += 10;
            }
            pauses.push(waited);
        }
        assert!(pauses.is_sorted() && pauses[3] > 4 * pauses[0], "{} {pauses:?}", test.on.kind);
        script.put("a", 200 * SECOND, "at last");
        script.0.lock().down = false;
        test.run(&sync, Run::Changes).await;
        assert_eq!(doing(&sync).await, ("current", String::new()));
        assert_eq!(test.kept("llmage_cache").await, ["a at last"], "{}", test.on.kind);
    }
}

#[tokio::test]
async fn a_mass_deletion_is_believed_only_when_an_administrator_says_so() {
    for test in everywhere().await {
        let script = Scripted::default();
        let sync = test.follow(&script.serve().await, "key");
        for at in 0..100 {
            script.put(&format!("{at:03}"), (100 + at) * SECOND, "row");
        }
        test.run(&sync, Run::Everything).await;
        assert_eq!(test.kept("llmage_cache").await.len(), 100, "{}", test.on.kind);
        script.0.lock().rows.retain(|id, _| id.as_str() < "020");
        test.run(&sync, Run::Everything).await;
        let (word, error) = doing(&sync).await;
        assert!(word == "failing" && error.contains("80 of 100"), "{} {error}", test.on.kind);
        assert_eq!(test.kept("llmage_cache").await.len(), 100, "{}", test.on.kind);
        test.run(&sync, Run::EvenMassDeletion).await;
        assert_eq!(test.kept("llmage_cache").await.len(), 20, "{}", test.on.kind);
        script.0.lock().rows.retain(|id, _| id.as_str() < "005");
        test.run(&sync, Run::Everything).await;
        assert_eq!(test.kept("llmage_cache").await.len(), 5, "{}: a few may go", test.on.kind);
    }
}

#[tokio::test]
async fn one_instance_follows_until_its_lease_ends() {
    for test in everywhere().await {
        let script = Scripted::default();
        let url = script.serve().await;
        let (one, two) = (test.follow(&url, "key"), test.follow(&url, "key"));
        one.turn().await.unwrap();
        let asked = script.asked();
        assert_eq!(asked, 1, "{}", test.on.kind);
        two.request(Entity::Llmage, Run::Changes).await.unwrap();
        two.turn().await.unwrap();
        assert_eq!(script.asked(), asked, "{}: the other leads", test.on.kind);
        one.turn().await.unwrap();
        assert_eq!(script.asked(), asked + 1, "{}: the leader sees the request", test.on.kind);
        test.clock.advance(Duration::from_secs(100));
        two.turn().await.unwrap();
        assert_eq!(script.asked(), asked + 2, "{}: the leader is gone", test.on.kind);
        let leaders: Vec<_> =
            two.status().await.unwrap().into_iter().map(|status| status.leader).collect();
        assert!(leaders.iter().all(|leader| leader.is_some() && *leader == leaders[0]));
    }
}

/// What is kept of the upstream's descriptions, and a mark of how far they were heard.
async fn descriptions(test: &Test) -> (Vec<String>, Heard) {
    let heard = test.customers.heard(Entity::Uapi).await.unwrap();
    let kept = test.customers.kept(Entity::Uapi).await.unwrap();
    (kept.iter().map(|(id, data)| format!("{id} {data}")).collect(), heard)
}

/// What changes upstream, what is asked for, and what is kept then.
type Step<'a> = (&'a dyn Fn(), Run, &'a [&'a str]);

#[tokio::test]
async fn whatever_changes_what_is_kept_can_be_noticed() {
    for test in everywhere().await {
        let script = Scripted::default();
        let sync = test.follow(&script.serve().await, "key");
        let mut before = descriptions(&test).await;
        assert_eq!(before.0, Vec::<String>::new(), "{}", test.on.kind);
        let steps: [Step<'_>; 5] = [
            (&|| script.put("a", 100 * SECOND, "one"), Run::Changes, &[r#"a {"name":"one"}"#]),
            (&|| script.put("a", 101 * SECOND, "two"), Run::Changes, &[r#"a {"name":"two"}"#]),
            // An upstream whose time stands still tells of no change, and yet of everything.
            (
                &|| script.put("a", 101 * SECOND, "three"),
                Run::Everything,
                &[r#"a {"name":"three"}"#],
            ),
            (&|| script.bury("a", 102 * SECOND), Run::Changes, &[]),
            (&|| script.put("b", 103 * SECOND, "b"), Run::Changes, &[r#"b {"name":"b"}"#]),
        ];
        for (change, run, expected) in steps {
            assert_eq!(descriptions(&test).await, before, "{}: nothing was heard", test.on.kind);
            change();
            test.clock.advance(Duration::from_secs(1));
            sync.request(Entity::Uapi, run).await.unwrap();
            sync.turn().await.unwrap();
            let now = descriptions(&test).await;
            assert_eq!(now.0, expected, "{}", test.on.kind);
            assert_ne!(now.1, before.1, "{}: it can be noticed", test.on.kind);
            before = now;
        }
        script.0.lock().rows.clear();
        test.clock.advance(Duration::from_secs(1));
        sync.request(Entity::Uapi, Run::Everything).await.unwrap();
        sync.turn().await.unwrap();
        let (kept, heard) = descriptions(&test).await;
        assert!(kept.is_empty() && heard != before.1, "{}: nothing told of it", test.on.kind);
    }
}

#[tokio::test]
async fn without_an_upstream_nothing_is_asked() {
    let test = everywhere().await.swap_remove(0);
    let config = UpstreamConfig::default();
    let sync = Sync::new(test.customers.clone(), config, Arc::new(test.clock.clone())).unwrap();
    sync.turn().await.unwrap();
    assert!(sync.request(Entity::Users, Run::Changes).await.is_err());
    assert_eq!(doing(&sync).await.0, "off");
    let refused = test.get_as(&test.administrator().await, "/changes?entity=nothing").await;
    assert_eq!(refused.refusal(), (400, "invalid_query"));
}
