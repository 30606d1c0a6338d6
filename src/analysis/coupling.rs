//! Who is coupled to whom: what stands between a layer's channels and their removal.

use rustc_hash::FxHashSet;

use crate::ir::channels::{Flow, flow};
use crate::ir::{Graph, NodeId, NodeKind, Op, Type, Value};

/// Why channels of `axis` of `value` may have to stay as they are: what their readers, followed through operators that keep
/// channels, cannot let go. In words, each naming a node; empty if nothing stands in the way.
pub fn obstacles(graph: &Graph, value: Value, axis: usize) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = FxHashSet::default();
    let mut open = vec![(value, axis)];
    while let Some((value, axis)) = open.pop() {
        if !seen.insert((value, axis)) {
            continue;
        }
        if let Some(output) = graph.outputs.iter().find(|output| output.value == value) {
            found.push(format!("coupled to the graph output `{}`", output.name));
        }
        for (reader, operand) in graph.readers(value) {
            follow(graph, reader, operand, axis, &mut open, &mut found);
        }
    }
    found.dedup();
    found
}

/// Adds where the channels go through `reader`, or why they do not.
fn follow(
    graph: &Graph,
    reader: NodeId,
    operand: usize,
    axis: usize,
    open: &mut Vec<(Value, usize)>,
    found: &mut Vec<String>,
) {
    let node = graph.node(reader);
    let NodeKind::Op(op) = &node.kind else { return };
    if let Op::Opaque(opaque) = op {
        found.push(format!(
            "the opaque operator {} reads it (`{}`)",
            opaque.name, node.name
        ));
        return;
    }
    let operands = graph.operands(reader);
    let types: Vec<&Type> = operands.iter().map(|v| graph.ty(*v)).collect();
    let result = &node.outputs[0];
    let mut refusal = None;
    for out in 0..result.rank().unwrap_or(0) {
        match flow(op, out, &types, result) {
            Flow::Keeps(keeps) if keeps.axes.get(operand) == Some(&Some(axis)) => {
                let others = operands.iter().zip(&keeps.axes).enumerate();
                for (_, (other, _)) in others.filter(|(i, (v, a))| {
                    *i != operand && a.is_some() && graph.constant(v.node).is_none()
                }) {
                    found.push(format!(
                        "joined by `{}` with `{}`",
                        node.name,
                        graph.node(other.node).name
                    ));
                }
                open.push((reader.into(), out));
                return;
            }
            Flow::Selects { axis: from, .. }
            | Flow::Blocks { axis: from, .. }
            | Flow::Offsets { axis: from }
                if from == axis =>
            {
                open.push((reader.into(), out));
                return;
            }
            Flow::Mixes { axis: from } if operand == 0 && from == axis => return,
            Flow::Refuses(why) => refusal = Some(why),
            _ => {}
        }
    }
    let why = refusal.unwrap_or("it mixes them");
    found.push(format!("`{}` ({}) reads it: {why}", node.name, op.name()));
}
