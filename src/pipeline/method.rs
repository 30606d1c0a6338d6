//! What lossy passes offer for the layers of a network, so that one planner can choose among all of them.

use std::sync::Arc;

use super::context::PassContext;
use crate::Result;
use crate::analysis::Statistics;
use crate::ir::{Graph, NodeId};

/// What a lossy pass could make of a network's layers.
pub trait Method: Send + Sync {
    /// The name of the pass.
    fn name(&self) -> &'static str;

    /// The ways to make layers smaller. What they cost is asked of [`share`](crate::analysis::price::share).
    ///
    /// # Errors
    /// Why nothing can be offered at all. A layer for which there is no offer is not an error.
    fn offers(
        &self,
        graph: &Graph,
        statistics: &Statistics,
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Lot>>;
}

/// What several passes offer.
pub type Methods = Vec<Arc<dyn Method>>;

/// Offers of which one at most is taken.
pub struct Lot {
    /// What they are for.
    pub of: Unit,
    /// The offers.
    pub offers: Vec<Offer>,
}

/// What is offered for: of all methods' offers for the same unit, one at most is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// The form of a layer.
    Layer(NodeId),
    /// The channels of a group of layers, of which this is the first that writes them.
    Channels(NodeId),
}

impl Unit {
    /// The layer that it is named after.
    pub fn node(self) -> NodeId {
        match self {
            Unit::Layer(node) | Unit::Channels(node) => node,
        }
    }
}

/// A way to make part of a network smaller.
pub struct Offer {
    /// What is left, for remarks: `rank 8 of 64`.
    pub what: String,
    /// The layers whose result changes, and by how much: the squared error, relative to the variance of the result.
    pub losses: Vec<(NodeId, f64)>,
    /// The layers whose cost changes, and what share of it is left.
    pub costs: Vec<(NodeId, f64)>,
    /// Makes it so, in a graph that has the same nodes and in which others may have been taken before.
    pub apply: Box<Apply>,
}

/// Changes a graph.
pub type Apply = dyn Fn(&mut Graph) -> Result<()> + Send + Sync;
