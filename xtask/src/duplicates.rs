//! Packages that are built in more than one version. Told, not refused: others decide over them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::edges::array;

pub(crate) fn list(metadata: &Value) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in array(metadata, "packages") {
        if let (Some(name), Some(version)) = (package["name"].as_str(), package["version"].as_str())
        {
            versions.entry(name).or_default().insert(version);
        }
    }
    let several = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    several
        .map(|(name, versions)| {
            format!("{name} {}", versions.into_iter().collect::<Vec<_>>().join(" and "))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_second_version_is_listed() {
        let package = |name: &str, version: &str| json!({"name": name, "version": version});
        let metadata = json!({"packages": [package("a", "1.0.0"), package("b", "1.0.0"), package("a", "2.0.0")]});
        assert_eq!(list(&metadata), ["a 1.0.0 and 2.0.0"]);
    }
}
