//! From nodes of the file to nodes of the graph.

use std::sync::Arc;

use indexmap::IndexSet;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::content::Content;
use super::error::OnnxError;
use super::files::External;
use super::kept::Form;
use super::proto::{DimensionValue, NodeProto, TensorShapeProto, TypeProto, TypeValue};
use super::source::{NodeInfo, Source};
use super::view::View;
use super::{fold, lower, opaque, tensor, types};
use crate::ir::dim::is_symbol;
use crate::ir::infer::infer;
use crate::ir::{Constant, DType, Dim, Dims, Graph, NodeId, Op, Role, Symbol, Tensor, Type, Value};

/// The graph while it is being made.
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

/// A tensor of the file: an initializer, or a `Constant`.
pub(super) struct Weight<'m> {
    pub name: &'m str,
    pub tensor: Tensor,
    /// Its further names.
    aliases: Vec<Arc<str>>,
    /// The constants of the graph that it is, by shape and whether transposed.
    pub forms: Vec<(Form, Value)>,
}

impl<'m> Importer<'m> {
    pub(super) fn new(name: &str, opset: i64, external: External) -> Importer<'m> {
        Importer {
            graph: Graph::new(name),
            source: Source::default(),
            opset,
            functions: FxHashSet::default(),
            names: FxHashSet::default(),
            read: FxHashSet::default(),
            shared: FxHashSet::default(),
            returned: FxHashSet::default(),
            values: FxHashMap::default(),
            weights: Vec::new(),
            weight_names: FxHashMap::default(),
            contents: FxHashMap::default(),
            declared: FxHashMap::default(),
            input_symbols: FxHashSet::default(),
            parameters: FxHashMap::default(),
            loose: FxHashSet::default(),
            taken_symbols: IndexSet::default(),
            external,
        }
    }

    /// Adds an input of the network.
    pub(super) fn input(&mut self, name: &'m str, ty: Type) {
        for dim in ty.shape().unwrap_or_default() {
            dim.for_each_symbol(&mut |symbol| {
                self.input_symbols.insert(symbol.clone());
            });
        }
        let node = self.graph.add_input(name, ty);
        self.values.insert(name, node.into());
    }

    /// Adds an input that is this tensor where a caller gives nothing else.
    pub(super) fn overridable(&mut self, name: &'m str, tensor: Tensor) {
        let shape = tensor.shape().iter().map(|n| Dim::from(*n));
        let ty = Type::tensor(tensor.dtype(), shape);
        self.input(name, ty);
        self.graph.defaults.insert(name.into(), tensor.clone());
        self.source.defaults.push((name.into(), tensor));
    }

    /// Makes a tensor known, which becomes a constant when somebody reads it.
    pub(super) fn weight(&mut self, name: &'m str, tensor: Tensor) {
        self.weight_names.insert(name, self.weights.len());
        self.weights.push(Weight {
            name,
            tensor,
            aliases: Vec::new(),
            forms: Vec::new(),
        });
    }

    /// Gives a weight another name: exporters say so by `Identity` that several layers have the same one.
    fn alias(&mut self, view: &View<'m>) -> Option<()> {
        let (from, to) = (view.input(0)?, view.output(0)?);
        let at = *self.weight_names.get(from)?;
        let returned = self.returned.contains(to);
        if view.op() != "Identity" || returned {
            return None;
        }
        self.weight_names.insert(to, at);
        let weight = self.weights.get_mut(at)?;
        weight.aliases.push(to.into());
        // It may be there already, under its first name.
        let known = weight.forms.first().map(|(_, value)| value.node);
        if let Some(node) = known.filter(|_| weight.tensor.dtype().is_float()) {
            self.graph.add_aliases(node, [to.into()]);
        }
        Some(())
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
        let domain = node.domain.as_deref().unwrap_or_default();
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

    /// A `Constant` of a type that the graph has.
    fn constant(&mut self, view: &View<'m>) -> Result<bool, OnnxError> {
        if view.op() != "Constant" || view.node.attribute.len() != 1 {
            return Ok(false);
        }
        let name = view.name();
        let found = if let Some(proto) = view.attribute("value").and_then(|a| a.t.as_deref()) {
            tensor::tensor(proto, name, None, &mut self.external)?
        } else if let Some(x) = view.attribute("value_float").and_then(|a| a.f) {
            Some(Tensor::from_f64(DType::F32, &[], [x.into()]))
        } else if let Some(attribute) = view.attribute("value_floats") {
            let values = attribute.floats.iter().map(|x| f64::from(*x));
            Some(Tensor::from_f64(DType::F32, &[values.len()], values))
        } else {
            let ints = |shape: &[usize], ints: &[i64]| {
                let bytes: Vec<u8> = ints.iter().flat_map(|n| n.to_le_bytes()).collect();
                let bytes = crate::ir::Bytes::new(Arc::new(bytes));
                Tensor::new(DType::I64, shape, bytes).ok()
            };
            match (view.attribute("value_int"), view.attribute("value_ints")) {
                (Some(attribute), _) => ints(&[], &[attribute.i.unwrap_or(0)]),
                (_, Some(attribute)) => ints(&[attribute.ints.len()], &attribute.ints),
                _ => None,
            }
        };
        let Some(tensor) = found else {
            return Ok(false);
        };
        self.weight(name, tensor);
        Ok(true)
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

    /// A tensor that a layer keeps beside its parameters, such as a running mean.
    pub(super) fn buffer(&mut self, name: &str) -> Option<Value> {
        if let Some(value) = self.values.get(name) {
            return Some(*value);
        }
        self.formed(name, Form::AsIs, Some(Role::Buffer))
    }

    /// A matrix of the file, transposed.
    pub(super) fn transposed(&mut self, name: &str) -> Option<Value> {
        self.formed(name, Form::Transposed, None)
    }

    /// A tensor of the file under another shape.
    pub(super) fn reshaped(&mut self, name: &str, shape: &[usize]) -> Option<Value> {
        match self.tensor(name)?.shape() == shape {
            true => self.formed(name, Form::AsIs, None),
            false => self.formed(name, Form::Reshaped(shape.to_vec()), None),
        }
    }

    fn formed(&mut self, name: &str, form: Form, role: Option<Role>) -> Option<Value> {
        let at = *self.weight_names.get(name)?;
        let weight = self.weights.get(at)?;
        if let Some((_, value)) = weight.forms.iter().find(|(f, _)| *f == form) {
            return Some(*value);
        }
        let tensor = match &form {
            Form::AsIs => weight.tensor.clone(),
            Form::Transposed => weight.tensor.transposed()?,
            Form::Reshaped(shape) => weight.tensor.reshaped(shape).ok()?,
        };
        let plain = !tensor.dtype().is_float() || tensor.shape().is_empty();
        let role = role.unwrap_or(match plain {
            true => Role::Literal,
            false => Role::Parameter,
        });
        let first = weight.forms.is_empty();
        let own_name = match first {
            true => weight.name.to_owned(),
            false => self.fresh(&format!("{}.form", weight.name)),
        };
        let mut constant = Constant::new(tensor, role);
        if first && constant.tensor.dtype().is_float() {
            constant.aliases.clone_from(&weight.aliases);
        }
        let value: Value = self.graph.add_constant(&own_name, constant).into();
        self.weights.get_mut(at)?.forms.push((form, value));
        Some(value)
    }

    /// A parameter that is a tensor of this name times a factor.
    pub(super) fn scaled(&mut self, name: &str, tensor: &Tensor, by: f64) -> Value {
        let name = self.fresh(&format!("{name}.scaled"));
        let elements = tensor.elements::<f64>();
        let scaled = elements.iter().map(|x| x * by);
        let scaled = Tensor::from_f64(tensor.dtype(), tensor.shape(), scaled);
        let constant = Constant::new(scaled, Role::Parameter);
        self.graph.add_constant(&name, constant).into()
    }

    /// The tensor with this name, if it is one of the file.
    pub(super) fn tensor(&self, name: &str) -> Option<&Tensor> {
        let at = self.weight_names.get(name)?;
        self.weights.get(*at).map(|weight| &weight.tensor)
    }

    /// What a value is known to hold.
    pub(super) fn content(&mut self, name: &'m str) -> Option<&Content> {
        if !self.contents.contains_key(name) {
            let content = Content::of(self.tensor(name)?)?;
            self.contents.insert(name, content);
        }
        self.contents.get(name)
    }

    /// The sizes that operand `i` holds, if they can be written again for a node that reads `x`.
    pub(super) fn sizes(&mut self, view: &View<'m>, i: usize, x: Value) -> Option<Dims> {
        let sizes = self.content(view.input(i)?)?.sizes()?;
        self.are_usable(&sizes, x).then_some(sizes)
    }

    /// The whole numbers that operand `i` holds.
    pub(super) fn ints(&mut self, view: &View<'m>, i: usize) -> Option<Vec<i64>> {
        self.content(view.input(i)?)?.ints()
    }

    /// Whether every symbol is a size of an input, or one of `x`, so that its value can be had where `x` is.
    pub(super) fn are_usable(&self, sizes: &[Dim], x: Value) -> bool {
        let mut known: FxHashSet<Symbol> = FxHashSet::default();
        for dim in self.graph.ty(x).shape().unwrap_or_default() {
            dim.for_each_symbol(&mut |symbol| {
                known.insert(symbol.clone());
            });
        }
        let mut usable = true;
        for dim in sizes {
            dim.for_each_symbol(&mut |symbol| {
                usable &= known.contains(symbol) || self.input_symbols.contains(symbol);
            });
        }
        usable
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
        let free =
            |name: &str| !self.names.contains(name) && self.graph.fresh_name(name).as_ref() == name;
        if free(base) {
            return base.to_owned();
        }
        let mut names = (1..).map(|n: u64| format!("{base}_{n}"));
        names.find(|name| free(name)).unwrap_or_default()
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
        let outputs = {
            let types: SmallVec<[&Type; 4]> = operands.iter().map(|v| self.graph.ty(*v)).collect();
            infer(&op, &types).ok()?
        };
        let node = self.graph.add_typed_op(name, op, operands, outputs);
        Some(node.into())
    }

    /// A constant of no dimensions.
    pub(super) fn scalar(&mut self, view: &View<'m>, x: f64, dtype: DType) -> Value {
        let name = self.fresh(&format!("{}.scalar", view.name()));
        let constant = Constant::new(Tensor::from_f64(dtype, &[], [x]), Role::Literal);
        self.graph.add_constant(&name, constant).into()
    }

    /// The type that the file declares for a value; `None` if it declares none.
    pub(super) fn declared_type(&mut self, name: &str) -> Option<Type> {
        let proto = *self.declared.get(name)?;
        Some(self.type_of(proto, name))
    }

    /// A type of the file. Sizes without name or number get a name of their own.
    pub(super) fn type_of(&mut self, proto: &TypeProto, name: &str) -> Type {
        let tensor_type = match &proto.value {
            Some(TypeValue::Tensor(ty)) => ty,
            Some(TypeValue::Sequence(_)) => return Type::Other("sequence".into()),
            Some(TypeValue::Optional(_)) => return Type::Other("optional".into()),
            Some(TypeValue::Map(_)) => return Type::Other("map".into()),
            Some(TypeValue::SparseTensor(_)) => return Type::Other("sparse_tensor".into()),
            _ => return Type::Other(types::UNKNOWN.into()),
        };
        let code = tensor_type.elem_type.unwrap_or(0);
        match tensor::dtype(code) {
            Some(dtype) => {
                let shape = tensor_type.shape.as_ref();
                let shape = shape.and_then(|shape| self.dims(shape, name));
                Type::Tensor(dtype, shape)
            }
            None => Type::Other(tensor::other_name(code).into()),
        }
    }

    fn dims(&mut self, shape: &TensorShapeProto, name: &str) -> Option<Dims> {
        let dims = shape.dim.iter().enumerate();
        let dim = |(axis, dim): (usize, &super::proto::Dimension)| match &dim.value {
            Some(DimensionValue::DimValue(n)) if *n >= 0 => Dim::from(*n),
            Some(DimensionValue::DimParam(text)) if self.is_name(text) => self.parameter(text),
            _ => self.fresh_size(&format!("{name}.{axis}")),
        };
        let dims: Dims = dims.map(dim).collect();
        // A shape of thousands of dimensions is no shape.
        (dims.len() <= Dim::MAX_RANK).then_some(dims)
    }

    /// Whether a `dim_param` names a size: exporters also write the same placeholder for every size that they do not know.
    fn is_name(&self, text: &str) -> bool {
        let word = text.to_ascii_lowercase();
        let placeholder = !text.contains(char::is_alphabetic)
            || matches!(
                &*word,
                "none" | "null" | "unk" | "unknown" | "dynamic" | "any"
            );
        !placeholder && !self.loose.contains(text)
    }

    /// How many symbols there are.
    pub(super) fn symbol_count(&self) -> usize {
        self.taken_symbols.len()
    }

    /// Whether a size is a symbol that came after the first `count`.
    pub(super) fn is_newer(&self, dim: &Dim, count: usize) -> bool {
        let at = dim
            .as_symbol()
            .and_then(|s| self.taken_symbols.get_index_of(s));
        at.is_some_and(|at| at >= count)
    }

    /// A size with a name of its own that has this number, unless the file is wrong: enough to count and to compare with.
    pub(super) fn probable_size(&mut self, text: &str, n: i64) -> Dim {
        let dim = self.fresh_size(text);
        if let Some(symbol) = dim.as_symbol() {
            self.graph.bindings.insert(symbol.clone(), n);
        }
        dim
    }

    /// The size that a `dim_param` names.
    fn parameter(&mut self, text: &str) -> Dim {
        if let Some(dim) = self.parameters.get(text) {
            return dim.clone();
        }
        let dim = match text.parse::<Dim>() {
            Ok(dim) if is_symbol(text) => dim,
            // An expression, if it is of sizes that are known.
            Ok(dim) if self.is_of_inputs(&dim) => dim,
            _ => self.fresh_size(text),
        };
        if let Some(symbol) = dim.as_symbol() {
            self.taken_symbols.insert(symbol.clone());
        }
        self.parameters.insert(text.to_owned(), dim.clone());
        dim
    }

    fn is_of_inputs(&self, dim: &Dim) -> bool {
        let mut known = dim.as_number().is_none();
        dim.for_each_symbol(&mut |symbol| known &= self.input_symbols.contains(symbol));
        known
    }

    /// A size with a name of its own, made of this text.
    pub(super) fn fresh_size(&mut self, text: &str) -> Dim {
        let word = |c: char| {
            if c.is_alphanumeric() || c == '_' || c == '.' {
                c
            } else {
                '_'
            }
        };
        let mut name: String = text.chars().take(64).map(word).collect();
        if !is_symbol(&name) {
            name.insert(0, '_');
        }
        let base = name.clone();
        let mut n = 1;
        while !is_symbol(&name) || !self.taken_symbols.insert(name.as_str().into()) {
            n += 1;
            name = format!("{base}_{n}");
        }
        Dim::symbol(name)
    }
}

/// The oldest version whose operators mean what the later ones do, but for what `lower` knows.
const OLDEST_TYPED: i64 = 7;
