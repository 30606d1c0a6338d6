//! From chosen terms back to a graph.

use std::sync::Arc;

use egg::Id;
use rustc_hash::FxHashMap;

use super::picks::{Pick, Picks};
use super::term::{EGraph, Head, Term};
use crate::ir::{
    Constant, DType, Dim, Dims, Graph, NodeId, Op, Output, PadMode, Role, Tensor, Value,
};

/// Builds the graph of the terms that `choose` gives for each class, with the interface and the constants of `graph`.
///
/// # Errors
/// A term that does not fit its operands, or a choice with a cycle: mistakes of a rule or of extraction.
pub fn raise<'a>(
    egraph: &'a EGraph,
    graph: &Graph,
    roots: &[Id],
    choose: impl Fn(Id) -> Option<&'a Term>,
) -> Result<Graph, String> {
    let mut raised = Graph::new(graph.name.clone());
    raised.bindings = graph.bindings.clone();
    let inputs: Vec<NodeId> = graph
        .inputs()
        .iter()
        .map(|n| raised.add_input(&graph.node(*n).name, graph.ty((*n).into()).clone()))
        .collect();
    let mut values: FxHashMap<Id, Value> = FxHashMap::default();
    for (root, output) in roots.iter().zip(&graph.outputs) {
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
        raised.outputs.push(Output {
            name: output.name.clone(),
            value: values[&root],
        });
    }
    Ok(raised)
}

fn raise_term(
    egraph: &EGraph,
    graph: &Graph,
    raised: &mut Graph,
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
                tensor: constants.value(*id).clone(),
                role: constants.role(*id),
                aliases: Vec::new(),
            };
            raised
                .add_constant(constants.name(*id), kept.unwrap_or_else(made))
                .into()
        }
        Head::Op(op) => {
            let name = operator_name(egraph, class, op, term);
            raised.add_op(&name, op.clone(), operands)?.into()
        }
        Head::Gather { axis, picks } => {
            let name = format!("{}.gather", raised.node(operands[0].node).name);
            raise_gather(raised, &name, operands[0], *axis, picks)?
        }
        Head::Opaque(_, opaque) => raised
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
        .find(|(name, naming)| *name == op.name() && naming.rank < u32::MAX);
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

/// A gather as operators of the IR: pads for constants, then a slice or a gather, then a product with factors.
fn raise_gather(
    graph: &mut Graph,
    name: &str,
    x: Value,
    axis: usize,
    picks: &Picks,
) -> Result<Value, String> {
    let n = graph
        .ty(x)
        .len(axis)
        .ok_or("a gather along an axis of unknown size")?;
    let rank = graph.ty(x).rank().unwrap_or_default();
    let dtype = graph.ty(x).dtype().unwrap_or(DType::F32);
    let mut value = x;
    if let Some((before, after, constant)) = as_pad(picks, n) {
        let op = pad(rank, axis, before, after, constant);
        return Ok(graph.add_op(name, op, &[value])?.into());
    }
    let mut constants: Vec<f64> = Vec::new();
    let index: Vec<u32> = picks
        .0
        .iter()
        .map(|pick| match *pick {
            Pick::Channel { index, .. } => index,
            Pick::Constant(c) => {
                let known = constants
                    .iter()
                    .position(|known| known.to_bits() == c.0.to_bits());
                let at = known.unwrap_or_else(|| {
                    constants.push(c.0);
                    constants.len() - 1
                });
                (n + at) as u32
            }
        })
        .collect();
    for constant in &constants {
        value = graph
            .add_op(name, pad(rank, axis, 0, 1, *constant), &[value])?
            .into();
    }
    let consecutive = index.windows(2).all(|w| w[1] == w[0] + 1);
    let whole = index.len() == n + constants.len() && consecutive && index.first() == Some(&0);
    if let (false, true, Some(first)) = (whole, consecutive, index.first()) {
        let (start, end) = (
            Dim::from(*first as usize),
            Dim::from(*first as usize + index.len()),
        );
        value = graph
            .add_op(
                name,
                Op::Slice {
                    axis,
                    start,
                    end,
                    step: 1,
                },
                &[value],
            )?
            .into();
    } else if !whole {
        value = graph
            .add_op(
                name,
                Op::Gather {
                    axis,
                    index: index.into(),
                },
                &[value],
            )?
            .into();
    }
    let factors: Vec<f64> = picks
        .0
        .iter()
        .map(|pick| match pick {
            Pick::Channel { scale, .. } => scale.0,
            Pick::Constant(_) => 1.0,
        })
        .collect();
    if factors.iter().any(|f| *f != 1.0) {
        let mut shape = vec![1; rank - axis];
        shape[0] = factors.len();
        let tensor = Tensor::from_f64(dtype, &shape, factors);
        let constant = Constant {
            tensor,
            role: Role::Literal,
            aliases: Vec::new(),
        };
        let factors = graph.add_constant(&format!("{name}.factors"), constant);
        value = graph
            .add_op(name, Op::Mul {}, &[value, factors.into()])?
            .into();
    }
    Ok(value)
}

fn pad(rank: usize, axis: usize, before: usize, after: usize, value: f64) -> Op {
    let only = |n: usize| -> Dims {
        (0..rank)
            .map(|a| Dim::from(if a == axis { n } else { 0 }))
            .collect()
    };
    Op::Pad {
        before: only(before),
        after: only(after),
        mode: PadMode::Constant,
        value: value.into(),
    }
}

/// Whether the picks are all `n` channels in order with one constant around them.
fn as_pad(picks: &Picks, n: usize) -> Option<(usize, usize, f64)> {
    let constant = |pick: &Pick| match pick {
        Pick::Constant(value) => Some(value.0),
        Pick::Channel { .. } => None,
    };
    let before = picks
        .0
        .iter()
        .take_while(|pick| constant(pick).is_some())
        .count();
    let after = picks.len().checked_sub(before + n)?;
    let middle: Picks = picks.0[before..before + n].iter().copied().collect();
    let mut values = picks.0[..before]
        .iter()
        .chain(&picks.0[before + n..])
        .map(constant);
    let value = values.next()??;
    let same = values.all(|v| v.is_some_and(|v| v.to_bits() == value.to_bits()));
    (same && middle.is_identity(n)).then_some((before, after, value))
}
