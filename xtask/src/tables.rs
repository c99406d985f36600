//! Each table has one home: SQL names only tables of its own crate.

use std::collections::BTreeMap;
use std::path::Path;

use crate::sources::Source;

const CREATE: &str = "CREATE TABLE ";

pub(crate) fn check(root: &Path, files: &[Source]) -> anyhow::Result<Vec<String>> {
    let mut owners = BTreeMap::new();
    for entry in std::fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        let migrations = folder.join("migrations/sqlite");
        let owner = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if migrations.is_dir() {
            for file in std::fs::read_dir(migrations)? {
                let text = std::fs::read_to_string(file?.path())?;
                owners.extend(created(&text).map(|table| (table, owner.clone())));
            }
        }
    }
    Ok(foreign(&owners, files))
}

fn created(sql: &str) -> impl Iterator<Item = String> {
    sql.split(CREATE).skip(1).filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned)
}

fn foreign(owners: &BTreeMap<String, String>, files: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !file.is_test()) {
        for (table, owner) in owners {
            let quoted = file.code().lines().filter(|line| !line.trim_start().starts_with("//"));
            let names =
                quoted.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
            if file.owner() != owner && names.into_iter().any(|name| name == table) {
                findings
                    .push(format!("{}: names {table}, a table of the crate {owner}", file.path));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_table_is_found() {
        let owners: BTreeMap<String, String> = created("CREATE TABLE a_things (\n id INT);")
            .map(|table| (table, "a".to_owned()))
            .collect();
        let file = |path: &str| Source {
            path: path.to_owned(),
            text: "//! x\nconst SQL: &str = \"SELECT 1 FROM a_things\";\n".to_owned(),
        };
        assert_eq!(foreign(&owners, &[file("crates/a/src/store.rs")]), Vec::<String>::new());
        assert_eq!(foreign(&owners, &[file("crates/b/src/store.rs")]).len(), 1);
    }
}
