//! Drawings of a flow: JSON with positions, Mermaid, DOT, SVG.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::graph::{Graph, Kind, Node, OnError, Program, Test, To};
use crate::layout::positions;

const WIDTH: f64 = 140.0;
const HEIGHT: f64 = 50.0;
const MARGIN: f64 = 40.0;
const LONGEST_LABEL: usize = 40;

/// How a drawing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drawing {
    /// Mermaid's `graph TD`.
    Mermaid,
    /// Graphviz.
    Dot,
    /// A picture.
    Svg,
}

/// One line of a drawing.
struct Line<'a> {
    from: &'a Node,
    /// The end of the flow when absent.
    to: Option<usize>,
    label: Option<String>,
    conditional: bool,
}

impl Program {
    /// The flow as nodes with positions and edges.
    pub fn picture(&self) -> Value {
        let Some(graph) = self.graphs.first() else { return Value::Null };
        let places = positions(graph);
        let nodes: Vec<Value> =
            graph.nodes.iter().zip(&places).map(|(node, place)| picture_of(node, *place)).collect();
        let lines = lines(graph);
        let edges: Vec<Value> = lines.iter().map(|line| edge_picture(graph, line)).collect();
        let count = |kind: &str| nodes.iter().filter(|node| node["type"] == kind).count();
        let mut kinds: Vec<&str> = graph.nodes.iter().map(|node| node.type_name.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let kinds: serde_json::Map<String, Value> =
            kinds.iter().map(|kind| ((*kind).to_owned(), json!(count(kind)))).collect();
        let conditional = lines.iter().filter(|line| line.conditional).count();
        json!({
            "workflow_id": self.name.as_ref(),
            "name": self.name.as_ref(),
            "description": self.description,
            "version": self.version,
            "layout": "hierarchical",
            "entry_point": graph.nodes.get(graph.entry).map(|node| node.id.as_ref()),
            "statistics": {
                "total_nodes": nodes.len(),
                "total_edges": edges.len(),
                "node_types": kinds,
                "edge_types": {"simple": edges.len() - conditional, "conditional": conditional},
            },
            "nodes": nodes,
            "edges": edges,
        })
    }

    /// The flow as a drawing.
    pub fn draw(&self, drawing: Drawing) -> String {
        let Some(graph) = self.graphs.first() else { return String::new() };
        match drawing {
            Drawing::Mermaid => mermaid(graph),
            Drawing::Dot => dot(graph),
            Drawing::Svg => svg(graph),
        }
    }
}

fn lines(graph: &Graph) -> Vec<Line<'_>> {
    let mut all = Vec::new();
    for node in &graph.nodes {
        for way in &node.ways {
            all.push(Line {
                from: node,
                to: target(way.to),
                label: way.label.as_deref().map(shortened),
                conditional: !matches!(way.test, Test::Always),
            });
        }
        if let OnError::Goto(to) = node.on_error {
            let label = Some("error".to_owned());
            all.push(Line { from: node, to: target(to), label, conditional: true });
        }
    }
    all
}

const fn target(to: To) -> Option<usize> {
    match to {
        To::Node(at) => Some(at),
        To::End => None,
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_LABEL) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What a node is about, and the colours for it.
const fn category(node: &Node) -> (&'static str, &'static str, &'static str) {
    match node.kind {
        Kind::Llm(_) => ("ai", "#e3f2fd", "#1976d2"),
        Kind::Tool(_) | Kind::ToolCalls(_) | Kind::Http(_) => ("tool", "#fff3e0", "#f57c00"),
        Kind::Wait(_) => ("human", "#fce4ec", "#c2185b"),
        Kind::Child(_) => ("flow", "#ede7f6", "#5e35b1"),
        _ => ("control", "#f5f5f5", "#616161"),
    }
}

fn picture_of(node: &Node, (x, y): (f64, f64)) -> Value {
    let (category, fill, stroke) = category(node);
    json!({
        "id": node.id.as_ref(),
        "type": node.type_name,
        "label": node.id.as_ref(),
        "position": {"x": x, "y": y},
        "size": {"width": WIDTH, "height": HEIGHT},
        "style": {"fill": fill, "stroke": stroke, "stroke_width": 2},
        "metadata": {"description": node.description, "category": category},
    })
}

fn edge_picture(graph: &Graph, line: &Line<'_>) -> Value {
    let from = line.from.id.as_ref();
    let to = name_of(graph, line.to);
    json!({
        "id": format!("{from}_{to}"),
        "from": from, "to": to, "source": from, "target": to,
        "type": if line.conditional { "conditional" } else { "simple" },
        "label": line.label,
        "condition": line.label.as_deref().filter(|_| line.conditional),
        "style": {"stroke": "#757575", "stroke_width": 2, "arrow": true,
            "dash_array": line.conditional.then_some("5,5")},
        "metadata": {},
    })
}

fn name_of(graph: &Graph, at: Option<usize>) -> &str {
    at.and_then(|at| graph.nodes.get(at)).map_or("__end__", |node| &node.id)
}

fn mermaid(graph: &Graph) -> String {
    let mut text = "graph TD\n".to_owned();
    let number = |node: &Node| graph.index(&node.id).unwrap_or_default();
    for node in &graph.nodes {
        let label = for_mermaid(&node.id);
        let _ = match node.kind {
            Kind::Pass => writeln!(text, "    n{}{{\"{label}\"}}", number(node)),
            Kind::Wait(_) => writeln!(text, "    n{}[/\"{label}\"/]", number(node)),
            _ => writeln!(text, "    n{}[\"{label}\"]", number(node)),
        };
    }
    let lines = lines(graph);
    if lines.iter().any(|line| line.to.is_none()) {
        text.push_str("    e((\"end\"))\n");
    }
    for line in lines {
        let arrow = if line.conditional { "-.->" } else { "-->" };
        let label =
            line.label.map_or_else(String::new, |label| format!("|\"{}\"|", for_mermaid(&label)));
        let to = line.to.map_or_else(|| "e".to_owned(), |at| format!("n{at}"));
        let _ = writeln!(text, "    n{} {arrow}{label} {to}", number(line.from));
    }
    text
}

fn for_mermaid(text: &str) -> String {
    let coded = text.chars().map(|c| match c {
        '"' => "#quot;".to_owned(),
        '<' | '>' | '#' | '`' | '|' => format!("#{};", u32::from(c)),
        '\n' | '\r' => " ".to_owned(),
        other => other.to_string(),
    });
    coded.collect()
}

fn dot(graph: &Graph) -> String {
    let mut text =
        "digraph flow {\n    rankdir=TB;\n    node [shape=box, style=rounded];\n".to_owned();
    for node in &graph.nodes {
        let (_, fill, stroke) = category(node);
        let _ = writeln!(
            text,
            "    {} [style=\"rounded,filled\", fillcolor=\"{fill}\", color=\"{stroke}\"];",
            quoted(&node.id)
        );
    }
    for line in lines(graph) {
        let style = if line.conditional { "dashed" } else { "solid" };
        let _ = writeln!(
            text,
            "    {} -> {} [style={style}, label={}];",
            quoted(&line.from.id),
            quoted(name_of(graph, line.to)),
            quoted(&line.label.unwrap_or_default())
        );
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " "))
}

