//! Which crate may depend on which: the floors of ARCHITECTURE.md.

use serde_json::Value;

/// A crate and the crates of ours that it may use. Tests may also use `testkit` and anything below.
const ALLOWED: &[(&str, &[&str])] = &[
    ("kernel", &[]),
    ("store", &["kernel"]),
    ("telemetry", &["kernel"]),
    ("web", &["kernel", "telemetry"]),
    ("events", &["kernel", "store", "telemetry"]),
    ("identity", &["kernel", "store", "web"]),
    ("ledger", &["kernel", "store", "telemetry"]),
    ("pricing", &["kernel"]),
    ("metering", &["identity", "kernel", "ledger", "pricing", "store", "telemetry"]),
    ("models", &["kernel", "pricing", "store", "web"]),
    ("alerts", &["identity", "kernel", "ledger", "store", "telemetry", "web"]),
    ("flow", &["identity", "kernel", "ledger", "metering", "models", "pricing", "store", "web"]),
    (
        "gateway",
        &[
            "identity",
            "kernel",
            "ledger",
            "metering",
            "models",
            "pricing",
            "store",
            "telemetry",
            "web",
        ],
    ),
    (
        "agents",
        &[
            "events", "flow", "identity", "kernel", "ledger", "metering", "models", "pricing",
            "store", "web",
        ],
    ),
    (
        "admin",
        &[
            "alerts", "identity", "kernel", "ledger", "metering", "models", "pricing", "store",
            "web",
        ],
    ),
    ("customers", &["identity", "kernel", "ledger", "metering", "pricing", "store", "web"]),
    ("protocols", &["flow", "identity", "kernel", "ledger", "metering", "models", "store", "web"]),
    (
        "ledgerline",
        &[
            "admin",
            "agents",
            "alerts",
            "customers",
            "events",
            "flow",
            "gateway",
            "identity",
            "kernel",
            "ledger",
            "metering",
            "models",
            "pricing",
            "protocols",
            "store",
            "telemetry",
            "web",
        ],
    ),
    ("testkit", &["kernel", "store"]),
    ("bench", &["customers", "flow", "identity", "kernel", "ledger", "metering", "store", "web"]),
    ("xtask", &[]),
];

pub(crate) fn check(metadata: &Value) -> Vec<String> {
    let packages: Vec<&Value> =
        array(metadata, "packages").filter(|package| package["source"].is_null()).collect();
    let ours: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            findings.push(format!(
                "crate {name} has no row in the table of allowed edges (xtask/src/edges.rs)"
            ));
            continue;
        };
        for dependency in array(package, "dependencies") {
            let uses = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"] == "dev";
            if ours.contains(&uses) && !allowed.contains(&uses) && !(for_tests && uses == "testkit")
            {
                findings
                    .push(format!("crate {name} may not use {uses}: what both need moves down"));
            }
        }
    }
    findings
}

pub(crate) fn array<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, uses: &[(&str, Value)]) -> Value {
        let dependencies: Vec<Value> =
            uses.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
        json!({"name": name, "source": null, "dependencies": dependencies})
    }

    #[test]
    fn an_edge_upwards_is_found_and_tests_may_use_testkit() {
        let fine = json!({"packages": [
            package("kernel", &[]), package("testkit", &[]),
            package("store", &[("kernel", Value::Null), ("testkit", json!("dev")), ("serde", Value::Null)])]});
        assert_eq!(check(&fine), Vec::<String>::new());
        let upwards = json!({"packages": [package("kernel", &[("store", Value::Null)]), package("store", &[])]});
        assert_eq!(check(&upwards).len(), 1);
        let unknown = json!({"packages": [package("stranger", &[])]});
        assert_eq!(check(&unknown).len(), 1);
    }
}
