//! What does nothing, what is known beforehand and what nobody reads is removed; what is spelled out becomes the operator that it is.

mod activations;
mod constants;
mod polynomial;
mod scales;
mod subnormals;

use crate::ir::infer::infer;
use crate::ir::{Dim, Graph, NodeId, Op, Role, Value};
use crate::pipeline::{Changed, Kind, Options, Pass, PassContext, PassInfo};
use crate::{Error, Result};

/// `canonicalize`.
pub static CANONICALIZE: PassInfo = PassInfo {
    name: "canonicalize",
    summary: "remove operations that do nothing, compute constant ones, write activations as one, put factors and shifts into layers, join tied weights, make subnormal weights zero, drop what nobody reads",
    kind: Kind::Exact,
    options: &[],
    build,
};

/// Elements of the largest constant that is looked through for zeros or ones.
const MAX_NEUTRAL: usize = 1 << 20;

fn build(_: &Options) -> Result<Box<dyn Pass>> {
    Ok(Box::new(Canonicalize))
}

struct Canonicalize;

impl Pass for Canonicalize {
    fn info(&self) -> &'static PassInfo {
        &CANONICALIZE
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        let dead = graph.remove_dead();
        if dead > 0 {
            context.applied(
                "",
                format!("removed {dead} nodes that no output depends on"),
            );
        }
        let mut changed = join_tied(graph, context) | (dead > 0).into();
        // Operands come first, so that one walk sees what became of them.
        let order = graph.topological_order().map_err(|node| Error::Run {
            node: graph.node(node).name.to_string(),
            what: "it is on a cycle".to_string(),
        })?;
        for node in order {
            changed |= compose(graph, node, context);
            changed |= activations::recognise(graph, node, context);
            if let Some(value) = same_as(graph, node) {
                changed |= remove(graph, node, value, context);
            }
            changed |= scales::fold(graph, node, context);
        }
        changed |= constants::fold(graph, context);
        graph.remove_dead();
        changed |= subnormals::flush(graph, context);
        Ok(changed)
    }
}

/// Makes constants that are the same memory one, which has the others' names too.
fn join_tied(graph: &mut Graph, context: &mut PassContext<'_>) -> Changed {
    let mut changed = Changed::No;
    let mut places = rustc_hash::FxHashMap::default();
    for node in graph.nodes().collect::<Vec<_>>() {
        let Some(constant) = graph.constant(node).cloned() else {
            continue;
        };
        let same: &mut Vec<NodeId> = places.entry(constant.tensor.place()).or_default();
        let first = same.iter().copied().find(|other| {
            graph.constant(*other).is_some_and(|other| {
                other.role == constant.role
                    && other.mask == constant.mask
                    && other.tensor.same_memory(&constant.tensor)
            })
        });
        let Some(first) = first.filter(|_| !constant.tensor.is_empty()) else {
            same.push(node);
            continue;
        };
        let name = graph.node(node).name.clone();
        context.applied(&name, format!("tied to `{}`", graph.node(first).name));
        graph.replace_uses(node.into(), first.into());
        graph.remove(node);
        let mut names = constant.aliases;
        if constant.role != Role::Literal {
            names.insert(0, name);
        }
        graph.add_aliases(first, names);
        changed = Changed::Yes;
    }
    changed
}

/// Replaces a node's result by a value that is the same.
fn remove(graph: &mut Graph, node: NodeId, value: Value, context: &mut PassContext<'_>) -> Changed {
    if !graph.is_read(node) {
        return Changed::No;
    }
    let (name, same) = (&graph.node(node).name, &graph.node(value.node).name);
    context.applied(name, format!("removed, it is the same as `{same}`"));
    graph.replace_uses(node.into(), value);
    Changed::Yes
}

/// The operand that the result of this operation is equal to, if it is to one.
fn same_as(graph: &Graph, node: NodeId) -> Option<Value> {
    let op = graph.op(node)?;
    let operands = graph.operands(node);
    let x = *operands.first()?;
    let same_type = |value: Value| {
        let ty = graph.ty(Value::from(node));
        ty.shape().is_some() && ty == graph.ty(value)
    };
    let all_one = |dims: &[Dim]| dims.iter().all(|d| d.as_number() == Some(1));
    let does_nothing = match op {
        Op::Identity {} | Op::Dropout { .. } => true,
        Op::Concat { .. } => operands.len() == 1,
        Op::Cast { dtype } => graph.ty(x).dtype() == Some(*dtype) && graph.is_dtype_certain(x),
        // The type says it all: the elements keep their order, and as many as there were are left.
        Op::Reshape { .. }
        | Op::Flatten { .. }
        | Op::Squeeze { .. }
        | Op::Unsqueeze { .. }
        | Op::Expand { .. }
        | Op::Slice { .. }
        | Op::Resize { .. }
        | Op::AdaptiveAvgPool { .. }
        | Op::AdaptiveMaxPool { .. } => same_type(x),
        Op::Transpose { perm } => perm.iter().copied().eq(0..perm.len()),
        Op::Gather { index, .. } => same_type(x) && index.iter().copied().eq(0..index.len() as u32),
        Op::Pad { before, after, .. } => {
            let amounts = before.iter().chain(after);
            same_type(x) && amounts.into_iter().all(|d| d.as_number() == Some(0))
        }
        Op::MaxPool {
            kernel,
            stride,
            pad,
            ..
        }
        | Op::AvgPool {
            kernel,
            stride,
            pad,
            ..
        } => all_one(kernel) && all_one(stride) && pad.is_zero(),
        Op::Relu {} | Op::Abs {} => graph.op(x.node).is_some_and(is_never_negative),
        Op::Clip { .. } => graph.op(x.node) == Some(op),
        _ => return neutral(graph, op, &operands).filter(|value| same_type(*value)),
    };
    does_nothing.then_some(x)
}

