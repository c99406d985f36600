//! JSON-RPC 2.0, one message to a request.

use ::http::StatusCode;
use serde_json::{Value, json};

use crate::Error;

pub(crate) const PARSE_ERROR: i64 = -32700;
pub(crate) const INVALID_REQUEST: i64 = -32600;
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
pub(crate) const INVALID_PARAMS: i64 = -32602;
pub(crate) const INTERNAL_ERROR: i64 = -32603;

/// A message that has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// Absent if it wants no answer.
    pub(crate) id: Option<Value>,
    pub(crate) method: String,
    pub(crate) params: Value,
}

/// Why a call is not done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<Value>,
}

impl Failure {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(crate) fn params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    /// A failure of ours with this code; its own stable code goes along.
    pub(crate) fn told(code: i64, error: &web::Error) -> Self {
        let data = Some(json!({"code": error.code, "details": error.details}));
        Self { code, message: error.message.clone().into_owned(), data }
    }
}

impl From<web::Error> for Failure {
    fn from(error: web::Error) -> Self {
        let server =
            error.status.is_server_error() || error.status == StatusCode::TOO_MANY_REQUESTS;
        Self::told(if server { INTERNAL_ERROR } else { INVALID_PARAMS }, &error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        web::Error::from(error).into()
    }
}

/// Reads a message; a batch is none.
pub(crate) fn parse(body: &[u8]) -> Result<Call, Failure> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Failure::new(PARSE_ERROR, format!("the body is not JSON: {error}")))?;
    let invalid = |what: &str| Failure::new(INVALID_REQUEST, what);
    let Value::Object(mut members) = value else {
        return Err(invalid("the body must be one request or notification"));
    };
    if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(invalid("jsonrpc must be \"2.0\""));
    }
    let Some(Value::String(method)) = members.remove("method") else {
        return Err(invalid("method must be a text"));
    };
    let id = members.remove("id");
    if id.as_ref().is_some_and(|id| !(id.is_string() || id.is_number())) {
        return Err(invalid("id must be a text or a number"));
    }
    let params = members.remove("params").unwrap_or_else(|| json!({}));
    if !params.is_object() {
        return Err(invalid("params must be an object"));
    }
    Ok(Call { id, method, params })
}

/// The answer to a message of this id.
pub(crate) fn answer(id: Option<&Value>, outcome: Result<Value, Failure>) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(Failure { code, message, data }) => {
            let mut error = json!({"code": code, "message": message});
            if let (Some(data), Some(members)) = (data, error.as_object_mut()) {
                members.insert("data".to_owned(), data);
            }
            json!({"jsonrpc": "2.0", "id": id, "error": error})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_is_read_and_nothing_else() {
        let call = parse(br#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":1}}"#).unwrap();
        assert_eq!(
            (call.id, call.method.as_str(), call.params),
            (Some(json!(1)), "m", json!({"a": 1}))
        );
        assert_eq!(parse(br#"{"jsonrpc":"2.0","method":"m"}"#).unwrap().id, None);
        for (body, code) in [
            ("nonsense", PARSE_ERROR),
            ("[]", INVALID_REQUEST),
            (r#"{"id":1,"method":"m"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, INVALID_REQUEST),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[]}"#, INVALID_REQUEST),
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap_err().code, code, "{body}");
        }
    }
}
