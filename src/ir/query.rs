//! What one asks a graph: its nodes, who reads whom, and in which order they run.

use std::sync::Arc;

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::visit::EdgeRef;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::graph::{Constant, Graph, Node, NodeId, NodeKind, Output, Value};
use super::mask::Mask;
use super::op::Op;
use super::types::Type;

impl Graph {
    /// `name`, or `name.1`, `name.2` .. if it is taken.
    pub(crate) fn fresh_name(&self, name: &str) -> Arc<str> {
        self.names.fresh(name)
    }

    /// Whether a node has this name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether an operation or an output reads this node.
    #[doc(hidden)]
    pub fn is_read(&self, node: NodeId) -> bool {
        let mut readers = self.graph.neighbors_directed(node.0, Outgoing);
        readers.next().is_some() || self.returned.contains_key(&node)
    }

    /// Whether the network returns a value.
    #[doc(hidden)]
    pub fn is_output(&self, value: Value) -> bool {
        self.output_of(value).is_some()
    }

    /// The first output that this value is.
    pub(crate) fn output_of(&self, value: Value) -> Option<&Output> {
        let places = self.returned.get(&value.node).into_iter().flatten();
        let mut outputs = places.map(|place| &self.outputs[*place]);
        outputs.find(|output| output.value == value)
    }

    /// The node with this identity.
    pub fn node(&self, node: NodeId) -> &Node {
        &self.graph[node.0]
    }

    /// The node with this identity, if it is (still) there.
    pub fn get(&self, node: NodeId) -> Option<&Node> {
        self.graph.node_weight(node.0)
    }

    /// Which elements of a constant are held at zero; `None` where it has no mask, and for other nodes.
    pub fn mask(&self, node: NodeId) -> Option<&Mask> {
        self.constant(node)?.mask.as_ref()
    }

    /// The operator, if the node is an operation.
    pub fn op(&self, node: NodeId) -> Option<&Op> {
        match &self.graph[node.0].kind {
            NodeKind::Op(op) => Some(op),
            _ => None,
        }
    }

    /// The constant, if the node is one.
    pub fn constant(&self, node: NodeId) -> Option<&Constant> {
        match &self.graph[node.0].kind {
            NodeKind::Constant(constant) => Some(constant),
            _ => None,
        }
    }

    /// What a node computes.
    pub(crate) fn results(&self, node: NodeId) -> impl Iterator<Item = Value> + use<> {
        let ports = 0..self.graph[node.0].outputs.len() as u32;
        ports.map(move |port| Value { node, port })
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &Type {
        &self.graph[value.node.0].outputs[value.port as usize]
    }

    /// The operands of a node, in order.
    pub fn operands(&self, node: NodeId) -> SmallVec<[Value; 4]> {
        let mut edges: SmallVec<[(u32, Value); 4]> = self
            .graph
            .edges_directed(node.0, Incoming)
            .map(|e| {
                (
                    e.weight().operand,
                    Value {
                        node: NodeId(e.source()),
                        port: e.weight().port,
                    },
                )
            })
            .collect();
        edges.sort_by_key(|(operand, _)| *operand);
        edges.into_iter().map(|(_, value)| value).collect()
    }

    /// Who reads a value: node and operand position, in order of node and position.
    pub fn readers(&self, value: Value) -> Vec<(NodeId, usize)> {
        let mut readers: Vec<_> = self
            .graph
            .edges_directed(value.node.0, Outgoing)
            .filter(|e| e.weight().port == value.port)
            .map(|e| (NodeId(e.target()), e.weight().operand as usize))
            .collect();
        readers.sort();
        readers
    }

    /// The only reader of a value, and its operand position; `None` if there are several, or none, or the network returns it.
    #[doc(hidden)]
    pub fn only_reader(&self, value: Value) -> Option<(NodeId, usize)> {
        let edges = self.graph.edges_directed(value.node.0, Outgoing);
        let mut readers = edges.filter(|edge| edge.weight().port == value.port);
        let only = readers.next()?;
        let alone = readers.next().is_none() && !self.is_output(value);
        alone.then(|| (NodeId(only.target()), only.weight().operand as usize))
    }

    /// What the network returns, in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The inputs, in order.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The one input that a caller must give; `None` where there are none or several.
    pub(crate) fn sole_input(&self) -> Option<NodeId> {
        let needed = |node: &&NodeId| !self.defaults.contains_key(&self.node(**node).name);
        let mut needed = self.inputs.iter().filter(needed);
        let input = needed.next()?;
        needed.next().is_none().then_some(*input)
    }

    /// All nodes, in order of their making.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.graph.node_indices().map(NodeId)
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Whether there are no nodes.
    #[doc(hidden)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The node with this name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.names.find(name)
    }

