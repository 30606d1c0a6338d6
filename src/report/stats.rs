//! Size and cost of a graph.

use indexmap::IndexMap;
use serde::Serialize;

use crate::ir::{Graph, NodeKind};

/// Size and cost of a graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Stored weights, in elements; tied ones once.
    pub params: u64,
    /// Multiply-adds of one run; `None` where they depend on a size without a number.
    pub flops: Option<u64>,
    /// Bytes of the stored weights.
    pub bytes: u64,
    /// Operations.
    pub nodes: usize,
    /// How many operations of each operator there are, in order of first use; opaque ones by their format's name.
    #[serde(skip)]
    pub operators: IndexMap<String, usize>,
}

impl Stats {
    /// Measures a graph; sizes have the numbers that its bindings give them.
    pub fn of(graph: &Graph) -> Stats {
        let mut stats = Stats::default();
        for node in graph.nodes() {
            match &graph.node(node).kind {
                NodeKind::Input => {}
                NodeKind::Constant(constant) => {
                    stats.params += constant.tensor.len() as u64;
                    stats.bytes += constant.tensor.bytes().len() as u64;
                }
                NodeKind::Op(op) => {
                    stats.nodes += 1;
                    *stats.operators.entry(op.name().to_string()).or_default() += 1;
                }
            }
        }
        stats
    }
}
