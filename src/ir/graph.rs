//! The graph: nodes that compute, edges that say which result is which operand.

use std::sync::Arc;

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::{SmallVec, smallvec};

use super::dim::Bindings;
use super::mask::Mask;
use super::names::Names;
use super::op::Op;
use super::tensor::Tensor;
use super::types::{Type, TypeError};

/// Which node of a [`Graph`]; of no other graph, but for a copy of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) NodeIndex<u32>);

impl NodeId {
    pub(crate) fn new(position: usize) -> NodeId {
        NodeId(NodeIndex::new(position))
    }

    /// The node's number in order of making, from 0; those of removed nodes are not given again at once.
    #[doc(hidden)]
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// One result of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    /// The node that computes it.
    pub node: NodeId,
    /// Which of the node's results; 0 but for some opaque operators.
    pub port: u32,
}

impl From<NodeId> for Value {
    fn from(node: NodeId) -> Value {
        Value { node, port: 0 }
    }
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// An input of the network.
    Input,
    /// A weight, or another constant.
    Constant(Constant),
    /// A computation on operands.
    Op(Op),
}

/// A node: a name unique in the graph, what it is, and the types of its results.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name that the text form prints: a module path for an operator, the parameter's name for a constant.
    pub name: Arc<str>,
    /// What the node is.
    pub kind: NodeKind,
    /// The types of its results.
    #[doc(hidden)]
    pub outputs: SmallVec<[Type; 1]>,
}

/// A constant tensor. Two readers of one constant are *tied*: a pass that changes it for one makes another constant.
#[derive(Clone, Debug)]
pub struct Constant {
    /// The elements.
    pub tensor: Tensor,
    /// What the source format takes it for.
    pub role: Role,
    /// Further names under which the source format keeps the same tensor.
    #[doc(hidden)]
    pub aliases: Vec<Arc<str>>,
    /// Which elements are held at zero; `None` for no such promise. The graph sees to it that they are: see
    /// [`Graph::set_mask`].
    pub mask: Option<Mask>,
}

impl Constant {
    /// A constant without further names, and without a mask.
    pub fn new(tensor: Tensor, role: Role) -> Constant {
        Constant {
            tensor,
            role,
            aliases: Vec::new(),
            mask: None,
        }
    }
}

/// What a constant is in the source format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// A trained parameter, in the state dict.
    Parameter,
    /// Other persistent state, such as a running mean, in the state dict.
    Buffer,
    /// No name in the source: a literal, or a tensor that a pass made for its own use.
    Literal,
}

/// A result of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name, unique among the outputs.
    pub name: Arc<str>,
    /// The value returned.
    pub value: Value,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Edge {
    pub port: u32,
    pub operand: u32,
}

/// A network: a directed acyclic graph of operations on tensors.
///
/// Values are in SSA form: each is computed once, by one node. Nodes keep their [`NodeId`] when others are removed.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The network's name.
    pub name: String,
    /// Numbers for some of the sizes, for cost and verification only.
    pub bindings: Bindings,
    /// What inputs hold where a caller gives nothing, by name; to run the network only, as a caller may give anything.
    #[doc(hidden)]
    pub defaults: FxHashMap<Arc<str>, Tensor>,
    pub(super) graph: StableDiGraph<Node, Edge, u32>,
    pub(super) inputs: Vec<NodeId>,
    pub(super) outputs: Vec<Output>,
    /// Inputs whose element type no file says.
    pub(super) guessed: FxHashSet<NodeId>,
    /// Which outputs are a node's.
    pub(super) returned: FxHashMap<NodeId, SmallVec<[usize; 1]>>,
    pub(super) names: Names,
}

impl Graph {
    /// A graph with no nodes.
    pub fn new(name: impl Into<String>) -> Graph {
        Graph {
            name: name.into(),
            ..Graph::default()
        }
    }

    /// Adds an input. The name is made unique, as every name below.
    pub fn add_input(&mut self, name: &str, ty: Type) -> NodeId {
        let node = self.add_node(name, NodeKind::Input, smallvec![ty]);
        self.inputs.push(node);
        node
    }

