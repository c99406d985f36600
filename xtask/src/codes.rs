//! Every error code has its row in docs/errors.md, and every row its code.

use std::collections::BTreeSet;

use crate::sources::Source;

/// What stands before a code where an error is made.
const MAKERS: [&str; 2] = ["StatusCode::", "bad("];

pub(crate) fn check(document: &str, files: &[Source]) -> Vec<String> {
    let documented: BTreeSet<String> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(code, _)| code.to_owned())
        .collect();
    let used: BTreeSet<String> = files
        .iter()
        .filter(|file| !file.is_test() && file.owner() != "xtask")
        .flat_map(|file| codes(file.code()))
        .collect();
    let missing = used
        .difference(&documented)
        .map(|code| format!("docs/errors.md has no row for the code {code}"));
    let stale = documented
        .difference(&used)
        .map(|code| format!("docs/errors.md explains {code}, which nothing answers"));
    missing.chain(stale).collect()
}

/// The codes in a text: the first string after a status, if it looks like one.
fn codes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for maker in MAKERS {
        for rest in text.split(maker).skip(1) {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_uppercase() || c == '_');
            let rest = rest.trim_start_matches([',', ' ', '\n']);
            let Some((code, _)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'))
            else {
                continue;
            };
            if !code.is_empty() && code.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                found.push(code.to_owned());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_rows_are_compared() {
        let text =
            "//! x\nError::new(\n    StatusCode::BAD_REQUEST,\n    \"bad_thing\",\n    \"Bad.\")"
                .to_owned();
        let file = Source { path: "crates/a/src/error.rs".to_owned(), text };
        let fine = "| code | status |\n|---|---|\n| `bad_thing` | 400 |\n";
        assert_eq!(check(fine, std::slice::from_ref(&file)), Vec::<String>::new());
        assert_eq!(check("", std::slice::from_ref(&file)).len(), 1);
        assert_eq!(check("| `bad_thing` | 400 |\n| `gone` | 404 |\n", &[file]).len(), 1);
    }
}