fn svg(graph: &Graph) -> String {
    let places = positions(graph);
    let right = places.iter().map(|place| place.0).fold(0.0, f64::max) + WIDTH + 2.0 * MARGIN;
    let lowest = places.iter().map(|place| place.1).fold(0.0, f64::max);
    let bottom = lowest + 2.0 * HEIGHT + 3.0 * MARGIN;
    let end = (right / 2.0 - MARGIN - WIDTH / 2.0, lowest + HEIGHT + MARGIN);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {right} {bottom}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <defs><marker id=\"a\" viewBox=\"0 0 10 10\" refX=\"10\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\">\
         <path d=\"M0 0L10 5L0 10z\" fill=\"#757575\"/></marker></defs>\n"
    );
    let lines = lines(graph);
    for line in &lines {
        let from = graph.index(&line.from.id).and_then(|at| places.get(at)).copied();
        let to = line.to.map_or(Some(&end), |at| places.get(at)).copied();
        if let (Some(from), Some(to)) = (from, to) {
            draw_line(&mut text, line, from, to);
        }
    }
    for (node, (x, y)) in graph.nodes.iter().zip(&places) {
        let (_, fill, stroke) = category(node);
        draw_box(&mut text, &node.id, (*x, *y), (fill, stroke));
    }
    if lines.iter().any(|line| line.to.is_none()) {
        draw_box(&mut text, "end", end, ("#ffffff", "#9e9e9e"));
    }
    text.push_str("</svg>\n");
    text
}

fn draw_box(text: &mut String, label: &str, (x, y): (f64, f64), (fill, stroke): (&str, &str)) {
    let (left, top) = (x + MARGIN, y + MARGIN);
    let _ = writeln!(
        text,
        "<rect x=\"{left}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\" fill=\"{fill}\" stroke=\"{stroke}\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        left + WIDTH / 2.0,
        top + HEIGHT / 2.0 + 4.0,
        escaped(label)
    );
}

fn draw_line(text: &mut String, line: &Line<'_>, from: (f64, f64), to: (f64, f64)) {
    let middle = MARGIN + WIDTH / 2.0;
    let (x1, y1) = (from.0 + middle, from.1 + MARGIN + HEIGHT);
    let (x2, y2) = (to.0 + middle, to.1 + MARGIN);
    let dash = if line.conditional { " stroke-dasharray=\"5,5\"" } else { "" };
    // A line back up goes round the side.
    let bend = if y2 > y1 { 0.0 } else { WIDTH };
    let (c1, c2) = (y1 + 40.0, y2 - 40.0);
    let _ = writeln!(
        text,
        "<path d=\"M{x1} {y1}C{} {c1} {} {c2} {x2} {y2}\" fill=\"none\" stroke=\"#757575\"{dash} marker-end=\"url(#a)\"/>",
        x1 + bend,
        x2 + bend
    );
    if let Some(label) = &line.label {
        let (x, y) = (f64::midpoint(x1, x2 + bend), f64::midpoint(y1, y2));
        let label = escaped(label);
        let _ = writeln!(text, "<text x=\"{x}\" y=\"{y}\" fill=\"#616161\">{label}</text>");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
