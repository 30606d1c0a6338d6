//! From the graph to terms.

use egg::Id;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::term::{EGraph, Facts, Head, Naming, Term};
use crate::ir::{Graph, NodeId, NodeKind, Op, Value};

/// A graph as terms.
pub struct Lowered {
    /// The terms; nothing is united yet.
    pub egraph: EGraph,
    /// The classes of the graph's outputs.
    pub roots: Vec<Id>,
    /// The class and the term of every node that is not an input or a constant, in topological order.
    pub terms: Vec<(Id, Term)>,
}

/// Lowers a valid graph.
///
/// # Errors
/// A node whose operands do not fit, which the verifier would have named.
pub fn lower(graph: &Graph) -> Result<Lowered, String> {
    let inputs = graph
        .inputs()
        .iter()
        .map(|n| graph.ty((*n).into()).clone())
        .collect();
    let mut egraph = EGraph::new(Facts {
        inputs,
        ..Facts::default()
    });
    let order = graph
        .topological_order()
        .map_err(|n| format!("{} is on a cycle", graph.node(n).name))?;
    let mut classes: FxHashMap<Value, Id> = FxHashMap::default();
    let mut terms = Vec::new();
    for (position, node) in order.into_iter().enumerate() {
        let name = graph.node(node).name.clone();
        egraph.analysis.naming = Naming {
            rank: position as u32,
            name: name.clone(),
        };
        let term = lower_node(graph, node, &mut egraph, &classes);
        Facts::types(&egraph, &term).map_err(|what| format!("{name}: {what}"))?;
        let computes = matches!(graph.node(node).kind, NodeKind::Op(_));
        let id = egraph.add(term.clone());
        classes.insert(node.into(), id);
        if computes {
            terms.push((id, term));
        }
        for port in 1..graph.node(node).outputs.len() as u32 {
            let term = Term {
                head: Head::Port(port),
                children: [id].into_iter().collect(),
            };
            let port_id = egraph.add(term.clone());
            classes.insert(Value { node, port }, port_id);
            terms.push((port_id, term));
        }
    }
    let roots = graph
        .outputs()
        .iter()
        .map(|output| classes[&output.value])
        .collect();
    egraph.analysis.naming = Naming::default();
    egraph.rebuild();
    Ok(Lowered {
        egraph,
        roots,
        terms,
    })
}

fn lower_node(
    graph: &Graph,
    node: NodeId,
    egraph: &mut EGraph,
    classes: &FxHashMap<Value, Id>,
) -> Term {
    let children: SmallVec<[Id; 4]> = graph
        .operands(node)
        .iter()
        .map(|value| classes[value])
        .collect();
    let head = match &graph.node(node).kind {
        NodeKind::Input => {
            let position = graph
                .inputs()
                .iter()
                .position(|n| *n == node)
                .unwrap_or_default();
            Head::Input(position as u32)
        }
        NodeKind::Constant(constant) => {
            let name = &graph.node(node).name;
            Head::Constant(egraph.analysis.constants.leaf(node, name, constant))
        }
        NodeKind::Op(Op::Opaque(opaque)) => Head::Opaque(node.index() as u32, opaque.clone()),
        NodeKind::Op(op) => Head::Op(op.clone()),
    };
    Term { head, children }
}
