//! The machine under random outcomes: whatever comes in, the state is what the events add up to, and
//! the run comes to an end.

use kernel::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use crate::event::{Event, Status, StepError};
use crate::graph::Program;
use crate::machine::{Bounds, Input, effect_of, step};
use crate::state::{Doing, State};
use crate::{Surroundings, compile};

const FLOWS: [&str; 3] = [
    r#"
name: a
nodes:
  think: {type: llm, config: {model: m, prompt: "{{ x }}", output: x}, retry: {attempts: 3, delay_ms: 10}, on_error: {goto: sorry}}
  each: {type: map, config: {items: "= [1, 2, 3, 4]", flow: f, max_parallel: 2, output: xs}, on_error: {value: []}}
  ask: {type: wait, config: {message: "{{ x }}?", expires_seconds: 5, on_expiry: {goto: sorry}, output: y}}
  sorry: {type: transform, config: {set: {sorry: true}}}
edges: [{from: think, to: each}, {from: think, to: ask}, {from: each, to: sorry}]
flows:
  f: {nodes: {t: {type: tool, config: {tool: t, output: r}}}, output: "= r"}
"#,
    r#"
name: b
nodes:
  talk: {type: llm, config: {model: m, history: true}}
  use: {type: tool_node, config: {max_parallel_calls: 2}}
  round: {type: loop, config: {flow: g, max_iterations: 3, until: "= last == 1"}, on_error: {goto: __end__}}
  side: {type: parallel, config: {branches: {l: g, r: g}, output: sides}}
edges:
  - {from: talk, to: use, condition: has_tool_calls}
  - {from: talk, to: round, condition: no_tool_calls}
  - {from: use, to: talk, condition: "iteration_count < 4"}
  - {from: round, to: side}
flows:
  g: {nodes: {h: {type: http, config: {url: "http://x/"}, output: r}, d: {type: delay, config: {seconds: 1}}}, edges: [{from: h, to: d}], output: "= r"}
"#,
    r"
name: c
interrupt_before: [one]
interrupt_after: [two]
nodes:
  one: {type: tool, config: {tool: t}}
  two: {type: subflow, config: {flow: h}}
edges: [{from: one, to: two}]
flows:
  h: {nodes: {a: {type: tool, config: {tool: t}, on_error: {value: 1}}, b: {type: llm, config: {model: m, prompt: p}}}, edges: [{from: a, to: b}]}
limits: {timeout_seconds: 60}
",
];

const BOUNDS: Bounds = Bounds { steps: 200, fan_out: 50, state_bytes: 100_000 };

fn program(at: usize) -> Program {
    let compiled = compile(FLOWS[at], &Surroundings::default());
    compiled.program.unwrap_or_else(|| panic!("{:#?}", compiled.findings))
}

/// What comes of an effect, and what else happens.
#[derive(Clone, Copy, Debug)]
enum Choice {
    Good(u8, bool),
    Bad(u8),
    Answer,
    Later(u16),
    Crash,
    Cancel,
}

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    let choice = prop_oneof![
        12 => (any::<u8>(), any::<bool>()).prop_map(|(which, calls)| Choice::Good(which, calls)),
        3 => any::<u8>().prop_map(Choice::Bad),
        3 => Just(Choice::Answer),
        4 => (0..20_000_u16).prop_map(Choice::Later),
        1 => Just(Choice::Crash),
        1 => prop::bool::weighted(0.2).prop_map(|really| if really { Choice::Cancel } else { Choice::Answer }),
    ];
    prop::collection::vec(choice, 1..120)
}

struct Trial {
    program: Program,
    state: State,
    log: Vec<Event>,
    now: Timestamp,
}

impl Trial {
    fn new(at: usize) -> Self {
        let program = program(at);
        let mut trial = Self {
            program,
            state: State::default(),
            log: Vec::new(),
            now: Timestamp::from_micros(0),
        };
        let created = Event::Created { input: crate::expr::Fields::new() };
        trial.state.apply(&trial.program, &created);
        trial.log.push(created);
        let deadline = Some(trial.now.after(std::time::Duration::from_hours(1)));
        trial.take(Input::Start { deadline });
        trial
    }

