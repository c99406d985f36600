//! Which licences dependencies may have.

use serde_json::Value;

use crate::edges::array;

const ALLOWED: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Zlib",
];
const ALSO_ALLOWED: [&str; 2] = ["Unlicense", "MIT-0"];

pub(crate) fn check(metadata: &Value) -> Vec<String> {
    let mut findings = Vec::new();
    for package in array(metadata, "packages").filter(|package| !package["source"].is_null()) {
        let licence = package["license"].as_str().unwrap_or_default();
        if !permitted(licence) {
            let name = package["name"].as_str().unwrap_or_default();
            findings.push(format!(
                "dependency {name} has the licence {licence:?}, which is not on the list"
            ));
        }
    }
    findings
}

/// Evaluates an SPDX expression: `OR` needs one side, `AND` both. `A/B` is the old form of `OR`.
fn permitted(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    let tokens: Vec<String> = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let mut tokens = tokens.as_slice();
    either(&mut tokens) && tokens.is_empty()
}

fn either(tokens: &mut &[String]) -> bool {
    let mut fits = both(tokens);
    while take(tokens, "OR") {
        let other = both(tokens);
        fits = fits || other;
    }
    fits
}

fn both(tokens: &mut &[String]) -> bool {
    let mut fits = one(tokens);
    while take(tokens, "AND") {
        let other = one(tokens);
        fits = fits && other;
    }
    fits
}

fn one(tokens: &mut &[String]) -> bool {
    if take(tokens, "(") {
        let fits = either(tokens);
        return take(tokens, ")") && fits;
    }
    let Some((licence, rest)) = tokens.split_first() else { return false };
    *tokens = rest;
    let mut licence = licence.clone();
    if take(tokens, "WITH")
        && let Some((exception, rest)) = tokens.split_first()
    {
        *tokens = rest;
        licence = format!("{licence} WITH {exception}");
    }
    ALLOWED.contains(&licence.as_str()) || ALSO_ALLOWED.contains(&licence.as_str())
}

fn take(tokens: &mut &[String], word: &str) -> bool {
    match tokens.split_first() {
        Some((first, rest)) if first == word => {
            *tokens = rest;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_evaluated() {
        for fits in [
            "MIT",
            "MIT OR GPL-3.0",
            "(MIT OR GPL-3.0) AND ISC",
            "MIT/Apache-2.0",
            "GPL-2.0 OR Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(permitted(fits), "{fits}");
        }
        for unfit in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "AGPL-3.0 OR SSPL-1.0", "MIT MIT"] {
            assert!(!permitted(unfit), "{unfit}");
        }
    }
}
