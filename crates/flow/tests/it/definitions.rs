//! What definitions compile to, and what is said about bad ones.

use std::fmt::Write as _;
use std::path::Path;

use flow::{Compiled, Drawing, Severity, Surroundings, compile};

fn read(text: &str) -> Compiled {
    let tools = ["calculator", "time"].map(str::to_owned).into();
    compile(text, &Surroundings { tools, ..Surroundings::default() })
}

fn errors(text: &str) -> Vec<(&'static str, String)> {
    let compiled = read(text);
    let errors = compiled.findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| (finding.code, finding.path.clone())).collect()
}

fn shipped() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/workflows");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn the_shipped_definitions_compile_without_a_warning() {
    let shipped = shipped();
    assert_eq!(
        shipped.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["collaborative", "human_review", "plan_execute", "react"]
    );
    for (name, text) in shipped {
        let compiled = read(&text);
        let program =
            compiled.program.unwrap_or_else(|| panic!("{name}: {:#?}", compiled.findings));
        assert_eq!(program.name().as_ref(), name);
        let serious: Vec<String> = compiled
            .findings
            .iter()
            .filter(|finding| finding.severity != Severity::Info)
            .map(ToString::to_string)
            .collect();
        assert_eq!(serious, [""; 0], "{name}");
    }
}

#[test]
fn a_definition_keeps_its_id_when_read_back_from_its_own_text() {
    for (name, text) in shipped() {
        let first = read(&text);
        let again = read(&first.text);
        assert_eq!(first.program.unwrap().id(), again.program.unwrap().id(), "{name}");
    }
}

#[test]
fn drawings_are_as_they_were_reviewed() {
    let all = shipped();
    let (_, text) = all.iter().find(|(name, _)| name == "react").unwrap();
    let program = read(text).program.unwrap();
    insta::assert_snapshot!("mermaid", program.draw(Drawing::Mermaid));
    insta::assert_snapshot!("dot", program.draw(Drawing::Dot));
    insta::assert_snapshot!("svg", program.draw(Drawing::Svg));
    insta::assert_snapshot!("picture", format!("{:#}", program.picture()));
}

#[test]
fn every_mistake_is_reported_with_its_place_and_remedy() {
    let text = r#"
description: Everything is wrong here.
state_schema: {fields: {"no name": {type: str}, total: {type: int, reducer: guess}}}
nodes:
  a: {type: llm, config: {model: m, temperature: 9, tools: [hammer], colour: red}}
  b: {type: nonsense}
  c: {type: transform, config: {set: {x: "= 1 +", y: "{{ open"}}}
  d: {type: wait, config: {schema: {type: rubbish}}}
  e: {type: map, config: {items: "= plan", flow: nowhere}}
  f: {type: http, config: {method: FETCH}}
edges:
  - {from: a, to: z}
  - {from: a, to: b, type: conditional}
  - {from: b, to: c, type: conditional, condition: "open('x')"}
  - {from: q, to: c}
  - {from: c, to: d, type: fancy}
  - {from: c, route_function: unheard_of, path_map: {x: d}}
entry_point: nobody
"#;
    let compiled = read(text);
    assert!(compiled.program.is_none());
    let mut listed = String::new();
    for finding in &compiled.findings {
        writeln!(listed, "{finding}").unwrap();
        assert!(!finding.remedy.is_empty() && !finding.message.is_empty());
    }
    insta::assert_snapshot!("findings", listed);
}

#[test]
fn cyclic_dangling_duplicate_and_empty_definitions_are_refused() {
    let code = |text: &str| errors(text).into_iter().map(|(code, _)| code).collect::<Vec<_>>();
    let head = "name: x\ndescription: y\n";
    let nodes = "nodes: {a: {type: pass}, b: {type: pass}}\n";
    let cycle = format!("{head}{nodes}edges: [{{from: a, to: b}}, {{from: b, to: a}}]");
    assert_eq!(code(&cycle), ["never_ends"]);
    let escape = format!(
        "{head}{nodes}edges: [{{from: a, to: b}}, {{from: b, to: a}}, \
         {{from: b, to: __end__, type: conditional, condition: has_errors}}]"
    );
    assert_eq!(code(&escape), ["endless_cycle"]);
    let itself = format!(
        "{head}nodes: {{a: {{type: subflow, config: {{flow: f}}}}}}\n\
         flows: {{f: {{nodes: {{b: {{type: subflow, config: {{flow: f}}}}}}}}}}"
    );
    assert_eq!(code(&itself), ["nested_too_deep"]);
    let twice = format!("{head}nodes: [{{id: a, type: pass}}, {{id: a, type: pass}}]");
    assert_eq!(code(&twice), ["duplicate_node"]);
    assert_eq!(
        code(&format!("{head}nodes: {{a: {{type: pass}}, a: {{type: pass}}}}")),
        ["not_yaml"]
    );
    assert_eq!(code(&format!("{head}nodes: {{}}")), ["no_nodes"]);
    assert_eq!(code(head), ["missing_key"]);
    assert_eq!(code(""), ["not_a_definition"]);
    assert_eq!(code("[1, 2]"), ["not_a_definition"]);
    assert_eq!(code("{{{{"), ["not_yaml"]);
}

