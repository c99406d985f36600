//! What holds for every source file.

use std::path::{Path, PathBuf};

/// Lines a file may have, tests apart.
const LONGEST_FILE: usize = 600;
/// Lines a crate's facade may have.
const LONGEST_FACADE: usize = 60;

/// A source file of ours.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// From the root, such as `crates/kernel/src/lib.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The crate it belongs to.
    pub(crate) fn owner(&self) -> &str {
        let mut parts = self.path.split('/');
        match parts.next() {
            Some("crates") => parts.next().unwrap_or_default(),
            other => other.unwrap_or_default(),
        }
    }

    /// The text up to its unit tests.
    pub(crate) fn code(&self) -> &str {
        self.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
    }

    pub(crate) fn is_test(&self) -> bool {
        self.path.contains("/tests/")
    }
}

/// Every `.rs` file of the workspace.
pub(crate) fn read(root: &Path) -> anyhow::Result<Vec<Source>> {
    let mut files = Vec::new();
    for folder in ["crates", "xtask", "bench"] {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        Ok(Source { path: name, text: std::fs::read_to_string(&path)? })
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

pub(crate) fn check(files: &[Source]) -> Vec<String> {
    files.iter().flat_map(check_one).collect()
}

fn check_one(file: &Source) -> Vec<String> {
    let mut findings = Vec::new();
    let mut find = |what: String| findings.push(format!("{}: {what}", file.path));
    let lines = file.code().lines().count();
    if lines > LONGEST_FILE && !file.is_test() {
        find(format!("has {lines} lines, more than {LONGEST_FILE}: split it"));
    }
    if file.path.ends_with("src/lib.rs") && lines > LONGEST_FACADE {
        find(format!("is a facade of {lines} lines, more than {LONGEST_FACADE}"));
    }
    let opens = file.text.lines().find(|line| !line.starts_with("#![") && !line.trim().is_empty());
    if !opens.is_some_and(|line| line.starts_with("//!")) {
        find("does not open with what it holds (//!)".to_owned());
    }
    // Spelled apart, so that this file does not find itself.
    for word in [
        concat!("allow", "("),
        concat!("db", "g!("),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
    ] {
        if file.code().contains(word) {
            find(format!("contains {word}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check_one(&Source { path: path.to_owned(), text: text.to_owned() }).len()
    }

    #[test]
    fn rules_are_kept_and_broken_ones_found() {
        assert_eq!(found("crates/a/src/x.rs", "//! Holds x.\nfn x() {}\n"), 0);
        assert_eq!(found("crates/a/src/x.rs", "fn x() {}\n"), 1);
        assert_eq!(found("crates/a/src/x.rs", &format!("//! x\n{}", "x\n".repeat(600))), 1);
        assert_eq!(found("crates/a/tests/it/x.rs", &format!("//! x\n{}", "x\n".repeat(600))), 0);
        assert_eq!(found("crates/a/src/lib.rs", &format!("//! x\n{}", "x\n".repeat(60))), 1);
        for forbidden in [concat!("#[", "allow", "(x)]"), concat!("db", "g!(x);")] {
            assert_eq!(found("crates/a/src/x.rs", &format!("//! x\n{forbidden}\n")), 1);
        }
    }
}
