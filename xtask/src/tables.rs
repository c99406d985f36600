//! Each table has one home: it is named after its crate, and SQL names only tables of its own crate.

use std::collections::BTreeMap;
use std::path::Path;

use crate::sources::Source;

const CREATE: &str = "CREATE TABLE ";
/// Tables whose names a contract fixes, and the crate they are in. Spelled apart, so that this file
/// does not find itself.
const BY_CONTRACT: [(&str, &str); 6] = [
    (concat!("accounting", "_records"), "customers"),
    (concat!("users", "_cache"), "customers"),
    (concat!("pricing", "_cache"), "customers"),
    (concat!("uapi", "_cache"), "customers"),
    (concat!("llmage", "_cache"), "customers"),
    (concat!("sync", "_state"), "customers"),
];
const UNLESS_THERE: &str = "IF NOT EXISTS ";

pub(crate) fn check(root: &Path, files: &[Source]) -> anyhow::Result<Vec<String>> {
    let mut owners = BTreeMap::new();
    for entry in std::fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        let owner = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for migrations in ["migrations/sqlite", "migrations/mysql"].map(|name| folder.join(name)) {
            if !migrations.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(migrations)? {
                let text = std::fs::read_to_string(file?.path())?;
                owners.extend(created(&text).map(|table| (table, owner.clone())));
            }
        }
    }
    let mut findings = misnamed(&owners);
    findings.extend(foreign(&owners, files));
    Ok(findings)
}

fn created(sql: &str) -> impl Iterator<Item = String> {
    let names = sql.split(CREATE).skip(1).map(|rest| rest.trim_start_matches(UNLESS_THERE));
    names.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned)
}

fn misnamed(owners: &BTreeMap<String, String>) -> Vec<String> {
    let fits = |table: &str, owner: &str| {
        table.starts_with(&format!("{owner}_")) || BY_CONTRACT.contains(&(table, owner))
    };
    let odd = owners.iter().filter(|(table, owner)| !fits(table, owner));
    odd.map(|(table, owner)| format!("crates/{owner}: its table {table} must be named {owner}_…"))
        .collect()
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

    #[test]
    fn a_table_is_named_after_its_crate() {
        let owned = |sql| created(sql).map(|table| (table, "a".to_owned())).collect();
        assert_eq!(misnamed(&owned("CREATE TABLE IF NOT EXISTS a_things (id INT);")), [""; 0]);
        assert_eq!(misnamed(&owned("CREATE TABLE things (id INT);")).len(), 1);
    }
}
