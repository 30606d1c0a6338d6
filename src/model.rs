//! A model: the graph that passes change, and what its file format needs to write it back.

use crate::ir::Graph;

/// A network as it was read from a file.
#[derive(Clone, Debug)]
pub struct Model {
    /// The network. Passes change this and nothing else.
    pub graph: Graph,
}
