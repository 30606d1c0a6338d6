//! Statistics: what the layers of a network read, measured once and asked by every method.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::prior::Activations;
use crate::ir::NodeId;

/// What layers read, on the network as it is before any of them changes.
#[derive(Default)]
pub struct Statistics {
    reads: FxHashMap<NodeId, Arc<Activations>>,
}

impl Statistics {
    /// What is known of each layer.
    pub fn new(reads: impl IntoIterator<Item = (NodeId, Activations)>) -> Statistics {
        Statistics {
            reads: reads
                .into_iter()
                .map(|(layer, reads)| (layer, Arc::new(reads)))
                .collect(),
        }
    }

    /// What a layer reads; `None` for one that nothing is known of.
    pub fn reads(&self, layer: NodeId) -> Option<&Arc<Activations>> {
        self.reads.get(&layer)
    }
}