#[test]
fn huge_and_hostile_definitions_are_refused_quickly() {
    let started = std::time::Instant::now();
    assert_eq!(errors(&"x".repeat(300_000))[0].0, "too_large");
    assert_eq!(errors(&format!("a: {}", "[".repeat(100_000)))[0].0, "not_yaml");
    let mut many = "name: x\ndescription: y\nnodes:\n".to_owned();
    for at in 0..1500 {
        writeln!(many, "  n{at}: {{type: pass}}").unwrap();
    }
    assert_eq!(errors(&many)[0].0, "too_many_nodes");
    let mut dense = "name: x\ndescription: y\nnodes:\n".to_owned();
    for at in 0..70 {
        writeln!(dense, "  n{at}: {{type: pass}}").unwrap();
    }
    dense.push_str("edges:\n");
    for from in 0..70 {
        for to in 0..70 {
            writeln!(dense, "  - {{from: n{from}, to: n{to}}}").unwrap();
        }
    }
    assert!(!errors(&dense).is_empty());
    let mut long = "name: x\ndescription: y\nnodes:\n".to_owned();
    for at in 0..1000 {
        writeln!(long, "  n{at}: {{type: pass, config: {{next_node: n{}}}}}", (at + 1) % 1000)
            .unwrap();
    }
    assert_eq!(errors(&long)[0].0, "never_ends");
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

#[test]
fn variables_come_from_the_loader_and_never_from_the_environment() {
    let text = "name: ${NAME}\ndescription: ${WORDS:none}\nnodes: {a: {type: pass}}";
    let around =
        Surroundings { variables: [("NAME".into(), "x".into())].into(), ..Default::default() };
    let program = compile(text, &around).program.unwrap();
    assert_eq!((program.name().as_ref(), program.description()), ("x", "none"));
    let leak = "name: ${PATH}\ndescription: d\nnodes: {a: {type: pass}}";
    assert_eq!(errors(leak)[0], ("unset_variable", "name".to_owned()));
}

#[test]
fn a_definition_inherits_what_it_does_not_say() {
    let base = "name: base\ndescription: d\nnodes: {a: {type: pass}}\n";
    let files = [
        ("base.yaml".to_owned(), base.to_owned()),
        ("circle.yaml".to_owned(), "inherits_from: circle.yaml".to_owned()),
    ];
    let around = Surroundings { files: files.into(), ..Default::default() };
    let heir = compile("inherits_from: base.yaml\nname: heir", &around);
    assert_eq!(heir.program.unwrap().name().as_ref(), "heir");
    for bad in ["inherits_from: nowhere.yaml", "inherits_from: circle.yaml"] {
        assert!(compile(bad, &around).program.is_none());
    }
}

#[test]
fn a_v1_definition_with_python_conditions_and_odd_markers_compiles() {
    let text = r#"
name: review
description: As the original writes them.
version: 1.0
state_schema: {messages: "List[BaseMessage]", plan: "List[str]", current_step_index: int}
nodes:
  work: {type: llm_node, config: {llm_client: openai-gpt4, system_prompt_template: "Step {current_step}"}}
  check:
    type: condition_node
    config:
      conditions:
        - {type: custom, next_node: work, parameters: {expression: "len(state.plan) > 0 and state.current_step_index < len(state.plan)"}}
      default_next_node: ask
  ask:
    type: wait_node
    config: {timeout_enabled: true, timeout_seconds: 300, timeout_strategy: continue_waiting,
      auto_resume_key: human_review_result, routing_rules: {approved: done, again: work}, default_next_node: done}
  done: {type: llm_node, config: {llm_client: openai-gpt4}}
edges:
  - {from: start, to: work, type: simple}
  - {from: work, to: check, type: simple}
  - {from: done, to: end, type: simple}
entry_point: work
additional_config: {max_iterations: 15, recursion_limit: 30, enable_streaming: true}
"#;
    let compiled = read(text);
    assert!(compiled.program.is_some(), "{:#?}", compiled.findings);
}
