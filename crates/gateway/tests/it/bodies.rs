//! Large bodies, and bodies that are not what they should be.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::Request;
use kernel::Amount;
use serde_json::{Value, json};

use crate::upstream::Upstream;
use crate::{Answer, Test, everywhere, model, provider, quick, route};

async fn tests(upstream: &Upstream) -> Vec<Test> {
    let all = [model("m", vec![route("a", 0)])];
    everywhere(&[provider(upstream)], &all, &quick()).await
}

/// A request's body with that much to read.
fn prompt(bytes: usize) -> Value {
    let text = "measure me ".repeat(bytes / 11);
    json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": text}]})
}

/// Sends the body in pieces of that size, its length unannounced.
async fn send(test: &Test, body: &[u8], size: usize) -> Answer {
    let pieces: Vec<_> = body
        .chunks(size)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    let (parts, _) = test.request("POST", "/chat/completions", String::new()).into_parts();
    test.send(Request::from_parts(parts, Body::from_stream(stream::iter(pieces)))).await
}

#[tokio::test]
async fn a_large_body_arrives_as_it_was_sent_in_however_many_pieces() {
    let a = Upstream::start("a").await;
    let body = prompt(60_000);
    for test in tests(&a).await {
        for size in [70_000, 1000, 7] {
            let answer = send(&test, body.to_string().as_bytes(), size).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        assert_eq!(a.asked(), vec![body.clone(); 3]);
        a.reset();
    }
}

#[tokio::test]
async fn what_is_no_request_reaches_no_upstream_and_holds_nothing() {
    let a = Upstream::start("a").await;
    let good = prompt(60_000).to_string();
    // The one in the middle of all there are.
    let with = |from: &str, to: &[u8]| {
        let found: Vec<_> = good.match_indices(from).collect();
        let (before, rest) = good.as_bytes().split_at(found[found.len() / 2].0);
        [before, to, &rest[from.len()..]].concat()
    };
    let cases = [
        (with("\"}]", b"\"}}"), "malformed_json"),
        (with("\"}]", b"}]"), "malformed_json"),
        (with("measure me", b"measure \xff me"), "malformed_json"),
        (with("measure me", b"measure \n me"), "malformed_json"),
        (with("measure me", b"measure \\x me"), "malformed_json"),
        (with("\"model\":\"m\"", b"\"model\":\"m\",\"model\":\"m\""), "invalid_field"),
        (with("\"max_tokens\":1", b"\"max_tokens\":\"1\""), "invalid_field"),
        (prompt(3 * 1024 * 1024).to_string().into_bytes(), "body_too_large"),
    ];
    for test in tests(&a).await {
        for (body, code) in &cases {
            let answer = send(&test, body, 10_000).await;
            assert_eq!(answer.refusal().1, *code, "{}", answer.text);
        }
        assert_eq!((a.asked().len(), test.records().await.len()), (0, 0));
        assert_eq!(test.spent().await, Amount::ZERO);
    }
}
