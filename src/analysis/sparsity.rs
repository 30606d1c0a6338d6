//! How many weights masks hold at zero.

use serde::Serialize;

use super::Stats;
use crate::ir::Graph;

/// What masks hold at zero, in a graph that has any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sparsity {
    /// [`Stats::params`] of the graph.
    pub params: u64,
    /// How many of them masks hold at zero.
    pub zeros: u64,
    /// Each masked constant, in the order of the graph.
    pub masked: Vec<Masked>,
}

/// One masked constant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Masked {
    /// Its name, such as `conv1.weight`.
    pub name: String,
    /// Its elements.
    pub params: u64,
    /// How many of them its mask holds at zero.
    pub zeros: u64,
}

impl Sparsity {
    /// What the masks of `graph` hold at zero; `None` if no constant has one.
    pub fn of(graph: &Graph) -> Option<Sparsity> {
        let masked = |node| {
            let mask = graph.mask(node)?;
            Some(Masked {
                name: graph.node(node).name.to_string(),
                params: mask.len() as u64,
                zeros: (mask.len() - mask.count()) as u64,
            })
        };
        let masked: Vec<Masked> = graph.nodes().filter_map(masked).collect();
        (!masked.is_empty()).then(|| Sparsity {
            params: Stats::of(graph).params,
            zeros: masked.iter().map(|constant| constant.zeros).sum(),
            masked,
        })
    }
}
