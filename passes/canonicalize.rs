//! What no output depends on, operations that do nothing, and operations on constants alone.

use smallvec::SmallVec;

use crate::Result;
use crate::exec::{Array, evaluate};
use crate::ir::{Bindings, Constant, Graph, NodeId, Op, Role, Tensor, Type, Value};
use crate::pipeline::{Changed, Kind, Pass, PassContext, PassInfo};

/// `canonicalize`.
pub static CANONICALIZE: PassInfo = PassInfo {
    name: "canonicalize",
    summary: "remove dead code and operations that do nothing, compute what is constant",
    kind: Kind::Exact,
    options: &[],
    build: |_| Ok(Box::new(Canonicalize)),
};

/// A constant of up to this many elements may be added even if those that it is computed from stay.
const SMALL: usize = 1024;

struct Canonicalize;

impl Pass for Canonicalize {
    fn info(&self) -> &'static PassInfo {
        &CANONICALIZE
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        // A cycle is the verifier's to report, and it has.
        let order = graph.topological_order().unwrap_or_default();
        let mut changed = false;
        // Operands come first, so that one sweep sees what each of them has become.
        for node in order {
            changed |= join(graph, node, context);
            changed |= remove_identity(graph, node, context) || compute(graph, node, context);
        }
        let dead = graph.remove_dead();
        if dead > 0 {
            let text = format!("removed {dead} nodes that no output depends on");
            context.applied("", text);
        }
        Ok((changed || dead > 0).into())
    }
}

/// Lets the readers of an operation that does nothing read its operand.
fn remove_identity(graph: &mut Graph, node: NodeId, context: &mut PassContext<'_>) -> bool {
    let Some((value, op)) = graph
        .op(node)
        .and_then(|op| Some((unchanged(graph, node, op)?, op.name())))
    else {
        return false;
    };
    context.applied(
        &graph.node(node).name,
        format!("removed: {op} does nothing here"),
    );
    graph.replace_uses(node.into(), value);
    graph.remove(node);
    true
}

/// The operand that `node` returns as it is.
fn unchanged(graph: &Graph, node: NodeId, op: &Op) -> Option<Value> {
    let operands = graph.operands(node);
    let first = *operands.first()?;
    let has_type_of = |value: Value| graph.ty(node.into()) == graph.ty(value);
    // The elements are the operand's, in its order, if the type is.
    let is_identity = match op {
        Op::Identity {} | Op::Dropout { .. } | Op::Cast { .. } => true,
        Op::Reshape { .. } | Op::Flatten { .. } | Op::Expand { .. } => {
            graph.ty(first).rank().is_some()
        }
        Op::Squeeze { axes } | Op::Unsqueeze { axes } => axes.is_empty(),
        Op::Transpose { perm } => perm.iter().enumerate().all(|(i, axis)| i == *axis),
        Op::Gather { index, .. } => index
            .iter()
            .enumerate()
            .all(|(i, from)| i == *from as usize),
        Op::Slice { step, .. } => *step == 1 && graph.ty(first).rank().is_some(),
        Op::Pad { before, after, .. } => {
            before.iter().chain(after).all(|n| n.as_number() == Some(0))
        }
        Op::Concat { .. } => operands.len() == 1,
        Op::Relu {} => matches!(graph.op(first.node), Some(Op::Relu {})),
        _ => false,
    };
    if is_identity {
        return has_type_of(first).then_some(first);
    }
    let (neutral, commutes) = match op {
        Op::Add {} => (0.0, true),
        Op::Sub {} => (0.0, false),
        Op::Mul {} => (1.0, true),
        Op::Div {} | Op::Pow {} => (1.0, false),
        _ => return None,
    };
    let second = *operands.get(1)?;
    if is_filled(graph, second, neutral) && has_type_of(first) {
        return Some(first);
    }
    (commutes && is_filled(graph, first, neutral) && has_type_of(second)).then_some(second)
}

/// Whether a value is a constant with this one element everywhere.
fn is_filled(graph: &Graph, value: Value, element: f64) -> bool {
    graph.constant(value.node).is_some_and(|constant| {
        let tensor = &constant.tensor;
        tensor.dtype().is_float() && tensor.elements::<f64>().iter().all(|x| *x == element)
    })
}

/// Puts a constant in the place of an operation on constants.
fn compute(graph: &mut Graph, node: NodeId, context: &mut PassContext<'_>) -> bool {
    let Some((tensor, op)) = graph
        .op(node)
        .and_then(|op| Some((result(graph, node, op)?, op.name())))
    else {
        return false;
    };
    let name = graph.node(node).name.clone();
    context.applied(&name, format!("computed: {op} reads constants only"));
    let constant = graph.add_constant(
        &name,
        Constant {
            tensor,
            role: Role::Literal,
            aliases: Vec::new(),
        },
    );
    graph.replace_uses(node.into(), constant.into());
    graph.remove(node);
    graph.rename(constant, &name);
    true
}

/// What an operation on constants computes, unless that would store more than it saves.
fn result(graph: &Graph, node: NodeId, op: &Op) -> Option<Tensor> {
    let operands = graph.operands(node);
    let constants: SmallVec<[&Tensor; 4]> = operands
        .iter()
        .map(|value| Some(&graph.constant(value.node)?.tensor))
        .collect::<Option<_>>()?;
    // The interpreter computes in floating point, which is not how integers divide or overflow.
    let [Type::Tensor(dtype, Some(shape))] = graph.node(node).outputs.as_slice() else {
        return None;
    };
    if !dtype.is_float() || !constants.iter().all(|tensor| tensor.dtype().is_float()) {
        return None;
    }
    let len = shape
        .iter()
        .try_fold(1usize, |len, dim| len.checked_mul(dim.as_len()?))?;
    let read: usize = constants.iter().map(|tensor| tensor.len()).sum();
    let is_last_reader = operands
        .iter()
        .all(|value| graph.readers(*value).len() == 1);
    if len > SMALL && !(is_last_reader && len <= read) {
        return None;
    }
    let arrays = constants.iter().map(|tensor| Array::<f64>::from(*tensor));
    // No numbers for symbols: a size that depends on the input is not constant.
    let result = evaluate(op, arrays, &Bindings::new()).ok()?;
    let elements = result.view();
    let shape = result.shape().to_vec();
    (elements.len() == len).then(|| Tensor::from_f64(*dtype, &shape, elements.iter().copied()))
}

/// Lets one operation do what `node` and the one before it do.
fn join(graph: &mut Graph, node: NodeId, context: &mut PassContext<'_>) -> bool {
    let Some((op, operand)) = graph.op(node).and_then(|op| joined(graph, node, op)) else {
        return false;
    };
    let joined = graph.replace_op(node, op, &[operand]).is_ok();
    if joined {
        context.applied(
            &graph.node(node).name,
            "joined with the operation before it",
        );
    }
    joined
}

/// One operation in place of `node` and the one before it.
fn joined(graph: &Graph, node: NodeId, op: &Op) -> Option<(Op, Value)> {
    let before = graph.operands(node).first()?.node;
    let first = *graph.operands(before).first()?;
    match (op, graph.op(before)?) {
        (Op::Transpose { perm }, Op::Transpose { perm: inner }) => {
            let perm = perm
                .iter()
                .map(|axis| inner.get(*axis).copied())
                .collect::<Option<_>>()?;
            Some((Op::Transpose { perm }, first))
        }
        (
            Op::Reshape { .. },
            Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. },
        ) => Some((op.clone(), first)),
        _ => None,
    }
}
