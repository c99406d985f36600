//! The built-in conditions and route functions, as data.

use serde_json::Value;

use crate::expr::Fields;

/// A built-in condition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Check {
    ToolCalls,
    NoToolCalls,
    ToolResults,
    MaxIterations,
    Errors,
    NoErrors,
    PlanCompleted,
    MessageContains { text: String, case_sensitive: bool },
    IterationsEqual(u64),
    IterationsAbove(u64),
}

/// A built-in route function: gives one of a few words.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum RouteCheck {
    /// `continue` or the other word.
    Holds {
        check: Check,
        yes: &'static str,
        no: &'static str,
    },
    MaxIterations(Option<u64>),
    ToolCallCount,
    Status {
        field: String,
        mapping: Vec<(String, String)>,
        otherwise: String,
    },
    ToolResultStatus,
}

/// Words that mark a tool call in a text.
const MARKS: [&str; 2] = ["tool_call", "调用工具"];

impl Check {
    /// The condition of this name; its parameters come as a section or after a colon.
    pub(crate) fn find(name: &str, parameters: &Value) -> Option<Result<Self, String>> {
        let (name, inline) = match name.split_once(':') {
            Some((name, inline)) => (name.trim(), Some(inline.trim())),
            None => (name.trim(), None),
        };
        let count = |keys: &[&str]| {
            let given = keys.iter().find_map(|key| parameters.get(key)?.as_u64());
            given
                .or_else(|| inline?.parse().ok())
                .ok_or_else(|| format!("{name} needs the parameter {}", keys.join(" or ")))
        };
        Some(Ok(match name {
            "has_tool_call" | "has_tool_calls" => Self::ToolCalls,
            "no_tool_call" | "no_tool_calls" => Self::NoToolCalls,
            "has_tool_result" | "has_tool_results" => Self::ToolResults,
            "max_iterations" | "max_iterations_reached" => Self::MaxIterations,
            "has_error" | "has_errors" => Self::Errors,
            "no_error" | "no_errors" => Self::NoErrors,
            "plan_completed" => Self::PlanCompleted,
            "message_contains" => {
                let given = parameters.get("text").and_then(Value::as_str).or(inline);
                let Some(text) = given.filter(|text| !text.is_empty()) else {
                    return Some(Err("message_contains needs the parameter text".to_owned()));
                };
                let case_sensitive = parameters.get("case_sensitive") == Some(&Value::Bool(true));
                Self::MessageContains { text: text.to_owned(), case_sensitive }
            }
            "iteration_count_equals" => match count(&["count"]) {
                Ok(count) => Self::IterationsEqual(count),
                Err(error) => return Some(Err(error)),
            },
            "iteration_count_greater_than" => match count(&["count", "threshold"]) {
                Ok(count) => Self::IterationsAbove(count),
                Err(error) => return Some(Err(error)),
            },
            _ => return None,
        }))
    }

    pub(crate) fn holds(&self, fields: &Fields) -> bool {
        match self {
            Self::ToolCalls => calls(fields) > 0,
            Self::NoToolCalls => calls(fields) == 0,
            Self::ToolResults => !list(fields, "tool_results").is_empty(),
            Self::MaxIterations => {
                count(fields, "iteration_count") >= count(fields, "max_iterations")
            }
            Self::Errors => has_errors(fields),
            Self::NoErrors => !has_errors(fields),
            Self::PlanCompleted => {
                let plan = list(fields, "plan").len() as u64;
                plan > 0 && count(fields, "current_step_index") >= plan
            }
            Self::MessageContains { text, case_sensitive: true } => {
                last_text(fields).contains(text.as_str())
            }
            Self::MessageContains { text, case_sensitive: false } => {
                last_text(fields).to_lowercase().contains(&text.to_lowercase())
            }
            Self::IterationsEqual(number) => count(fields, "iteration_count") == *number,
            Self::IterationsAbove(number) => count(fields, "iteration_count") > *number,
        }
    }
}

impl RouteCheck {
    /// The route function of this name.
    pub(crate) fn find(name: &str, parameters: &Value) -> Option<Result<Self, String>> {
        let holds = |check, yes, no| Some(Ok(Self::Holds { check, yes, no }));
        match name {
            "has_tool_calls" => holds(Check::ToolCalls, "continue", "end"),
            "no_tool_calls" => holds(Check::NoToolCalls, "continue", "end"),
            "has_tool_results" => holds(Check::ToolResults, "continue", "end"),
            "max_iterations_reached" => Some(Ok(Self::MaxIterations(
                parameters.get("max_iterations").and_then(Value::as_u64),
            ))),
            "has_errors" => holds(Check::Errors, "error", "continue"),
            "no_errors" => holds(Check::NoErrors, "continue", "error"),
            "tool_call_count" => Some(Ok(Self::ToolCallCount)),
            "message_contains_error" => {
                let text = "error".to_owned();
                let check = Check::MessageContains { text, case_sensitive: false };
                holds(check, "has_error", "no_error")
            }
            "iteration_count_equals" | "iteration_count_greater_than" => {
                let (yes, no) = match name {
                    "iteration_count_equals" => ("equals", "not_equals"),
                    _ => ("greater", "not_greater"),
                };
                let check = Check::find(name, parameters)?;
                Some(check.map(|check| Self::Holds { check, yes, no }))
            }
            "status_check" => {
                let text = |key: &str| parameters.get(key).and_then(Value::as_str);
                let mapping = parameters.get("value_mapping").and_then(Value::as_object);
                let pairs = mapping.into_iter().flatten();
                Some(Ok(Self::Status {
                    field: text("state_key").unwrap_or("status").to_owned(),
                    mapping: pairs.map(|(from, to)| (from.clone(), shown(to))).collect(),
                    otherwise: text("default_route").unwrap_or("default").to_owned(),
                }))
            }
            "tool_result_status" => Some(Ok(Self::ToolResultStatus)),
            _ => None,
        }
    }

