//! Subnormal weights, which many processors compute with a hundred times more slowly, made zero.
//!
//! A subnormal number of `f32` is less than 1.2e-38: what it adds to a sum of ordinary numbers is lost in rounding. It can be
//! noticed only where nothing larger is added to it and something later magnifies it beyond all bounds: a logarithm, a division. Those
//! of `f16` are ordinary numbers to processors and stay.

use rustc_hash::FxHashSet;

use crate::ir::{DType, Graph, NodeId, Op, Tensor, Value};
use crate::pipeline::{Changed, PassContext};

/// A sum with an addend of so many times the smallest ordinary number does not notice what is below that.
const DOMINATES: f64 = (1u64 << 30) as f64;

/// An `eps` below this would let a norm magnify what is subnormal to something that can be seen.
const LEAST_EPS: f64 = 1e-20;

/// Opaque operators that are known to be no steeper than a small number: what is small stays so.
const TAME: [&str; 9] = [
    "onnx::Atan",
    "onnx::Celu",
    "onnx::Cos",
    "onnx::HardSigmoid",
    "onnx::Resize",
    "onnx::Selu",
    "onnx::Sin",
    "onnx::Softsign",
    "onnx::Upsample",
];

/// Makes subnormal elements of weights zero where no output can tell.
pub(super) fn flush(graph: &mut Graph, context: &mut PassContext<'_>) -> Changed {
    let mut flushed: Vec<(String, usize)> = Vec::new();
    let mut magnified = None;
    for node in graph.nodes().collect::<Vec<_>>() {
        let Some(tensor) = graph.constant(node).map(|constant| &constant.tensor) else {
            continue;
        };
        let Some(least) = least(tensor.dtype()) else {
            continue;
        };
        let count = count(tensor, least);
        if count == 0 {
            continue;
        }
        let name = graph.node(node).name.to_string();
        let magnified = magnified.get_or_insert_with(|| magnified_later(graph));
        match notices(graph, node, least, magnified) {
            Some(why) => context.missed(&name, format!("{count} subnormal elements stay: {why}")),
            None => {
                let tensor = without(tensor, least);
                graph.set_tensor(node, tensor);
                flushed.push((name, count));
            }
        }
    }
    for (name, count) in &flushed {
        let text = format!(
            "{count} subnormal elements became zero, which no output can tell and many processors are slow with"
        );
        context.applied(name, text);
    }
    Changed::from(!flushed.is_empty())
}

/// The smallest ordinary number of a type that has subnormal ones which processors are slow with.
fn least(dtype: DType) -> Option<f64> {
    match dtype {
        DType::F64 => Some(f64::MIN_POSITIVE),
        // bf16 has the exponents of f32, and is computed with as that.
        DType::F32 | DType::BF16 => Some(f64::from(f32::MIN_POSITIVE)),
        _ => None,
    }
}

/// How many elements are smaller than `least`, and not zero.
fn count(tensor: &Tensor, least: f64) -> usize {
    match tensor.dtype() {
        DType::F64 => {
            let elements = tensor.stored_elements::<f64>();
            elements.iter().filter(|x| is_small(**x, least)).count()
        }
        _ => {
            let elements = tensor.stored_elements::<f32>();
            elements.iter().filter(|x| x.is_subnormal()).count()
        }
    }
}

fn is_small(x: f64, least: f64) -> bool {
    x != 0.0 && x.abs() < least
}

fn without(tensor: &Tensor, least: f64) -> Tensor {
    let elements = tensor.elements::<f64>();
    let kept = elements
        .iter()
        .map(|x| if is_small(*x, least) { 0.0 } else { *x });
    Tensor::from_f64(tensor.dtype(), tensor.shape(), kept)
}

/// Why an output could tell if the small elements of a constant were zero; `None` if none could.
fn notices(
    graph: &Graph,
    constant: NodeId,
    least: f64,
    magnified: &FxHashSet<NodeId>,
) -> Option<String> {
    if graph.is_output(constant.into()) {
        return Some("the network returns them".to_string());
    }
    for (reader, operand) in graph.readers(constant.into()) {
        let name = &graph.node(reader).name;
        if !adds_up(graph, reader, operand) {
            return Some(format!("what `{name}` does with them could show them"));
        }
        if magnified.contains(&reader) && !is_dominated(graph, reader, operand, least) {
            return Some(format!(
                "nothing larger is added to them in `{name}`, and what comes after it could magnify them"
            ));
        }
    }
    None
}

