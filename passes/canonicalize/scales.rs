//! Factors and shifts beside layers: into their weights and biases.
//!
//! A network that scales and shifts what a layer gives, or what one reads, by numbers goes over the memory for what the layer's own
//! weight and bias can do.

use super::activations::{number, with_number};
use crate::ir::{Constant, DType, Graph, NodeId, Op, Role, Tensor, Value};
use crate::pipeline::{Changed, PassContext};

/// Puts this factor or shift into the layer before it, or into those after it, if it is one and nobody else reads what changes; then
/// what it was made of, which may now be beside a layer, too.
pub(super) fn fold(graph: &mut Graph, node: NodeId, context: &mut PassContext<'_>) -> Changed {
    let (mut changed, mut at) = (Changed::No, node);
    while let Some(step) = Step::of(graph, at).filter(|_| graph.is_read(at)) {
        let Some(layers) = step.put(graph) else {
            return changed | exchange(graph, &step, context);
        };
        let name = |layer: &NodeId| format!("`{}`", graph.node(*layer).name);
        let names: Vec<String> = layers.iter().map(name).collect();
        let what = format!("{} folded into {}", step.by, names.join(" and "));
        context.applied(&graph.node(at).name, what);
        graph.replace_uses(at.into(), step.x);
        graph.remove(at);
        (changed, at) = (Changed::Yes, step.x.node);
    }
    changed
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

    /// Lets layers do it, and names them; `None` where they cannot.
    fn put(&self, graph: &mut Graph) -> Option<Vec<NodeId>> {
        if self.goes_before(graph) {
            let layer = self.x.node;
            match self.by {
                By::Factor(factor) => scale(graph, layer, factor, true),
                By::Shift(shift) => shift_outputs(graph, layer, shift),
            }
            return Some(vec![layer]);
        }
        let layers = self
            .goes_behind(graph)
            .then(|| layers_behind(graph, self.node))?;
        for layer in &layers {
            match self.by {
                By::Factor(factor) => scale(graph, *layer, factor, false),
                By::Shift(shift) => shift_inputs(graph, *layer, shift),
            }
        }
        Some(layers)
    }

    /// Whether the layer that gives what this reads can do it.
    fn goes_before(&self, graph: &Graph) -> bool {
        let layer = self.x.node;
        let can = |i: usize| is_own(graph, layer, i) && self.keeps_normal(graph, layer, i);
        let alone = graph.only_reader(self.x).is_some();
        alone && is_layer(graph, layer) && (1..graph.operands(layer).len()).all(can)
    }

    /// Whether no element of an operand becomes subnormal, zero or infinite by the factor that was none of these: several factors, one
    /// after the other, may be too much.
    fn keeps_normal(&self, graph: &Graph, layer: NodeId, position: usize) -> bool {
        let By::Factor(factor) = self.by else {
            return true;
        };
        let is_normal = |x: f64| match graph.ty(self.x).dtype() {
            Some(DType::F64) => x.is_normal(),
            _ => (x as f32).is_normal(),
        };
        let elements = graph.operand_elements(layer, position);
        elements
            .iter()
            .all(|x| !is_normal(*x) || is_normal(x * factor))
    }

    /// Whether all layers that read this can do it: a shift, where no zeros of a pad are read beside it.
    fn goes_behind(&self, graph: &Graph) -> bool {
        let can = |layer: &NodeId| {
            let sees_all = match graph.op(*layer) {
                Some(Op::Conv { pad, groups, .. }) => pad.is_zero() && *groups == 1,
                op => matches!(op, Some(Op::Linear {})),
            };
            let bias = graph.operands(*layer).get(2).map(|bias| bias.node);
            let is_known = bias.is_none_or(|bias| graph.constant(bias).is_some());
            let takes = matches!(self.by, By::Factor(_)) || (sees_all && is_known);
            is_own(graph, *layer, 1) && takes && self.keeps_normal(graph, *layer, 1)
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

#[cfg(test)]
mod tests {
    use crate::ir::{Graph, Op};
    use crate::pipeline::Pipeline;

    fn canonicalized(text: &str) -> Graph {
        let mut model = crate::Model::new(text.parse().unwrap());
        Pipeline::parse("canonicalize")
            .unwrap()
            .run(&mut model)
            .unwrap();
        model.graph
    }

    #[test]
    fn a_shift_does_not_go_where_the_bias_is_computed() {
        let graph = canonicalized(
            "graph net(%x: f32[N,2], %b: f32[2]) {
              @w = parameter [[1.0, 2.0], [3.0, 4.0]] : f32[2,2]
              @one = literal 1.0 : f32[]
              %a = add(%x, @one)
              %y = linear(%a, @w, %b)
              return %y
            }",
        );
        assert!(
            graph
                .nodes()
                .any(|node| graph.op(node) == Some(&Op::Add {}))
        );
    }

    #[test]
    fn factors_that_together_are_out_of_range_stay_beside_the_layer() {
        let graph = canonicalized(
            "graph net(%x: f32[N,1]) {
              @w = parameter 1e-30 : f32[1,1]
              @small = literal 1e-5 : f32[]
              %y = linear(%x, @w)
              %c = mul(%y, @small)
              %d = mul(%c, @small)
              return %d
            }",
        );
        let weight = graph.operand_elements(graph.find("y").unwrap(), 1)[0];
        assert!((weight / 1e-35 - 1.0).abs() < 1e-6, "{graph}");
        assert!(graph.find("d").is_some(), "{graph}");
    }

    #[test]
    fn chains_of_any_length_take_linear_time() {
        let chain = |operation: &dyn Fn(usize) -> String, length: usize| {
            let lines: String = (0..length)
                .map(|i| format!("%v{} = {}\n", i + 1, operation(i)))
                .collect();
            let last = format!("%y = linear(%v{length}, @w)\nreturn %y");
            canonicalized(&format!(
                "graph net(%v0: f32[N,1]) {{
                  @w = parameter 1.0 : f32[1,1]
                  @n = literal -1.0 : f32[]
                  {lines}{last}
                }}"
            ))
        };
        // Each is asked twice of the one before.
        let squares = chain(&|i| format!("mul(%v{i}, %v{i})"), 64);
        assert_eq!(
            squares
                .nodes()
                .filter(|node| squares.op(*node).is_some())
                .count(),
            65
        );
        let shifts = chain(&|i| format!("add(%v{i}, @n)"), 20_000);
        assert_eq!(
            shifts
                .nodes()
                .filter(|node| shifts.op(*node).is_some())
                .count(),
            1
        );
        chain(&|i| format!("div(%v{i}, @n)"), 20_000);
    }
}
