//! Nodes of the file, and what they became in the graph: what no pass changes is written as it was.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::captures::captured;
use super::error::OnnxError;
use super::import::Importer;
use super::opaque;
use super::proto::NodeProto;
use crate::ir::{NodeId, NodeKind, Op, Tensor, Type, Value};

/// The nodes and tensors of a file, with what they became.
#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    pub nodes: Vec<KeptNode>,
    /// Which node has a result of this name.
    pub makers: FxHashMap<Arc<str>, usize>,
    /// Of which node a node of the graph is.
    pub became: FxHashMap<Arc<str>, usize>,
    /// The constants of the graph.
    pub constants: FxHashMap<Arc<str>, KeptConstant>,
    /// The initializers of the file.
    pub tensors: FxHashMap<Arc<str>, Tensor>,
}

/// A node of the file.
#[derive(Clone, Debug)]
pub(super) struct KeptNode {
    pub proto: NodeProto,
    /// What it reads that the graph computes.
    pub reads: Vec<Read>,
    /// What it became; nothing where its result is known without the graph.
    pub made: Vec<Made>,
}

/// A value that a node of the file reads.
#[derive(Clone, Debug)]
pub(super) struct Read {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Which it was in the graph: the node's name, and the result.
    pub of: (Arc<str>, u32),
    pub ty: Type,
}

/// A node of the graph, as it was made.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub name: Arc<str>,
    pub op: Op,
    pub operands: Vec<(Arc<str>, u32)>,
    pub outputs: SmallVec<[Type; 1]>,
}

/// A constant of the graph, as it was made.
#[derive(Clone, Debug)]
pub(super) struct KeptConstant {
    pub tensor: Tensor,
    /// The tensor of the file that it is, and how.
    pub of: Option<(Arc<str>, Form)>,
}

/// How a constant has the elements of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    AsIs,
    Transposed,
    Reshaped(Vec<usize>),
}

impl KeptNode {
    /// The names of the results that have one.
    pub fn results(&self) -> impl Iterator<Item = &str> {
        let names = self.proto.output.iter().map(String::as_str);
        names.filter(|name| !name.is_empty())
    }

    /// The names that the node and its subgraphs read.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        inputs(&self.proto)
    }
}

fn inputs(node: &NodeProto) -> impl Iterator<Item = &str> {
    let named = node.input.iter().map(String::as_str);
    let named = named.filter(|name| !name.is_empty());
    named.chain(captured(node))
}

impl<'m> Importer<'m> {
    /// Adds what a node computes, and keeps the node.
    pub(super) fn node(&mut self, node: &'m NodeProto) -> Result<(), OnnxError> {
        let mut reads = Vec::new();
        for name in inputs(node) {
            if let Some(value) = self.values.get(name) {
                reads.push(Read {
                    name: name.into(),
                    of: (self.graph.node(value.node).name.clone(), value.port),
                    ty: self.graph.ty(*value).clone(),
                });
            }
        }
        let first = self.graph.len();
        self.add(node)?;
        // Weights in other files would be looked for beside the new one.
        if opaque::has_data_elsewhere(node) {
            return Ok(());
        }
        let mut made = Vec::new();
        for at in first..self.graph.len() {
            made.extend(self.made(NodeId::new(at)));
        }
        let kept = &mut self.source.kept;
        let at = kept.nodes.len();
        let node = KeptNode {
            proto: node.clone(),
            reads,
            made,
        };
        kept.makers
            .extend(node.results().map(|name| (name.into(), at)));
        kept.became
            .extend(node.made.iter().map(|made| (made.name.clone(), at)));
        kept.nodes.push(node);
        Ok(())
    }

    fn made(&self, id: NodeId) -> Option<Made> {
        let node = self.graph.get(id)?;
        let NodeKind::Op(op) = &node.kind else {
            return None;
        };
        let operand = |value: &Value| (self.graph.node(value.node).name.clone(), value.port);
        Some(Made {
            name: node.name.clone(),
            op: op.clone(),
            operands: self.graph.operands(id).iter().map(operand).collect(),
            outputs: node.outputs.clone(),
        })
    }

    /// Keeps the constants of the finished graph, and the initializers that they come from.
    pub(super) fn keep_constants(&mut self) {
        let kept = &mut self.source.kept;
        for id in self.graph.nodes() {
            let node = self.graph.node(id);
            if let NodeKind::Constant(constant) = &node.kind {
                let (tensor, of) = (constant.tensor.clone(), None);
                kept.constants
                    .insert(node.name.clone(), KeptConstant { tensor, of });
            }
        }
        for weight in &self.weights {
            let name: Arc<str> = weight.name.into();
            for (form, value) in &weight.forms {
                let known = self.graph.get(value.node).map(|node| &node.name);
                if let Some(constant) = known.and_then(|known| kept.constants.get_mut(known)) {
                    constant.of = Some((name.clone(), form.clone()));
                }
            }
            if self.source.weights.contains_key(&name) {
                kept.tensors.insert(name, weight.tensor.clone());
            }
        }
    }
}
