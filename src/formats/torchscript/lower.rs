//! From calls to graph nodes: operators the IR knows by the table of [`aten`](super::aten), all others opaque.

mod opaque;
mod unknown;

use std::fmt::Write as _;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::eval::{Args, Eval, Evaluator, Stop};
use super::value::Value;
use crate::error::FormatError;
use crate::formats::aten::{
    self, Argument, Arguments, Builder, Call, Lowered, Sharing, TensorRef, fresh, view,
    view_or_copy,
};
use crate::formats::words::among;
use crate::ir::{self, Constant, DType, Dim, Op, Opaque, Role, Tensor, Type};
pub(super) use opaque::Template;

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
        match self.lower(name, &args)? {
            Some(Lowered::First(value, others)) => {
                return self.first_of(name, value, others, &args);
            }
            Some(lowered) => return self.lowered(name, lowered, &args),
            None => {}
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
        let Some(entry) = aten::find(name) else {
            return Ok(None);
        };
        let args = self.arguments(args)?;
        let call = Call {
            name,
            args: &args,
            parameters: entry.parameters,
        };
        (entry.lower)(self, &call)
    }

    /// All results of a call of which the graph says the first. Whether others are read shows at the end: the whole call is there
    /// beside `value` until then.
    fn first_of(
        &mut self,
        name: &str,
        value: ir::Value,
        others: Vec<Type>,
        args: &Args<'a>,
    ) -> Eval<Value<'a>> {
        let first = self.lowered(name, Lowered::One(value), args)?;
        let all = { [self.graph.ty(value).clone()].into_iter() }.chain(others);
        let call = self.opaque(&format!("torch.{name}"), args.clone(), all.collect())?;
        let mut results = call.items().unwrap_or_default();
        if let (Some(place), Value::Tensor(whole)) = (results.first_mut(), &first)
            && let Value::Tensor(call) = &*place
        {
            let pair = (whole.borrow().value, call.borrow().value);
            self.firsts.push(pair);
            *place = first;
        }
        Ok(Value::tuple(results))
    }

    /// The arguments as every format has them.
    fn arguments(&self, args: &Args<'a>) -> Eval<Arguments<'a>> {
        let mut converted = Arguments::default();
        for value in &args.positional {
            converted.positional.push(self.argument(value, true)?);
        }
        for (name, value) in &args.keyword {
            converted.keyword.push((name, self.argument(value, true)?));
        }
        Ok(converted)
    }

    fn argument(&self, value: &Value<'a>, outermost: bool) -> Eval<Argument> {
        Ok(match value.unwrap_zero_dim() {
            Value::None => Argument::None,
            Value::Bool(b) => Argument::Bool(*b),
            Value::Int(n) => Argument::Int(*n),
            Value::Size(dim) => Argument::Size(dim.clone()),
            Value::Float(x) => Argument::Float(*x),
            Value::Str(text) => Argument::Str(text.clone()),
            Value::Tensor(cell) => Argument::Tensor(self.read(cell)?),
            // No operator of the table takes lists of lists.
            list if outermost => match list.items() {
                Some(items) => {
                    let items = items.iter().map(|item| self.argument(item, false));
                    Argument::List(items.collect::<Eval<_>>()?)
                }
                None => Argument::Other,
            },
            _ => Argument::Other,
        })
    }

    fn lowered(&mut self, name: &str, lowered: Lowered, args: &Args<'a>) -> Eval<Value<'a>> {
        let base = match args.positional.first() {
            Some(Value::Tensor(cell)) => Some(cell.clone()),
            _ => None,
        };
        let cell = |value| Value::Tensor(share(name, base.as_ref(), value));
        Ok(match (lowered, &base) {
            (Lowered::One(value) | Lowered::First(value, _), _) => cell(value),
            (Lowered::List(values), _) => Value::list(values.into_iter().map(cell).collect()),
            (Lowered::Same, Some(base)) if aten::sharing(name) == Sharing::Either => {
                cell(self.read(base)?)
            }
            (Lowered::Same, _) => args.positional.first().cloned().unwrap_or(Value::None),
        })
    }

    /// `relu_(x)`: computes the new value and gives it to every name that holds the tensor.
    fn call_in_place(&mut self, base: &str, cell: &TensorRef, args: Args<'a>) -> Eval<Value<'a>> {
        self.changes_something()?;
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
        let after = match self.written_over(before, lowered)? {
            Some(after) => after,
            None => {
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
        aten::overwrite(self, cell, after, &why)?;
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
        const QUERIES: &str = "size dim len numel is_floating_point is_complex sym_size ndimension";
        if !among(QUERIES, name) {
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
                let tensor = &self.graph.node(value.node).name;
                let why = format!(
                    "a condition needs the number of dimensions of `{tensor}`, which --input can give"
                );
                Some(self.unknown(why.into(), name, args, "int"))
            }
            ("len", Some(shape)) => shape.first().cloned().map(Value::size),
            ("numel", Some(shape)) => Dim::product(&shape).map(Value::size),
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

    /// The input from which a value comes by nothing but operators that keep the number of dimensions.
    fn source_input(&self, value: ir::Value) -> Option<String> {
        let mut value = value;
        loop {
            let node = self.graph.node(value.node);
            match &node.kind {
                ir::NodeKind::Input => return Some(node.name.to_string()),
                ir::NodeKind::Constant(_) => return None,
                ir::NodeKind::Op(Op::Opaque(opaque)) if unknown::changes_rank(&opaque.name) => {
                    return None;
                }
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
}

impl Builder for Evaluator<'_> {
    fn graph(&self) -> &ir::Graph {
        &self.graph
    }

    fn emit(&mut self, label: &str, op: Op, operands: &[ir::Value]) -> Eval<Option<ir::Value>> {
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
                "give the input's shape with --input, or check the one that is given; if it is right, the file is damaged",
            ),
            Err(_) => Ok(None),
        }
    }

    fn scalars(&mut self) -> &mut FxHashMap<(u64, DType), ir::Value> {
        &mut self.scalars
    }

    fn literal(&mut self, name: &str, tensor: Tensor) -> ir::Value {
        let constant = Constant::new(tensor, Role::Literal);
        self.graph.add_constant(name, constant).into()
    }

    fn demand(
        &mut self,
        value: ir::Value,
        sizes: &[Option<i64>],
        dtype: Option<DType>,
    ) -> Eval<()> {
        if self.quiet {
            return Ok(());
        }
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
                    // Its sizes are told once its rank is known, by what really becomes of each.
                    self.facts.shapes.insert(input, vec![None; sizes.len()]);
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

    fn training(&self, what: &str) -> Stop {
        let what = format!("{what} runs as in training");
        Stop::Error(FormatError::Training {
            what,
            at: self.location(),
        })
    }

    fn slice_scatter(
        &mut self,
        whole_and_part: [ir::Value; 2],
        axis: usize,
        bounds: [&Dim; 2],
        step: usize,
    ) -> Eval<ir::Value> {
        let template = Template {
            text: format!("torch.slice_scatter({{0}}, {{1}}, {axis}, {{$0}}, {{$1}}, {step})"),
            operands: whole_and_part.into_iter().collect(),
            sizes: bounds.map(Dim::clone).to_vec(),
        };
        let ty = self.graph.ty(whole_and_part[0]).clone();
        let node = self.add_opaque("aten::slice_scatter", template, vec![ty])?;
        Ok(node.into())
    }

    fn type_as(&mut self, x: ir::Value, other: ir::Value) -> Eval<ir::Value> {
        let template = Template {
            text: "torch.type_as({0}, {1})".to_owned(),
            operands: [x, other].into_iter().collect(),
            sizes: Vec::new(),
        };
        let dtype = self.graph.ty(other).dtype().unwrap_or(DType::F32);
        let ty = Type::Tensor(dtype, self.shape(x));
        Ok(self.add_opaque("aten::type_as", template, vec![ty])?.into())
    }

    fn scatter(
        &mut self,
        view: &Opaque,
        operands: &[ir::Value],
        part: ir::Value,
    ) -> Eval<Option<ir::Value>> {
        // Parts of unknown sizes, or of a tensor of unknown rank.
        let call = ["slice", "select"].into_iter().find_map(|name| {
            let arguments = view
                .template
                .strip_prefix(&format!("torch.{name}({{0}}, "))?;
            Some((name, arguments))
        });
        let Some((name, arguments)) = call else {
            return Ok(None);
        };
        let template = Template {
            text: format!(
                "torch.{name}_scatter({{0}}, {{{}}}, {arguments}",
                operands.len()
            ),
            operands: operands.iter().copied().chain([part]).collect(),
            sizes: view.sizes.to_vec(),
        };
        let ty = self.graph.ty(operands[0]).clone();
        let node = self.add_opaque(&format!("aten::{name}_scatter"), template, vec![ty])?;
        Ok(Some(node.into()))
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
