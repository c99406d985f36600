//! The edges: which ways lead out of a node, and where a graph begins.

use std::sync::Arc;

use serde_json::Value;

use super::shape::targets;
use super::{Compiler, MOST_EDGES_ALLOWED, Names, python};
use crate::check::{Check, RouteCheck};
use crate::expr::Expr;
use crate::findings::Place;
use crate::graph::{Node, Test, To, Way};
use crate::reader::Reader;
use kernel::yaml::Node as Tree;

/// Adds the edges to the nodes; returns where the graph begins.
pub(super) fn connect(
    compiler: &Compiler<'_>,
    reader: &Reader<'_>,
    names: &Names<'_>,
    nodes: &mut [Node],
) -> usize {
    let place = reader.at("edges");
    let mut begin = None;
    match reader.node("edges") {
        None => {}
        Some(Tree::List(items)) => {
            if items.len() > MOST_EDGES_ALLOWED {
                let message =
                    format!("there are {} edges, {MOST_EDGES_ALLOWED} are allowed", items.len());
                compiler.findings.error("too_many_edges", &place, message, "split it into flows");
                return 0;
            }
            for (at, item) in items.iter().enumerate() {
                let edge = Reader::new(item, place.item(at), compiler.findings);
                begin = edge_of(compiler, names, nodes, &edge).or(begin);
                edge.finish();
            }
        }
        Some(Tree::Section(members)) => {
            for member in members {
                let place = place.member(&member.name, Some(member.line));
                let edge = Reader::new(&member.value, place, compiler.findings);
                begin = edge_of(compiler, names, nodes, &edge).or(begin);
                edge.finish();
            }
        }
        Some(other) => {
            let _: Option<()> = reader.wrong("edges", other, "a list");
        }
    }
    entry(compiler, reader, names, nodes, begin)
}

/// The entry as given, as marked by an edge from the start, or the first that nothing leads to.
fn entry(
    compiler: &Compiler<'_>,
    reader: &Reader<'_>,
    names: &Names<'_>,
    nodes: &[Node],
    begin: Option<usize>,
) -> usize {
    if let Some((key, node)) = reader.either(&["entry_point", "entry"]) {
        let name = node.as_text().unwrap_or_default();
        if let Some(at) = names.index(&name) {
            return at;
        }
        if !names.is_start(&name) {
            compiler.unknown_node(names, &name, &reader.at(key));
            return 0;
        }
    }
    begin.unwrap_or_else(|| {
        let is_target = |at: usize| nodes.iter().any(|node| targets(node).contains(&To::Node(at)));
        (0..nodes.len()).find(|at| !is_target(*at)).unwrap_or(0)
    })
}

/// Adds one edge; returns the entry if it is the edge from the start.
fn edge_of(
    compiler: &Compiler<'_>,
    names: &Names<'_>,
    nodes: &mut [Node],
    edge: &Reader<'_>,
) -> Option<usize> {
    edge.text("description");
    edge.text("id");
    let kind = edge.text("type");
    let from = edge.text("from").or_else(|| edge.text("source"));
    let Some(from) = from else {
        edge.missing("from", "name the node the edge begins at");
        return None;
    };
    let to = edge.text("to").or_else(|| edge.text("target"));
    let to_place = edge.at("to");
    if names.is_start(&from) {
        edge.node("condition");
        let target = to.map(|to| compiler.target(names, &to, &to_place));
        return match target {
            Some(To::Node(at)) => Some(at),
            _ => None,
        };
    }
    let ways = ways(compiler, names, edge, kind.as_deref(), to.as_deref());
    match names.index(&from).and_then(|at| nodes.get_mut(at)) {
        Some(node) if node.first_only => {
            // What decides by cases comes first; edges are for when no case fits.
            node.ways.extend(ways.into_iter().map(|way| match way.test {
                Test::Always => Way { test: Test::Otherwise, ..way },
                _ => way,
            }));
        }
        Some(node) => node.ways.extend(ways),
        None => compiler.unknown_node(names, &from, &edge.at("from")),
    }
    None
}

