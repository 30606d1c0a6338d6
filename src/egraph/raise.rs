//! From chosen terms back to a graph.

use std::sync::Arc;

use egg::Id;
use rustc_hash::FxHashMap;

use super::channel_map::ChannelMap;
use super::gather::{Step, steps};
use super::term::{EGraph, Head, Naming, Term};
use crate::ir::{Constant, DType, Graph, NodeId, Op, Role, Tensor, Value};

/// A graph made of terms.
#[derive(Clone, Debug)]
pub struct Raised {
    /// The graph.
    pub graph: Graph,
    /// For its operations, the one of the graph before that each was or was made from, where there is one. An operation keeps the
    /// name of that one only as long as no other has taken it.
    pub origins: FxHashMap<NodeId, NodeId>,
}

/// Builds the graph of the terms that `choose` gives for each class, with the interface and the constants of `graph`.
///
/// # Errors
/// A term that does not fit its operands, or a choice with a cycle: mistakes of a rule or of extraction.
pub fn raise<'a>(
    egraph: &'a EGraph,
    graph: &Graph,
    roots: &[Id],
    choose: impl Fn(Id) -> Option<&'a Term>,
) -> Result<Raised, String> {
    let mut raised = Raised {
        graph: Graph::new(graph.name.clone()),
        origins: FxHashMap::default(),
    };
    raised.graph.bindings = graph.bindings.clone();
    raised.graph.defaults = graph.defaults.clone();
    let input = |n: &NodeId| {
        let ty = graph.ty((*n).into()).clone();
        raised.graph.add_input(&graph.node(*n).name, ty)
    };
    let inputs: Vec<NodeId> = graph.inputs().iter().map(input).collect();
    let mut values: FxHashMap<Id, Value> = FxHashMap::default();
    for (root, output) in roots.iter().zip(graph.outputs()) {
        let root = egraph.find(*root);
        let mut stack = vec![(root, 0)];
        while let Some((class, next)) = stack.pop() {
            if values.contains_key(&class) {
                continue;
            }
            let term = choose(class).ok_or("a class without a term")?;
            if let Some(child) = term.children.get(next) {
                stack.push((class, next + 1));
                let child = egraph.find(*child);
                if stack.iter().any(|(open, _)| *open == child) {
                    return Err("the chosen terms are cyclic".into());
                }
                stack.push((child, 0));
                continue;
            }
            let operands: Vec<Value> = term
                .children
                .iter()
                .map(|id| values[&egraph.find(*id)])
                .collect();
            let value = raise_term(egraph, graph, &mut raised, &inputs, class, term, &operands)?;
            values.insert(class, value);
        }
        raised.graph.add_output(output.name.clone(), values[&root]);
    }
    Ok(raised)
}

fn raise_term(
    egraph: &EGraph,
    graph: &Graph,
    raised: &mut Raised,
    inputs: &[NodeId],
    class: Id,
    term: &Term,
    operands: &[Value],
) -> Result<Value, String> {
    let constants = &egraph.analysis.constants;
    let wished = &egraph[class].data.name.name;
    Ok(match &term.head {
        Head::Input(position) => inputs[*position as usize].into(),
        Head::Constant(id) => {
            let kept = constants
                .source(*id)
                .and_then(|node| graph.constant(node))
                .cloned();
            let made = || Constant {
                mask: constants.mask(*id),
                ..Constant::new(constants.value(*id).clone(), constants.role(*id))
            };
            raised
                .graph
                .add_constant(constants.name(*id), kept.unwrap_or_else(made))
                .into()
        }
        Head::Op(op) => {
            let name = operator_name(egraph, class, op, term);
            let node = raised.graph.add_op(&name, op.clone(), operands)?;
            let origin = graph.find(&name).map(|origin| (node, origin));
            raised.origins.extend(origin);
            node.into()
        }
        Head::Gather { axis, map } => {
            let name = format!("{}.gather", raised.graph.node(operands[0].node).name);
            raise_gather(&mut raised.graph, &name, operands[0], *axis, map)?
        }
        Head::Opaque(_, opaque) => raised
            .graph
            .add_typed_op(
                wished,
                Op::Opaque(opaque.clone()),
                operands,
                opaque.outputs.clone(),
            )
            .into(),
        Head::Port(port) => Value {
            node: operands[0].node,
            port: *port,
        },
    })
}

/// The name of the node that the operator was or was made from; a convolution that a batch norm was folded into is known by
/// its weight.
fn operator_name(egraph: &EGraph, class: Id, op: &Op, term: &Term) -> Arc<str> {
    let data = &egraph[class].data;
    let own = data
        .operators
        .iter()
        .find(|(name, naming)| *name == op.name() && naming.rank < Naming::BORROWED);
    if let Some((_, naming)) = own {
        return naming.name.clone();
    }
    let dense = op.convolution().is_some() || matches!(op, Op::Linear {});
    let weight = dense
        .then(|| egraph[term.children[1]].data.constant)
        .flatten();
    let layer = weight.and_then(|id| egraph.analysis.constants.name(id).strip_suffix(".weight"));
    layer.map_or_else(|| data.name.name.clone(), Arc::from)
}

/// A gather as operators of the IR.
fn raise_gather(
    graph: &mut Graph,
    name: &str,
    x: Value,
    axis: usize,
    map: &ChannelMap,
) -> Result<Value, String> {
    let ty = graph.ty(x).clone();
    let mut value = x;
    for Step { op, factors } in steps(&ty, axis, map)? {
        let mut operands = vec![value];
        if let Some(factors) = factors {
            let mut shape = vec![1; ty.rank().unwrap_or_default() - axis];
            shape[0] = factors.len();
            let dtype = ty.dtype().unwrap_or(DType::F32);
            let constant = Constant::new(Tensor::from_f64(dtype, &shape, factors), Role::Literal);
            let factors = graph.add_constant(&format!("{name}.factors"), constant);
            operands.push(factors.into());
        }
        value = graph.add_op(name, op, &operands)?.into();
    }
    Ok(value)
}
