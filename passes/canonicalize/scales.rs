//! Factors and shifts beside layers: into their weights and biases.
//!
//! A network that scales and shifts what a layer gives, or what one reads, by numbers goes over the memory for what the layer's own
//! weight and bias can do.

use super::activations::{number, with_number};
use crate::ir::{Constant, DType, Graph, NodeId, Op, Role, Tensor, Value};
use crate::pipeline::{Changed, PassContext};

/// Puts this factor or shift into the layer before it, or into those after it, if it is one and nobody else reads what changes.
pub(super) fn fold(graph: &mut Graph, node: NodeId, context: &mut PassContext<'_>) -> Changed {
    let Some(step) = Step::of(graph, node).filter(|_| graph.is_read(node)) else {
        return Changed::No;
    };
    let layers = match () {
        () if step.goes_before(graph) => {
            let layer = step.x.node;
            match step.by {
                By::Factor(factor) => scale(graph, layer, factor, true),
                By::Shift(shift) => shift_outputs(graph, layer, shift),
            }
            vec![layer]
        }
        () if step.goes_behind(graph) => {
            let layers = layers_behind(graph, node);
            for layer in &layers {
                match step.by {
                    By::Factor(factor) => scale(graph, *layer, factor, false),
                    By::Shift(shift) => shift_inputs(graph, *layer, shift),
                }
            }
            layers
        }
        () => return exchange(graph, &step, context),
    };
    let names: Vec<String> = layers
        .iter()
        .map(|n| format!("`{}`", graph.node(*n).name))
        .collect();
    let what = format!("{} folded into {}", step.by, names.join(" and "));
    context.applied(&graph.node(node).name, what);
    graph.replace_uses(node.into(), step.x);
    graph.remove(node);
    // What it was made of may now be beside a layer, too.
    let _ = fold(graph, step.x.node, context);
    Changed::Yes
}

/// The least factor that is folded; its reciprocal is the largest.
const LEAST: f64 = 1e-6;

/// `a x` or `x + a`.
struct Step {
    node: NodeId,
    x: Value,
    by: By,
}

#[derive(Clone, Copy)]
enum By {
    Factor(f64),
    Shift(f64),
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            By::Factor(factor) => write!(f, "its factor {factor}"),
            By::Shift(shift) => write!(f, "its shift {shift}"),
        }
    }
}

impl Step {
    fn of(graph: &Graph, node: NodeId) -> Option<Step> {
        let (x, by) = match (graph.op(node)?, &graph.operands(node)[..]) {
            (op @ Op::Mul {}, _) => {
                let (x, factor) = with_number(graph, node.into(), op)?;
                (x, By::Factor(factor))
            }
            (op @ Op::Add {}, _) => {
                let (x, shift) = with_number(graph, node.into(), op)?;
                (x, By::Shift(shift))
            }
            (Op::Div {}, [x, by]) => (*x, By::Factor(number(graph, *by)?.recip())),
            (Op::Sub {}, [x, by]) => (*x, By::Shift(-number(graph, *by)?)),
            _ => return None,
        };
        let fits = match by {
            // What is folded has to stay a number that is not rounded away.
            By::Factor(factor) => (LEAST..LEAST.recip()).contains(&factor.abs()),
            By::Shift(shift) => shift.is_finite(),
        };
        let same_type = graph.ty(x) == graph.ty(node.into());
        let is_wide = matches!(graph.ty(x).dtype()?, DType::F32 | DType::F64);
        (same_type && fits && is_wide).then_some(Step { node, x, by })
    }

    /// Whether the layer that gives what this reads can do it.
    fn goes_before(&self, graph: &Graph) -> bool {
        let layer = self.x.node;
        let alone = graph.only_reader(self.x).is_some();
        alone
            && is_layer(graph, layer)
            && (1..graph.operands(layer).len()).all(|i| is_own(graph, layer, i))
    }

    /// Whether all layers that read this can do it: a shift, where no zeros of a pad are read beside it.
    fn goes_behind(&self, graph: &Graph) -> bool {
        let can = |layer: &NodeId| {
            let sees_all = match graph.op(*layer) {
                Some(Op::Conv { pad, groups, .. }) => pad.is_zero() && *groups == 1,
                op => matches!(op, Some(Op::Linear {})),
            };
            is_own(graph, *layer, 1) && (sees_all || matches!(self.by, By::Factor(_)))
        };
        let layers = layers_behind(graph, self.node);
        !layers.is_empty() && layers.iter().all(can)
    }
}