    /// Every word it can give, if they are few and known.
    pub(crate) fn words(&self) -> Vec<String> {
        let fixed: &[&str] = match self {
            Self::Holds { yes, no, .. } => &[yes, no],
            Self::MaxIterations(_) => &["continue", "end"],
            Self::ToolCallCount => &["single", "multiple", "none"],
            Self::ToolResultStatus => &["success", "error", "partial", "no_results"],
            Self::Status { mapping, otherwise, .. } => {
                let words = mapping.iter().map(|(_, to)| to.clone());
                return words.chain(std::iter::once(otherwise.clone())).collect();
            }
        };
        fixed.iter().map(|word| (*word).to_owned()).collect()
    }

    pub(crate) fn word(&self, fields: &Fields) -> String {
        match self {
            Self::Holds { check, yes, no } => if check.holds(fields) { *yes } else { *no }.into(),
            Self::MaxIterations(most) => {
                let most = most.unwrap_or_else(|| count(fields, "max_iterations"));
                if count(fields, "iteration_count") >= most { "end" } else { "continue" }.into()
            }
            Self::ToolCallCount => match calls(fields) {
                0 => "none",
                1 => "single",
                _ => "multiple",
            }
            .into(),
            Self::Status { field, mapping, otherwise } => {
                let value = fields.get(field).map(shown).unwrap_or_default();
                let mapped = mapping.iter().find(|(from, _)| *from == value);
                mapped.map_or(otherwise, |(_, to)| to).clone()
            }
            Self::ToolResultStatus => {
                let results = list(fields, "tool_results");
                let good = results.iter().filter(|result| result["success"] == true).count();
                match (results.len(), good) {
                    (0, _) => "no_results",
                    (_, 0) => "error",
                    (all, good) if all == good => "success",
                    _ => "partial",
                }
                .into()
            }
        }
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn list<'a>(fields: &'a Fields, name: &str) -> &'a [Value] {
    fields.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn count(fields: &Fields, name: &str) -> u64 {
    fields.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// The number of tool calls in the last message.
fn calls(fields: &Fields) -> usize {
    let Some(message) = list(fields, "messages").last() else { return 0 };
    let listed = message["tool_calls"].as_array().map_or(0, Vec::len);
    let text = message["content"].as_str().unwrap_or_default();
    let marked = MARKS.iter().any(|mark| text.contains(mark));
    if listed == 0 { usize::from(marked) } else { listed }
}

fn has_errors(fields: &Fields) -> bool {
    let failed = |result: &Value| result["success"] == false;
    !list(fields, "errors").is_empty() || list(fields, "tool_results").iter().any(failed)
}

fn last_text(fields: &Fields) -> &str {
    let last = list(fields, "messages").last();
    last.and_then(|message| message["content"].as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        match value {
            Value::Object(fields) => fields,
            _ => panic!("fields"),
        }
    }

    #[test]
    fn conditions_look_at_the_last_message_and_the_counters() {
        let calling = fields(json!({"messages": [{"role": "assistant", "content": null,
            "tool_calls": [{"id": "1"}]}], "iteration_count": 3, "max_iterations": 3}));
        let holds = |name: &str| Check::find(name, &json!({})).unwrap().unwrap().holds(&calling);
        assert!(holds("has_tool_calls") && holds("max_iterations") && holds("no_errors"));
        assert!(holds("iteration_count_equals:3") && holds("iteration_count_greater_than:2"));
        assert!(!holds("no_tool_calls") && !holds("has_tool_results") && !holds("plan_completed"));
        let text = fields(json!({"messages": [{"content": "请 调用工具:x({})"}]}));
        assert!(Check::ToolCalls.holds(&text));
        assert!(Check::find("message_contains", &json!({})).unwrap().is_err());
        assert!(Check::find("unheard_of", &json!({})).is_none());
    }

    #[test]
    fn routes_give_their_words() {
        let word = |name: &str, parameters: Value, state: Value| {
            RouteCheck::find(name, &parameters).unwrap().unwrap().word(&fields(state))
        };
        assert_eq!(word("has_errors", json!({}), json!({"errors": ["x"]})), "error");
        assert_eq!(word("tool_call_count", json!({}), json!({})), "none");
        let results = json!({"tool_results": [{"success": true}, {"success": false}]});
        assert_eq!(word("tool_result_status", json!({}), results), "partial");
        let mapping = json!({"value_mapping": {"ok": "go"}, "default_route": "stop"});
        assert_eq!(word("status_check", mapping.clone(), json!({"status": "ok"})), "go");
        assert_eq!(word("status_check", mapping, json!({})), "stop");
    }
}
