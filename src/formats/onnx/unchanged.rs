//! Writing what no pass has changed as it was: nodes, the nodes and tensors that only they read, and the layout of weights.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::error::OnnxError;
use super::kept::{Form, KeptNode, Made, Read};
use super::proto::TensorProto;
use super::source::WeightInfo;
use super::tensor;
use super::write::{Weight, Writer};
use crate::ir::{Graph, NodeId, NodeKind, Op, Tensor, Value};

/// How far a node of the file is written.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// It will be, with its result; these of its parts are waiting for that.
    Waiting(Vec<NodeId>),
    Written,
    Changed,
}

/// What has to be written before a node of the file can be.
#[derive(Default)]
struct Plan<'g> {
    nodes: Vec<usize>,
    seen: FxHashSet<usize>,
    weights: Vec<&'g str>,
}

/// How many nodes behind each other are looked at for one that reads the last.
const MAX_DEPTH: usize = 128;

impl<'g> Writer<'g> {
    /// Writes the node of the file that a node of the graph is of, if that is still what it was. Gives the nodes of the graph that
    /// have to be spelled instead.
    pub(super) fn as_it_was(&mut self, id: NodeId) -> Result<Vec<NodeId>, OnnxError> {
        let kept = &self.source.kept;
        let Some(at) = kept.became.get(&self.graph.node(id).name).copied() else {
            return Ok(vec![id]);
        };
        let node = &kept.nodes[at];
        let state = match self.states.remove(&at) {
            Some(state) => state,
            None if self.is_unchanged(node) => State::Waiting(Vec::new()),
            None => State::Changed,
        };
        let (state, spelled) = match state {
            State::Waiting(mut parts) => {
                let mut plan = Plan::default();
                let is_result = node.results().any(|name| self.is_called(id, name));
                if !is_result {
                    parts.push(id);
                    (State::Waiting(parts), Vec::new())
                } else if self.plan_node(at, &mut plan, 0) {
                    self.carry_out(plan)?;
                    (State::Written, Vec::new())
                } else {
                    parts.push(id);
                    (State::Changed, parts)
                }
            }
            State::Written => (State::Written, Vec::new()),
            State::Changed => (State::Changed, vec![id]),
        };
        self.states.insert(at, state);
        Ok(spelled)
    }

    /// Whether a result of the node has this name in the file.
    fn is_called(&self, id: NodeId, name: &str) -> bool {
        self.written_as
            .get(name)
            .is_some_and(|value| value.node == id)
    }

    /// Whether what a node of the file became is as it was made, and read as it was.
    pub(super) fn is_unchanged(&self, node: &KeptNode) -> bool {
        let own: FxHashSet<NodeId> = node
            .made
            .iter()
            .filter_map(|made| self.by_name.get(&*made.name).copied())
            .collect();
        let mut present = node
            .made
            .iter()
            .filter_map(|made| Some((made, *self.by_name.get(&*made.name)?)));
        let mut results = node.results();
        present.all(|(made, id)| {
            let named = match &made.op {
                Op::Opaque(_) => (0..made.outputs.len() as u32).all(|port| {
                    let name = results.next();
                    name.is_some()
                        && self
                            .names
                            .get(&Value { node: id, port })
                            .map(String::as_str)
                            == name
                }),
                _ if node.results().any(|name| *name == *made.name) => {
                    self.is_called(id, &made.name)
                }
                _ => is_internal(self.graph, id, &own),
            };
            named && !self.split.contains(&id) && self.is_as_made(id, made)
        })
    }

    fn is_as_made(&self, id: NodeId, made: &Made) -> bool {
        let node = self.graph.node(id);
        let NodeKind::Op(op) = &node.kind else {
            return false;
        };
        let operands = self.graph.operands(id);
        let same = |(value, (name, port)): (&Value, &(Arc<str>, u32))| {
            let operand = self.graph.node(value.node);
            let unchanged = !matches!(operand.kind, NodeKind::Constant(_))
                || self.is_constant_as_made(value.node);
            operand.name == *name && value.port == *port && unchanged
        };
        *op == made.op
            && node.outputs == made.outputs
            && operands.len() == made.operands.len()
            && operands.iter().zip(&made.operands).all(same)
    }

    fn is_constant_as_made(&self, id: NodeId) -> bool {
        let known = self.source.kept.constants.get(&self.graph.node(id).name);
        let constant = self.graph.constant(id);
        known
            .zip(constant)
            .is_some_and(|(known, constant)| known.tensor == constant.tensor)
    }

