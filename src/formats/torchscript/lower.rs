//! From calls to graph nodes: operators the IR knows by the table of [`aten`](super::aten), all others opaque.

use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use super::alias::{TensorRef, fresh, view, view_or_copy};
use super::aten::{self, Call, Lowered, Sharing};
use super::eval::{Args, Eval, Evaluator, Stop};
use super::scalar::{dtype_code, dtype_from_code};
use super::value::{Value, print_float, print_str};
use crate::formats::error::FormatError;
use crate::ir::{self, Constant, DType, Dim, Dims, Op, Opaque, Role, Tensor, Type};

/// The text of an opaque operator may not grow past this.
const MAX_TEMPLATE: usize = 1 << 20;

impl<'a> Evaluator<'a> {
    /// An operator on tensors.
    pub(super) fn call_tensor(
        &mut self,
        name: &str,
        args: Args<'a>,
        arity: Option<usize>,
    ) -> Eval<Value<'a>> {
        let in_place = name
            .strip_suffix('_')
            .filter(|base| !base.ends_with('_') && !base.is_empty());
        if let (Some(base), Some(Value::Tensor(cell))) = (in_place, args.positional.first()) {
            let cell = cell.clone();
            return self.call_in_place(base, &cell, args);
        }
        if let Some(value) = self.query(name, &args, arity)? {
            return Ok(value);
        }
        if let Some(lowered) = self.lower(name, &args)? {
            return self.lowered(name, lowered, &args);
        }
        let outputs = self.opaque_types(name, &args, arity);
        // A `contiguous` before it is gone.
        let written = if name == "view" { "reshape" } else { name };
        let value = self.opaque(&format!("torch.{written}"), args.clone(), outputs)?;
        Ok(match (value, args.positional.first()) {
            (Value::Tensor(result), Some(Value::Tensor(base))) => {
                let result = result.borrow().value;
                Value::Tensor(share(name, Some(base), result))
            }
            (value, _) => value,
        })
    }

    fn lower(&mut self, name: &str, args: &Args<'a>) -> Eval<Option<Lowered>> {
        match aten::find(name) {
            Some(entry) => (entry.lower)(
                self,
                &Call {
                    name,
                    args,
                    parameters: entry.parameters,
                },
            ),
            None => Ok(None),
        }
    }

    fn lowered(&mut self, name: &str, lowered: Lowered, args: &Args<'a>) -> Eval<Value<'a>> {
        let base = match args.positional.first() {
            Some(Value::Tensor(cell)) => Some(cell.clone()),
            _ => None,
        };
        let cell = |value| Value::Tensor(share(name, base.as_ref(), value));
        Ok(match (lowered, &base) {
            (Lowered::One(value), _) => cell(value),
            (Lowered::List(values), _) => Value::list(values.into_iter().map(cell).collect()),
            (Lowered::Same, Some(base)) if aten::sharing(name) == Sharing::Either => {
                cell(self.read(base)?)
            }
            (Lowered::Same, _) => args.positional.first().cloned().unwrap_or(Value::None),
        })
    }

    /// `relu_(x)`: computes the new value and gives it to every name that holds the tensor.
    fn call_in_place(&mut self, base: &str, cell: &TensorRef, args: Args<'a>) -> Eval<Value<'a>> {
        let before = self.read(cell)?;
        if cell.borrow().state {
            let name = self.graph.node(before.node).name.clone();
            return self.fail(
                format!("the model writes to `{name}`, its own state"),
                "a network that keeps state between calls cannot be rewritten; return the state instead",
            );
        }
        let lowered = match base {
            "copy" => self.copy(before, &args)?,
            _ => self.lower(base, &args)?,
        };
        let after = match lowered {
            Some(Lowered::One(value)) => {
                // The result takes the place, so also the element type, of what it overwrites.
                match (self.graph.ty(before).dtype(), self.graph.ty(value).dtype()) {
                    (Some(old), Some(new)) if old != new => self
                        .emit("cast", Op::Cast { dtype: old }, &[value])?
                        .unwrap_or(value),
                    _ => value,
                }
            }
            Some(Lowered::Same) => before,
            Some(Lowered::List(_)) | None => {
                let mut template = Template::default();
                let _ = write!(template.text, "torch.{base}_(torch.clone(");
                self.render(&args.positional[0], &mut template)?;
                template.text.push(')');
                self.render_args(&args, 1, &mut template)?;
                let ty = self.graph.ty(before).clone();
                self.add_opaque(&format!("aten::{base}_"), template, vec![ty])?
                    .into()
            }
        };
        let why: Rc<str> = format!("torch.{base}_ ({})", self.location().brief()).into();
        self.overwrite(cell, after, &why)?;
        Ok(Value::Tensor(cell.clone()))
    }

    /// `copy_(x, y)`: y, in x's shape and type.
    fn copy(&mut self, before: ir::Value, args: &Args<'a>) -> Eval<Option<Lowered>> {
        let Some(Value::Tensor(source)) = args.positional.get(1) else {
            return Ok(None);
        };
        let source = self.read(source)?;
        match (self.shape(before), self.shape(source)) {
            (Some(a), Some(b)) if a == b => Ok(Some(Lowered::One(source))),
            (Some(shape), Some(_)) => {
                let value = self.emit("expand", Op::Expand { shape }, &[source])?;
                Ok(value.map(Lowered::One))
            }
            _ => Ok(None),
        }
    }

    /// Questions about a tensor that its type answers.
    fn query(
        &mut self,
        name: &str,
        args: &Args<'a>,
        arity: Option<usize>,
    ) -> Eval<Option<Value<'a>>> {
        let Some(Value::Tensor(cell)) = args.positional.first() else {
            return Ok(None);
        };
        if !matches!(
            name,
            "size"
                | "dim"
                | "len"
                | "numel"
                | "is_floating_point"
                | "is_complex"
                | "sym_size"
                | "ndimension"
        ) {
            return Ok(None);
        }
        let value = self.read(cell)?;
        // `n, c, h, w = x.shape` says how many dimensions there are.
        if let ("size", Some(rank @ 1..)) = (name, arity) {
            self.demand(value, &vec![None; rank], None)?;
        }
        let shape = self.shape(value);
        Ok(match (name, shape) {
            ("size" | "sym_size", shape) if args.get(1, "dim").is_some() => {
                let Some(axis) = args.get(1, "dim").and_then(Value::as_int) else {
                    return Ok(None);
                };
                match shape {
                    Some(shape) => match aten::axis(axis, shape.len()) {
                        Some(axis) => Some(Value::size(shape[axis].clone())),
                        None => return self.fail(
                            format!("size {axis} is asked of a tensor of {} dimensions", shape.len()),
                            "check the shape given with --input, and the order of the model's layers",
                        ),
                    },
                    None => self.unknown_size(value, axis),
                }
            }
            ("size" | "sym_size", Some(shape)) => {
                Some(Value::list(shape.into_iter().map(Value::size).collect()))
            }
            ("dim" | "ndimension", Some(shape)) => Some(Value::Int(shape.len() as i64)),
            ("dim" | "ndimension" | "numel", None) => {
                let name = self.graph.node(value.node).name.clone();
                let why = format!(
                    "a condition needs the number of dimensions of `{name}`, which --input can give"
                );
                Some(Value::Unknown(why.into()))
            }
            ("len", Some(shape)) => shape.first().cloned().map(Value::size),
            ("numel", Some(shape)) => Some(Value::size(shape.iter().product())),
            ("is_floating_point", _) => self
                .graph
                .ty(value)
                .dtype()
                .map(|d| Value::Bool(d.is_float())),
            ("is_complex", _) => Some(Value::Bool(false)),
            _ => None,
        })
    }

    /// A size of an input whose rank nothing has told yet.
    fn unknown_size(&self, value: ir::Value, axis: i64) -> Option<Value<'a>> {
        let input = self.graph.inputs().contains(&value.node);
        (input && axis >= 0).then(|| {
            Value::Size(Dim::symbol(format!(
                "{}.{axis}",
                self.graph.node(value.node).name
            )))
        })
    }

    /// The value that a tensor holds now.
    pub(super) fn read(&self, cell: &TensorRef) -> Eval<ir::Value> {
        let cell = cell.borrow();
        if let Some(why) = &cell.stale {
            return self.fail(
                format!("a tensor is read after memory it shares was written through another view by {why}"),
                "replace the in-place operator by one that returns a new tensor, or clone() the view",
            );
        }
        Ok(cell.value)
    }

    pub(super) fn shape(&self, value: ir::Value) -> Option<Dims> {
        self.graph.ty(value).shape().map(Dims::from)
    }

    /// The name of the next node: the module's path, and the operator's unless the module is nothing but that.
    fn node_name(&self, label: &str) -> String {
        let leaf = !self.scope.is_empty() && self.is_leaf();
        let name = match (leaf, self.scope.is_empty()) {
            (true, _) => self.scope.to_string(),
            (false, true) => label.to_owned(),
            (false, false) => format!("{}.{label}", self.scope),
        };
        // Parameters keep their names, whoever comes first.
        if self.is_parameter_name(&name) {
            name + ".op"
        } else {
            name
        }
    }

    /// Adds an operation; `None` where its operands' types are such that only the source format knows what it does.
    pub(super) fn emit(
        &mut self,
        label: &str,
        op: Op,
        operands: &[ir::Value],
    ) -> Eval<Option<ir::Value>> {
        self.step()?;
        let involved = self.is_involved(&op, operands);
        let inferred = {
            let types: SmallVec<[&Type; 4]> = operands.iter().map(|v| self.graph.ty(*v)).collect();
            ir::infer::infer(&op, &types)
        };
        match inferred {
            Ok(outputs) => {
                let name = self.node_name(label);
                Ok(Some(
                    self.graph.add_typed_op(&name, op, operands, outputs).into(),
                ))
            }
            Err(what) if self.alike(operands) && !involved => self.fail(
                format!("the shapes of {} do not fit: {what}", op.name()),
                "check the shape given with --input; if it is right, the file is damaged",
            ),
            Err(_) => Ok(None),
        }
    }

    /// Whether all operands are floating-point tensors of one type.
    fn alike(&self, operands: &[ir::Value]) -> bool {
        let mut dtypes = operands.iter().map(|v| self.graph.ty(*v).dtype());
        let first = dtypes.next().flatten();
        first.is_some_and(DType::is_float) && dtypes.all(|d| d == first)
    }

    /// Whether the operands' sizes are such long expressions that inference may have given up on them.
    fn is_involved(&self, op: &Op, operands: &[ir::Value]) -> bool {
        let attribute = match op {
            Op::Reshape { shape } | Op::Expand { shape } => shape.as_slice(),
            _ => &[],
        };
        let shapes = operands.iter().filter_map(|v| self.graph.ty(*v).shape());
        let mut symbols = 0;
        for dim in shapes.flatten().chain(attribute) {
            dim.for_each_symbol(&mut |_| symbols += 1);
        }
        symbols > 16
    }

    /// A constant of no dimensions.
    pub(super) fn scalar(&mut self, x: f64, dtype: DType) -> ir::Value {
        let key = (x.to_bits(), dtype);
        if let Some(value) = self.scalars.get(&key) {
            return *value;
        }
        let value = self.literal("scalar", Tensor::from_f64(dtype, &[], [x]));
        self.scalars.insert(key, value);
        value
    }

    /// A constant without a name in the source.
    pub(super) fn literal(&mut self, name: &str, tensor: Tensor) -> ir::Value {
        let constant = Constant {
            tensor,
            role: Role::Literal,
            aliases: Vec::new(),
        };
        self.graph.add_constant(name, constant).into()
    }

    /// What an operator demands of its operand: `rank` sizes, some of them numbers. If the operand comes from an input of
    /// which less is known, evaluation starts again with that knowledge.
    pub(super) fn demand(
        &mut self,
        value: ir::Value,
        sizes: &[Option<i64>],
        dtype: Option<DType>,
    ) -> Eval<()> {
        if let (Some(dtype), Some(known)) = (dtype, self.graph.ty(value).dtype())
            && dtype != known
            && let Some(input) = self.source_input(value)
            && self.facts.dtypes.insert(input, dtype).is_none()
        {
            return Err(Stop::Learned);
        }
        match self.shape(value) {
            None => {
                if let Some(input) = self.source_input(value)
                    && !self.facts.shapes.contains_key(&input)
                {
                    self.facts.shapes.insert(input, sizes.to_vec());
                    return Err(Stop::Learned);
                }
            }
            Some(shape) if shape.len() == sizes.len() => {
                for (dim, size) in shape.iter().zip(sizes) {
                    if let (Some(symbol), Some(n)) = (dim.as_symbol(), size)
                        && let Some((input, axis)) = self.symbol_source(symbol)
                        && let Some(sizes) = self.facts.shapes.get_mut(&input)
                        && let Some(slot @ None) = sizes.get_mut(axis)
                    {
                        *slot = Some(*n);
                        return Err(Stop::Learned);
                    }
                }
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// The input from which a value comes by nothing but operators that keep the shape.
    fn source_input(&self, value: ir::Value) -> Option<String> {
        let mut value = value;
        loop {
            let node = self.graph.node(value.node);
            match &node.kind {
                ir::NodeKind::Input => return Some(node.name.to_string()),
                ir::NodeKind::Constant(_) => return None,
                ir::NodeKind::Op(_) => {
                    let operands = self.graph.operands(value.node);
                    let mut others = operands
                        .iter()
                        .filter(|v| self.graph.constant(v.node).is_none());
                    match (others.next(), others.next()) {
                        (Some(only), None) if self.graph.ty(*only).shape().is_none() => {
                            value = *only
                        }
                        _ => return None,
                    }
                }
            }
        }
    }

    fn symbol_source(&self, symbol: &ir::Symbol) -> Option<(String, usize)> {
        self.graph.inputs().iter().find_map(|&input| {
            let shape = self.graph.ty(input.into()).shape()?;
            let axis = shape
                .iter()
                .position(|dim| dim.as_symbol() == Some(symbol))?;
            Some((self.graph.node(input).name.to_string(), axis))
        })
    }

    /// An operator of another library, such as `ops.torchvision.nms`.
    pub(super) fn call_library(
        &mut self,
        path: &str,
        args: Args<'a>,
        arity: Option<usize>,
    ) -> Eval<Value<'a>> {
        let name = path.rsplit('.').next().unwrap_or(path).to_owned();
        let outputs = self.opaque_types(&name, &args, arity);
        self.opaque(path, args, outputs)
    }

    /// The types of an unknown operator's results, as far as its name tells.
    fn opaque_types(&mut self, name: &str, args: &Args<'a>, arity: Option<usize>) -> Vec<Type> {
        let first = args.all().find_map(|v| match v {
            Value::Tensor(cell) => Some(self.graph.ty(cell.borrow().value).clone()),
            Value::List(list) => list.items.borrow().iter().find_map(|v| match v {
                Value::Tensor(cell) => Some(self.graph.ty(cell.borrow().value).clone()),
                _ => None,
            }),
            _ => None,
        });
        let given = args
            .keyword
            .iter()
            .find(|(k, _)| *k == "dtype")
            .and_then(|(_, v)| v.as_int())
            .and_then(dtype_from_code);
        let base = first.as_ref().and_then(Type::dtype).unwrap_or(DType::F32);
        let dtype = given.or(aten::result_dtype(name)).unwrap_or(base);
        if let Some(n) = arity {
            return vec![Type::Tensor(dtype, None); n];
        }
        if name == "size" {
            let ty = if args.positional.len() > 1 {
                "int"
            } else {
                "List[int]"
            };
            return vec![Type::Other(ty.into())];
        }
        // Lists of sizes are sliced and joined by operators of the same names as tensors.
        if let ("add" | "slice" | "list", Some(list)) = (name, args.positional.first())
            && self.is_list(list)
        {
            return vec![Type::Other("List[int]".into())];
        }
        if let Some(ty) = aten::result_type(name) {
            return vec![Type::Other(ty.into())];
        }
        let beside = args.all().filter(|v| matches!(v, Value::Tensor(_))).count() > 1;
        let shape = match aten::shape_argument(name) {
            Some(i) => args
                .positional
                .get(i)
                .and_then(Value::items)
                .and_then(|items| items.iter().map(Value::as_dim).collect::<Option<Dims>>()),
            None if aten::keeps_shape(name, beside) => {
                first.as_ref().and_then(Type::shape).map(Dims::from)
            }
            None => match name {
                "embedding" => self.embedding_shape(args),
                "index" => self.index_shape(args),
                _ => None,
            },
        };
        vec![Type::Tensor(dtype, shape)]
    }

    /// The shape of `x[:, index]`: one axis replaced by those of the index.
    fn index_shape(&self, args: &Args<'a>) -> Option<Dims> {
        let [Value::Tensor(x), list] = args.positional.as_slice() else {
            return None;
        };
        let x = self.shape(x.borrow().value)?;
        let mut at = None;
        for (axis, index) in list.items()?.iter().enumerate() {
            match (index, &at) {
                (Value::None, _) => {}
                (Value::Tensor(index), None) => at = Some((axis, index.borrow().value)),
                _ => return None,
            }
        }
        let (axis, index) = at?;
        // Truth values pick as many as are true.
        let whole = self
            .graph
            .ty(index)
            .dtype()
            .is_some_and(|d| !d.is_float() && d != DType::Bool && d != DType::U8);
        let index = self.shape(index).filter(|_| whole && axis < x.len())?;
        Some(
            x[..axis]
                .iter()
                .chain(&index)
                .chain(&x[axis + 1..])
                .cloned()
                .collect(),
        )
    }

    fn is_list(&self, value: &Value<'a>) -> bool {
        match value {
            Value::List(_) => true,
            Value::Run(value) => {
                matches!(self.graph.ty(*value), Type::Other(name) if name.starts_with("List"))
            }
            _ => false,
        }
    }

    fn embedding_shape(&self, args: &Args<'a>) -> Option<Dims> {
        let [Value::Tensor(weight), Value::Tensor(index), ..] = args.positional.as_slice() else {
            return None;
        };
        let weight = self.shape(weight.borrow().value)?;
        let mut shape = self.shape(index.borrow().value)?;
        shape.push(weight.get(1)?.clone());
        Some(shape)
    }

    /// An operator kept as the text of its call.
    pub(super) fn opaque(
        &mut self,
        path: &str,
        args: Args<'a>,
        outputs: Vec<Type>,
    ) -> Eval<Value<'a>> {
        let mut template = Template::default();
        template.text.push_str(path);
        template.text.push('(');
        self.render_args(&args, 0, &mut template)?;
        let name = match path.split_once('.') {
            Some(("torch", name)) => format!("aten::{name}"),
            Some(("ops", name)) => name.replacen('.', "::", 1),
            _ => path.to_owned(),
        };
        let count = outputs.len() as u32;
        let node = self.add_opaque(&name, template, outputs)?;
        let mut values = (0..count).map(|port| self.run_value(ir::Value { node, port }));
        Ok(match count {
            1 => values.next().unwrap_or(Value::None),
            _ => Value::tuple(values.collect()),
        })
    }

    /// `{0}` unpacked into `n` results.
    pub(super) fn opaque_unpack(&mut self, args: Args<'a>, n: usize) -> Eval<Vec<Value<'a>>> {
        let mut template = Template::default();
        self.render(&args.positional[0], &mut template)?;
        let node = self.add_opaque(
            "prim::ListUnpack",
            template,
            vec![Type::Tensor(DType::F32, None); n],
        )?;
        Ok((0..n as u32)
            .map(|port| self.run_value(ir::Value { node, port }))
            .collect())
    }

    /// `{0}[index]`.
    pub(super) fn opaque_item(&mut self, args: Args<'a>) -> Eval<Value<'a>> {
        let mut template = Template::default();
        self.render(&args.positional[0], &mut template)?;
        template.text.push('[');
        self.render(&args.positional[1], &mut template)?;
        template.text.push(']');
        let list = match &args.positional[0] {
            Value::Run(value) => self.graph.ty(*value).to_string(),
            _ => String::new(),
        };
        let ty = match list.contains("Tensor") {
            true => Type::Tensor(DType::F32, None),
            false => Type::Other("int".into()),
        };
        let node = self.add_opaque("aten::__getitem__", template, vec![ty])?;
        Ok(self.run_value(node.into()))
    }

    pub(super) fn add_opaque(
        &mut self,
        name: &str,
        template: Template,
        outputs: Vec<Type>,
    ) -> Eval<ir::NodeId> {
        self.step()?;
        let label = name.rsplit([':', '.']).next().unwrap_or(name).to_owned();
        let outputs: SmallVec<[Type; 1]> = outputs.into();
        let opaque = Opaque {
            name: name.into(),
            template: template.text.into(),
            sizes: template.sizes.into(),
            outputs: outputs.clone(),
        };
        let node_name = self.node_name(&label);
        Ok(self.graph.add_typed_op(
            &node_name,
            Op::Opaque(Arc::new(opaque)),
            &template.operands,
            outputs,
        ))
    }

    fn render_args(&mut self, args: &Args<'a>, from: usize, template: &mut Template) -> Eval<()> {
        let mut first = from == 0;
        for value in &args.positional[from.min(args.positional.len())..] {
            template.separate(&mut first);
            self.render(value, template)?;
        }
        for (name, value) in &args.keyword {
            template.separate(&mut first);
            template.text.push_str(name);
            template.text.push('=');
            self.render(value, template)?;
        }
        template.text.push(')');
        Ok(())
    }

    /// A value as an argument in the code.
    pub(super) fn render(&mut self, value: &Value<'a>, template: &mut Template) -> Eval<()> {
        self.step()?;
        if template.text.len() > MAX_TEMPLATE {
            let what = format!(
                "the arguments of one operator take over {MAX_TEMPLATE} characters\n  at {}",
                self.location()
            );
            return Err(FormatError::Limit {
                what,
                help: "trace the model instead of scripting it".to_owned(),
            }
            .into());
        }
        match value {
            Value::None => template.text.push_str("None"),
            Value::Bool(b) => template.text.push_str(if *b { "True" } else { "False" }),
            Value::Int(n) => {
                let _ = write!(template.text, "{n}");
            }
            Value::Float(x) => template.text.push_str(&print_float(*x)),
            Value::Size(dim) => template.size(dim),
            Value::Str(text) => template.literal(&print_str(text)),
            Value::Device(name) => template.literal(&format!("torch.device({})", print_str(name))),
            Value::ZeroDim(inner) => {
                template.text.push_str("ops.prim.NumToTensor(");
                self.render(inner, template)?;
                template.text.push(')');
            }
            Value::Tensor(cell) => {
                let value = self.read(cell)?;
                template.operand(value);
            }
            Value::Run(value) => template.operand(*value),
            Value::List(list) => {
                let items = list.items.borrow().clone();
                match (&list.ty, items.is_empty()) {
                    (Some(ty), true) => template.literal(&format!("annotate({ty}, [])")),
                    _ => self.render_items("[", &items, "]", template)?,
                }
            }
            Value::Tuple(tuple) => {
                // The class of a named tuple is marked, as its name in the file to be written is not known here.
                if let Some(class) = &tuple.class {
                    let _ = write!(
                        template.text,
                        "\u{0}{}\u{0}",
                        super::read::simple_name(class)
                    );
                }
                let close = if tuple.items.len() == 1 && tuple.class.is_none() {
                    ",)"
                } else {
                    ")"
                };
                self.render_items("(", &tuple.items, close, template)?;
            }
            Value::Dict(dict) => {
                template.literal("{");
                let mut first = true;
                for (key, value) in dict.items.borrow().iter() {
                    template.separate(&mut first);
                    self.render(key, template)?;
                    template.text.push_str(": ");
                    self.render(value, template)?;
                }
                template.literal("}");
            }
            Value::Unknown(why) => {
                return Err(FormatError::DataBranch {
                    what: why.to_string(),
                    at: self.location(),
                }
                .into());
            }
            Value::Module(_) | Value::Object(_) | Value::Function(_) | Value::Uninitialized => {
                return self.fail(
                    format!("an operator takes {}", value.kind()),
                    "trace the model (torch.jit.trace) instead of scripting it",
                );
            }
        }
        Ok(())
    }

    fn render_items(
        &mut self,
        open: &str,
        items: &[Value<'a>],
        close: &str,
        template: &mut Template,
    ) -> Eval<()> {
        template.text.push_str(open);
        let mut first = true;
        for item in items {
            template.separate(&mut first);
            self.render(item, template)?;
        }
        template.text.push_str(close);
        Ok(())
    }

    /// PyTorch's number for a tensor's element type.
    pub(super) fn dtype_code_of(&self, value: ir::Value) -> Option<i64> {
        self.graph.ty(value).dtype().map(dtype_code)
    }
}

/// The result of an operator, as a tensor that shares memory with its first argument or not.
fn share(name: &str, base: Option<&TensorRef>, value: ir::Value) -> TensorRef {
    match (aten::sharing(name), base) {
        (Sharing::View, Some(base)) => view(base, value),
        (Sharing::Either, Some(base)) => view_or_copy(base, value),
        _ => fresh(value),
    }
}

/// The text of a call with places for operands (`{0}`) and sizes (`{$0}`); other braces are doubled.
#[derive(Default)]
pub(super) struct Template {
    pub text: String,
    pub operands: SmallVec<[ir::Value; 4]>,
    pub sizes: Vec<Dim>,
}

impl Template {
    fn separate(&mut self, first: &mut bool) {
        if !std::mem::replace(first, false) {
            self.text.push_str(", ");
        }
    }

    fn literal(&mut self, text: &str) {
        self.text
            .push_str(&text.replace('{', "{{").replace('}', "}}"));
    }

    fn operand(&mut self, value: ir::Value) {
        let i = self
            .operands
            .iter()
            .position(|v| *v == value)
            .unwrap_or_else(|| {
                self.operands.push(value);
                self.operands.len() - 1
            });
        let _ = write!(self.text, "{{{i}}}");
    }

    fn size(&mut self, dim: &Dim) {
        let i = self.sizes.iter().position(|d| d == dim).unwrap_or_else(|| {
            self.sizes.push(dim.clone());
            self.sizes.len() - 1
        });
        let _ = write!(self.text, "{{${i}}}");
    }
}