/// Whether an operator's result changes by no more than a few times what this operand does.
fn adds_up(graph: &Graph, reader: NodeId, operand: usize) -> bool {
    match graph.op(reader) {
        Some(Op::BatchNorm { eps }) => operand < 4 || eps.0 > LEAST_EPS,
        Some(
            Op::Conv { .. }
            | Op::ConvTranspose { .. }
            | Op::Linear {}
            | Op::MatMul {}
            | Op::LayerNorm { .. }
            | Op::GroupNorm { .. }
            | Op::PRelu {}
            | Op::Add {}
            | Op::Sub {}
            | Op::Mul {}
            | Op::Maximum {}
            | Op::Minimum {},
        ) => true,
        _ => false,
    }
}

/// The nodes whose result an operator that has no bound to what it makes of small numbers depends on.
fn magnified_later(graph: &Graph) -> FxHashSet<NodeId> {
    let mut found: FxHashSet<NodeId> = FxHashSet::default();
    let magnifies = |node: &NodeId| magnifies(graph, *node);
    let mut stack: Vec<NodeId> = graph.nodes().filter(magnifies).collect();
    while let Some(node) = stack.pop() {
        for operand in graph.operands(node) {
            if found.insert(operand.node) {
                stack.push(operand.node);
            }
        }
    }
    found
}

/// Whether an operator can make something that is seen of a subnormal number.
fn magnifies(graph: &Graph, node: NodeId) -> bool {
    let operands = graph.operands(node);
    let is_constant = |value: &Value| graph.constant(value.node).is_some();
    match graph.op(node) {
        None => false,
        Some(Op::Log {} | Op::Rsqrt {} | Op::Pow {}) => true,
        Some(Op::Opaque(opaque)) => !TAME.contains(&&*opaque.name),
        // By a constant is a product with a constant.
        Some(Op::Div {}) => !operands.get(1).is_some_and(is_constant),
        Some(Op::Cast { dtype }) => *dtype == DType::Bool,
        Some(Op::BatchNorm { eps } | Op::LayerNorm { eps, .. } | Op::GroupNorm { eps, .. }) => {
            eps.0 <= LEAST_EPS
        }
        Some(_) => false,
    }
}

/// Whether each small element of a layer's weight is added to something that is much larger: another weight of the same sum, or the
/// bias.
fn is_dominated(graph: &Graph, reader: NodeId, operand: usize, least: f64) -> bool {
    let (Some(op), 1) = (graph.op(reader), operand) else {
        return false;
    };
    let sums_rows = matches!(op, Op::Conv { .. } | Op::Linear {});
    let weight = graph.operands(reader)[1].node;
    let Some(tensor) = graph
        .constant(weight)
        .map(|c| &c.tensor)
        .filter(|_| sums_rows)
    else {
        return false;
    };
    let bias = match graph.operands(reader).get(2) {
        Some(bias) => graph
            .constant(bias.node)
            .map(|c| c.tensor.elements::<f64>()),
        None => None,
    };
    let elements = tensor.elements::<f64>();
    let rows = tensor.shape().first().copied().unwrap_or(1).max(1);
    let row = (elements.len() / rows).max(1);
    elements.chunks(row).enumerate().all(|(i, row)| {
        let bias = bias.as_ref().and_then(|bias| bias.get(i)).copied();
        let largest = row
            .iter()
            .chain(&bias)
            .fold(0.0, |most, x| x.abs().max(most));
        largest >= DOMINATES * least || !row.iter().any(|x| is_small(*x, least))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_subnormal_goes_before_opaque_operators_that_are_not_steep() {
        for (opaque, left) in [("onnx::HardSigmoid", 0), ("onnx::Tan", 3)] {
            let text = format!(
                "graph g(%x: f32[N,2]) {{
                   @w = parameter [1e-40, 0.5, 1e-40, 1e-39] : f32[2,2]
                   %y = linear(%x, @w)
                   %z = opaque \"{opaque}\"(%y) {{template=\"\", dialect=onnx}} : f32[N,2]
                   return %z
                 }}"
            );
            let mut graph: Graph = text.parse().unwrap();
            let changed = flush(&mut graph, &mut PassContext::default());
            assert_eq!(changed.is_yes(), left == 0, "{opaque}");
            let weight = graph.constant(graph.find("w").unwrap()).unwrap();
            let small = count(&weight.tensor, f64::from(f32::MIN_POSITIVE));
            assert_eq!(small, left, "{opaque}");
        }
    }
}
