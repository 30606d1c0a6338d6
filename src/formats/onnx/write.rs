//! Writing: from a graph to the messages of an ONNX file.
//!
//! Every operator is emitted anew, in the version of the model's own operators. What the file had beside them - names, doc strings,
//! metadata - comes back where the value it belongs to is still there.

mod opaque;
mod values;

use rustc_hash::{FxHashMap, FxHashSet};

use super::emit::{self, Emitted};
use super::error::{MISTAKE, OnnxError};
use super::kept::Form;
use super::proto::{AttributeProto, ModelProto, NodeProto, TensorProto};
use super::source::Source;
use super::unchanged::State;
use crate::formats::identifiers::unused;
use crate::ir::{DType, Dim, Graph, NodeId, NodeKind, Op, Symbol, Tensor, Type, Value};

/// The version of the operators for models that do not come from ONNX.
pub(super) const OPSET: i64 = 20;

/// A model to be stored: the messages, and the weights that go into its graph.
pub(super) struct Written {
    pub model: ModelProto,
    pub weights: Vec<Weight>,
}

/// A weight to be stored.
pub(super) struct Weight {
    /// All but the elements.
    pub header: TensorProto,
    /// The tensor that has the elements; `None` where they are in the message already.
    pub data: Option<Tensor>,
}

/// The model while it is being written.
pub(super) struct Writer<'g> {
    pub graph: &'g Graph,
    pub source: &'g Source,
    pub opset: i64,
    pub names: FxHashMap<Value, String>,
    /// The same the other way round, and the nodes of the graph by their own names.
    pub written_as: FxHashMap<String, Value>,
    pub by_name: FxHashMap<&'g str, NodeId>,
    /// How far the nodes of the file are written, what of them has been given its name, and which nodes of the graph are written.
    pub states: FxHashMap<usize, State>,
    pub given: FxHashSet<String>,
    /// Names that the file has for something else than what is written under them.
    pub claimed: FxHashSet<String>,
    /// The names that nodes of the file read which may be written as they were.
    needed: FxHashSet<&'g str>,
    pub done: FxHashSet<NodeId>,
    taken: FxHashSet<String>,
    /// Names of the graph and of the file that are still to be given to their own values.
    reserved: FxHashSet<&'g str>,
    pub nodes: Vec<NodeProto>,
    pub weights: Vec<Weight>,
    forms: FxHashMap<NodeId, FxHashMap<Form, String>>,
    literals: FxHashMap<(DType, Vec<usize>, Vec<u8>), String>,
    /// Sizes that are computed already, and where each symbol can be read.
    pub sizes: FxHashMap<Dim, String>,
    pub size_nodes: FxHashMap<(&'static str, String, String), String>,
    pub symbols: FxHashMap<Symbol, (String, usize)>,
    pub missing: Option<Symbol>,
    /// Slices that one `Split` has computed.
    pub split: FxHashSet<NodeId>,
}

/// Makes the messages for a graph.
pub(super) fn write(graph: &Graph, source: &Source) -> Result<Written, OnnxError> {
    let native = source.opset > 0;
    let mut writer = Writer {
        graph,
        source,
        opset: if native { source.opset } else { OPSET },
        names: FxHashMap::default(),
        written_as: FxHashMap::default(),
        by_name: FxHashMap::default(),
        states: FxHashMap::default(),
        given: FxHashSet::default(),
        claimed: FxHashSet::default(),
        needed: FxHashSet::default(),
        done: FxHashSet::default(),
        taken: source.inner.clone(),
        reserved: FxHashSet::default(),
        nodes: Vec::new(),
        weights: Vec::new(),
        forms: FxHashMap::default(),
        literals: FxHashMap::default(),
        sizes: FxHashMap::default(),
        size_nodes: FxHashMap::default(),
        symbols: FxHashMap::default(),
        missing: None,
        split: FxHashSet::default(),
    };
    writer.claim_names()?;
    let order = graph.topological_order().map_err(|node| OnnxError::Cycle {
        name: graph.node(node).name.to_string(),
    })?;
    for node in order {
        for part in writer.as_it_was(node)? {
            writer.node(part)?;
        }
    }
    writer.returns()?;
    writer.store_unread();
    Ok(writer.finish())
}

impl<'g> Writer<'g> {
    /// Gives names to inputs, to what is returned, and to all results.
    fn claim_names(&mut self) -> Result<(), OnnxError> {
        for input in self.graph.inputs() {
            let name = self.graph.node(*input).name.to_string();
            self.taken.insert(name.clone());
            self.see(&name, self.graph.ty((*input).into()));
            self.names.insert((*input).into(), name);
        }
        for output in self.graph.outputs() {
            let computed = matches!(self.graph.node(output.value.node).kind, NodeKind::Op(_));
            let name = output.name.to_string();
            let free = self.taken.insert(name.clone());
            if computed && free {
                self.names.entry(output.value).or_insert(name);
            }
        }
        let nodes = self.graph.nodes();
        self.by_name = nodes
            .map(|node| (&*self.graph.node(node).name, node))
            .collect();
        let kept = &self.source.kept;
        let names = kept
            .makers
            .keys()
            .chain(kept.tensors.keys())
            .map(|name| &**name);
        self.reserved = self.by_name.keys().copied().chain(names).collect();
        self.done.extend(self.graph.inputs());
        for node in self.graph.nodes() {
            let info = self.graph.node(node);
            if !matches!(info.kind, NodeKind::Op(_)) {
                continue;
            }
            let known = self.source.nodes.get(&info.name);
            let mut listed = known.map(|known| known.outputs.iter().filter(|n| !n.is_empty()));
            for value in self.graph.results(node) {
                let listed = listed.as_mut().and_then(Iterator::next);
                if self.names.contains_key(&value) {
                    continue;
                }
                let name = match (listed, value.port) {
                    (Some(name), _) => self.claim(name),
                    (None, 0) => self.claim(&info.name),
                    (None, port) => self.claim(&format!("{}.{port}", info.name)),
                };
                self.names.insert(value, name);
            }
        }
        let names = self.names.iter();
        self.written_as = names.map(|(value, name)| (name.clone(), *value)).collect();
        self.needed = self
            .source
            .kept
            .nodes
            .iter()
            .filter(|node| self.is_unchanged(node))
            .flat_map(|node| node.inputs())
            .collect();
        Ok(())
    }

