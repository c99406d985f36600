//! Lists: by page and by cursor, sorted by what is allowed, each organization its own.

use serde_json::{Value, json};

use crate::{Test, everywhere};

/// Amounts that sort neither as they were posted nor uniquely.
const AMOUNTS: [&str; 7] = ["3", "1", "2", "1", "0.5", "2", "10"];

impl Test {
    async fn some_posts(&self) {
        for (at, amount) in AMOUNTS.iter().enumerate() {
            let answer = self.post(Some(&format!("k{at}")), json!({"amount": amount})).await;
            assert_eq!(answer.status, 200);
        }
    }

    /// A member of the rows of all pages, gone through by cursor.
    async fn by_cursor(&self, path: &str, member: &str) -> Vec<String> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("{path}{cursor}")).await;
            all.extend(page.column(member).iter().map(ToString::to_string));
            match page.data()["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }
}

#[tokio::test]
async fn pages_and_cursors_give_every_row_once_in_order() {
    for test in everywhere().await {
        test.some_posts().await;
        let sorts = [
            ("", vec!["k6", "k5", "k4", "k3", "k2", "k1", "k0"]),
            ("created_at", vec!["k0", "k1", "k2", "k3", "k4", "k5", "k6"]),
            ("amount", vec!["k4", "k1", "k3", "k2", "k5", "k0", "k6"]),
            ("amount%20desc", vec!["k6", "k0", "k5", "k2", "k3", "k1", "k4"]),
        ];
        for (sort, expected) in sorts {
            for rows in ["rows=2", "page_size=3", "pagerows=1", "limit=100"] {
                let path = format!("/accounting?{rows}&sort={sort}");
                assert_eq!(
                    test.by_cursor(&path, "transno").await,
                    expected,
                    "{} {path}",
                    test.on.kind
                );
            }
            for (page, part) in expected.chunks(3).enumerate() {
                let answer =
                    test.get(&format!("/accounting?page={}&rows=3&sort={sort}", page + 1)).await;
                assert_eq!(
                    (answer.column("transno").as_slice(), &answer.data()["total"]),
                    (part, &json!(7))
                );
            }
        }
        let beyond = test.get("/accounting?page=9&rows=3").await;
        assert_eq!((&beyond.data()["total"], &beyond.data()["rows"]), (&json!(7), &json!([])));
        let one = test.get("/accounting?transno=k3").await;
        assert_eq!((one.column("amount"), &one.data()["total"]), (vec!["1"], &json!(1)));
    }
}

#[tokio::test]
async fn a_list_takes_no_foreign_sort_cursor_or_depth() {
    for test in everywhere().await {
        test.some_posts().await;
        let next = test.get("/accounting?rows=1").await.data()["next"].as_str().unwrap().to_owned();
        let cases = [
            ("sort=org_id".to_owned(), "invalid_sort"),
            ("sort=amount,(select%201)".to_owned(), "invalid_sort"),
            ("sort=amount%20desc%20limit".to_owned(), "invalid_sort"),
            (format!("sort=amount&cursor={next}"), "invalid_query"),
            ("cursor=00".to_owned(), "invalid_query"),
            ("cursor=zz".to_owned(), "invalid_query"),
            ("page=x".to_owned(), "invalid_query"),
            ("page=4000000&rows=1000".to_owned(), "page_too_deep"),
        ];
        for (query, code) in cases {
            let answer = test.get(&format!("/accounting?{query}")).await;
            assert_eq!(answer.refusal(), (400, code), "{} {query}", test.on.kind);
        }
    }
}

#[tokio::test]
async fn each_organization_sees_its_own() {
    for test in everywhere().await {
        test.some_posts().await;
        for name in ["Cid", "Ann", "Bob", "Ann"] {
            test.identity.create_user(&test.org_id, name).await.unwrap();
        }
        let (_, stranger) = test.stranger().await;
        for path in ["/accounting", "/users"] {
            let theirs = test.get_as(&stranger, path).await;
            assert_eq!(
                theirs.data(),
                &json!({"total": 0, "rows": [], "next": Value::Null}),
                "{path}"
            );
        }
        let path = "/users?rows=1&sort=username";
        assert_eq!(
            test.by_cursor(path, "username").await,
            ["Ann", "Ann", "Bob", "Cid"],
            "{}",
            test.on.kind
        );
        let page = test.get("/users?page=2&rows=3&sort=username%20desc").await;
        assert_eq!((page.column("username"), &page.data()["total"]), (vec!["Ann"], &json!(4)));
        assert_eq!(page.column("user_status"), ["0"]);
    }
}

#[tokio::test]
async fn prices_are_those_in_force() {
    for test in everywhere().await {
        let all = test.get("/pricing").await;
        assert_eq!(
            (all.column("model"), &all.data()["total"]),
            (vec!["embed", "large", "small"], &json!(3))
        );
        let row = &all.data()["rows"][0];
        assert_eq!(
            row["rates"],
            json!({"input_per_million": "1", "output_per_million": "4", "per_call": "0.1"})
        );
        assert_eq!(row["display_text"], "input 1 CNY/M, output 4 CNY/M, 0.1 CNY per call");
        assert_eq!(test.get("/pricing?llmid=large").await.column("model"), ["large"]);
        assert_eq!(
            test.by_cursor("/pricing?rows=1&sort=model%20desc", "model").await,
            ["small", "large", "embed"]
        );
        assert_eq!(test.get("/pricing?page=2&rows=2").await.column("model"), ["small"]);
    }
}
