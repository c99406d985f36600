//! The examples of docs/flows.md: they compile without a warning, and give what they say.

use flow::{Config, Severity, Status, Surroundings, compile};
use serde_json::Value;

use super::bed::{Bed, migrations};

const DOCUMENT: &str = include_str!("../../../../docs/flows.md");

fn examples() -> Vec<&'static str> {
    DOCUMENT.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[tokio::test]
async fn the_examples_of_the_documentation_do_what_they_say() {
    let test = testkit::sqlite(&migrations()).await;
    let bed = Bed::on(&test, Config::default()).await;
    let examples = examples();
    assert!(examples.len() >= 6);
    for example in examples {
        let compiled = compile(example, &Surroundings::default());
        let serious: Vec<_> = compiled
            .findings
            .iter()
            .filter(|finding| finding.severity != Severity::Info)
            .map(ToString::to_string)
            .collect();
        assert_eq!(serious, [""; 0], "{example}");
        let first = example.lines().next().unwrap();
        let (input, output) =
            first.strip_prefix("# run: ").and_then(|line| line.split_once(" -> ")).expect(first);
        let input: Value = serde_json::from_str(input).unwrap();
        let run = bed.carry_out(example, input).await;
        assert_eq!(run.status, Status::Succeeded, "{:?}\n{example}", run.error);
        assert_eq!(run.output, Some(serde_json::from_str(output).unwrap()), "{example}");
    }
    bed.close().await;
}
