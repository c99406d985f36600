//! What is wrong with a graph as a whole: unreachable nodes, endless cycles, dead ends.

use crate::findings::{Findings, Place};
use crate::graph::{Graph, Kind, Node, OnError, Shape, Test, To};

/// Flows may use flows so deep.
const DEEPEST: usize = 8;

pub(super) fn check(graph: &Graph, place: &Place, findings: &Findings) {
    let place_of = |at: usize| {
        let id = graph.nodes.get(at).map_or("", |node| &node.id);
        place.member("nodes", None).member(id, None)
    };
    let reached = reach(graph, &[graph.entry], |_, node, to| follow(node, to));
    for (at, node) in graph.nodes.iter().enumerate() {
        if !reached.contains(&at) {
            let message = format!("nothing leads to {}", node.id);
            let remedy = "add an edge to it, or remove it";
            findings.warning("unreachable_node", &place_of(at), message, remedy);
        }
        if node.ways.len() > 1 && !node.first_only && all_conditional(node) {
            let message = format!("if no condition of {} holds, its path ends there", node.id);
            let remedy = "add a simple edge or a default, if that is not meant";
            findings.info("may_stop", &place_of(at), message, remedy);
        }
    }
    for at in &reached {
        let onward = reach(graph, &[*at], |_, node, to| follow(node, to));
        let ends = onward.iter().filter_map(|at| graph.nodes.get(*at)).any(may_end);
        if !ends {
            let id = graph.nodes.get(*at).map_or("", |node| &node.id);
            let message = format!("from {id} there is no way to an end");
            let remedy = "add an edge to __end__, or a condition that leaves the cycle";
            findings.error("never_ends", &place_of(*at), message, remedy);
            return;
        }
    }
    for at in &reached {
        let next: Vec<usize> = graph.nodes.get(*at).map(unconditional).unwrap_or_default();
        let onward = reach(graph, &next, |_, node, to| unconditional(node).contains(&to));
        if onward.contains(at) && !next.is_empty() {
            let id = graph.nodes.get(*at).map_or("", |node| &node.id);
            let message = format!("{id} lies on a cycle of edges without conditions");
            let remedy = "give one of its edges a condition";
            findings.error("endless_cycle", &place_of(*at), message, remedy);
            return;
        }
    }
}

fn follow(node: &Node, to: usize) -> bool {
    targets(node).contains(&To::Node(to))
}

/// Everywhere that a node may lead.
pub(super) fn targets(node: &Node) -> Vec<To> {
    let mut all: Vec<To> = node.ways.iter().map(|way| way.to).collect();
    let mut failing = |policy: &OnError| {
        if let OnError::Goto(to) = policy {
            all.push(*to);
        }
    };
    failing(&node.on_error);
    if let Kind::Wait(wait) = &node.kind {
        failing(&wait.on_expiry);
    }
    all
}

/// The nodes that certainly come next.
fn unconditional(node: &Node) -> Vec<usize> {
    let always = |way: &crate::graph::Way| matches!(way.test, Test::Always);
    let ways = node.ways.iter().filter(|way| always(way) && !node.first_only);
    ways.filter_map(|way| match way.to {
        To::Node(at) => Some(at),
        To::End => None,
    })
    .collect()
}

fn all_conditional(node: &Node) -> bool {
    node.ways
        .iter()
        .all(|way| matches!(way.test, Test::Check(_) | Test::Expr(_) | Test::FieldIs(..)))
}

/// The path may end at this node.
fn may_end(node: &Node) -> bool {
    matches!(node.kind, Kind::End)
        || node.ways.is_empty()
        || all_conditional(node)
        || targets(node).contains(&To::End)
}

/// Everything that can be reached from some nodes, these included.
fn reach(
    graph: &Graph,
    from: &[usize],
    leads: impl Fn(&Graph, &Node, usize) -> bool,
) -> Vec<usize> {
    let mut seen = vec![false; graph.nodes.len()];
    let mut open: Vec<usize> = from.to_vec();
    let mut found = Vec::new();
    while let Some(at) = open.pop() {
        match seen.get_mut(at) {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        found.push(at);
        let Some(node) = graph.nodes.get(at) else { continue };
        let next = targets(node).into_iter().filter_map(|to| match to {
            To::Node(next) => Some(next),
            To::End => None,
        });
        open.extend(next.filter(|next| leads(graph, node, *next)));
    }
    found.sort_unstable();
    found
}

/// Flows that use each other in a circle would never end.
pub(super) fn check_nesting(graphs: &[Graph], findings: &Findings) {
    for start in 0..graphs.len() {
        let mut level = vec![start];
        for _ in 0..DEEPEST {
            level = level.iter().filter_map(|at| graphs.get(*at)).flat_map(used).collect();
            level.sort_unstable();
            level.dedup();
        }
        if !level.is_empty() {
            let name = graphs.get(start).map_or("", |graph| &graph.name);
            let place = Place::root().member("flows", None).member(name, None);
            let message = format!("{name} uses flows more than {DEEPEST} deep, or itself");
            let remedy = "use a loop instead of a flow that uses itself";
            findings.error("nested_too_deep", &place, message, remedy);
            return;
        }
    }
}

fn used(graph: &Graph) -> Vec<usize> {
    let mut all = Vec::new();
    for node in &graph.nodes {
        let Kind::Child(child) = &node.kind else { continue };
        match &child.shape {
            Shape::Once(body) | Shape::Each { body, .. } | Shape::Repeat { body, .. } => {
                all.push(body.graph);
            }
            Shape::All(branches) => all.extend(branches.iter().map(|(_, body)| body.graph)),
        }
    }
    all
}