    /// This name, for the node of the graph that has it, or one like it.
    pub(super) fn claim(&mut self, name: &str) -> String {
        if self.taken.insert(name.to_owned()) {
            return name.to_owned();
        }
        self.fresh(name)
    }

    /// A name that nothing else has.
    pub(super) fn fresh(&mut self, base: &str) -> String {
        let used = |name: &str| self.taken.contains(name) || self.reserved.contains(name);
        let name = unused(base, used);
        self.taken.insert(name.clone());
        name
    }

    /// Notes the sizes that can be read from a value.
    pub(super) fn see(&mut self, name: &str, ty: &Type) {
        for (axis, dim) in ty.shape().unwrap_or_default().iter().enumerate() {
            if let Some(symbol) = dim.as_symbol() {
                let place = (name.to_owned(), axis);
                self.symbols.entry(symbol.clone()).or_insert(place);
            }
        }
    }

    fn node(&mut self, id: NodeId) -> Result<(), OnnxError> {
        let node = self.graph.node(id);
        let NodeKind::Op(op) = &node.kind else {
            return Ok(());
        };
        let operands = self.graph.operands(id).to_vec();
        if let Op::Opaque(opaque) = op {
            self.opaque(id, opaque, &operands)?;
        } else {
            let Some(result) = node.outputs.first() else {
                return Err(OnnxError::unwritable(
                    format!("`{}` has no result", node.name),
                    MISTAKE,
                ));
            };
            let out = self.names.get(&id.into()).cloned().unwrap_or_default();
            let mut emitted = Emitted {
                id,
                types: operands.iter().map(|v| self.graph.ty(*v)).collect(),
                operands,
                result,
                out,
                writer: self,
            };
            emit::emit(&mut emitted, op)?;
        }
        if let Some(symbol) = self.missing.take() {
            let what = format!(
                "`{}` needs the size {symbol}, which is no size of an input or of a result before it",
                node.name
            );
            return Err(OnnxError::unwritable(what, MISTAKE));
        }
        self.done.insert(id);
        for value in self.graph.results(id) {
            if let Some(name) = self.names.get(&value).cloned() {
                self.see(&name, self.graph.ty(value));
            }
        }
        Ok(())
    }

    /// What a node is called in the file, and what else it has there, if it still is what it was.
    fn describe(&self, proto: &mut NodeProto, name: &str) {
        let Some(info) = self.source.nodes.get(name) else {
            return;
        };
        if Some(info.op_type.as_str()) != proto.op_type.as_deref() {
            return;
        }
        proto.name.clone_from(&info.name);
        proto.doc_string.clone_from(&info.doc_string);
        proto.metadata_props.clone_from(&info.metadata_props);
        proto
            .device_configurations
            .clone_from(&info.device_configurations);
    }

    /// Adds a node of ONNX's own operators.
    pub(super) fn emit(
        &mut self,
        op: &str,
        inputs: &[String],
        attribute: Vec<AttributeProto>,
        output: &str,
    ) {
        self.emit_all(op, inputs, attribute, &[output.to_owned()]);
    }

    /// Adds a node with several results.
    pub(super) fn emit_all(
        &mut self,
        op: &str,
        inputs: &[String],
        attribute: Vec<AttributeProto>,
        outputs: &[String],
    ) {
        let mut proto = NodeProto {
            input: inputs.to_vec(),
            output: outputs.to_vec(),
            op_type: Some(op.to_owned()),
            attribute,
            ..NodeProto::default()
        };
        if let Some(first) = outputs.first() {
            proto.name = Some(first.clone());
            self.describe(&mut proto, first);
        }
        self.nodes.push(proto);
    }

    /// Whether a `Gemm` of the file had its weight as the graph has it.
    pub(super) fn info(&self, id: NodeId) -> Option<&super::source::NodeInfo> {
        self.source.nodes.get(&self.graph.node(id).name)
    }

    /// The name that a value was given.
    pub(super) fn name(&self, value: Value) -> Option<&String> {
        self.names.get(&value)
    }

    /// Adds copies of what is returned under another name than its own.
    fn returns(&mut self) -> Result<(), OnnxError> {
        for output in self.graph.outputs() {
            let name = self.value(output.value)?;
            if *name != *output.name {
                self.emit("Identity", &[name], vec![], &output.name);
            }
        }
        Ok(())
    }
}
