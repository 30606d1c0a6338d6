//! What constants alone decide, computed beforehand: whole expressions at once, so that a weight made of a gain and a direction
//! becomes one constant though its parts are read several times.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::exec::{Array, evaluate};
use crate::ir::{
    Bindings, Constant, DType, Graph, NodeId, NodeKind, Op, Role, Tensor, Type, Value, byte_len,
};
use crate::pipeline::{Changed, Cost, PassContext};

/// Bytes that an operation itself takes in a file, about: computing one may store so many more.
const OPERATION: usize = 64;

/// Bytes that may be stored for the time that an operation takes, where the cost is time.
const WORTH_TIME: usize = 4096;

/// How much larger than its constants, and a mebibyte, all that an expression computes may be.
const MOST_WORK: usize = 16;

/// Operations that are computed together at most.
const MOST_TOGETHER: usize = 64;

/// Computes operations whose operands are constants, where what is stored does not grow: the last of each expression first, then
/// those that share constants together, such as the parts that a weight is cut into.
pub(super) fn fold(graph: &mut Graph, context: &mut PassContext<'_>) -> Changed {
    let Ok(order) = graph.topological_order() else {
        return Changed::No;
    };
    let mut known: FxHashSet<NodeId> = FxHashSet::default();
    for node in &order {
        if is_computable(graph, *node, &known) {
            known.insert(*node);
        }
        explain_opaque(graph, *node, &known, context);
    }
    let room = match context.cost {
        Cost::Latency(_) => WORTH_TIME,
        Cost::Macs | Cost::Params => OPERATION,
    };
    let mut changed = Changed::No;
    let mut left = Vec::new();
    for node in order.iter().rev().filter(|node| known.contains(node)) {
        if !is_operation(graph, *node) || !graph.is_read(*node) {
            continue;
        }
        match compute(graph, &[*node], room, context) {
            Outcome::Computed => changed = Changed::Yes,
            Outcome::Larger { bytes, freed } => left.push((*node, bytes, freed)),
            Outcome::Impossible => {}
        }
    }
    let last = |graph: &Graph, node: NodeId| {
        let readers = graph.readers(node.into());
        graph.is_output(node.into()) || readers.iter().any(|(reader, _)| !known.contains(reader))
    };
    left.retain(|(node, ..)| is_operation(graph, *node) && last(graph, *node));
    left.reverse();
    for together in sharing(
        graph,
        &left.iter().map(|(node, ..)| *node).collect::<Vec<_>>(),
    ) {
        if let Outcome::Computed = compute(graph, &together, room, context) {
            changed = Changed::Yes;
            left.retain(|(node, ..)| !together.contains(node));
        }
    }
    for (node, bytes, freed) in left {
        let text = format!("its constant result takes {bytes} bytes, and frees {freed}");
        context.missed(&graph.node(node).name, text);
    }
    changed
}

/// What became of operations that were to be computed.
enum Outcome {
    Computed,
    /// They would be stored in more bytes than they free.
    Larger {
        bytes: usize,
        freed: usize,
    },
    /// They have no size or no value; a remark says which.
    Impossible,
}

/// Whether a node is an operation on constants, or on results of such; floating-point numbers alone are exact.
fn is_computable(graph: &Graph, node: NodeId, known: &FxHashSet<NodeId>) -> bool {
    let is_float = |value: Value| graph.ty(value).dtype().is_some_and(DType::is_float);
    let constant = |value: &Value| {
        is_float(*value) && (graph.constant(value.node).is_some() || known.contains(&value.node))
    };
    let operands = graph.operands(node);
    matches!(graph.op(node), Some(op) if !matches!(op, Op::Opaque(_)))
        && is_float(node.into())
        && !operands.is_empty()
        && operands.iter().all(constant)
        && bytes(graph, node).is_some()
}

/// Says of an opaque operator on constants why it is not computed.
fn explain_opaque(
    graph: &Graph,
    node: NodeId,
    known: &FxHashSet<NodeId>,
    context: &mut PassContext<'_>,
) {
    let Some(Op::Opaque(opaque)) = graph.op(node) else {
        return;
    };
    let operands = graph.operands(node);
    let constant = |value: &Value| {
        let float = graph.ty(*value).dtype().is_some_and(DType::is_float);
        float && (graph.constant(value.node).is_some() || known.contains(&value.node))
    };
    if !operands.is_empty() && operands.iter().all(constant) {
        let text = format!(
            "its operands are constants, but what `{}` computes is not known, so that its result is no constant to any pass",
            opaque.name
        );
        context.missed(&graph.node(node).name, text);
    }
}

/// The bytes of a node's result.
fn bytes(graph: &Graph, node: NodeId) -> Option<usize> {
    let Type::Tensor(dtype, Some(shape)) = graph.ty(node.into()) else {
        return None;
    };
    let shape: Vec<usize> = shape.iter().map(|d| d.as_len()).collect::<Option<_>>()?;
    byte_len(*dtype, &shape)
}

/// All that these nodes are computed from, and they themselves, operands first.
fn below(graph: &Graph, nodes: &[NodeId]) -> Vec<NodeId> {
    let mut seen: FxHashSet<NodeId> = FxHashSet::default();
    let mut order = Vec::new();
    let mut stack: Vec<(NodeId, bool)> = nodes.iter().map(|node| (*node, false)).collect();
    while let Some((node, done)) = stack.pop() {
        if done {
            order.push(node);
        } else if seen.insert(node) {
            stack.push((node, true));
            stack.extend(graph.operands(node).iter().map(|v| (v.node, false)));
        }
    }
    order
}

