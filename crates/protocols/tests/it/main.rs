//! Threads, runs, tasks and tools on every database there is.
#![cfg(test)]

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use flow::{Config, Engine, ModelCaller};
use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use identity::{Identity, NewKey, OrgKind, Role, ServerSecret};
use kernel::{Secret, SharedClock};
use ledger::Journal;
use models::Models;
use protocols::Protocols;
use serde_json::{Value, json};
use testkit::{FakeClock, TestDatabase, databases};
use tower::ServiceExt as _;

const ASK: &str = r#"
name: ask
description: Asks, and counts.
state: {n: {type: int, reducer: add, default: 0}, said: {type: list, reducer: extend}}
nodes:
  begin: {type: transform, config: {set: {n: 1}}}
  ask: {type: wait, config: {message: "n is {{ n }}?", schema: {type: boolean}, output: sure}}
  finish: {type: transform, config: {set: {said: "= [sure]"}}}
edges: [{from: begin, to: ask}, {from: ask, to: finish}]
"#;

/// The surface over one fresh database, and a customer's key.
struct Test {
    router: Router,
    engine: Engine,
    identity: Identity,
    journal: Journal,
    working: tokio::task::JoinHandle<()>,
    key: String,
    on: TestDatabase,
}

async fn everywhere() -> Vec<Test> {
    let migrations = [
        identity::MIGRATIONS,
        ledger::MIGRATIONS,
        metering::MIGRATIONS,
        flow::MIGRATIONS,
        protocols::MIGRATIONS,
    ];
    let mut all = Vec::new();
    for on in databases(&migrations.concat()).await {
        all.push(start(on).await);
    }
    all
}

async fn key(identity: &Identity, name: &str) -> String {
    let org = identity.create_org(name, OrgKind::Customer).await.unwrap();
    let key = identity.create_key(NewKey::new(org.id, "test", Role::Member)).await.unwrap();
    key.api_key.expose().to_owned()
}

async fn start(on: TestDatabase) -> Test {
    let clock: SharedClock = Arc::new(FakeClock::default());
    let config = identity::Config { secret: Secret::from("a".repeat(32)) };
    let secret = ServerSecret::load(&config, Path::new("unused")).unwrap();
    let database = on.database.clone();
    let identity = Identity::open(database.clone(), secret, Arc::clone(&clock)).await.unwrap();
    let config = ledger::Config::default();
    let journal = Journal::start(database.clone(), Arc::clone(&clock), &config).unwrap();
    // No model is called here.
    let caller = ModelCaller::new(|_call| Box::pin(async {}));
    let parts = (journal.clone(), database.clone(), Arc::clone(&clock));
    let engine = Engine::new(parts.0, parts.1, parts.2, Config::default(), caller).unwrap();
    let models = Models::new(&[], &[], &models::RoutingConfig::default()).unwrap();
    let (worker, models) = (engine.clone(), Arc::new(models));
    let working = tokio::spawn(async move { worker.run().await });
    let protocols =
        Protocols { identity: identity.clone(), engine: engine.clone(), models, database, clock };
    let router = protocols::router(&protocols);
    let key = key(&identity, "Customer").await;
    Test { router, engine, identity, journal, working, key, on }
}

impl Test {
    async fn send(&self, key: &str, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).header("x-api-key", key);
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, value) = self.send(&self.key, "POST", path, &body.to_string()).await;
        assert!(status.is_success(), "{} {path}: {status} {value}", self.on.kind);
        value
    }

    async fn get(&self, path: &str) -> Value {
        let (status, value) = self.send(&self.key, "GET", path, "").await;
        assert!(status.is_success(), "{} {path}: {status} {value}", self.on.kind);
        value
    }

    async fn publish(&self, text: &str) -> Value {
        let (status, value) = self.send(&self.key, "POST", "/flows", text).await;
        assert_eq!(status, StatusCode::CREATED, "{value}");
        value
    }

    async fn rpc(&self, path: &str, method: &str, params: Value) -> Value {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.post(path, body).await
    }

    async fn close(self) {
        self.engine.close().await;
        self.working.await.unwrap();
        self.journal.close().await;
    }
}

