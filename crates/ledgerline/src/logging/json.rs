//! A log line as one JSON object. An error is told with all its causes.

use std::error::Error;
use std::fmt;

use kernel::{Clock as _, SystemClock, Timestamp};
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Most lines fit without growing.
const ROOM: usize = 384;

/// Writes each event as `{"timestamp":…,"level":…,"message":…,…fields,"target":…}`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Line { text: Vec::with_capacity(ROOM), outcome: Ok(()) };
        line.begin(SystemClock.now());
        line.put("level", &metadata.level().as_str());
        event.record(&mut line);
        line.put("target", &metadata.target());
        line.outcome?;
        line.text.extend_from_slice(b"}\n");
        writer.write_str(str::from_utf8(&line.text).map_err(|_no_text| fmt::Error)?)
    }
}

struct Line {
    text: Vec<u8>,
    outcome: fmt::Result,
}

impl Line {
    fn begin(&mut self, now: Timestamp) {
        self.text.extend_from_slice(b"{\"timestamp\":");
        self.value(&now);
    }

    /// Names are those of fields in the code: nothing in them needs to be escaped.
    fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.text.extend_from_slice(b",\"");
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
        self.value(value);
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) {
        if serde_json::to_writer(&mut self.text, value).is_err() {
            self.outcome = Err(fmt::Error);
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), &format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), &value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field.name(), &with_causes(value));
    }
}

/// The error's text and that of each cause, from the outside in; what a cause repeats of the one
/// before is told once.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;
    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the books cannot be written")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("the \"disk\" failed")]
    struct Inner(#[source] io::Error);

    #[test]
    fn a_line_is_json_and_holds_the_whole_chain_of_causes() {
        let output = Output::default();
        let made = output.clone();
        let subscriber = tracing_subscriber::fmt()
            .event_format(Lines)
            .with_writer(move || made.clone())
            .finish();
        let error = Outer(Inner(io::Error::other("no space left")));
        tracing::subscriber::with_default(subscriber, || {
            let error = &error as &dyn Error;
            tracing::error!(target: "t", error, count = 3, flag = true, id = %"a\"b", none = None::<u64>, "a\nmessage");
        });
        let text = String::from_utf8(output.0.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            line["error"],
            "the books cannot be written: the \"disk\" failed: no space left"
        );
        assert_eq!(line["message"], "a\nmessage");
        assert_eq!((&line["count"], &line["flag"]), (&Value::from(3), &Value::from(true)));
        assert_eq!((&line["level"], &line["target"]), (&Value::from("ERROR"), &Value::from("t")));
        assert_eq!(line["id"], "a\"b");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}
