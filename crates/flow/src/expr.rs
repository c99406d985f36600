//! Expressions: CEL, compiled once, evaluated over the state's fields. They compute and do nothing else.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cel::common::ast::{EntryExpr, Expr as Ast, IdedExpr};
use cel::extractors::This;
use cel::objects::{Key, Map as CelMap};
use cel::parser::PrattParser;
use cel::{Context, Value as Cel};
use serde_json::{Map, Number, Value};

/// The fields that an expression or template sees.
pub(crate) type Fields = Map<String, Value>;

const LONGEST: usize = 4096;
const MOST_NODES: usize = 500;
/// Deeper nesting than this is refused when parsing.
const DEPTH: u16 = 48;
/// Steps an evaluation may take at most, estimated before it begins.
const MOST_STEPS: u64 = 2_000_000;

/// A compiled expression.
#[derive(Debug)]
pub(crate) struct Expr {
    source: Arc<str>,
    ast: IdedExpr,
    /// The fields it reads; `None` for all (it names `state`).
    reads: Option<BTreeSet<String>>,
    nodes: u64,
    /// How deep its loops (`all`, `exists`, `map`, `filter`) are nested.
    loops: u32,
}

impl Expr {
    pub(crate) fn compile(source: &str) -> Result<Self, String> {
        if source.len() > LONGEST {
            return Err(format!("it has more than {LONGEST} bytes"));
        }
        balanced(source)?;
        let parser =
            PrattParser::new().max_recursion_depth(DEPTH).max_expression_node_count(MOST_NODES);
        let ast = parser.parse(source).map_err(|errors| first_line(&errors.to_string()))?;
        let (nodes, loops) = measure(&ast);
        if loops > 3 {
            return Err("its loops are nested more than three deep".to_owned());
        }
        let references = ast.references();
        let unknown = references.functions().into_iter().find(|name| !is_known(name));
        if let Some(name) = unknown {
            return Err(format!("there is no function {name}"));
        }
        let names: BTreeSet<String> =
            references.variables().into_iter().map(str::to_owned).collect();
        let reads = (!names.contains("state")).then_some(names);
        Ok(Self { source: source.into(), ast, reads, nodes, loops })
    }

    /// The value over these fields; the later ones hide the earlier.
    pub(crate) fn eval(&self, scopes: &[&Fields]) -> Result<Value, String> {
        let mut longest = 1;
        let mut context = Context::default();
        add_functions(&mut context);
        let mut state = HashMap::new();
        for (name, value) in scopes.iter().flat_map(|fields| fields.iter()) {
            match &self.reads {
                Some(names) if !names.contains(name) => {}
                Some(_) => {
                    context.add_variable_from_value(name.as_str(), to_cel(value, &mut longest));
                }
                None => {
                    let value = to_cel(value, &mut longest);
                    context.add_variable_from_value(name.as_str(), value.clone());
                    drop(state.insert(Key::from(name.as_str()), value));
                }
            }
        }
        if self.reads.is_none() {
            context.add_variable_from_value("state", Cel::Map(CelMap { map: Arc::new(state) }));
        }
        let steps = longest.saturating_pow(self.loops).saturating_mul(self.nodes);
        if steps > MOST_STEPS {
            return Err(format!("{} is too much work over a list of {longest}", self.source));
        }
        let value = Cel::resolve(&self.ast, &context)
            .map_err(|error| format!("{}: {}", self.source, shorten(&error.to_string())))?;
        to_json(&value, 0).ok_or_else(|| format!("{}: its value is not JSON", self.source))
    }

    /// Whether it holds: true, or anything that is not empty, zero, false or null.
    pub(crate) fn holds(&self, scopes: &[&Fields]) -> Result<bool, String> {
        self.eval(scopes).map(|value| truthy(&value))
    }
}