    fn take(&mut self, input: Input) {
        if let Ok(events) = step(&self.program, &mut self.state, BOUNDS, input, self.now) {
            self.log.extend(events);
        }
        // As it is read back from the database.
        let text = serde_json::to_string(&self.log).unwrap();
        let log: Vec<Event> = serde_json::from_str(&text).unwrap();
        let mut again = State::default();
        log.iter().for_each(|event| again.apply(&self.program, event));
        assert_eq!(again, self.state, "{:#?}", self.log);
    }

    /// An effect under way, chosen by a number.
    fn effect(&self, which: u8) -> Option<u64> {
        let all: Vec<u64> = self.state.effects().map(|(id, _)| id).collect();
        all.get(usize::from(which) % all.len().max(1)).copied()
    }

    fn choose(&mut self, choice: Choice) {
        match choice {
            Choice::Good(which, calls) => {
                let Some(id) = self.effect(which) else { return };
                let found = &self.state.steps[&id];
                if !found.given_up {
                    // What it is to do can be told at any time.
                    let effect = effect_of(&self.program, &self.state, found);
                    assert!(
                        effect.is_ok()
                            || matches!(&effect, Err(error) if error.code == "bad_expression")
                    );
                }
                let call = json!([{"id": "1", "name": "t"}, {"id": "2", "name": "u"}]);
                let message = json!({"role": "assistant", "content": "x",
                    "tool_calls": if calls { call } else { json!([]) }});
                let output =
                    json!({"message": message, "value": "x", "success": true, "result": 1});
                self.take(Input::Finished { step: id, output, charge: None });
            }
            Choice::Bad(which) => {
                let Some(step) = self.effect(which) else { return };
                let error = StepError::temporary("bad", "it failed");
                self.take(Input::Failed { step, error, charge: None });
            }
            Choice::Answer => {
                let waits = |doing: &Doing| matches!(doing, Doing::Waiting { .. });
                let open = self.state.steps.iter().find(|(_, step)| waits(&step.doing));
                let Some(step) = open.map(|(id, _)| *id) else { return };
                self.take(Input::Answer { step, answer: json!("yes") });
                let before = self.log.len();
                self.take(Input::Answer { step, answer: json!("no") });
                assert_eq!(self.log.len(), before, "a question was answered twice");
            }
            Choice::Later(millis) => {
                self.now = self.now.after(std::time::Duration::from_millis(millis.into()));
                self.take(Input::Wake);
            }
            Choice::Crash => self.take(Input::Recover),
            Choice::Cancel => self.take(Input::Cancel),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn the_state_is_what_the_events_add_up_to(at in 0..3_usize, choices in choices()) {
        let mut trial = Trial::new(at);
        for choice in choices {
            trial.choose(choice);
        }
        // Left to itself, with everything going well, it comes to an end.
        for round in 0..2000_u32 {
            if trial.state.status.is_final() {
                break;
            }
            trial.choose(Choice::Good(0, false));
            trial.choose(Choice::Answer);
            trial.choose(Choice::Later(2000));
            prop_assert!(round < 1999, "{:#?}", trial.log);
        }
        let ends = trial.log.iter().filter(|event| matches!(event, Event::Finished { .. })).count();
        prop_assert_eq!(ends, 1);
        let mut finished = std::collections::HashMap::new();
        for event in &trial.log {
            if let Event::StepFinished { step, .. } = event {
                *finished.entry(*step).or_insert(0) += 1;
            }
        }
        prop_assert!(finished.values().all(|times| *times == 1), "{:#?}", trial.log);
        if trial.state.status == Status::Succeeded {
            prop_assert!(trial.state.error.is_none());
        }
    }
}