#[tokio::test]
async fn a_thread_goes_on_from_run_to_run_and_from_question_to_answer() {
    for test in everywhere().await {
        test.publish(ASK).await;
        let thread = test.post("/threads", json!({"metadata": {"a": 1}})).await;
        let id = thread["thread_id"].as_str().unwrap();
        let runs = format!("/threads/{id}/runs/wait");
        for round in 1..=3 {
            let asked = test.post(&runs, json!({"assistant_id": "ask", "input": {}})).await;
            assert_eq!(asked["n"], round, "{asked}");
            assert_eq!(asked["__interrupt__"][0]["value"]["message"], format!("n is {round}?"));
            let state = test.get(&format!("/threads/{id}/state")).await;
            assert_eq!(state["next"], json!(["ask"]));
            let answer = json!({"assistant_id": "ask", "command": {"resume": true}});
            let done = test.post(&runs, answer).await;
            assert_eq!(done["said"].as_array().unwrap().len(), round);
        }
        let history = test.post(&format!("/threads/{id}/history"), json!({"limit": 1000})).await;
        let history = history.as_array().unwrap();
        assert_eq!(history[0]["values"]["n"], 3);
        assert!(history.len() >= 12, "{}", history.len());
        let listed = test.get(&format!("/threads/{id}/runs?limit=100")).await;
        let statuses: Vec<&Value> =
            listed.as_array().unwrap().iter().map(|run| &run["status"]).collect();
        assert_eq!(statuses.len(), 6);
        assert_eq!((statuses[0], statuses[1]), (&json!("success"), &json!("interrupted")));
        let found = test.post("/threads/search", json!({"metadata": {"a": 1}})).await;
        assert_eq!(found.as_array().unwrap().len(), 1);
        test.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_runs_at_once_on_one_thread_one_starts_and_of_many_answers_one_counts() {
    for test in everywhere().await {
        test.publish(ASK).await;
        let thread = test.post("/threads", json!({})).await;
        let path = format!("/threads/{}/runs", thread["thread_id"].as_str().unwrap());
        let many = |body: Value| {
            let (test, path, body) = (&test, &path, body.to_string());
            join_all((0..8).map(move |_| {
                let body = body.clone();
                async move { test.send(&test.key, "POST", path, &body).await }
            }))
        };
        let count = |answers: &[(StatusCode, Value)]| {
            let refused = answers.iter().filter(|(status, _)| *status == StatusCode::CONFLICT);
            let fine = answers.iter().filter(|(status, _)| status.is_success());
            (fine.count(), refused.count())
        };
        let begun = many(json!({"assistant_id": "ask", "input": {}})).await;
        // One that comes when the first asks already takes its place.
        let (fine, refused) = count(&begun);
        assert_eq!(fine + refused, 8, "{begun:?}");
        assert!(fine >= 1);
        let listed = test.get(&path).await;
        let last = listed[0]["run_id"].as_str().unwrap();
        test.get(&format!("{path}/{last}/join")).await;
        let answered = many(json!({"assistant_id": "ask", "command": {"resume": true}})).await;
        assert_eq!(count(&answered), (1, 7), "{answered:?}");
        let codes = ["thread_busy", "not_waiting", "already_answered"];
        for (status, body) in answered.iter().filter(|(status, _)| !status.is_success()) {
            assert!(codes.contains(&body["code"].as_str().unwrap()), "{status} {body}");
        }
        test.close().await;
    }
}

#[tokio::test]
async fn a_stream_is_told_in_parts_and_taken_up_behind_any_of_them() {
    for test in everywhere().await {
        test.publish(ASK).await;
        let thread = test.post("/threads", json!({})).await;
        let id = thread["thread_id"].as_str().unwrap().to_owned();
        let run = test
            .post(&format!("/threads/{id}/runs"), json!({"assistant_id": "ask", "input": {}}))
            .await;
        let path = format!(
            "/threads/{id}/runs/{}/stream?stream_mode=values&stream_mode=updates",
            run["run_id"].as_str().unwrap()
        );
        let stream = async |last: Option<&str>| {
            let mut request = Request::builder().uri(&path).header("x-api-key", &test.key);
            if let Some(last) = last {
                request = request.header("last-event-id", last);
            }
            let answer =
                test.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.split_inclusive("\n\n").map(str::to_owned).collect::<Vec<_>>()
        };
        let whole = stream(None).await;
        assert!(whole.last().unwrap().contains("event: end"), "{whole:#?}");
        assert!(whole.iter().any(|part| part.contains("__interrupt__")));
        for (at, part) in whole.iter().enumerate().take(whole.len() - 1) {
            let id = part.lines().next().unwrap().strip_prefix("id: ").unwrap();
            assert_eq!(stream(Some(id)).await, whole[at + 1..], "behind {id}");
        }
        test.close().await;
    }
}

#[tokio::test]
async fn tasks_and_tools_are_the_same_runs() {
    for test in everywhere().await {
        test.publish(ASK).await;
        let said = json!({"messageId": "m", "role": "ROLE_USER", "parts": [{"data": {}}]});
        let sent = test.rpc("/a2a", "SendMessage", json!({"message": said})).await;
        let task = &sent["result"]["task"];
        assert_eq!(task["status"]["state"], "TASK_STATE_INPUT_REQUIRED", "{sent}");
        let answer = json!({"messageId": "n", "role": "ROLE_USER", "taskId": task["id"], "parts": [{"text": "true"}]});
        let done = test.rpc("/a2a", "SendMessage", json!({"message": answer})).await;
        assert_eq!(done["result"]["task"]["id"], task["id"]);
        assert_eq!(done["result"]["task"]["status"]["state"], "TASK_STATE_COMPLETED");
        let listed = test.rpc("/a2a", "ListTasks", json!({"pageSize": 1})).await;
        assert_eq!(
            (&listed["result"]["totalSize"], &listed["result"]["nextPageToken"]),
            (&json!(1), &json!(""))
        );

        let waiting =
            test.rpc("/mcp", "tools/call", json!({"name": "ask", "arguments": {"n": 4}})).await;
        let waiting = &waiting["result"]["structuredContent"];
        assert_eq!(waiting["questions"][0]["message"], "n is 5?");
        let answer = json!({"thread_id": waiting["thread_id"], "answer": false});
        let done = test
            .rpc("/mcp", "tools/call", json!({"name": "answer_question", "arguments": answer}))
            .await;
        assert_eq!(done["result"]["structuredContent"]["said"], json!([false]));
        test.close().await;
    }
}

#[tokio::test]
async fn what_is_anothers_is_not_there_and_scopes_are_kept() {
    for test in everywhere().await {
        test.publish(ASK).await;
        let thread = test.post("/threads", json!({"thread_id": "mine"})).await;
        assert_eq!(thread["thread_id"], "mine");
        let run =
            test.post("/threads/mine/runs", json!({"assistant_id": "ask", "input": {}})).await;
        let run = run["run_id"].as_str().unwrap();
        let stranger = key(&test.identity, "Stranger").await;
        for (method, path) in [
            ("GET", "/threads/mine".to_owned()),
            ("GET", "/threads/mine/state".to_owned()),
            ("POST", "/threads/mine/copy".to_owned()),
            ("DELETE", "/threads/mine".to_owned()),
            ("GET", format!("/threads/mine/runs/{run}")),
            ("GET", format!("/threads/mine/runs/{run}/join")),
            ("POST", format!("/threads/mine/runs/{run}/cancel")),
            ("GET", "/flows/ask".to_owned()),
            ("GET", "/assistants/ask".to_owned()),
        ] {
            let (status, body) = test.send(&stranger, method, &path, "{}").await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{method} {path}: {body}");
        }
        // The same id is another thread elsewhere.
        let (status, _) = test.send(&stranger, "POST", "/threads", r#"{"thread_id":"mine"}"#).await;
        assert_eq!(status, StatusCode::OK);
        for bad in [json!({"thread_id": "a/b"}), json!({"metadata": {"x": "y".repeat(20_000)}})] {
            let (status, body) = test.send(&test.key, "POST", "/threads", &bad.to_string()).await;
            assert_eq!(
                (status, &body["code"]),
                (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid_request"))
            );
        }
        test.close().await;
    }
}
