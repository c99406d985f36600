//! `docs/openapi.json`: the API's description as the binary prints it, kept so that a change of the
//! API shows in a review.

use std::path::Path;
use std::process::Command;

use anyhow::bail;

const FILE: &str = "docs/openapi.json";

/// Writes the file anew.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    Ok(std::fs::write(root.join(FILE), printed(root)?)?)
}

/// What is wrong with the file.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let kept = std::fs::read_to_string(root.join(FILE)).unwrap_or_default();
    Ok(compare(&kept, &printed(root)?))
}

fn compare(kept: &str, printed: &str) -> Vec<String> {
    let at = kept.lines().zip(printed.lines()).position(|(kept, printed)| kept != printed);
    let at = at.unwrap_or_else(|| kept.lines().count().min(printed.lines().count())) + 1;
    let stale = (kept != printed).then(|| {
        format!("{FILE} differs from the API at line {at}: run `cargo xtask openapi`, look at what changed, commit it")
    });
    stale.into_iter().collect()
}

fn printed(root: &Path) -> anyhow::Result<String> {
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo says of this program to this program. Build scripts that look at it would run again,
    // and everything above them would be built anew.
    for (name, _) in std::env::vars_os() {
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if name.to_str().is_some_and(|name| own.iter().any(|prefix| name.starts_with(prefix))) {
            cargo.env_remove(name);
        }
    }
    let output = cargo
        .args(["run", "--release", "--quiet", "--package", "ledgerline", "--", "openapi"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        bail!("ledgerline openapi: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_description_is_found_with_its_line() {
        assert_eq!(compare("{\n}\n", "{\n}\n"), [""; 0]);
        assert!(compare("{\n1\n}\n", "{\n2\n}\n")[0].contains("line 2"));
        assert!(compare("", "{\n")[0].contains("line 1"));
        assert!(compare("{\n", "{\n}\n")[0].contains("line 2"));
    }
}