fn is_never_negative(op: &Op) -> bool {
    match op {
        Op::Relu {}
        | Op::Abs {}
        | Op::Exp {}
        | Op::Sqrt {}
        | Op::Sigmoid {}
        | Op::HardSigmoid {}
        | Op::Softplus {}
        | Op::Softmax { .. } => true,
        Op::Clip { min, max } => min.0 >= 0.0 && max.0 >= 0.0,
        _ => false,
    }
}

/// The operand that the other one, a constant, leaves as it is.
fn neutral(graph: &Graph, op: &Op, operands: &[Value]) -> Option<Value> {
    let [a, b] = *operands else { return None };
    let is_all = |value: Value, n: f64| {
        graph.constant(value.node).is_some_and(|constant| {
            let tensor = &constant.tensor;
            tensor.len() <= MAX_NEUTRAL && tensor.elements::<f64>().iter().all(|x| *x == n)
        })
    };
    match op {
        Op::Add {} if is_all(a, 0.0) => Some(b),
        Op::Mul {} if is_all(a, 1.0) => Some(b),
        Op::Add {} | Op::Sub {} if is_all(b, 0.0) => Some(a),
        Op::Mul {} | Op::Div {} | Op::Pow {} if is_all(b, 1.0) => Some(a),
        _ => None,
    }
}

/// Makes one operation of two that only order elements anew.
fn compose(graph: &mut Graph, node: NodeId, context: &mut PassContext<'_>) -> Changed {
    let Some(first) = graph.operands(node).first().copied() else {
        return Changed::No;
    };
    let op = match (graph.op(node), graph.op(first.node)) {
        (Some(Op::Transpose { perm: outer }), Some(Op::Transpose { perm: inner })) => {
            Op::Transpose {
                perm: outer
                    .iter()
                    .filter_map(|i| inner.get(*i).copied())
                    .collect(),
            }
        }
        (
            Some(Op::Reshape { shape }),
            Some(
                Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. },
            ),
        ) => Op::Reshape {
            shape: shape.clone(),
        },
        _ => return Changed::No,
    };
    let Some(x) = graph.operands(first.node).first().copied() else {
        return Changed::No;
    };
    // Inference may know less about a size without the operation in between.
    let same_type = infer(&op, &[graph.ty(x)]).is_ok_and(|ty| ty == graph.node(node).outputs);
    if !same_type || graph.replace_op(node, op, &[x]).is_err() {
        return Changed::No;
    }
    let (name, first) = (&graph.node(node).name, &graph.node(first.node).name);
    context.applied(name, format!("joined with `{first}`"));
    Changed::Yes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Constant, DType, Tensor, Type};

    #[test]
    fn weights_in_the_same_memory_are_one_constant_with_both_names() {
        let mut graph = Graph::new("tied");
        let x = graph.add_input("x", Type::tensor(DType::F32, [2.into()]));
        let tensor = Tensor::from_vec(&[2], vec![1.0f32, 2.0]);
        let copy = Tensor::from_vec(&[2], vec![1.0f32, 2.0]);
        let mut last = Value::from(x);
        for (name, tensor) in [("a", &tensor), ("b", &tensor), ("c", &copy)] {
            let constant = Constant {
                aliases: vec![format!("{name}.alias").into()],
                ..Constant::new(tensor.clone(), Role::Parameter)
            };
            let weight = graph.add_constant(name, constant).into();
            last = graph
                .add_op("mul", Op::Mul {}, &[last, weight])
                .unwrap()
                .into();
        }
        graph.add_output("y", last);
        let changed = Canonicalize.run(&mut graph, &mut PassContext::default());
        assert!(changed.unwrap().is_yes());
        let names: Vec<_> = graph
            .nodes()
            .filter_map(|node| Some((&*graph.node(node).name, &graph.constant(node)?.aliases)))
            .map(|(name, aliases)| format!("{name} {aliases:?}"))
            .collect();
        assert_eq!(
            names,
            [r#"a ["a.alias", "b", "b.alias"]"#, r#"c ["c.alias"]"#]
        );
        assert!(crate::ir::verify(&graph).is_ok());
    }
}