/// Brackets are closed, and not nested too deep: the parser does not always say so.
fn balanced(source: &str) -> Result<(), String> {
    let (mut depth, mut quote) = (0_u16, None);
    let mut letters = source.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(_), '\\') => drop(letters.next()),
            (Some(open), _) if open == letter => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => {
                depth = depth.checked_sub(1).ok_or("a bracket is closed that was not opened")?;
            }
            _ => {}
        }
        if depth > DEPTH {
            return Err("its brackets are nested too deep".to_owned());
        }
    }
    match (depth, quote) {
        (0, None) => Ok(()),
        (_, None) => Err("a bracket is not closed".to_owned()),
        (_, Some(_)) => Err("a text is not closed".to_owned()),
    }
}

fn first_line(text: &str) -> String {
    shorten(text.lines().next().unwrap_or("it cannot be read"))
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Whether a value counts as true.
pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// The functions an expression may call: operators, CEL's own, and a few for reading JSON.
fn is_known(name: &str) -> bool {
    const OWN: [&str; 3] = ["get", "truthy", "entries"];
    const STANDARD: [&str; 16] = [
        "size",
        "contains",
        "startsWith",
        "endsWith",
        "string",
        "int",
        "uint",
        "double",
        "bool",
        "has",
        "all",
        "exists",
        "exists_one",
        "map",
        "filter",
        "type",
    ];
    let operator = name.starts_with('@') || !name.contains(|c: char| c.is_alphanumeric());
    operator || OWN.contains(&name) || STANDARD.contains(&name) || matches!(name, "min" | "max")
}

fn add_functions(context: &mut Context<'_, '_>) {
    // None of these names is taken, so adding them cannot fail.
    context.add_function("truthy", |value: Cel| is_true(&value)).unwrap_or_default();
    context.add_function("get", get).unwrap_or_default();
    context.add_function("entries", |This(of): This<Cel>| entries(&of)).unwrap_or_default();
}

fn is_true(value: &Cel) -> bool {
    to_json(value, 0).is_some_and(|value| truthy(&value))
}

/// `map.get(key, default)`: no error when the key is not there.
fn get(This(of): This<Cel>, cel::extractors::Arguments(args): cel::extractors::Arguments) -> Cel {
    let fallback = args.get(1).cloned().unwrap_or(Cel::Null);
    match (&of, args.first()) {
        (Cel::Map(map), Some(Cel::String(name))) => {
            map.map.get(&Key::String(Arc::clone(name))).cloned().unwrap_or(fallback)
        }
        _ => fallback,
    }
}

/// A map as a list of `[key, value]`, by key.
fn entries(of: &Cel) -> Cel {
    let Cel::Map(map) = of else { return Cel::List(Arc::default()) };
    let mut pairs: Vec<_> = map.map.iter().collect();
    pairs.sort_by(|one, two| one.0.cmp(two.0));
    let pair = |(key, value): (&Key, &Cel)| {
        Cel::List(Arc::new(vec![Cel::from(key.clone()), value.clone()]))
    };
    Cel::List(Arc::new(pairs.into_iter().map(pair).collect()))
}

fn to_cel(value: &Value, longest: &mut u64) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(flag) => Cel::Bool(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Cel::Int(whole),
            (None, Some(large)) => Cel::UInt(large),
            (None, None) => Cel::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => {
            *longest = (*longest).max(items.len() as u64);
            Cel::List(Arc::new(items.iter().map(|item| to_cel(item, longest)).collect()))
        }
        Value::Object(members) => {
            *longest = (*longest).max(members.len() as u64);
            let map = members
                .iter()
                .map(|(name, member)| (Key::from(name.as_str()), to_cel(member, longest)));
            Cel::Map(CelMap { map: Arc::new(map.collect()) })
        }
    }
}

