//! Price: what operators cost under the cost that a budget is counted in.

use super::candidate::{CandidateOp, total};
use super::cost_model::{Cost, CostModel};
use crate::ir::{Bindings, Graph, NodeId};

/// What operators cost, each on the result of the one before: multiply-adds, stored weights, or picoseconds. `None` where that depends
/// on sizes without a number, or cannot be known.
pub fn price(plan: &[CandidateOp], bindings: &Bindings, cost: &Cost) -> Option<u64> {
    let (macs, total) = total(plan, bindings, &CostModel::new(cost, bindings))?;
    match cost {
        Cost::Macs => Some(macs),
        Cost::Params => plan.iter().map(CandidateOp::weights).sum(),
        Cost::Latency(_) => Some(total),
    }
}

/// A layer as it stands in the graph.
pub fn whole(graph: &Graph, layer: NodeId) -> Option<CandidateOp> {
    let operands = graph.operands(layer);
    let types = operands.iter().map(|value| graph.ty(*value).clone());
    CandidateOp::new(graph.op(layer)?.clone(), types.collect())
}

/// The share of a layer's price that operators in its place cost.
pub fn share(graph: &Graph, layer: NodeId, plan: &[CandidateOp], cost: &Cost) -> Option<f64> {
    let before = price(&[whole(graph, layer)?], &graph.bindings, cost)?;
    let after = price(plan, &graph.bindings, cost)?;
    Some(after as f64 / before.max(1) as f64)
}