    /// Makes the network return a value, after those that it returns already.
    pub fn add_output(&mut self, name: impl Into<Arc<str>>, value: Value) {
        let places = self.returned.entry(value.node).or_default();
        places.push(self.outputs.len());
        self.outputs.push(Output {
            name: name.into(),
            value,
        });
    }

    /// Adds a constant; elements that its mask does not keep become zero.
    pub fn add_constant(&mut self, name: &str, mut constant: Constant) -> NodeId {
        if let Some(mask) = &constant.mask {
            constant.tensor = mask.apply(&constant.tensor);
        }
        let ty = constant.tensor.ty();
        self.add_node(name, NodeKind::Constant(constant), smallvec![ty])
    }

    /// Adds an operation whose result types [`infer`](super::infer::infer) gives.
    ///
    /// # Errors
    /// When the operands do not fit the operator; the text says how.
    pub fn add_op(&mut self, name: &str, op: Op, operands: &[Value]) -> Result<NodeId, TypeError> {
        let outputs = self.infer(&op, operands)?;
        Ok(self.add_typed_op(name, op, operands, outputs))
    }

    /// The types of an operator's results on these operands.
    pub(crate) fn infer(
        &self,
        op: &Op,
        operands: &[Value],
    ) -> Result<SmallVec<[Type; 1]>, TypeError> {
        let types: Vec<&Type> = operands.iter().map(|v| self.ty(*v)).collect();
        super::infer::infer(op, &types).map_err(TypeError)
    }

    /// Adds an operation with the result types as given. The verifier finds out if they are wrong.
    #[doc(hidden)]
    pub fn add_typed_op(
        &mut self,
        name: &str,
        op: Op,
        operands: &[Value],
        outputs: SmallVec<[Type; 1]>,
    ) -> NodeId {
        let node = self.add_node(name, NodeKind::Op(op), outputs);
        self.connect(node, operands);
        node
    }

    fn add_node(&mut self, name: &str, kind: NodeKind, outputs: SmallVec<[Type; 1]>) -> NodeId {
        let node = NodeId(self.graph.add_node(Node {
            name: self.names.fresh(name),
            kind,
            outputs,
        }));
        self.names.claim(name, node);
        node
    }

    fn connect(&mut self, node: NodeId, operands: &[Value]) {
        for (operand, value) in operands.iter().enumerate() {
            self.graph.add_edge(
                value.node.0,
                node.0,
                Edge {
                    port: value.port,
                    operand: operand as u32,
                },
            );
        }
    }

    /// Replaces a node's operator and operands in place; its types are inferred again.
    ///
    /// # Errors
    /// When the operands do not fit; the graph is then unchanged.
    pub fn replace_op(
        &mut self,
        node: NodeId,
        op: Op,
        operands: &[Value],
    ) -> Result<(), TypeError> {
        let outputs = self.infer(&op, operands)?;
        self.set_operands(node, operands);
        self.graph[node.0].kind = NodeKind::Op(op);
        self.graph[node.0].outputs = outputs;
        Ok(())
    }

    /// Replaces a node's operands.
    pub fn set_operands(&mut self, node: NodeId, operands: &[Value]) {
        let old: Vec<_> = self
            .graph
            .edges_directed(node.0, Incoming)
            .map(|e| e.id())
            .collect();
        for edge in old {
            self.graph.remove_edge(edge);
        }
        self.connect(node, operands);
    }

    /// Makes every reader of `old`, graph outputs included, read `new`.
    pub fn replace_uses(&mut self, old: Value, new: Value) {
        let uses: Vec<_> = self
            .graph
            .edges_directed(old.node.0, Outgoing)
            .filter(|e| e.weight().port == old.port)
            .map(|e| (e.id(), e.target(), e.weight().operand))
            .collect();
        for (edge, target, operand) in uses {
            self.graph.remove_edge(edge);
            self.graph.add_edge(
                new.node.0,
                target,
                Edge {
                    port: new.port,
                    operand,
                },
            );
        }
        let places = self.returned.remove(&old.node).unwrap_or_default();
        for place in places {
            let value = &mut self.outputs[place].value;
            if *value == old {
                *value = new;
            }
            self.returned.entry(value.node).or_default().push(place);
        }
    }