/// Puts constants in the place of these operations, if that stores no more than `room` bytes more.
fn compute(
    graph: &mut Graph,
    nodes: &[NodeId],
    room: usize,
    context: &mut PassContext<'_>,
) -> Outcome {
    let below = below(graph, nodes);
    let sum = |nodes: &mut dyn Iterator<Item = usize>| nodes.fold(0, usize::saturating_add);
    let size = |node: &NodeId| bytes(graph, *node).unwrap_or(usize::MAX);
    let stored = sum(&mut nodes.iter().map(size));
    let freed = sum(&mut freed(graph, nodes, &below).iter().map(size));
    if stored > freed.saturating_add(room) {
        return Outcome::Larger {
            bytes: stored,
            freed,
        };
    }
    let (constants, operations): (Vec<NodeId>, Vec<NodeId>) = below
        .iter()
        .partition(|node| graph.constant(**node).is_some());
    let work = sum(&mut operations.iter().map(size));
    let read = sum(&mut constants.iter().map(size));
    let name = graph.node(nodes[0]).name.clone();
    if work / MOST_WORK > read.saturating_add(1 << 20) {
        let text = format!("computing it takes {work} bytes of memory, for {read} of constants");
        context.missed(&name, text);
        return Outcome::Impossible;
    }
    let mut values = match values(graph, &operations) {
        Ok(values) => values,
        Err(why) => {
            context.missed(&name, format!("it cannot be computed: {why}"));
            return Outcome::Impossible;
        }
    };
    for node in nodes {
        let Some(tensor) = values.remove(node) else {
            return Outcome::Impossible;
        };
        let name = graph.node(*node).name.clone();
        context.applied(&name, "computed, its operands are constants");
        let constant = graph.add_constant(&name, Constant::new(tensor, Role::Literal));
        graph.replace_uses((*node).into(), constant.into());
        graph.swap_names(*node, constant);
    }
    remove_unread(graph, nodes);
    Outcome::Computed
}

/// Whether this is still an operation of the graph: what was computed is gone, and a constant may have its place.
fn is_operation(graph: &Graph, node: NodeId) -> bool {
    let kind = graph.get(node).map(|node| &node.kind);
    matches!(kind, Some(NodeKind::Op(_)))
}

/// Removes these operations, and those that were there for them alone.
fn remove_unread(graph: &mut Graph, nodes: &[NodeId]) {
    let mut stack = nodes.to_vec();
    while let Some(node) = stack.pop() {
        if is_operation(graph, node) && !graph.is_read(node) {
            stack.extend(graph.operands(node).iter().map(|value| value.node));
            graph.remove(node);
        }
    }
}

/// The constants among `below` that nobody reads any more once the nodes are constants themselves; memory that is shared counts once.
fn freed(graph: &Graph, nodes: &[NodeId], below: &[NodeId]) -> Vec<NodeId> {
    let mut gone: FxHashSet<NodeId> = nodes.iter().copied().collect();
    let mut places = FxHashSet::default();
    let mut freed = Vec::new();
    for node in below.iter().rev() {
        let readers = graph.readers((*node).into());
        let unread = readers.iter().all(|(reader, _)| gone.contains(reader));
        if !gone.contains(node) && (!unread || graph.is_output((*node).into())) {
            continue;
        }
        gone.insert(*node);
        if let Some(constant) = graph.constant(*node)
            && places.insert(constant.tensor.place())
        {
            freed.push(*node);
        }
    }
    freed
}

/// The values of operations on constants, operands first, each rounded to its type.
fn values(graph: &Graph, operations: &[NodeId]) -> Result<FxHashMap<NodeId, Tensor>, String> {
    let mut values: FxHashMap<NodeId, Tensor> = FxHashMap::default();
    for node in operations {
        let Some(op) = graph.op(*node) else { continue };
        let operand = |value: &Value| match graph.constant(value.node) {
            Some(constant) => Some(&constant.tensor),
            None => values.get(&value.node),
        };
        let operands: Option<Vec<&Tensor>> = graph.operands(*node).iter().map(operand).collect();
        let operands = operands.ok_or("an operand has no value")?;
        let arrays = operands.into_iter().map(Array::<f64>::from);
        let value = evaluate(op, arrays, &Bindings::new())?;
        let dtype = graph.ty((*node).into()).dtype().unwrap_or(DType::F32);
        let tensor = Tensor::from_f64(dtype, value.shape(), value.view().iter().copied());
        values.insert(*node, tensor);
    }
    Ok(values)
}

/// Groups of these nodes that are made of the same constants, several each.
fn sharing(graph: &Graph, nodes: &[NodeId]) -> Vec<Vec<NodeId>> {
    let mut groups: Vec<(FxHashSet<NodeId>, Vec<NodeId>)> = Vec::new();
    for node in nodes {
        let below = below(graph, &[*node]);
        let constants = below.into_iter().filter(|n| graph.constant(*n).is_some());
        let mut joined = (constants.collect::<FxHashSet<_>>(), vec![*node]);
        let (meeting, apart): (Vec<_>, Vec<_>) = groups
            .into_iter()
            .partition(|(other, _)| !other.is_disjoint(&joined.0));
        groups = apart;
        for (constants, members) in meeting {
            joined.0.extend(constants);
            joined.1.splice(0..0, members);
        }
        groups.push(joined);
    }
    let members = groups.into_iter().map(|(_, members)| members);
    let several = |group: &Vec<NodeId>| (2..=MOST_TOGETHER).contains(&group.len());
    members.filter(several).collect()
}
