//! JSON schemas of what people answer.

use serde_json::Value;

/// A schema that loads and looks up nothing outside itself.
fn compile(schema: &Value) -> Result<jsonschema::Validator, String> {
    jsonschema::options()
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(schema)
        .map_err(|error| error.to_string())
}

/// Whether it is a schema.
pub(crate) fn check(schema: &Value) -> Result<(), String> {
    compile(schema).map(drop)
}

/// Whether a value fits; the first few reasons if not.
pub(crate) fn validate(schema: &Value, value: &Value) -> Result<(), String> {
    let compiled = compile(schema)?;
    let reasons: Vec<String> = compiled
        .iter_errors(value)
        .take(5)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_checked_and_nothing_is_fetched() {
        let schema = json!({"type": "object", "required": ["ok"], "properties": {"ok": {"type": "boolean"}}});
        assert_eq!(validate(&schema, &json!({"ok": true})), Ok(()));
        assert!(validate(&schema, &json!({"ok": 1})).unwrap_err().contains("/ok"));
        assert!(check(&json!({"type": "nonsense"})).is_err());
        assert!(check(&json!({"$ref": "http://127.0.0.1:1/x"})).is_err());
        assert!(check(&json!({"$ref": "file:///etc/passwd"})).is_err());
    }
}