/// `s x + b`, which goes into no layer, as `s (x + b / s)` where its factor goes into those behind it.
fn exchange(graph: &mut Graph, step: &Step, context: &mut PassContext<'_>) -> Changed {
    let (By::Shift(shift), Some(inner)) = (step.by, Step::of(graph, step.x.node)) else {
        return Changed::No;
    };
    let By::Factor(factor) = inner.by else {
        return Changed::No;
    };
    let moved = Step {
        node: step.node,
        x: inner.x,
        by: By::Factor(factor),
    };
    let alone = graph.only_reader(step.x).is_some();
    let dtype = graph.ty(step.x).dtype();
    let (true, true, Some(dtype)) = (alone, moved.goes_behind(graph), dtype) else {
        return Changed::No;
    };
    let less = Tensor::from_f64(dtype, &[], [shift / factor]);
    let name = format!("{}.shift", graph.node(step.node).name);
    let less = graph.add_constant(&name, Constant::new(less, Role::Literal));
    if graph
        .replace_op(step.node, Op::Add {}, &[inner.x, less.into()])
        .is_err()
    {
        return Changed::No;
    }
    for layer in layers_behind(graph, step.node) {
        scale(graph, layer, factor, false);
    }
    let what = format!("{} folded into what reads it", inner.by);
    context.applied(&graph.node(step.node).name, what);
    Changed::Yes
}

fn is_layer(graph: &Graph, node: NodeId) -> bool {
    let op = graph.op(node);
    matches!(
        op,
        Some(Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear {})
    )
}

/// The layers that read a result as their activation; none where something else reads it.
fn layers_behind(graph: &Graph, node: NodeId) -> Vec<NodeId> {
    let readers = graph.readers(node.into());
    let is_read = |(layer, position): &(NodeId, usize)| *position == 0 && is_layer(graph, *layer);
    let all = readers.iter().all(is_read) && !graph.is_output(node.into());
    let layers = readers.into_iter().filter(|_| all);
    layers.map(|(layer, _)| layer).collect()
}

/// Whether a layer's weight or bias is a constant that nobody else reads.
fn is_own(graph: &Graph, layer: NodeId, position: usize) -> bool {
    let operand = graph.operands(layer).get(position).copied();
    let is_own =
        |value: &Value| graph.constant(value.node).is_some() && graph.only_reader(*value).is_some();
    operand.as_ref().is_some_and(is_own)
}

/// Multiplies a layer's weight, and its bias if so said.
fn scale(graph: &mut Graph, layer: NodeId, factor: f64, bias: bool) {
    let last = if bias { graph.operands(layer).len() } else { 2 };
    for position in 1..last {
        let elements = graph.operand_elements(layer, position);
        let scaled = elements.into_iter().map(|x| x * factor).collect();
        graph.set_operand_elements(layer, position, scaled);
    }
}

/// Adds to all that a layer gives.
fn shift_outputs(graph: &mut Graph, layer: NodeId, shift: f64) {
    let outputs = graph.ty(graph.operands(layer)[1]);
    let outputs = match graph.op(layer) {
        Some(Op::ConvTranspose { groups, .. }) => outputs.len(1).map(|n| n * groups),
        _ => outputs.len(0),
    };
    graph.shift_bias(layer, &vec![shift; outputs.unwrap_or_default()]);
}

/// Adds to all that a layer reads: its bias gets the sum of each row of the weight, so many times.
fn shift_inputs(graph: &mut Graph, layer: NodeId, shift: f64) {
    let outputs = graph
        .ty(graph.operands(layer)[1])
        .len(0)
        .unwrap_or_default();
    let elements = graph.operand_elements(layer, 1);
    let rows = elements.chunks((elements.len() / outputs.max(1)).max(1));
    let shifts: Vec<f64> = rows.map(|row| shift * row.iter().sum::<f64>()).collect();
    graph.shift_bias(layer, &shifts);
}
