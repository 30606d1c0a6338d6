//! From nodes of the file to nodes of the graph.

mod declared;
mod weights;

use indexmap::IndexSet;
use rustc_hash::{FxHashMap, FxHashSet};

use super::content::Content;
use super::error::OnnxError;
use super::files::External;
use super::kept::Form;
use super::proto::{NodeProto, TypeProto};
use super::source::{NodeInfo, Source};
use super::view::View;
use super::{fold, lower, opaque};
use crate::formats::identifiers::unused;
use crate::ir::{Constant, DType, Dim, Dims, Graph, NodeId, Op, Role, Symbol, Tensor, Type, Value};
use weights::Weight;

/// The graph while it is being made.
#[derive(Default)]
pub(super) struct Importer<'m> {
    pub graph: Graph,
    pub source: Source,
    pub opset: i64,
    /// Domain and name of the operators that the model defines itself.
    pub functions: FxHashSet<(&'m str, &'m str)>,
    /// Every name of a value, so that no other gets it.
    pub names: FxHashSet<&'m str>,
    /// The names that somebody reads, of these those that several do, and what the model returns.
    pub read: FxHashSet<&'m str>,
    pub shared: FxHashSet<&'m str>,
    pub returned: FxHashSet<&'m str>,
    pub values: FxHashMap<&'m str, Value>,
    pub weights: Vec<Weight<'m>>,
    /// Which weight a name is of; several can be of one.
    weight_names: FxHashMap<&'m str, usize>,
    contents: FxHashMap<&'m str, Content>,
    /// What the file says of the types of values.
    pub declared: FxHashMap<&'m str, &'m TypeProto>,
    /// The sizes of inputs.
    input_symbols: FxHashSet<Symbol>,
    /// Which size a `dim_param` is.
    parameters: FxHashMap<String, Dim>,
    /// The texts that stand for several sizes, though they are the same.
    pub loose: FxHashSet<&'m str>,
    taken_symbols: IndexSet<Symbol>,
    pub external: External,
}

