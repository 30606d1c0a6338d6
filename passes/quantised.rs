//! What passes over weights say of networks whose weights are integers already.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ir::{Graph, Op};
use crate::pipeline::PassContext;

/// Says which quantised operators are left as they are. Their weights are on grids of their own: changed or chosen among other ones,
/// they would need other grids, which only a calibration can give.
pub(super) fn explain(graph: &Graph, context: &mut PassContext<'_>) {
    let mut counts: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
    for node in graph.nodes() {
        if let Some(Op::Opaque(opaque)) = graph.op(node)
            && opaque.is_quantised()
        {
            *counts.entry(&opaque.name).or_default() += 1;
        }
    }
    if counts.is_empty() {
        return;
    }
    let counts = counts
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect::<Vec<String>>()
        .join(", ");
    context.missed(
        "",
        format!(
            "left as it is, with the weights it reads: what is quantised ({counts}); prune the network before it is quantised"
        ),
    );
}
