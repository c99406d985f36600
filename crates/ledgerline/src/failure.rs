//! How commands fail: what they print, and their exit codes.

use std::io::Write as _;
use std::process::ExitCode;

use customers::ClientError;
use serde_json::Value;

// Told in docs/operator.md.
/// Refused, or failed on this side.
const FAILED: u8 = 1;
/// The command cannot be meant so.
const WRONG: u8 = 2;
/// No answer came: nobody knows whether it was done.
const NO_ANSWER: u8 = 3;
/// The server could not do it.
const SERVER_FAILED: u8 = 4;

/// A command that cannot be meant so.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// The error of a command that cannot be meant so: what is wrong, and what to write instead.
pub(crate) fn usage(what: impl Into<String>) -> anyhow::Error {
    Usage(what.into()).into()
}

/// Whether it may have been done all the same.
pub(crate) fn may_be_done(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable(..)
        | ClientError::Timeout(..)
        | ClientError::TooLarge(..)
        | ClientError::Strange(..) => true,
        ClientError::Refused { status, .. } => *status >= 500,
        _ => false,
    }
}

/// The exit code that says how it failed.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.is::<Usage>() {
        return WRONG.into();
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Address(..) | ClientError::Credential | ClientError::Header(..)) => WRONG,
        Some(ClientError::Unreachable(..) | ClientError::Timeout(..)) => NO_ANSWER,
        Some(ClientError::Refused { status: 500.., .. } | ClientError::Strange(..)) => {
            SERVER_FAILED
        }
        _ => FAILED,
    }
    .into()
}

/// Tells what went wrong, with its causes, and all mistakes that the server found.
pub(crate) fn complain(error: &anyhow::Error) {
    let io = error.root_cause().downcast_ref::<std::io::Error>();
    if io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        // Whoever reads has seen enough, as `head` has.
        return;
    }
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut told = format!("ledgerline: {}\n", causes.join(": "));
    if let Some(ClientError::Refused { details, .. }) = error.downcast_ref() {
        for mistake in details.get("mistakes").and_then(Value::as_array).into_iter().flatten() {
            let text = |name: &str| mistake.get(name).and_then(Value::as_str).unwrap_or_default();
            let line = [text("path"), ": ", text("problem"), "; ", text("remedy")];
            told.extend(["  ", &line.concat(), "\n"]);
        }
    }
    // Nobody is left to tell when this fails.
    drop(std::io::stderr().lock().write_all(told.as_bytes()));
}