fn to_json(value: &Cel, depth: usize) -> Option<Value> {
    if depth > 100 {
        return None;
    }
    Some(match value {
        Cel::Null => Value::Null,
        Cel::Bool(flag) => Value::Bool(*flag),
        Cel::Int(number) => Value::from(*number),
        Cel::UInt(number) => Value::from(*number),
        Cel::Float(number) => Value::Number(Number::from_f64(*number)?),
        Cel::String(text) => Value::String(text.to_string()),
        Cel::List(items) => {
            Value::Array(items.iter().map(|item| to_json(item, depth + 1)).collect::<Option<_>>()?)
        }
        Cel::Map(map) => {
            let member = |(key, value): (&Key, &Cel)| {
                let name = match key {
                    Key::String(text) => text.to_string(),
                    Key::Int(number) => number.to_string(),
                    Key::Uint(number) => number.to_string(),
                    Key::Bool(flag) => flag.to_string(),
                };
                Some((name, to_json(value, depth + 1)?))
            };
            Value::Object(map.map.iter().map(member).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// How many nodes an expression has, and how deep its loops are nested.
fn measure(expr: &IdedExpr) -> (u64, u32) {
    let children: Vec<&IdedExpr> = match &expr.expr {
        Ast::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Ast::List(list) => list.elements.iter().collect(),
        Ast::Select(select) => vec![&select.operand],
        Ast::Map(map) => map.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Ast::Struct(made) => made.entries.iter().flat_map(|entry| parts(&entry.expr)).collect(),
        Ast::Comprehension(looped) => {
            let (range_nodes, range_loops) = measure(&looped.iter_range);
            let inner = [&looped.accu_init, &looped.loop_cond, &looped.loop_step, &looped.result];
            let (mut nodes, mut loops) = (range_nodes + 1, 0);
            for part in inner {
                let (more, deep) = measure(part);
                nodes += more;
                loops = loops.max(deep);
            }
            // What is looped over may itself be as long as its own loops make it.
            return (nodes, loops + 1 + range_loops);
        }
        Ast::Ident(_) | Ast::Literal(_) | Ast::Unspecified => Vec::new(),
    };
    children
        .into_iter()
        .map(measure)
        .fold((1, 0), |(nodes, loops), (more, deep)| (nodes + more, loops.max(deep)))
}

fn parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn eval(source: &str, fields: Value) -> Result<Value, String> {
        let Value::Object(fields) = fields else { panic!("fields") };
        Expr::compile(source)?.eval(&[&fields])
    }

    #[test]
    fn fields_are_read_by_name_and_through_state() {
        let fields = json!({"n": 3, "plan": ["a"], "who": {"role": "boss"}, "f": 1.5});
        assert_eq!(eval("n > 2 && who.role == 'boss'", fields.clone()), Ok(json!(true)));
        assert_eq!(eval("size(state.plan) + n", fields.clone()), Ok(json!(4)));
        assert_eq!(eval("plan.map(x, x + '!')", fields.clone()), Ok(json!(["a!"])));
        assert_eq!(eval("who.get('name', 'nobody')", fields.clone()), Ok(json!("nobody")));
        assert_eq!(eval("{'a': f}", fields), Ok(json!({"a": 1.5})));
    }

    #[test]
    fn mistakes_are_found_when_compiling() {
        for (bad, why) in [
            ("n >", "yntax"),
            ("open('/etc/passwd')", "no function open"),
            ("__import__('os')", "no function"),
            (&"(".repeat(3000), ""),
            (&format!("{}1{}", "(".repeat(1000), ")".repeat(1000)), ""),
            (&"x".repeat(5000), "4096 bytes"),
            ("a.map(x, a.map(y, a.map(z, a.map(w, w))))", "three deep"),
        ] {
            let error = Expr::compile(bad).unwrap_err();
            assert!(error.contains(why), "{bad:.40}: {error}");
        }
    }

    #[test]
    fn work_is_bounded_by_what_it_runs_over() {
        let list: Vec<u32> = (0..2000).collect();
        let error = eval("a.exists(x, a.exists(y, x + y == -1))", json!({"a": list})).unwrap_err();
        assert!(error.contains("too much work"), "{error}");
        assert_eq!(eval("a.exists(x, x == 1999)", json!({"a": list})), Ok(json!(true)));
    }

    #[test]
    fn a_failing_evaluation_is_an_error_and_no_panic() {
        for source in ["1 / n", "n.x", "missing + 1", "[1][5]", "9223372036854775807 + n + 1"] {
            assert!(eval(source, json!({"n": 0})).is_err(), "{source}");
        }
    }
}
