//! What the pass manager itself remarks of a graph, whichever pass ran.

use std::sync::Arc;

use crate::ir::{Graph, NodeId};
use crate::report::{Remark, RemarkKind};

/// The names of constants that have masks.
pub(super) fn masked(graph: &Graph) -> Vec<Arc<str>> {
    let masked = |node: &NodeId| graph.mask(*node).is_some();
    let name = |node| graph.node(node).name.clone();
    graph.nodes().filter(masked).map(name).collect()
}

/// That the constant `name`, which had a mask, has none any more: its zeros may be overwritten.
pub(super) fn lost_mask(graph: &Graph, name: &str) -> Option<Remark> {
    let text = match graph.find(name) {
        Some(node) if graph.mask(node).is_some() => return None,
        Some(_) => "its mask is gone: what it is computed from now is not masked",
        None => "it is gone, and its mask with it",
    };
    Some(Remark {
        kind: RemarkKind::Analysis,
        node: name.to_string(),
        text: text.to_string(),
    })
}

/// That weights which callers may override are left as they are.
pub(super) fn overridable(graph: &Graph) -> Option<Remark> {
    const NAMED: usize = 3;
    let may_change = |node: &&NodeId| {
        let default = graph.defaults.get(&graph.node(**node).name);
        default.is_some_and(|tensor| tensor.dtype().is_float()) && graph.is_read(**node)
    };
    let names = graph.inputs().iter().filter(may_change);
    let names: Vec<&str> = names.map(|node| &*graph.node(*node).name).collect();
    let named = names.iter().take(NAMED).map(|name| format!("`{name}`"));
    let mut text = named.collect::<Vec<_>>().join(", ");
    if let Some(more @ 1..) = names.len().checked_sub(NAMED) {
        text += &format!(" and {more} more");
    }
    Some(Remark {
        kind: RemarkKind::Missed,
        node: names.first()?.to_string(),
        text: format!(
            "nothing is folded into weights that are also inputs, which callers may override, nor merged: {text}"
        ),
    })
}
