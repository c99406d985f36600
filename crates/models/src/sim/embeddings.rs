//! Simulated embeddings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{SimRefusal, Style, count_tokens};

const DEFAULT_DIMENSIONS: usize = 64;
const MOST_DIMENSIONS: usize = 4096;

#[derive(Deserialize)]
struct Wire {
    model: String,
    input: Value,
    #[serde(default)]
    dimensions: Option<usize>,
    #[serde(default)]
    encoding_format: Option<String>,
}

/// Unit vectors that depend on nothing but the texts.
pub fn embeddings(body: &[u8], style: Style) -> Result<Bytes, SimRefusal> {
    let wire: Wire = serde_json::from_slice(body)
        .map_err(|cause| SimRefusal::new(400, &format!("the request is not valid: {cause}")))?;
    let texts: Vec<String> = match &wire.input {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect(),
        _ => return Err(SimRefusal::new(400, "input must be a string or an array")),
    };
    let dimensions = wire.dimensions.unwrap_or(DEFAULT_DIMENSIONS).clamp(1, MOST_DIMENSIONS);
    let as_base64 = wire.encoding_format.as_deref() == Some("base64");
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = vector(text, dimensions);
            json!({"object": "embedding", "index": index, "embedding": encoded(&vector, as_base64)})
        })
        .collect();
    let tokens = texts.iter().map(|text| count_tokens(text)).sum::<u64>().max(1);
    let usage = match style {
        Style::Normal => json!({"prompt_tokens": tokens, "total_tokens": tokens}),
        Style::Odd => json!({"prompt_tokens": -3, "total_tokens": tokens}),
        Style::Missing => Value::Null,
    };
    let answer = json!({"object": "list", "data": data, "model": wire.model, "usage": usage});
    Ok(Bytes::from(answer.to_string()))
}

fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut bytes = vec![0_u8; dimensions];
    blake3::Hasher::new().update(text.as_bytes()).finalize_xof().fill(&mut bytes);
    let raw: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte) - 127.5).collect();
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
    raw.iter().map(|value| value / length).collect()
}

fn encoded(vector: &[f32], as_base64: bool) -> Value {
    if !as_base64 {
        return json!(vector);
    }
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    json!(STANDARD.encode(bytes))
}
