//! Ids as the agent API writes them: a name, the time, and random digits.

use kernel::Timestamp;

use crate::{Error, Result};

/// The part of a name that an id shows.
const LONGEST_NAME: usize = 40;
const LONGEST_ID: usize = 128;

/// `react-20261121-174800-1f73e8a0`, for a session of the workflow file at this path.
pub(crate) fn session(config_path: &str, at: Timestamp) -> Result<String> {
    let file = config_path.rsplit('/').next().unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let name = slug(stem).to_lowercase().replace('_', "");
    let name = name.strip_suffix("workflow").unwrap_or(&name);
    let name = if name.is_empty() { "unknown" } else { name };
    let (day, time) = day_and_time(at);
    Ok(format!("{name}-{day}-{time}-{}", digits()?))
}

/// `research_20261121_174800_1f73e8a0`.
pub(crate) fn workflow(name: &str, at: Timestamp) -> Result<String> {
    let name = slug(name);
    let name = if name.is_empty() { "workflow" } else { &name };
    let (day, time) = day_and_time(at);
    Ok(format!("{name}_{day}_{time}_{}", digits()?))
}

/// `exec_20261121_174800_1f73e8a0`.
pub(crate) fn execution(at: Timestamp) -> Result<String> {
    let (day, time) = day_and_time(at);
    Ok(format!("exec_{day}_{time}_{}", digits()?))
}

/// `bookmark_20261121_174800_MESSAGE`.
pub(crate) fn bookmark(message_id: &str, at: Timestamp) -> String {
    let (day, time) = day_and_time(at);
    format!("bookmark_{day}_{time}_{message_id}")
}

/// A session's id, in the form of today or the short one of old (`react-251022-174800-1f73e8`).
/// Nothing else gets as far as a query or a file's name.
pub(crate) fn check_session(id: &str) -> Result<()> {
    if is_id(id, '-') { Ok(()) } else { Err(Error::SessionId(shown(id))) }
}

/// A session's id, or that of a run which has its history by itself.
pub(crate) fn check_history(id: &str) -> Result<()> {
    if id.starts_with("exec_") && is_id(id, '_') { Ok(()) } else { check_session(id) }
}

/// A workflow's id.
pub(crate) fn check_workflow(id: &str) -> Result<()> {
    if is_id(id, '_') { Ok(()) } else { Err(Error::WorkflowId(shown(id))) }
}

/// An execution's id.
pub(crate) fn check_execution(id: &str) -> Result<()> {
    let right = id.starts_with("exec_") && is_id(id, '_');
    if right { Ok(()) } else { Err(Error::UnknownExecution(shown(id))) }
}

pub(crate) fn shown(id: &str) -> String {
    id.chars().take(64).collect()
}

fn is_id(id: &str, between: char) -> bool {
    let mut parts = id.rsplitn(4, between);
    let (Some(digits), Some(time), Some(day), Some(name)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let long = (day.len(), digits.len()) == (8, 8);
    let short = between == '-' && (day.len(), digits.len()) == (6, 6);
    id.len() <= LONGEST_ID
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        && (long || short)
        && time.len() == 6
        && number(day)
        && number(time)
        && hex
}

/// What of a name can stand in an id.
fn slug(name: &str) -> String {
    let plain = name.chars().filter_map(|c| match c {
        c if c.is_ascii_alphanumeric() => Some(c),
        '_' | '-' | ' ' | '.' => Some('_'),
        _ => None,
    });
    let text: String = plain.take(LONGEST_NAME).collect();
    text.trim_matches('_').to_owned()
}

fn day_and_time(at: Timestamp) -> (String, String) {
    let text = at.to_string();
    let digits = |range| {
        let part: &str = text.get(range).unwrap_or_default();
        part.chars().filter(char::is_ascii_digit).collect()
    };
    (digits(0..10), digits(11..19))
}

fn digits() -> Result<String> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|_unavailable| Error::Random)?;
    Ok(format!("{:08x}", u32::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2025-11-21 08:00:01
    const AT: Timestamp = Timestamp::from_micros(1_763_712_001_000_001);

    #[test]
    fn ids_name_the_thing_and_the_time_and_are_taken_back() {
        for (path, begins) in [
            ("configs/workflows/react.yaml", "react-20251121-080001-"),
            ("plan_execute_workflow.yaml", "planexecute-20251121-080001-"),
            ("工作流.yaml", "unknown-20251121-080001-"),
            ("workflow.yaml", "unknown-20251121-080001-"),
        ] {
            let id = session(path, AT).unwrap();
            assert!(id.starts_with(begins), "{id}");
            check_session(&id).unwrap();
        }
        for (name, begins) in
            [("My flow", "My_flow_20251121_080001_"), ("示例工作流", "workflow_20251121_080001_")]
        {
            let id = workflow(name, AT).unwrap();
            assert!(id.starts_with(begins), "{id}");
            check_workflow(&id).unwrap();
        }
        check_execution(&execution(AT).unwrap()).unwrap();
        assert_ne!(execution(AT).unwrap(), execution(AT).unwrap());
    }

    #[test]
    fn foreign_forms_are_refused() {
        check_session("react-251022-174800-1f73e8").unwrap();
        for id in [
            "",
            "x",
            "react-251022-174800-1f73e8aa",
            "react-20251022-174800-1F73E8AA",
            "../../etc/passwd-20251022-174800-1f73e8aa",
            "-20251022-174800-1f73e8aa",
            "react-20251022-17480-1f73e8aa",
            "react_20251022_174800_1f73e8aa",
        ] {
            assert!(check_session(id).is_err(), "{id}");
        }
        assert!(check_session(&format!("{}-20251022-174800-1f73e8aa", "a".repeat(120))).is_err());
        assert!(check_workflow("a-20251022-174800-1f73e8aa").is_err());
        assert!(check_execution("run_20251022_174800_1f73e8aa").is_err());
    }
}