fn ways(
    compiler: &Compiler<'_>,
    names: &Names<'_>,
    edge: &Reader<'_>,
    kind: Option<&str>,
    to: Option<&str>,
) -> Vec<Way> {
    if !matches!(kind, None | Some("simple" | "conditional" | "normal" | "route")) {
        let place = edge.at("type");
        let message = format!("{} is no type of edge", kind.unwrap_or_default());
        compiler.findings.error("bad_edge_type", &place, message, "use simple or conditional");
    }
    if edge.node("route_function").is_some() || edge.node("path_map").is_some() {
        return routed(compiler, names, edge, to);
    }
    let Some(to) = to else {
        edge.missing("to", "name the node the edge leads to");
        return Vec::new();
    };
    let to = compiler.target(names, to, &edge.at("to"));
    let condition = edge.text("condition").filter(|text| !text.trim().is_empty());
    let parameters = edge.node("condition_parameters").or_else(|| edge.node("parameters"));
    let parameters = parameters.map_or(Value::Null, Tree::to_json);
    match (condition, kind) {
        (None, Some("conditional")) => {
            edge.missing("condition", "say when the edge is taken, or make it simple");
            Vec::new()
        }
        (None, _) => vec![Way { test: Test::Always, to, label: None }],
        (Some(condition), _) => {
            let test = condition_of(compiler, &condition, &parameters, &edge.at("condition"));
            vec![Way { test, to, label: Some(condition) }]
        }
    }
}

/// A condition: a built-in by name, CEL, or the Python that v1 definitions use.
pub(super) fn condition_of(
    compiler: &Compiler<'_>,
    text: &str,
    parameters: &Value,
    place: &Place,
) -> Test {
    let refuse = |error: String| {
        let remedy = "use a built-in condition or a CEL expression over the state's fields";
        compiler.findings.bad_value(place, text.to_owned(), error, remedy);
        Test::Always
    };
    match Check::find(text, parameters) {
        Some(Ok(check)) => return Test::Check(check),
        Some(Err(error)) => return refuse(error),
        None => {}
    }
    let source = match text.split_once(':') {
        Some((name, rest)) if name.trim() == "custom" => rest.trim().to_owned(),
        _ if text.trim() == "custom" => {
            parameters.get("expression").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        _ => text.strip_prefix('=').unwrap_or(text).trim().to_owned(),
    };
    match Expr::compile(&source) {
        Ok(expr) if !python::is_meant(&source) => Test::Expr(expr),
        compiled => match python::to_cel(&source).and_then(|cel| Expr::compile(&cel)) {
            Ok(expr) => Test::Expr(expr),
            Err(error) => refuse(match compiled {
                Err(cel) => format!("it does not compile: {cel}"),
                Ok(_) => format!("it does not compile: {error}"),
            }),
        },
    }
}

/// An edge whose way a route function decides.
fn routed(
    compiler: &Compiler<'_>,
    names: &Names<'_>,
    edge: &Reader<'_>,
    to: Option<&str>,
) -> Vec<Way> {
    edge.text("condition");
    edge.node("path_map");
    let parameters = edge.node("route_parameters").map_or(Value::Null, Tree::to_json);
    let name = edge.text("route_function").unwrap_or_default();
    let route = match RouteCheck::find(&name, &parameters) {
        Some(Ok(route)) => Arc::new(route),
        problem => {
            let message = match problem {
                Some(Err(error)) => error,
                _ => format!("there is no route function {name:?}"),
            };
            let remedy = "use a built-in route function, or edges with conditions";
            compiler.findings.error("bad_route", &edge.at("route_function"), message, remedy);
            return Vec::new();
        }
    };
    let words = route.words();
    let place = edge.at("path_map");
    let mut ways = Vec::new();
    for member in edge.node("path_map").map(Tree::members).unwrap_or_default() {
        let place = place.member(&member.name, Some(member.line));
        if !words.contains(&member.name) {
            let message = format!("{name} never gives {:?}", member.name);
            let remedy = format!("it gives {}", words.join(", "));
            compiler.findings.warning("unused_route", &place, message, &remedy);
        }
        let Some(target) = member.value.as_text() else { continue };
        ways.push(Way {
            test: Test::Route(Arc::clone(&route), member.name.clone()),
            to: compiler.target(names, &target, &place),
            label: Some(member.name.clone()),
        });
    }
    let unmapped = words
        .iter()
        .filter(|word| !ways.iter().any(|way| way.label.as_deref() == Some(word.as_str())));
    let rest: Vec<&String> = unmapped.collect();
    match to {
        Some(to) => {
            let to = compiler.target(names, to, &edge.at("to"));
            ways.extend(rest.into_iter().map(|word| Way {
                test: Test::Route(Arc::clone(&route), word.clone()),
                to,
                label: Some(word.clone()),
            }));
        }
        None if ways.is_empty() => edge.missing("path_map", "say where each word leads"),
        None if !rest.is_empty() => {
            let message = format!("{name} may also give {rest:?}, and then the path ends");
            compiler.findings.info(
                "partial_route",
                &place,
                message,
                "map them to __end__ or a node",
            );
        }
        None => {}
    }
    ways
}
