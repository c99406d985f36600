//! Where a drawing puts the nodes: in layers from the entry down, with few crossings.

use crate::graph::{Graph, To};

/// From one layer to the next, and from one node to its neighbour, in pixels.
const DOWN: f64 = 150.0;
const ACROSS: f64 = 200.0;
const SWEEPS: usize = 6;

/// The centre of each node.
pub(crate) fn positions(graph: &Graph) -> Vec<(f64, f64)> {
    let edges = edges(graph);
    let layers = layers(graph, &edges);
    let rows = order(graph.nodes.len(), &layers, &edges);
    let mut positions = vec![(0.0, 0.0); graph.nodes.len()];
    let widest = rows.iter().map(Vec::len).max().unwrap_or(1);
    for (layer, row) in rows.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a thousand nodes at most")]
        for (place, node) in row.iter().enumerate() {
            let indent = (widest - row.len()) as f64 / 2.0;
            if let Some(slot) = positions.get_mut(*node) {
                *slot = ((place as f64 + indent) * ACROSS, layer as f64 * DOWN);
            }
        }
    }
    positions
}

fn edges(graph: &Graph) -> Vec<(usize, usize)> {
    let leads = graph.nodes.iter().enumerate().flat_map(|(from, node)| {
        node.ways.iter().filter_map(move |way| match way.to {
            To::Node(to) => Some((from, to)),
            To::End => None,
        })
    });
    let mut all: Vec<_> = leads.collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The layer of each node: as far down as its longest way from the entry, edges back apart.
fn layers(graph: &Graph, edges: &[(usize, usize)]) -> Vec<usize> {
    let count = graph.nodes.len();
    let forward = without_cycles(count, graph.entry, edges);
    let mut layers = vec![0; count];
    // Longest ways settle after as many rounds as there are nodes; nearly always much sooner.
    for _ in 0..count {
        let mut changed = false;
        for (from, to) in &forward {
            let wanted = layers.get(*from).map_or(0, |layer| layer + 1);
            if let Some(layer) = layers.get_mut(*to).filter(|layer| **layer < wanted) {
                *layer = wanted;
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    layers
}

/// The edges that do not lead back to where a walk from the entry came from.
fn without_cycles(count: usize, entry: usize, edges: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut out: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (from, to) in edges {
        if let Some(targets) = out.get_mut(*from) {
            targets.push(*to);
        }
    }
    // 0 not seen, 1 on the way, 2 done.
    let mut seen = vec![0_u8; count];
    let mut kept = Vec::with_capacity(edges.len());
    for start in std::iter::once(entry).chain(0..count) {
        let mut stack = vec![(start, 0)];
        while let Some((node, next)) = stack.pop() {
            let state = seen.get(node).copied().unwrap_or(2);
            if state == 2 || (state == 1 && next == 0) {
                continue;
            }
            set(&mut seen, node, 1);
            match out.get(node).and_then(|targets| targets.get(next)) {
                Some(target) => {
                    stack.push((node, next + 1));
                    if seen.get(*target) != Some(&1) {
                        kept.push((node, *target));
                        stack.push((*target, 0));
                    }
                }
                None => set(&mut seen, node, 2),
            }
        }
    }
    kept
}

fn set(seen: &mut [u8], node: usize, state: u8) {
    if let Some(slot) = seen.get_mut(node) {
        *slot = state;
    }
}

/// The nodes of each layer from left to right, near to what they are joined with.
fn order(count: usize, layers: &[usize], edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let depth = layers.iter().max().map_or(0, |deepest| deepest + 1);
    let mut rows: Vec<Vec<usize>> = vec![Vec::new(); depth];
    for (node, layer) in layers.iter().enumerate() {
        if let Some(row) = rows.get_mut(*layer) {
            row.push(node);
        }
    }
    for _ in 0..SWEEPS {
        let mut place = vec![0_usize; count];
        for row in &rows {
            for (at, node) in row.iter().enumerate() {
                if let Some(slot) = place.get_mut(*node) {
                    *slot = at;
                }
            }
        }
        let mut sums = vec![(0_usize, 0_usize); count];
        for (from, to) in edges {
            for (node, other) in [(*from, *to), (*to, *from)] {
                let at = place.get(other).copied().unwrap_or_default();
                if let Some(sum) = sums.get_mut(node) {
                    *sum = (sum.0 + at, sum.1 + 1);
                }
            }
        }
        for row in &mut rows {
            row.sort_by_key(|node| match sums.get(*node) {
                Some((sum, joined @ 1..)) => sum * 1000 / joined,
                _ => place.get(*node).copied().unwrap_or_default() * 1000,
            });
        }
    }
    rows
}
