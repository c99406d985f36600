//! The history of long sessions: paged, searched and cleaned up.

use std::time::Instant;

use ::store::{Statement, Value as Cell};
use serde_json::{Value, json};

use crate::{Test, everywhere};

/// Records as runs write them, and their searchable texts.
async fn fill(test: &Test, session: &str, records: i64, block: i64) {
    let at = |seq: i64| 1_700_000_000_000_000 + seq * 1_000_000;
    let mut texts = String::new();
    let mut statements = Vec::new();
    for seq in 1..=records {
        let content = format!(
            "Record number {seq}: the quick brown fox jumps over the lazy dog, 汉字 {}",
            seq % 7
        );
        let time = kernel::Timestamp::from_micros(at(seq));
        let body = json!({"record_id": format!("r{seq}"), "session_id": session, "seq": seq, "timestamp": time,
            "record_type": "message", "message_type": "user", "content": content, "metadata": {}});
        statements.push((seq, body.to_string()));
        let text = format!("{seq}\u{1f}{}\u{1e}", content.to_lowercase());
        texts.push_str(&text);
        if seq % block == 0 {
            let sql = "INSERT INTO agents_search (session_id, last_seq, text) VALUES (?, ?, ?)";
            let args = vec![session.into(), seq.into(), std::mem::take(&mut texts).into()];
            test.on.database.execute(Statement::new(sql, args)).await.unwrap();
        }
    }
    for part in statements.chunks(1000) {
        let places = vec!["(?, ?, ?, '', ?, 'message', ?)"; part.len()].join(", ");
        let sql = format!(
            "INSERT INTO agents_history (session_id, seq, org_id, owner, at, record_type, body) VALUES {places}"
        );
        let args = part.iter().flat_map(|(seq, body)| {
            let org_id = test.org_id.as_str();
            [
                Cell::from(session),
                Cell::from(*seq),
                Cell::from(org_id),
                Cell::from(at(*seq)),
                Cell::from(body.as_str()),
            ]
        });
        test.on.database.execute(Statement::new(sql, args.collect())).await.unwrap();
    }
    let sql = "UPDATE agents_sessions SET history_seq = ? WHERE session_id = ?";
    let args = vec![records.into(), session.into()];
    test.on.database.execute(Statement::new(sql, args)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_session_is_paged_and_searched_quickly() {
    for test in everywhere().await {
        let session = test.session().await;
        fill(&test, &session, 200_000, 256).await;
        let path = format!("/history/sessions/{session}");
        let page = test.get(&format!("{path}/messages?offset=199999")).await;
        assert_eq!(
            (&page.good()["total"], &page.body["records"][0]["seq"]),
            (&json!(200_000), &json!(200_000))
        );
        for (query, total) in [
            ("number%20123456", 1),
            ("NUMBER%20199999:", 1),
            ("nowhere", 0),
            ("%E5%AD%97%206", 28_571),
        ] {
            let search = format!("{path}/search?query={query}");
            test.get(&search).await.good();
            let mut best = f64::MAX;
            for _ in 0..3 {
                let begun = Instant::now();
                let found = test.get(&search).await;
                best = best.min(begun.elapsed().as_secs_f64());
                assert_eq!(found.good()["total"], total, "{} {query}", test.on.kind);
                assert!(found.body["results"].as_array().unwrap().len() <= 20);
            }
            println!("{} {query}: {:.1} ms (debug build)", test.on.kind, best * 1000.0);
            // A debug build beside other work; a release build is held to 100 ms by its figures.
            assert!(best < 3.0, "{} {query}: {best}", test.on.kind);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cleaning_up_removes_what_is_old_and_nothing_else() {
    for test in everywhere().await {
        let session = test.session().await;
        fill(&test, &session, 12_000, 256).await;
        let before = kernel::Timestamp::from_micros(1_700_000_000_000_000 + 11_000 * 1_000_000);
        let cleaned = test.agents.clean_up(&test.owner(), before).await.unwrap();
        assert_eq!(cleaned.cleaned_records, 10_999, "{}", test.on.kind);
        let path = format!("/history/sessions/{session}");
        let page = test.get(&format!("{path}/messages")).await;
        assert_eq!(
            (&page.good()["total"], &page.body["records"][0]["seq"]),
            (&json!(1_001), &json!(11_000))
        );
        let last = test.get(&format!("{path}/messages?offset=1000")).await;
        assert_eq!(last.good()["records"][0]["seq"], 12_000);
        for (query, total) in
            [("number%2010999:", 0), ("number%2011000:", 1), ("number%2012000:", 1)]
        {
            let found = test.get(&format!("{path}/search?query={query}")).await;
            assert_eq!(found.good()["total"], total, "{} {query}", test.on.kind);
        }
        let export = test.get(&format!("{path}/export")).await;
        assert_eq!(export.good()["records"].as_array().unwrap().len(), 1_001);
        let again = test.agents.clean_up(&test.owner(), before).await.unwrap();
        assert_eq!(again.cleaned_records, 0);
        let stranger = test.identity.create_org("Stranger", identity::OrgKind::Customer).await;
        let key = crate::key(&test.identity, stranger.unwrap().id).await;
        let body = test.send(&key, "POST", "/history/cleanup?days_to_keep=1", Value::Null).await;
        assert_eq!(body.good()["data"]["cleaned_records"], 0, "another's records stay");
    }
}
