//! Checks of the tree that no other tool makes (`cargo xtask tidy`), and the kept description of the
//! API (`cargo xtask openapi`).

mod codes;
mod duplicates;
mod edges;
mod licences;
mod openapi;
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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["tidy"] => tidy(&root()?),
        ["openapi"] => openapi::write(&root()?).map(|()| Vec::new()),
        ["openapi", "--check"] => openapi::check(&root()?),
        _ => bail!("usage: cargo xtask tidy | openapi [--check]"),
    }
}

fn say(line: &str) {
    // Nobody is left to tell when this fails.
    drop(writeln!(std::io::stderr(), "xtask: {line}"));
}

fn root() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(Path::to_owned).context("the workspace has a root")
}

fn tidy(root: &Path) -> anyhow::Result<Vec<String>> {
    let metadata = metadata(root)?;
    let duplicates = duplicates::list(&metadata);
    if !duplicates.is_empty() {
        say(&format!("warning: packages in several versions: {}", duplicates.join(", ")));
    }
    let files = sources::read(root)?;
    let mut findings = edges::check(&metadata);
    findings.extend(licences::check(&metadata));
    findings.extend(sources::check(&files));
    findings.extend(tables::check(root, &files)?);
    findings.extend(codes::check(&std::fs::read_to_string(root.join("docs/errors.md"))?, &files));
    Ok(findings)
}

/// Of every platform's packages; without a network, of this platform's, which a build has fetched.
fn metadata(root: &Path) -> anyhow::Result<Value> {
    if let Ok(everywhere) = cargo_metadata(root, &[]) {
        return Ok(everywhere);
    }
    say("warning: packages of other platforms are not here: their licences are not looked at");
    let version = output(Command::new("rustc").arg("-vV"))?;
    let version = String::from_utf8_lossy(&version);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    cargo_metadata(root, &["--offline", "--filter-platform", host.context("rustc has a host")?])
}

fn cargo_metadata(root: &Path, more: &[&str]) -> anyhow::Result<Value> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked"]).args(more).current_dir(root);
    Ok(serde_json::from_slice(&output(&mut command)?)?)
}

fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command.output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}
