//! Runs: told once, seen by their owner, and stopped in time.

use identity::{NewKey, Role};
use serde_json::{Value, json};

use crate::{everywhere, until};

fn one_call() -> Value {
    json!({"nodes": {"say": {"type": "llm", "config": {"model": "sim-small", "max_tokens": 20}}}})
}

fn hello(number: usize) -> Value {
    json!({"initial_state": {"messages": [{"role": "user", "content": format!("hello {number}")}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_runs_of_a_session_at_once_are_told_without_gaps_and_cost_what_they_cost() {
    for test in everywhere().await {
        let (session, flow) = (test.session().await, test.workflow(one_call()).await);
        let path = format!("/workflows/{flow}/run");
        let runs = (0..20).map(|number| {
            let mut body = hello(number);
            body["session_id"] = json!(session);
            test.post(&path, body)
        });
        let answers = futures_util::future::join_all(runs).await;
        let mut paid = kernel::Amount::ZERO;
        for answer in &answers {
            assert_eq!(answer.good()["status"], "completed", "{}: {answer:?}", test.on.kind);
            let cost: kernel::Amount = answer.body["cost"].as_str().unwrap().parse().unwrap();
            paid = paid.saturating_add(cost);
        }
        let export = test.get(&format!("/history/sessions/{session}/export")).await;
        let records = export.good()["records"].as_array().unwrap();
        let numbers: Vec<i64> = records.iter().map(|r| r["seq"].as_i64().unwrap()).collect();
        assert_eq!(numbers, (1..=i64::try_from(records.len()).unwrap()).collect::<Vec<_>>());
        let ends = records.iter().filter(|record| record["event"] == "run.finished").count();
        assert_eq!(ends, 20, "{}", test.on.kind);
        let cost = test.get(&format!("/analytics/cost/{session}")).await;
        assert_eq!(cost.good()["costs"]["CNY"], paid.to_string(), "{}", test.on.kind);
        assert!(cost.text.contains(&format!("\"total_cost\":{paid}")), "{}", cost.text);
        let spent: Vec<i64> = ledger_cost(&test).await;
        assert_eq!(spent.iter().sum::<i64>(), paid.nanos());
        let tokens = test.get(&format!("/analytics/tokens/{session}")).await;
        assert!(tokens.good()["model_usage"]["sim-small"].as_i64().unwrap() > 0);
        let performance = test.get("/analytics/performance").await;
        assert_eq!(performance.good()["total_requests"], 20);
        let shown = test.get(&format!("/workflows/{flow}")).await;
        assert_eq!(shown.good()["usage_count"], 20);
    }
}

async fn ledger_cost(test: &crate::Test) -> Vec<i64> {
    let sql = "SELECT cost FROM metering_usage WHERE org_id = ?";
    let rows = test.on.database.query(sql, &[test.org_id.as_str().into()]).await.unwrap();
    rows.iter().map(|row| row.int(0).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_sees_its_own_and_the_organization_sees_all() {
    for test in everywhere().await {
        let ann = test.identity.create_user(&test.org_id, "Ann").await.unwrap();
        let new = NewKey {
            user_id: Some(ann.id.clone()),
            ..NewKey::new(test.org_id.clone(), "ann", Role::Member)
        };
        let anns = test.identity.create_key(new).await.unwrap().api_key.expose().to_owned();
        let mine = test.session().await;
        let body = json!({"workflow_config_path": "configs/workflows/react.yaml"});
        let made = test.send(&anns, "POST", "/sessions", body).await;
        let hers = made.good()["session_id"].as_str().unwrap();
        let seen = test.send(&anns, "GET", "/sessions", Value::Null).await;
        assert_eq!(
            (seen.good()["total"].as_i64(), test.get("/sessions").await.body["total"].as_i64()),
            (Some(1), Some(2))
        );
        let foreign = test.send(&anns, "GET", &format!("/sessions/{mine}"), Value::Null).await;
        assert_eq!(foreign.refusal(), (404, "session_not_found"), "{}", test.on.kind);
        assert_eq!(test.get(&format!("/sessions/{hers}")).await.status, 200);
        let stranger = test.identity.create_org("Stranger", identity::OrgKind::Customer).await;
        let key = crate::key(&test.identity, stranger.unwrap().id).await;
        for path in [format!("/sessions/{hers}"), format!("/history/sessions/{mine}/export")] {
            let answer = test.send(&key, "GET", &path, Value::Null).await;
            assert_eq!(answer.refusal(), (404, "session_not_found"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_run_takes_no_follower_and_goes_on_when_answered() {
    for test in everywhere().await {
        let asks = json!({
            "nodes": {"ask": {"type": "wait", "config": {"message": "Sure?", "output": "word"}}},
            "output": {"word": "= word"},
        });
        let flow = test.workflow(asks).await;
        let run = test.post(&format!("/workflows/{flow}/run"), Value::Null).await;
        assert_eq!(run.good()["status"], "waiting", "{}", test.on.kind);
        let path = format!("/workflows/executions/{}", run.body["execution_id"].as_str().unwrap());
        let answer = test.post(&format!("{path}/answer"), json!({"answer": "yes"})).await;
        answer.good();
        until(async || test.get(&path).await.body["status"] == "completed").await;
        let history =
            format!("/history/sessions/{}/messages", run.body["execution_id"].as_str().unwrap());
        until(async || {
            let told = test.get(&history).await;
            let records = told.body["records"].as_array().unwrap();
            records.iter().any(|record| record["event"] == "run.finished")
        })
        .await;
        let told = test.get(&format!("{history}?message_types=message")).await;
        assert_eq!(told.good()["records"][0]["content"], "yes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_follower_left_is_told_by_another_once() {
    for test in everywhere().await {
        let (session, flow) = (test.session().await, test.workflow(one_call()).await);
        let mut body = hello(1);
        body["session_id"] = json!(session);
        test.post(&format!("/workflows/{flow}/run"), body).await.good();
        let before = test.get(&format!("/history/sessions/{session}/export")).await;
        // As if the process had died before anything was told.
        for sql in [
            "UPDATE agents_runs SET recorded = 0, cost = 0, ended_at = NULL, look_at = 1",
            "UPDATE agents_sessions SET history_seq = 0, state = '{}'",
            "DELETE FROM agents_history",
            "DELETE FROM agents_figures",
        ] {
            test.on.database.execute(store::Statement::new(sql, vec![])).await.unwrap();
        }
        let path = format!("/history/sessions/{session}/export");
        until(async || test.get(&path).await.body["records"] == before.body["records"]).await;
        let cost = test.get(&format!("/analytics/cost/{session}")).await;
        assert_ne!(cost.good()["total_cost"], 0.0, "{}", test.on.kind);
    }
}
