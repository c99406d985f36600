//! Checks of the tree that no other tool makes: `cargo xtask tidy`.

mod codes;
mod edges;
mod licences;
mod sources;
mod tables;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use serde_json::Value;

fn main() -> ExitCode {
    match run() {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            findings.iter().for_each(|finding| say(finding));
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<Vec<String>> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("tidy") => tidy(&root()?),
        _ => bail!("usage: cargo xtask tidy"),
    }
}

fn say(line: &str) {
    // Nobody is left to tell when this fails.
    drop(writeln!(std::io::stderr(), "tidy: {line}"));
}

fn root() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(Path::to_owned).context("the workspace has a root")
}

fn tidy(root: &Path) -> anyhow::Result<Vec<String>> {
    let metadata = metadata(root)?;
    let files = sources::read(root)?;
    let mut findings = edges::check(&metadata);
    findings.extend(licences::check(&metadata));
    findings.extend(sources::check(&files));
    findings.extend(tables::check(root, &files)?);
    findings.extend(codes::check(&std::fs::read_to_string(root.join("docs/errors.md"))?, &files));
    Ok(findings)
}

fn metadata(root: &Path) -> anyhow::Result<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