    /// Operands before readers; ties go by the order of making, so that the order is the same on every run.
    ///
    /// # Errors
    /// A node that is on a cycle, or depends on one.
    pub fn topological_order(&self) -> Result<Vec<NodeId>, NodeId> {
        let mut waiting = FxHashMap::default();
        let mut ready = std::collections::BinaryHeap::new();
        for node in self.nodes() {
            let n = self.graph.edges_directed(node.0, Incoming).count();
            if n == 0 {
                ready.push(std::cmp::Reverse(node));
            }
            waiting.insert(node, n);
        }
        let mut order = Vec::with_capacity(self.graph.node_count());
        while let Some(std::cmp::Reverse(node)) = ready.pop() {
            order.push(node);
            waiting.remove(&node);
            for reader in self.graph.neighbors_directed(node.0, Outgoing).map(NodeId) {
                if let Some(n) = waiting.get_mut(&reader) {
                    *n -= 1;
                    if *n == 0 {
                        ready.push(std::cmp::Reverse(reader));
                    }
                }
            }
        }
        match self.nodes().find(|n| waiting.contains_key(n)) {
            Some(node) => Err(node),
            None => Ok(order),
        }
    }

    /// The positions of a node's operand edges, sorted, for the verifier.
    pub(super) fn operand_positions(&self, node: NodeId) -> Vec<u32> {
        let mut positions: Vec<u32> = self
            .graph
            .edges_directed(node.0, Incoming)
            .map(|e| e.weight().operand)
            .collect();
        positions.sort();
        positions
    }

    /// Groups of nodes that depend on each other, each in order, for the verifier.
    pub(super) fn cycles(&self) -> Vec<Vec<NodeId>> {
        let components = petgraph::algo::kosaraju_scc(&self.graph);
        let cyclic = components.into_iter().filter(|nodes| {
            nodes.len() > 1 || nodes.iter().any(|n| self.graph.contains_edge(*n, *n))
        });
        let sorted = cyclic.map(|nodes| {
            let mut nodes: Vec<NodeId> = nodes.into_iter().map(NodeId).collect();
            nodes.sort();
            nodes
        });
        let mut components: Vec<Vec<NodeId>> = sorted.collect();
        components.sort();
        components
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_once_and_not_returned_has_an_only_reader() {
        let text = "
            graph net(%x: f32[2]) {
              %a = relu(%x)
              %b = add(%a, %a)
              %c = relu(%b)
              %d = relu(%c)
              return %c, %d
            }";
        let mut graph: Graph = text.parse().unwrap();
        let [x, a, b, c, d] = ["x", "a", "b", "c", "d"].map(|name| graph.find(name).unwrap());
        let reader = |graph: &Graph, node: NodeId| graph.only_reader(node.into());
        assert_eq!(
            [x, a, b, c, d].map(|node| reader(&graph, node)),
            [Some((a, 0)), None, Some((c, 0)), None, None]
        );
        // Both outputs move, and with them who is returned.
        graph.replace_uses(d.into(), b.into());
        graph.replace_uses(c.into(), b.into());
        let returned: Vec<NodeId> = graph.outputs().iter().map(|o| o.value.node).collect();
        assert_eq!(returned, [b, b]);
        assert!(graph.is_output(b.into()) && !graph.is_output(c.into()) && !graph.is_read(c));
        assert_eq!(graph.remove_dead(), 2);
        assert!(super::super::verify(&graph).is_ok(), "{graph}");
    }

    #[test]
    fn names_lead_to_nodes_through_every_change() {
        let mut graph: Graph = "graph net(%x: f32[2]) {
              %a = relu(%x)
              %b = relu(%a)
              return %b
            }"
        .parse()
        .unwrap();
        let (a, b) = (graph.find("a").unwrap(), graph.find("b").unwrap());
        graph.swap_names(a, b);
        assert_eq!((graph.find("a"), graph.find("b")), (Some(b), Some(a)));
        graph.rename(b, "c");
        assert_eq!((graph.find("a"), graph.find("c")), (None, Some(b)));
        graph.replace_uses(a.into(), graph.operands(a)[0]);
        graph.remove_dead();
        assert_eq!(graph.find("b"), None);
    }
}
