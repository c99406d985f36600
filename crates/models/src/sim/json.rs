//! Values that fit a JSON schema, always the same ones.
#![expect(clippy::indexing_slicing, reason = "a JSON value answers null for what it has not")]

use serde_json::{Map, Value, json};

const DEEPEST: usize = 16;

/// A value that fits the schema's types, required properties, enums and constants.
pub(crate) fn fitting(schema: &Value) -> Value {
    fit(schema, 0)
}

fn fit(schema: &Value, depth: usize) -> Value {
    if let Some(constant) = schema.get("const") {
        return constant.clone();
    }
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    if let Some(first) = schema["anyOf"].as_array().and_then(|options| options.first()) {
        return fit(first, depth + 1);
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("object");
    match kind {
        "string" => json!("sim"),
        "integer" => json!(schema["minimum"].as_i64().unwrap_or(1)),
        "number" => json!(schema["minimum"].as_f64().unwrap_or(1.5)),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ if depth >= DEEPEST => Value::Null,
        "array" => json!([fit(&schema["items"], depth + 1)]),
        _ => object(schema, depth),
    }
}

fn object(schema: &Value, depth: usize) -> Value {
    let Some(properties) = schema["properties"].as_object() else {
        return json!({});
    };
    let members: Map<String, Value> = properties
        .iter()
        .map(|(name, property)| (name.clone(), fit(property, depth + 1)))
        .collect();
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fit_their_schema() {
        let schema = json!({"type": "object", "properties": {
            "city": {"type": "string"}, "days": {"type": "integer", "minimum": 3},
            "unit": {"enum": ["c", "f"]}, "tags": {"type": "array", "items": {"type": "boolean"}}}});
        assert_eq!(
            fitting(&schema),
            json!({"city": "sim", "days": 3, "unit": "c", "tags": [true]})
        );
    }
}