    /// The tensor of the file that a constant is, and how; `None` where it is another by now.
    pub(super) fn origin(&self, id: NodeId) -> Option<&'g (Arc<str>, Form)> {
        let known = self.source.kept.constants.get(&self.graph.node(id).name)?;
        known.of.as_ref().filter(|_| self.is_constant_as_made(id))
    }

    /// Whether a constant is, or was, the transpose of what the file has.
    pub(super) fn is_transposed(&self, id: NodeId) -> Option<bool> {
        let known = self.source.kept.constants.get(&self.graph.node(id).name)?;
        known.of.as_ref().map(|(_, form)| *form == Form::Transposed)
    }

    /// The name of the tensor of the file that a constant has the elements of, if it can be written as it was.
    pub(super) fn original(
        &mut self,
        id: NodeId,
        form: &Form,
    ) -> Result<Option<String>, OnnxError> {
        let Some((name, own)) = self.origin(id) else {
            return Ok(None);
        };
        let shape = self.source.kept.tensors.get(name).map(Tensor::shape);
        let same = match (own, form) {
            (Form::Transposed, Form::Transposed) | (Form::AsIs, Form::AsIs) => true,
            (Form::AsIs | Form::Reshaped(_), Form::Reshaped(to)) => shape == Some(&**to),
            _ => false,
        };
        let mut plan = Plan::default();
        if !same || !self.plan_name(name, &mut plan, 0) {
            return Ok(None);
        }
        self.carry_out(plan)?;
        Ok(Some(name.to_string()))
    }

    /// Plans a node of the file and all that it reads; whether that can be.
    fn plan_node(&self, at: usize, plan: &mut Plan<'g>, depth: usize) -> bool {
        if !plan.seen.insert(at) {
            return true;
        }
        let node = &self.source.kept.nodes[at];
        if depth > MAX_DEPTH {
            return false;
        }
        for name in node.inputs() {
            let planned = match self.written_as.get(name) {
                Some(value) => {
                    let of = (&self.graph.node(value.node).name, value.port);
                    let as_read = |read: &Read| {
                        *read.name == *name
                            && (&read.of.0, read.of.1) == of
                            && self.graph.ty(*value) == &read.ty
                    };
                    self.done.contains(&value.node) && node.reads.iter().any(as_read)
                }
                None => self.plan_name(name, plan, depth + 1),
            };
            if !planned {
                return false;
            }
        }
        plan.nodes.push(at);
        node.results().all(|name| self.is_free(name, node))
    }

    /// Plans what gives this name in the file; whether that can be.
    fn plan_name(&self, name: &str, plan: &mut Plan<'g>, depth: usize) -> bool {
        if self.given.contains(name) {
            return true;
        }
        let kept = &self.source.kept;
        if let Some((name, _)) = kept.tensors.get_key_value(name) {
            plan.weights.push(name);
            return self.is_free_for_tensor(name);
        }
        let maker = kept.makers.get(name);
        maker.is_some_and(|at| self.plan_node(*at, plan, depth))
    }

    /// Whether no value but a result of this node has a name.
    fn is_free(&self, name: &str, node: &KeptNode) -> bool {
        match self.written_as.get(name) {
            Some(value) => {
                let maker = &self.graph.node(value.node).name;
                node.made.iter().any(|made| made.name == *maker)
            }
            None => self.is_free_for_tensor(name),
        }
    }

    /// Whether no value has a name but a constant that is what the file has under that name.
    fn is_free_for_tensor(&self, name: &str) -> bool {
        let is_it = |id: NodeId| self.origin(id).is_some_and(|(of, _)| **of == *name);
        let constant = self.by_name.get(name).is_none_or(|id| is_it(*id));
        let returned = self
            .graph
            .outputs()
            .iter()
            .find(|output| *output.name == *name);
        let returned = returned.is_none_or(|output| is_it(output.value.node));
        constant && returned && !self.written_as.contains_key(name) && !self.claimed.contains(name)
    }

    fn carry_out(&mut self, plan: Plan<'g>) -> Result<(), OnnxError> {
        let kept = &self.source.kept;
        for name in plan.weights {
            if let Some(tensor) = kept
                .tensors
                .get(name)
                .filter(|_| self.given.insert(name.to_owned()))
            {
                self.store(name, tensor.clone(), true);
            }
        }
        for at in plan.nodes {
            let node = &kept.nodes[at];
            let mut new = false;
            for name in node.results() {
                new |= self.given.insert(name.to_owned());
                if let Some(value) = self.written_as.get(name).copied() {
                    self.done.insert(value.node);
                    self.see(name, self.graph.ty(value));
                }
            }
            if new {
                self.nodes.push(node.proto.clone());
            }
        }
        Ok(())
    }

    /// Stores an initializer, with what the file said of it if it is the file's own.
    pub(super) fn store(&mut self, name: &str, tensor: Tensor, own: bool) {
        let info = self.source.weights.get(name).filter(|_| own);
        let WeightInfo {
            doc_string,
            metadata_props,
        } = info.cloned().unwrap_or_default();
        let header = TensorProto {
            doc_string,
            metadata_props,
            ..tensor::header(name, &tensor)
        };
        let data = Some(tensor);
        self.weights.push(Weight { header, data });
    }

    /// Stores the initializers that nobody read in the file, and the defaults of inputs.
    pub(super) fn store_unread(&mut self) {
        let source = self.source;
        for name in &source.unread {
            let tensor = source
                .kept
                .tensors
                .get(name)
                .filter(|_| self.is_free_for_tensor(name));
            if let Some(tensor) = tensor.filter(|_| self.given.insert(name.to_string())) {
                self.store(name, tensor.clone(), true);
            }
        }
        for (name, tensor) in &source.defaults {
            self.store(name, tensor.clone(), true);
        }
    }
}

/// Whether only these nodes read a node, and the network returns it not.
fn is_internal(graph: &Graph, id: NodeId, own: &FxHashSet<NodeId>) -> bool {
    let value = Value::from(id);
    !graph.is_output(value)
        && graph
            .readers(value)
            .iter()
            .all(|(reader, _)| own.contains(reader))
}