impl<'m> Importer<'m> {
    pub(super) fn new(name: &str, opset: i64, external: External) -> Importer<'m> {
        Importer {
            graph: Graph::new(name),
            opset,
            external,
            ..Importer::default()
        }
    }

    /// Adds an input of the network.
    pub(super) fn input(&mut self, name: &'m str, ty: Type) {
        let dims = ty.shape().unwrap_or_default().iter();
        self.input_symbols
            .extend(dims.flat_map(Dim::symbols).cloned());
        let node = self.graph.add_input(name, ty);
        self.values.insert(name, node.into());
    }

    /// Adds an input that is this tensor where a caller gives nothing else.
    pub(super) fn overridable(&mut self, name: &'m str, tensor: Tensor) {
        self.input(name, tensor.ty());
        self.graph.defaults.insert(name.into(), tensor.clone());
        self.source.defaults.push((name.into(), tensor));
    }

    /// Adds what a node computes.
    pub(super) fn add(&mut self, node: &'m NodeProto) -> Result<(), OnnxError> {
        let view = View {
            node,
            opset: self.opset,
        };
        if view.name().is_empty() {
            return Ok(()); // It has no result that anybody could read.
        }
        let own = matches!(node.domain.as_deref(), None | Some("" | "ai.onnx"));
        let domain = node.domain();
        let typed = own && !self.functions.contains(&(domain, view.op()));
        if typed && self.opset >= OLDEST_TYPED {
            if self.constant(&view)? || self.alias(&view).is_some() {
                return Ok(());
            }
            if let Some(content) = fold::fold(self, &view) {
                // What is known to be a number needs no computing; of weights `canonicalize` sees to that.
                if let Some(tensor) = content.tensor()
                    && !content.dtype.is_float()
                {
                    self.weight(view.name(), tensor);
                    self.contents.insert(view.name(), content);
                    return Ok(());
                }
                self.contents.insert(view.name(), content);
            }
            self.remember(&view);
            let first = self.graph.len();
            if let Some(results) = lower::lower(self, &view) {
                for (i, value) in results.into_iter().enumerate() {
                    if let Some(name) = view.output(i) {
                        self.values.insert(name, value);
                    }
                }
                return Ok(());
            }
            self.give_up_names(first);
        }
        self.remember(&view);
        opaque::import(self, &view)
    }

    /// Renames the operations from `first` on, which nobody reads: the node that they were made for cannot be lowered after all, and
    /// its results have their names.
    fn give_up_names(&mut self, first: usize) {
        for node in (first..self.graph.len()).map(NodeId::new) {
            if self.graph.op(node).is_some() {
                let name = self.fresh(&format!("{}.unread", self.graph.node(node).name));
                self.graph.rename(node, &name);
            }
        }
    }

    /// Keeps what a node has beside operator and operands.
    fn remember(&mut self, view: &View<'m>) {
        let node = view.node;
        let info = NodeInfo {
            op_type: view.op().to_owned(),
            name: node.name.clone().filter(|name| !name.is_empty()),
            doc_string: node.doc_string.clone(),
            metadata_props: node.metadata_props.clone(),
            device_configurations: node.device_configurations.clone(),
            outputs: node.output.clone(),
            outputs_first: view.op() == "Gemm" && view.int("transB", 0) == 1,
            product: None,
        };
        self.source.nodes.insert(view.name().into(), info);
    }

    /// A value, as an operand.
    pub(super) fn value(&mut self, name: &str) -> Option<Value> {
        if let Some(value) = self.values.get(name) {
            return Some(*value);
        }
        self.formed(name, Form::AsIs, None)
    }

    /// The value of operand `i`.
    pub(super) fn operand(&mut self, view: &View<'m>, i: usize) -> Option<Value> {
        self.value(view.input(i)?)
    }

    /// The sizes that operand `i` holds, if they can be written again for a node that reads `x`.
    pub(super) fn sizes(&mut self, view: &View<'m>, i: usize, x: Value) -> Option<Dims> {
        let sizes = self.content(view.input(i)?)?.sizes()?;
        self.are_usable(&sizes, x).then_some(sizes)
    }

    /// The values of several operands.
    pub(super) fn operands(
        &mut self,
        view: &View<'m>,
        operands: std::ops::Range<usize>,
    ) -> Option<Vec<Value>> {
        operands.map(|i| self.operand(view, i)).collect()
    }

    /// The whole numbers that operand `i` holds; none where it is left out.
    pub(super) fn optional_ints(&mut self, view: &View<'m>, i: usize) -> Option<Option<Vec<i64>>> {
        match view.input(i) {
            Some(_) => self.ints(view, i).map(Some),
            None => Some(None),
        }
    }

    /// The whole numbers that operand `i` holds.
    pub(super) fn ints(&mut self, view: &View<'m>, i: usize) -> Option<Vec<i64>> {
        self.content(view.input(i)?)?.ints()
    }

    /// Whether every symbol is a size of an input, or one of `x`, so that its value can be had where `x` is.
    pub(super) fn are_usable(&self, sizes: &[Dim], x: Value) -> bool {
        let own = self.graph.ty(x).shape().unwrap_or_default().iter();
        let known: FxHashSet<&Symbol> = own
            .flat_map(Dim::symbols)
            .chain(&self.input_symbols)
            .collect();
        let mut needed = sizes.iter().flat_map(Dim::symbols);
        needed.all(|symbol| known.contains(symbol))
    }

    pub(super) fn ty(&self, value: Value) -> &Type {
        self.graph.ty(value)
    }

    pub(super) fn shape(&self, value: Value) -> Option<Dims> {
        self.graph.ty(value).shape().map(Dims::from)
    }

    pub(super) fn rank(&self, value: Value) -> Option<usize> {
        self.graph.ty(value).rank()
    }

    pub(super) fn dtype(&self, value: Value) -> Option<DType> {
        self.graph.ty(value).dtype()
    }

    pub(super) fn is_float(&self, value: Value) -> bool {
        self.graph.ty(value).is_float()
    }

    /// The shape of a value whose node may not be in the graph.
    pub(super) fn shape_of(&mut self, name: &'m str) -> Option<Dims> {
        if let Some(tensor) = self.tensor(name) {
            return Some(tensor.shape().iter().map(|n| (*n).into()).collect());
        }
        let value = self.values.get(name)?;
        self.shape(*value)
    }

    /// A name that no value of the file has.
    pub(super) fn fresh(&self, base: &str) -> String {
        unused(base, |name| {
            self.names.contains(name) || self.graph.has_name(name)
        })
    }

    /// Adds the operation whose result is the node's; `None` where the operands do not fit it.
    pub(super) fn last(&mut self, view: &View<'m>, op: Op, operands: &[Value]) -> Option<Value> {
        self.named(view.output(0)?, op, operands)
    }

    /// Adds an operation on the way to a node's result.
    pub(super) fn step(
        &mut self,
        view: &View<'m>,
        label: &str,
        op: Op,
        operands: &[Value],
    ) -> Option<Value> {
        let name = self.fresh(&format!("{}.{label}", view.name()));
        self.named(&name, op, operands)
    }

    /// Adds an operation with a result of this name; `None` where the operands do not fit.
    pub(super) fn named(&mut self, name: &str, op: Op, operands: &[Value]) -> Option<Value> {
        let outputs = self.graph.infer(&op, operands).ok()?;
        let node = self.graph.add_typed_op(name, op, operands, outputs);
        Some(node.into())
    }

    /// A constant of no dimensions.
    pub(super) fn scalar(&mut self, view: &View<'m>, x: f64, dtype: DType) -> Value {
        let name = self.fresh(&format!("{}.scalar", view.name()));
        let constant = Constant::new(Tensor::from_f64(dtype, &[], [x]), Role::Literal);
        self.graph.add_constant(&name, constant).into()
    }
}

/// The oldest version whose operators mean what the later ones do, but for what `lower` knows.
const OLDEST_TYPED: i64 = 7;