    /// Removes a node that nothing reads. An input stays, as the interface does.
    pub fn remove(&mut self, node: NodeId) {
        debug_assert!(
            !self.is_read(node),
            "{} is still read",
            self.graph[node.0].name
        );
        if self.inputs.contains(&node) {
            return;
        }
        if let Some(node) = self.graph.remove_node(node.0) {
            self.names.release(&node.name);
        }
    }

    /// Removes every node from which no output can be reached, but for inputs; returns how many.
    pub fn remove_dead(&mut self) -> usize {
        let mut live = FxHashSet::default();
        let mut stack: Vec<NodeId> = self
            .outputs
            .iter()
            .map(|o| o.value.node)
            .chain(self.inputs.clone())
            .collect();
        while let Some(node) = stack.pop() {
            if live.insert(node) {
                stack.extend(self.graph.neighbors_directed(node.0, Incoming).map(NodeId));
            }
        }
        let dead: Vec<NodeId> = self.nodes().filter(|n| !live.contains(n)).collect();
        // The latest first: a node finds the edge to its latest reader at once, and that to its first after all others.
        for node in dead.iter().rev() {
            if let Some(node) = self.graph.remove_node(node.0) {
                self.names.release(&node.name);
            }
        }
        dead.len()
    }

    /// Gives a node another name, made unique.
    #[doc(hidden)]
    pub fn rename(&mut self, node: NodeId, name: &str) {
        let old = self.graph[node.0].name.clone();
        self.names.release(&old);
        self.graph[node.0].name = self.names.claim(name, node);
    }

    /// Gives each of two nodes the other's name.
    pub(crate) fn swap_names(&mut self, a: NodeId, b: NodeId) {
        let name = self.graph[a.0].name.clone();
        self.graph[a.0].name = std::mem::replace(&mut self.graph[b.0].name, name);
        for node in [a, b] {
            self.names.give(&self.graph[node.0].name, node);
        }
    }

    /// Replaces the tensor of a constant; readers' types are not inferred again, so the shape must be kept or they updated. A
    /// mask stays, and zeroes what it does not keep, unless the shape is another.
    pub fn set_tensor(&mut self, node: NodeId, tensor: Tensor) {
        self.graph[node.0].outputs = smallvec![tensor.ty()];
        if let NodeKind::Constant(constant) = &mut self.graph[node.0].kind {
            let same = constant.tensor.shape() == tensor.shape();
            constant.mask = constant.mask.take().filter(|_| same);
            constant.tensor = match &constant.mask {
                Some(mask) => mask.apply(&tensor),
                None => tensor,
            };
        }
    }

    /// Gives a constant a mask with one bit for each of its elements, or takes it away. Elements that the mask does not keep
    /// become zero, now and whenever the constant gets others; those that a mask kept out before stay zero until then.
    pub fn set_mask(&mut self, node: NodeId, mask: Option<Mask>) {
        if let NodeKind::Constant(constant) = &mut self.graph[node.0].kind {
            if let Some(mask) = &mask {
                constant.tensor = mask.apply(&constant.tensor);
            }
            constant.mask = mask;
        }
    }

    /// Gives a constant further names under which its format keeps it.
    #[doc(hidden)]
    pub fn add_aliases(&mut self, node: NodeId, names: impl IntoIterator<Item = Arc<str>>) {
        if let NodeKind::Constant(constant) = &mut self.graph[node.0].kind {
            constant.aliases.extend(names);
        }
    }

    /// Replaces the types of a node's results, for a format that learns them late.
    #[doc(hidden)]
    pub fn set_types(&mut self, node: NodeId, outputs: SmallVec<[Type; 1]>) {
        self.graph[node.0].outputs = outputs;
    }
}
