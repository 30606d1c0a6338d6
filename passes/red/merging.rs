//! Merging: equality saturation over all rules, and what it did and did not do.

use rustc_hash::FxHashMap;

use crate::Result;
use crate::analysis::coupling::obstacles;
use crate::egraph::constants::Rows;
use crate::egraph::{Bounds, Saturated, saturate};
use crate::ir::channels::dense_axis;
use crate::ir::{Graph, NodeId, Op};
use crate::passes::rules;
use crate::pipeline::{Changed, PassContext};

/// A layer with a dense weight that is a constant: node, weight, bias, and the axes of its output and input channels.
pub(super) struct Layer {
    pub node: NodeId,
    pub weight: NodeId,
    pub bias: Option<NodeId>,
    pub output: usize,
    pub input: usize,
}

pub(super) fn layers(graph: &Graph) -> Vec<Layer> {
    let layer = |node: NodeId| {
        let axes = graph.op(node)?.weight_axes()?;
        let operands = graph.operands(node);
        let weight = operands[1].node;
        graph.constant(weight)?;
        Some(Layer {
            node,
            weight,
            bias: operands.get(2).map(|bias| bias.node),
            output: axes.output,
            input: axes.input,
        })
    };
    graph.nodes().filter_map(layer).collect()
}

/// Saturates with all rules, and says what became of every layer that has something to merge.
pub(super) fn merge(graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
    let saturated = saturated(graph, context)?;
    Ok(adopt(graph, saturated, context))
}

/// Saturates with all rules.
pub(super) fn saturated(graph: &Graph, context: &PassContext<'_>) -> Result<Saturated> {
    saturate(graph, rules::ALL, &context.cost, Bounds::default())
}

/// Takes what saturation found, and says what became of every layer that has something to merge.
pub(super) fn adopt(
    graph: &mut Graph,
    saturated: Saturated,
    context: &mut PassContext<'_>,
) -> Changed {
    let counts: Vec<String> = saturated
        .applied
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(rule, n)| format!("{rule} {n}"))
        .collect();
    context.analysis(
        "",
        format!(
            "{} after {} rounds: {} terms in {} classes; {}",
            saturated.stop_reason,
            saturated.iterations,
            saturated.terms,
            saturated.classes,
            if counts.is_empty() {
                "no rule applied".to_string()
            } else {
                counts.join(", ")
            }
        ),
    );
    context.stop_reason = Some(saturated.stop_reason);
    explain(graph, saturated.graph.as_ref(), context);
    let changed = saturated.graph.is_some();
    if let Some(merged) = saturated.graph {
        *graph = merged;
    }
    changed.into()
}

/// A remark for every layer that lost channels, or that has equal ones and kept them.
fn explain(before: &Graph, after: Option<&Graph>, context: &mut PassContext<'_>) {
    let size = |graph: &Graph, layer: &Layer| {
        let shape = graph
            .constant(layer.weight)
            .map(|c| c.tensor.shape().to_vec())
            .unwrap_or_default();
        (
            shape.get(layer.input).copied(),
            shape.get(layer.output).copied(),
        )
    };
    let kept: FxHashMap<String, (Option<usize>, Option<usize>)> = after
        .map(|after| {
            layers(after)
                .iter()
                .map(|l| (after.node(l.node).name.to_string(), size(after, l)))
                .collect()
        })
        .unwrap_or_default();
    let number = |n: Option<usize>| n.map_or("?".to_string(), |n| n.to_string());
    for layer in layers(before) {
        let name = before.node(layer.node).name.to_string();
        let old = size(before, &layer);
        let new = if after.is_some() {
            kept.get(&name).copied()
        } else {
            Some(old)
        };
        match new {
            None => context.applied(&name, "removed"),
            Some(new) if new != old && separated(before, after, &name) => context.applied(
                &name,
                format!(
                    "{} -> {} channels: separated, with {} depthwise kernels",
                    number(old.0),
                    number(new.1),
                    number(new.0)
                ),
            ),
            Some(new) if new != old => {
                let text = format!(
                    "{} -> {} channels became {} -> {}",
                    number(old.0),
                    number(old.1),
                    number(new.0),
                    number(new.1)
                );
                context.applied(&name, text);
            }
            Some(_) => {
                if let Some(why) = missed(before, &layer) {
                    context.missed(&name, why);
                }
            }
        }
    }
}

/// Whether the layer of this name reads a depthwise stage that it did not read before.
fn separated(before: &Graph, after: Option<&Graph>, name: &str) -> bool {
    let reads_depthwise = |graph: &Graph| {
        let of = |node| {
            let operand = graph.operands(node).first()?.node;
            Some(graph.op(operand)?.convolution()?.3 > 1)
        };
        graph.find(name).and_then(of).unwrap_or(false)
    };
    after.is_some_and(reads_depthwise) && !reads_depthwise(before)
}

/// Why a layer with redundant neurons kept them; `None` if it has none.
fn missed(graph: &Graph, layer: &Layer) -> Option<String> {
    let rows = Rows::of(&graph.constant(layer.weight)?.tensor, layer.output);
    let redundant = rows.equal.class.len() - rows.equal.first.len();
    if redundant == 0 {
        return None;
    }
    let op: &Op = graph.op(layer.node)?;
    let axis = dense_axis(op, graph.ty(layer.node.into()).rank()?);
    let obstacles = obstacles(graph, layer.node.into(), axis);
    let why = if obstacles.is_empty() {
        "cost would rise".to_string()
    } else {
        obstacles.join("; ")
    };
    Some(format!(
        "{redundant} neurons have the weights of others, and stay: {why}"
    ))
}
