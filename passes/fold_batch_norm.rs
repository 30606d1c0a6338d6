//! Batch norms into the convolutions and linear layers before them.

use rustc_hash::FxHashSet;

use crate::Result;
use crate::egraph::{Bounds, Rule, saturate};
use crate::ir::{Graph, NodeId, NodeKind, Op, Value};
use crate::passes::rules;
use crate::pipeline::{Changed, Kind, Options, Pass, PassContext, PassInfo};

/// `fold-batch-norm`.
pub static FOLD_BATCH_NORM: PassInfo = PassInfo {
    name: "fold-batch-norm",
    summary: "fold batch norms into the convolutions and linear layers before them",
    kind: Kind::Exact,
    options: &[],
    build,
};

fn build(_: &Options) -> Result<Box<dyn Pass>> {
    Ok(Box::new(FoldBatchNorm))
}

struct FoldBatchNorm;

impl Pass for FoldBatchNorm {
    fn info(&self) -> &'static PassInfo {
        &FOLD_BATCH_NORM
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        fold(graph, context)
    }
}

/// Folds what can be folded, with a remark on each batch norm.
pub(super) fn fold(graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
    static RULES: &[&dyn Rule] = &[&rules::FoldBatchNorm];
    let norms = batch_norms(graph);
    if norms.is_empty() {
        return Ok(Changed::No);
    }
    let saturated = saturate(graph, RULES, &context.cost, Bounds::default())?;
    if let Some(refusal) = saturated.refusal() {
        context.missed("", refusal);
    }
    context.stop_reason = Some(saturated.stop_reason);
    let left: FxHashSet<NodeId> = match &saturated.graph {
        Some(folded) => {
            let left = batch_norms(folded).into_iter();
            left.filter_map(|norm| saturated.origins.get(&norm).copied())
                .collect()
        }
        None => norms.iter().copied().collect(),
    };
    for norm in &norms {
        let name = &graph.node(*norm).name;
        if left.contains(norm) {
            context.missed(name, why_not(graph, *norm));
        } else {
            context.applied(name, format!("folded into `{}`", taker(graph, *norm)));
        }
    }
    let changed = left.len() < norms.len();
    if let Some(folded) = saturated.graph.filter(|_| changed) {
        *graph = folded;
    }
    Ok(changed.into())
}

/// The layer that took the batch norm: the one before it, or else the one after.
fn taker(graph: &Graph, norm: NodeId) -> &str {
    let before = graph.operands(norm)[0].node;
    let layer = matches!(
        graph.op(before),
        Some(Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear {})
    );
    let after = graph
        .readers(norm.into())
        .first()
        .map(|(reader, _)| *reader);
    &graph
        .node(if layer {
            before
        } else {
            after.unwrap_or(before)
        })
        .name
}

fn batch_norms(graph: &Graph) -> Vec<NodeId> {
    let is_norm = |node: &NodeId| matches!(graph.op(*node), Some(Op::BatchNorm { .. }));
    graph.nodes().filter(is_norm).collect()
}

fn why_not(graph: &Graph, norm: NodeId) -> String {
    let x = graph.operands(norm)[0];
    let producer = graph.node(x.node);
    match &producer.kind {
        NodeKind::Op(Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear {}) => {
            let parameters = || graph.operands(x.node).into_iter().skip(1);
            let computed = parameters().find(|value| graph.constant(value.node).is_none());
            let shared = parameters().find(|value| graph.only_reader(*value).is_none());
            let operand = |value: Value| &graph.node(value.node).name;
            match (graph.only_reader(x), computed, shared) {
                (None, ..) => format!(
                    "cost would rise: `{}` has other readers, and would be computed twice",
                    producer.name
                ),
                (_, Some(value), _) => format!(
                    "`{}` of `{}` is no constant, but computed",
                    operand(value),
                    producer.name
                ),
                (.., Some(value)) => format!(
                    "the file would grow: `{}` of `{}` has other readers, and would be stored twice",
                    operand(value),
                    producer.name
                ),
                _ => "its parameters are not constants of the right form".to_string(),
            }
        }
        NodeKind::Op(op) => format!(
            "`{}` ({}) is before it, not a convolution or a linear layer, and none without padding follows",
            producer.name,
            op.name()
        ),
        _ => format!(
            "`{}` is before it, not a convolution or a linear layer, and none without padding follows",
            producer.name
        ),
    }
}
