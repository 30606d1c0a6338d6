//! Python's side of TorchScript: numbers, sizes, strings, lists and dictionaries, evaluated here and now.

use std::rc::Rc;

use super::alias::fresh;
use super::eval::{Args, Eval, Evaluator, MAX_ITEMS};
use super::value::{MAX_VISITS, Value};
use crate::formats::error::FormatError;
use crate::ir::dim::DimBuilder;
use crate::ir::{DType, Dim, Dims, Symbol, Type};

impl<'a> Evaluator<'a> {
    /// An operator of the `aten` namespace, on whatever it is called with.
    pub(super) fn call_torch(
        &mut self,
        name: &str,
        args: Args<'a>,
        arity: Option<usize>,
    ) -> Eval<Value<'a>> {
        if let Some(value) = self.structural(name, &args)? {
            return Ok(value);
        }
        // Traces compute sizes with tensors that hold one number, some of them constants of the archive.
        let plain = match args.all().any(Value::is_run) {
            true => self.without_scalar_tensors(&args),
            false => Some(args.clone()),
        };
        if let Some(plain) = plain
            && let Some(value) = self.arithmetic(name, &plain)?
        {
            return Ok(value);
        }
        if is_arithmetic(name) && !args.positional.is_empty() && args.all().all(is_number_like) {
            let zero_dim = args.all().any(|v| matches!(v, Value::ZeroDim(_)));
            let float = args
                .all()
                .any(|v| matches!(v.unwrap_zero_dim(), Value::Float(_)))
                || name.contains("div");
            let ty = match (zero_dim, float && !name.starts_with("floor")) {
                (true, false) => Type::Tensor(DType::I64, Some(Dims::new())),
                (true, true) => Type::Tensor(DType::F32, Some(Dims::new())),
                (false, false) => Type::Other("int".into()),
                (false, true) => Type::Other("float".into()),
            };
            return self.opaque(&format!("torch.{name}"), args, vec![ty]);
        }
        self.call_tensor(name, args, arity)
    }

    /// The arguments with every constant tensor of no dimensions replaced by its number, if no other tensor remains.
    fn without_scalar_tensors(&self, args: &Args<'a>) -> Option<Args<'a>> {
        let convert = |value: &Value<'a>| match value {
            Value::Tensor(cell) => self
                .scalar_constant(cell)
                .map(|v| Value::ZeroDim(Rc::new(v))),
            value if value.is_run() => None,
            value => Some(value.clone()),
        };
        Some(Args {
            positional: args.positional.iter().map(convert).collect::<Option<_>>()?,
            keyword: args
                .keyword
                .iter()
                .map(|(k, v)| Some((*k, convert(v)?)))
                .collect::<Option<_>>()?,
        })
    }

    /// Operators on Python's own containers, whatever they contain; `None` if this is none of them.
    fn structural(&mut self, name: &str, args: &Args<'a>) -> Eval<Option<Value<'a>>> {
        let value = match (name, args.positional.as_slice()) {
            ("append", [Value::List(list), item]) => {
                args.positional[0].deepen(item);
                self.check_depth(&args.positional[0])?;
                list.items.borrow_mut().push(item.clone());
                self.check_items(list.items.borrow().len())?;
                Value::List(list.clone())
            }
            ("extend", [Value::List(list), more]) => {
                let Some(more) = more.items() else {
                    return Ok(None);
                };
                more.iter().for_each(|item| args.positional[0].deepen(item));
                self.check_depth(&args.positional[0])?;
                list.items.borrow_mut().extend(more);
                self.check_items(list.items.borrow().len())?;
                Value::List(list.clone())
            }
            ("insert", [Value::List(list), at, item]) => {
                let Some(at) = at.as_int() else {
                    return Ok(None);
                };
                args.positional[0].deepen(item);
                self.check_depth(&args.positional[0])?;
                let mut items = list.items.borrow_mut();
                let len = items.len() as i64;
                items.insert(
                    if at < 0 { at + len } else { at }.clamp(0, len) as usize,
                    item.clone(),
                );
                Value::None
            }
            ("pop", [Value::List(list), rest @ ..]) => {
                let mut items = list.items.borrow_mut();
                let at = rest.first().map_or(Some(-1), Value::as_int);
                match at.and_then(|at| position(at, items.len())) {
                    Some(at) => items.remove(at),
                    None => {
                        drop(items);
                        return self.fail(
                            "pop from outside a list",
                            "trace the model with another example",
                        );
                    }
                }
            }
            ("clear", [Value::List(list)]) => {
                list.items.borrow_mut().clear();
                Value::None
            }
            ("reverse", [Value::List(list)]) => {
                list.items.borrow_mut().reverse();
                Value::None
            }
            ("list" | "copy", [Value::List(list)]) => Value::list(list.items.borrow().clone()),
            ("len", [Value::Str(text)]) => Value::Int(text.chars().count() as i64),
            ("len", [Value::Dict(dict)]) => Value::Int(dict.items.borrow().len() as i64),
            ("len", [value]) => match value.items() {
                Some(items) => Value::Int(items.len() as i64),
                None => return Ok(None),
            },
            ("add", [a @ (Value::List(_) | Value::Tuple(_)), b]) => match (a.items(), b.items()) {
                (Some(mut a), Some(b)) => {
                    a.extend(b);
                    self.check_items(a.len())?;
                    Value::list(a)
                }
                _ => return Ok(None),
            },
            ("add_", [Value::List(list), more]) => {
                let Some(more) = more.items() else {
                    return Ok(None);
                };
                more.iter().for_each(|item| args.positional[0].deepen(item));
                self.check_depth(&args.positional[0])?;
                list.items.borrow_mut().extend(more);
                self.check_items(list.items.borrow().len())?;
                Value::List(list.clone())
            }
            ("mul", [Value::List(list), n]) => {
                let (items, n) = (list.items.borrow(), n.as_int().unwrap_or(0).max(0) as usize);
                self.check_items(items.len().saturating_mul(n))?;
                Value::list(
                    items
                        .iter()
                        .cycle()
                        .take(items.len() * n)
                        .cloned()
                        .collect(),
                )
            }
            ("slice", [Value::List(_) | Value::Tuple(_), ..]) => {
                let items = args.positional[0].items().unwrap_or_default();
                let bound = |i: usize, default: i64| match args.positional.get(i) {
                    None | Some(Value::None) => Some(default),
                    Some(value) => value.as_int(),
                };
                let (Some(start), Some(end), Some(step)) =
                    (bound(1, 0), bound(2, i64::MAX), bound(3, 1))
                else {
                    return Ok(None);
                };
                let len = items.len() as i64;
                let clamp =
                    |i: i64| (if i < 0 { i.saturating_add(len) } else { i }).clamp(0, len) as usize;
                let (start, end) = (clamp(start), clamp(end));
                let part = items.get(start..end.max(start)).unwrap_or_default();
                Value::list(part.iter().step_by(step.max(1) as usize).cloned().collect())
            }
            (
                "__getitem__" | "select",
                [
                    list @ (Value::List(_) | Value::Tuple(_) | Value::Dict(_)),
                    index,
                ],
            ) => self.item(list, index)?,
            ("_set_item", [list, index, value]) => {
                self.set_item(list, index.clone(), value.clone())?;
                Value::None
            }
            ("keys", [Value::Dict(dict)]) => {
                Value::list(dict.items.borrow().iter().map(|(k, _)| k.clone()).collect())
            }
            ("values", [Value::Dict(dict)]) => {
                Value::list(dict.items.borrow().iter().map(|(_, v)| v.clone()).collect())
            }
            ("items", [Value::Dict(dict)]) => {
                let pair =
                    |(k, v): &(Value<'a>, Value<'a>)| Value::tuple(vec![k.clone(), v.clone()]);
                Value::list(dict.items.borrow().iter().map(pair).collect())
            }
            ("get", [Value::Dict(dict), key, rest @ ..]) => {
                let found = dict
                    .items
                    .borrow()
                    .iter()
                    .find(|(k, _)| same(k, key) == Some(true))
                    .map(|(_, v)| v.clone());
                found
                    .or_else(|| rest.first().cloned())
                    .unwrap_or(Value::None)
            }
            ("__contains__", [container, key]) => {
                let keys: Vec<Value<'a>> = match container {
                    Value::Dict(dict) => {
                        dict.items.borrow().iter().map(|(k, _)| k.clone()).collect()
                    }
                    value => match value.items() {
                        Some(items) => items,
                        None => return Ok(None),
                    },
                };
                match (key, keys.iter().any(|k| same(k, key) == Some(true))) {
                    (Value::Unknown(_), false) => key.clone(),
                    (_, found) => Value::Bool(found),
                }
            }
            ("__is__" | "__isnot__", [a, b]) => {
                let is = match (a, b) {
                    (Value::None, Value::None) => true,
                    (Value::None, _) | (_, Value::None) => false,
                    (Value::Tensor(a), Value::Tensor(b)) => Rc::ptr_eq(a, b),
                    (a, b) => same(a, b).unwrap_or(false),
                };
                Value::Bool(is == (name == "__is__"))
            }
            ("__not__", [value]) => match self.known_bool(value) {
                Some(b) => Value::Bool(!b),
                None => return Ok(None),
            },
            ("format", [Value::Str(pattern), rest @ ..]) => self.format(pattern, rest)?,
            ("percentFormat", [Value::Str(pattern), ..]) => Value::Str(pattern.clone()),
            ("add", [Value::Str(a), Value::Str(b)]) => {
                self.check_items(a.len() + b.len())?;
                Value::Str(format!("{a}{b}").into())
            }
            ("dict", []) => Value::dict(None, Vec::new()),
            ("warn", _) => Value::None,
            // Questions about how the code is run: answered so that the general path is taken, which computes the same.
            ("is_grad_enabled", []) => Value::Bool(true),
            (
                "is_autocast_enabled" | "is_autocast_cpu_enabled" | "is_scripting" | "is_tracing",
                _,
            )
            | ("backends.mha.get_fastpath_enabled", []) => Value::Bool(false),
            ("device", [Value::Str(name), ..]) => Value::Device(name.clone()),
            ("str", [value]) => Value::Str(self.show(value, 0)?.into()),
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// Arithmetic on numbers and sizes; `None` if this is none, or not to be known here.
    fn arithmetic(&mut self, name: &str, args: &Args<'a>) -> Eval<Option<Value<'a>>> {
        let zero_dim = args.all().any(|v| matches!(v, Value::ZeroDim(_)));
        let numbers: Vec<Value<'a>> = args
            .positional
            .iter()
            .map(|v| v.unwrap_zero_dim().clone())
            .collect();
        let value = match (name, numbers.as_slice()) {
            ("div", [a, b]) => match args.get(usize::MAX, "rounding_mode") {
                Some(Value::Str(mode)) => match &**mode {
                    "floor" => self.binary("floordiv", a, b)?,
                    "trunc" if non_negative(a) && non_negative(b) => {
                        self.binary("floordiv", a, b)?
                    }
                    _ => None,
                },
                _ => self.binary("div", a, b)?,
            },
            ("add" | "sub", [a, b, rest @ ..]) => {
                let alpha = rest
                    .first()
                    .or(args.get(2, "alpha"))
                    .map_or(Some(1), Value::as_int);
                match alpha {
                    Some(1) => self.binary(name, a, b)?,
                    _ => None,
                }
            }
            ("all", [list]) | ("any", [list]) => match list.items() {
                Some(items) => {
                    let known: Option<Vec<bool>> =
                        items.iter().map(|v| self.known_bool(v)).collect();
                    known.map(|b| {
                        Value::Bool(if name == "all" {
                            b.iter().all(|b| *b)
                        } else {
                            b.iter().any(|b| *b)
                        })
                    })
                }
                None => None,
            },
            ("sum" | "prod", [Value::List(list)]) => {
                let mut total = Value::Int(i64::from(name == "prod"));
                for item in list.items.borrow().iter() {
                    let op = if name == "sum" { "add" } else { "mul" };
                    let Some(next) = self.binary(op, &total, item)? else {
                        return Ok(None);
                    };
                    total = next;
                }
                Some(total)
            }
            (_, [a]) => unary(name, a),
            (_, [a, b]) => self.binary(name, a, b)?,
            // The loop `for i in range(start, end, step)`, as scripting counts it.
            ("__range_length", [start, end, step]) => {
                match (start.as_dim(), end.as_dim(), step.as_int()) {
                    (Some(start), Some(end), Some(step)) if step > 0 => Some(Value::size(
                        (end - start)
                            .ceil_div(&Dim::from(step))
                            .at_least(&Dim::from(0)),
                    )),
                    (Some(start), Some(end), Some(step)) if step < 0 => {
                        let step = Dim::from(step.saturating_neg());
                        Some(Value::size(
                            (start - end).ceil_div(&step).at_least(&Dim::from(0)),
                        ))
                    }
                    _ => None,
                }
            }
            ("__derive_index", [i, start, step]) => {
                match (i.as_dim(), start.as_dim(), step.as_dim()) {
                    (Some(i), Some(start), Some(step)) => Some(Value::size(start + i * step)),
                    _ => None,
                }
            }
            // `torch.to(number, dtype, ...)`: a cast between number types.
            ("to", [a, Value::Int(dtype), ..]) => cast(a, *dtype),
            _ => None,
        };
        Ok(value.map(|v| {
            if zero_dim && is_number(&v) {
                Value::ZeroDim(Rc::new(v))
            } else {
                v
            }
        }))
    }

    fn binary(&mut self, name: &str, a: &Value<'a>, b: &Value<'a>) -> Eval<Option<Value<'a>>> {
        self.step()?;
        if let Some(value) = compare(name, a, b) {
            return Ok(Some(value));
        }
        if let ("to" | "type_as", Value::Int(dtype)) = (name, b) {
            return Ok(cast(a, *dtype));
        }
        if let (Value::Bool(x), Value::Bool(y)) = (a, b) {
            match name {
                "__and__" | "bitwise_and" | "logical_and" => {
                    return Ok(Some(Value::Bool(*x && *y)));
                }
                "__or__" | "bitwise_or" | "logical_or" => return Ok(Some(Value::Bool(*x || *y))),
                "__xor__" => return Ok(Some(Value::Bool(x ^ y))),
                _ => {}
            }
        }
        // One side may decide a condition whose other side is unknown.
        match (name, self.known_bool(a), self.known_bool(b)) {
            ("__and__", Some(false), _) | ("__and__", _, Some(false))
                if is_condition(a) && is_condition(b) =>
            {
                return Ok(Some(Value::Bool(false)));
            }
            ("__or__", Some(true), _) | ("__or__", _, Some(true))
                if is_condition(a) && is_condition(b) =>
            {
                return Ok(Some(Value::Bool(true)));
            }
            _ => {}
        }
        if let (Value::Unknown(why), _) | (_, Value::Unknown(why)) = (a, b) {
            return Ok(Some(Value::Unknown(why.clone())));
        }
        if let (Some(x), Some(y)) = (a.as_dim(), b.as_dim()) {
            let value = match name {
                "add" => x + y,
                "sub" | "rsub" if name == "sub" => x - y,
                "rsub" => y - x,
                "mul" => x * y,
                "floordiv" | "floor_divide" | "__floordiv__" if y.as_number() != Some(0) => {
                    x.floor_div(&y)
                }
                "remainder" | "fmod" if y.as_number().is_some_and(|n| n > 0) => {
                    x.clone() - x.floor_div(&y) * y
                }
                "max" | "maximum" => x.at_least(&y),
                "min" | "minimum" => x.at_most(&y),
                "div" | "true_divide" | "__truediv__" => return Ok(true_division(&x, &y)),
                "pow" => match (x.as_number(), y.as_number()) {
                    (Some(x), Some(y)) if y >= 0 => Dim::from(x.saturating_pow(y.min(64) as u32)),
                    _ => return Ok(None),
                },
                _ => return Ok(None),
            };
            // Too long an expression is left to the running network.
            return Ok((!value.is_too_long()).then(|| Value::size(value)));
        }
        let (Some(x), Some(y)) = (a.as_f64(), b.as_f64()) else {
            return Ok(None);
        };
        Ok(Some(Value::Float(match name {
            "add" => x + y,
            "sub" => x - y,
            "rsub" => y - x,
            "mul" => x * y,
            "div" | "true_divide" | "__truediv__" => x / y,
            "floordiv" | "floor_divide" | "__floordiv__" => (x / y).floor(),
            "remainder" => x - (x / y).floor() * y,
            "pow" => x.powf(y),
            "max" | "maximum" => x.max(y),
            "min" | "minimum" => x.min(y),
            _ => return Ok(None),
        })))
    }

    fn check_items(&self, n: usize) -> Eval<()> {
        if n > MAX_ITEMS {
            return self.limit(format!("a list or string of {n} elements"));
        }
        Ok(())
    }

    fn limit<T>(&self, what: String) -> Eval<T> {
        let help = "trace the model, or compute this outside it".to_owned();
        Err(FormatError::Limit {
            what: format!("{what}\n  at {}", self.location()),
            help,
        }
        .into())
    }

    fn known_bool(&self, value: &Value<'a>) -> Option<bool> {
        match value.unwrap_zero_dim() {
            Value::Bool(b) => Some(*b),
            Value::Int(n) => Some(*n != 0),
            Value::Float(x) => Some(*x != 0.0),
            Value::Tensor(cell) => self.scalar_constant(cell).and_then(|v| self.known_bool(&v)),
            _ => None,
        }
    }

    /// `list[index]`.
    pub(super) fn item(&mut self, list: &Value<'a>, index: &Value<'a>) -> Eval<Value<'a>> {
        if let Value::Dict(dict) = list {
            let items = dict.items.borrow();
            return match items.iter().find(|(k, _)| same(k, index) == Some(true)) {
                Some((_, value)) => Ok(value.clone()),
                None => self.fail(
                    "a dictionary has no such key",
                    "trace the model with another example",
                ),
            };
        }
        if let Value::Run(run) = list {
            let args = Args {
                positional: vec![Value::Run(*run), index.clone()],
                keyword: vec![],
            };
            return self.opaque_item(args);
        }
        let (Some(items), Some(at)) = (list.items(), index.as_int()) else {
            return self.fail(
                format!("{} is indexed by {}", list.kind(), index.kind()),
                "trace the model (torch.jit.trace) instead of scripting it",
            );
        };
        match position(at, items.len()) {
            Some(at) => Ok(items[at].clone()),
            None => self.fail(
                format!("index {at} of a list of {}", items.len()),
                "trace the model with another example",
            ),
        }
    }

    /// `list[index] = value`.
    pub(super) fn set_item(
        &mut self,
        list: &Value<'a>,
        index: Value<'a>,
        value: Value<'a>,
    ) -> Eval<()> {
        list.deepen(&value);
        self.check_depth(list)?;
        match list {
            Value::List(list) => {
                let mut items = list.items.borrow_mut();
                if let Some(at) = index.as_int().and_then(|at| position(at, items.len())) {
                    items[at] = value;
                    return Ok(());
                }
            }
            Value::Dict(dict) => {
                let mut items = dict.items.borrow_mut();
                match items
                    .iter_mut()
                    .find(|(k, _)| same(k, &index) == Some(true))
                {
                    Some(slot) => slot.1 = value,
                    None => items.push((index, value)),
                }
                return Ok(());
            }
            _ => {}
        }
        self.fail(
            "this element cannot be assigned",
            "trace the model (torch.jit.trace) instead of scripting it",
        )
    }

    /// Names without a namespace: conversions and Python's own functions.
    pub(super) fn call_builtin(&mut self, name: &str, args: Args<'a>) -> Eval<Value<'a>> {
        let value = match (name, args.positional.as_slice()) {
            ("int", [value]) => match value.unwrap_zero_dim() {
                Value::Float(x) => Some(Value::Int(*x as i64)),
                Value::Str(text) => text.trim().parse().ok().map(Value::Int),
                value => value.as_dim().map(Value::size),
            },
            ("float", [value]) => match value.unwrap_zero_dim() {
                Value::Str(text) => text.trim().parse().ok().map(Value::Float),
                Value::Size(dim) => Some(Value::Size(dim.clone())),
                value => value.as_f64().map(Value::Float),
            },
            ("bool", [value]) => match value {
                Value::Unknown(_) => Some(value.clone()),
                value => self.known_bool(value).map(Value::Bool),
            },
            ("str", [value]) => Some(Value::Str(self.show(value, 0)?.into())),
            ("len" | "abs" | "round" | "floor" | "ceil", _) => {
                return self.call_torch(name, args, None);
            }
            ("range", bounds) => {
                let bounds: Option<Vec<i64>> = bounds.iter().map(Value::as_int).collect();
                let Some(bounds) = bounds else {
                    let what =
                        "a loop runs as often as a size says, known only when the model runs"
                            .to_owned();
                    return Err(FormatError::DataBranch {
                        what,
                        at: self.location(),
                    }
                    .into());
                };
                let (start, end, step) = match bounds.as_slice() {
                    [end] => (0, *end, 1),
                    [start, end] => (*start, *end, 1),
                    [start, end, step] if *step != 0 => (*start, *end, *step),
                    _ => return self.fail("range without bounds", "save the model again"),
                };
                let mut items = Vec::new();
                let mut i = start;
                while if step > 0 { i < end } else { i > end } {
                    items.push(Value::Int(i));
                    self.check_items(items.len())?;
                    i = i.saturating_add(step);
                }
                Some(Value::list(items))
            }
            ("print", _) => Some(Value::None),
            ("dict", []) => Some(Value::dict(None, Vec::new())),
            ("list", [value]) => value.items().map(Value::list),
            ("tuple", [value]) => value.items().map(Value::tuple),
            _ => None,
        };
        match value {
            Some(value) => Ok(value),
            None if args.all().any(Value::is_run)
                || args
                    .all()
                    .any(|v| matches!(v, Value::Size(_) | Value::ZeroDim(_))) =>
            {
                let ty = Type::Other(name.into());
                self.opaque(name, args, vec![ty])
            }
            None => {
                let kinds: Vec<&str> = args.all().map(Value::kind).collect();
                self.fail(
                    format!("`{name}` of {} is not supported", kinds.join(", ")),
                    "trace the model (torch.jit.trace) instead of scripting it",
                )
            }
        }
    }

    /// `ops.prim.…`: what the compiler itself put into the code.
    pub(super) fn call_prim(&mut self, name: &str, args: Args<'a>) -> Eval<Value<'a>> {
        match (name, args.positional.as_slice()) {
            ("NumToTensor", [value]) => match value {
                Value::Run(_) => self.opaque(
                    "ops.prim.NumToTensor",
                    args,
                    vec![Type::Tensor(DType::I64, Some(Default::default()))],
                ),
                value => Ok(Value::ZeroDim(Rc::new(value.clone()))),
            },
            ("RaiseException", [message, ..]) => {
                let message = self.show(message, 0)?;
                let help = "the model refuses this use of it; check --input, or export it with another example".to_owned();
                Err(FormatError::Raised {
                    message,
                    at: self.location(),
                    help,
                }
                .into())
            }
            ("max" | "min", [_, _]) => self.call_torch(name, args, None),
            ("max" | "min", [list]) => match list.items() {
                Some(items) if !items.is_empty() => {
                    let mut best = items[0].clone();
                    for item in &items[1..] {
                        match self.binary(name, &best, item)? {
                            Some(next) => best = next,
                            None => {
                                return self
                                    .fail(format!("`{name}` of this list"), "trace the model");
                            }
                        }
                    }
                    Ok(best)
                }
                _ => self.fail(format!("`{name}` of an empty list"), "save the model again"),
            },
            ("device", [_]) => Ok(Value::Device("cpu".into())),
            ("dtype", [value]) => match self.dtype_of(value) {
                Some(dtype) => Ok(Value::Int(dtype_code(dtype))),
                None => self.fail(
                    "the element type of this value is not known",
                    "trace the model",
                ),
            },
            ("type", [Value::Device(_)]) => Ok(Value::str("cpu")),
            ("index", [_]) => Ok(Value::None),
            (
                "is_cuda" | "is_nested" | "is_sparse" | "is_quantized" | "is_mkldnn" | "is_xla"
                | "is_xpu" | "is_mps" | "is_meta" | "is_ort" | "is_vulkan" | "is_ipu" | "is_maia"
                | "is_mtia",
                [_],
            ) => Ok(Value::Bool(false)),
            // Parameters are trained: what asks takes the general path, not the fused one of inference.
            ("requires_grad", [value]) => Ok(Value::Bool(match value {
                Value::Tensor(cell) => cell.borrow().state,
                _ => false,
            })),
            ("is_cpu", [_]) => Ok(Value::Bool(true)),
            ("layout", [_]) => Ok(Value::Int(0)),
            ("shape", [_]) => self.call_torch("size", args, None),
            ("itemsize" | "nbytes", [_]) => self.call_torch(name, args, None),
            ("ndim", [_]) => self.call_torch("dim", args, None),
            ("data", [value]) => Ok(value.clone()),
            ("unchecked_unwrap_optional", [value]) => Ok(value.clone()),
            ("abs", [_]) => self.call_torch("abs", args, None),
            _ => self.call_library(&format!("ops.prim.{name}"), args, None),
        }
    }

    /// `isinstance(value, type)`, with the type as text.
    pub(super) fn is_instance(&mut self, value: &Value<'a>, ty: &str) -> Eval<Value<'a>> {
        let is = ty.trim_matches(['(', ')']).split(", ").any(|ty| {
            match (value, ty.trim_end_matches(',')) {
                (Value::Tensor(_) | Value::ZeroDim(_), "Tensor")
                | (Value::Int(_) | Value::Size(_), "int")
                | (Value::Float(_), "float")
                | (Value::Bool(_), "bool")
                | (Value::Str(_), "str")
                | (Value::None, "NoneType" | "None") => true,
                (Value::List(_), ty) => ty.starts_with("List") || ty == "list",
                (Value::Tuple(_), ty) => ty.starts_with("Tuple") || ty == "tuple",
                (Value::Dict(_), ty) => ty.starts_with("Dict") || ty == "dict",
                _ => false,
            }
        });
        Ok(Value::Bool(is))
    }

    fn format(&mut self, pattern: &str, values: &[Value<'a>]) -> Eval<Value<'a>> {
        let mut out = String::new();
        let mut parts = pattern.split("{}");
        out.push_str(parts.next().unwrap_or_default());
        let mut values = values.iter();
        for part in parts {
            if let Some(value) = values.next() {
                out.push_str(&self.show(value, 0)?);
            }
            out.push_str(part);
            self.check_items(out.len())?;
        }
        Ok(Value::Str(out.into()))
    }

    /// A value as a message shows it.
    fn show(&mut self, value: &Value<'a>, depth: usize) -> Eval<String> {
        self.step()?;
        if depth > 16 {
            return Ok("...".to_owned());
        }
        Ok(match value.unwrap_zero_dim() {
            Value::None => "None".to_owned(),
            Value::Bool(b) => if *b { "True" } else { "False" }.to_owned(),
            Value::Int(n) => n.to_string(),
            Value::Size(dim) => dim.to_string(),
            Value::Float(x) => super::value::print_float(*x),
            Value::Str(text) | Value::Device(text) => text.to_string(),
            value @ (Value::List(_) | Value::Tuple(_)) => {
                let items = value.items().unwrap_or_default();
                let shown: Eval<Vec<String>> = items
                    .iter()
                    .take(32)
                    .map(|v| self.show(v, depth + 1))
                    .collect();
                format!("[{}]", shown?.join(", "))
            }
            other => format!("<{}>", other.kind()),
        })
    }

    /// The number in a constant tensor of no dimensions.
    pub(super) fn scalar_constant(&self, cell: &super::alias::TensorRef) -> Option<Value<'a>> {
        let value = cell.borrow().value;
        let tensor = &self.graph.constant(value.node)?.tensor;
        if !tensor.shape().is_empty() {
            return None;
        }
        let number = *tensor.elements::<f64>().first()?;
        Some(match tensor.dtype() {
            DType::Bool => Value::Bool(number != 0.0),
            dtype if dtype.is_float() => Value::Float(number),
            // Within the integers that a double holds exactly; beyond, the tensor stays a tensor.
            _ if number.abs() < 9e15 => Value::Int(number as i64),
            _ => return None,
        })
    }

    fn dtype_of(&self, value: &Value<'a>) -> Option<DType> {
        match value {
            Value::Tensor(cell) => self.graph.ty(cell.borrow().value).dtype(),
            Value::ZeroDim(inner) => match &**inner {
                Value::Float(_) => Some(DType::F32),
                Value::Bool(_) => Some(DType::Bool),
                _ => Some(DType::I64),
            },
            _ => None,
        }
    }

    /// Splits the result of an opaque operator into `n` results.
    pub(super) fn unpack_run(&mut self, value: crate::ir::Value, n: usize) -> Eval<Vec<Value<'a>>> {
        if n > 1024 {
            return self.limit(format!("{n} results of one operator"));
        }
        let (node, port) = (value.node, value.port as usize);
        let outputs = self.graph.node(node).outputs.len();
        if outputs == n && port == 0 {
            let values = (0..n).map(|port| crate::ir::Value {
                node,
                port: port as u32,
            });
            return Ok(values.map(|v| self.run_value(v)).collect());
        }
        let args = Args {
            positional: vec![Value::Run(value)],
            keyword: vec![],
        };
        self.opaque_unpack(args, n)
    }

    /// A result of an opaque operator as a value of the program.
    pub(super) fn run_value(&self, value: crate::ir::Value) -> Value<'a> {
        match self.graph.ty(value) {
            Type::Tensor(..) => Value::Tensor(fresh(value)),
            Type::Other(_) => Value::Run(value),
        }
    }
}

/// PyTorch's numbers for element types.
pub(super) const DTYPES: [(i64, DType); 10] = [
    (0, DType::U8),
    (1, DType::I8),
    (2, DType::I16),
    (3, DType::I32),
    (4, DType::I64),
    (5, DType::F16),
    (6, DType::F32),
    (7, DType::F64),
    (11, DType::Bool),
    (15, DType::BF16),
];

pub(super) fn dtype_code(dtype: DType) -> i64 {
    DTYPES
        .iter()
        .find(|(_, d)| *d == dtype)
        .map_or(6, |(code, _)| *code)
}

pub(super) fn dtype_from_code(code: i64) -> Option<DType> {
    DTYPES
        .iter()
        .find(|(c, _)| *c == code)
        .map(|(_, dtype)| *dtype)
}

/// Where index `at` of a list of `len` is; negative counts from the end.
fn position(at: i64, len: usize) -> Option<usize> {
    let at = if at < 0 {
        at.checked_add(len as i64)?
    } else {
        at
    };
    usize::try_from(at).ok().filter(|&at| at < len)
}

fn is_number(value: &Value<'_>) -> bool {
    matches!(
        value,
        Value::Bool(_) | Value::Int(_) | Value::Size(_) | Value::Float(_)
    )
}

/// A number, or what the running network makes one of.
fn is_number_like(value: &Value<'_>) -> bool {
    is_number(value.unwrap_zero_dim()) || matches!(value, Value::Str(_))
}

fn is_arithmetic(name: &str) -> bool {
    matches!(
        name,
        "add"
            | "sub"
            | "rsub"
            | "mul"
            | "div"
            | "floordiv"
            | "floor_divide"
            | "remainder"
            | "fmod"
            | "pow"
            | "neg"
            | "sqrt"
            | "floor"
            | "ceil"
            | "round"
            | "trunc"
            | "abs"
            | "exp"
            | "log"
            | "true_divide"
    )
}

fn is_condition(value: &Value<'_>) -> bool {
    matches!(value, Value::Bool(_) | Value::Unknown(_))
}

fn non_negative(value: &Value<'_>) -> bool {
    value.as_dim().is_some_and(|dim| bounds(&dim).0 >= 0)
}

/// Division of sizes: exact where it divides, else only numbers can be divided.
fn true_division<'a>(x: &Dim, y: &Dim) -> Option<Value<'a>> {
    match (x.as_number(), y.as_number()) {
        (Some(x), Some(y)) => Some(Value::Float(x as f64 / y as f64)),
        _ => {
            let quotient = x.floor_div(y);
            // A quotient that multiplies back to the dividend had no remainder.
            (quotient.clone() * y.clone() == *x).then(|| Value::size(quotient))
        }
    }
}

fn unary<'a>(name: &str, a: &Value<'a>) -> Option<Value<'a>> {
    if let Value::Unknown(_) = a {
        return matches!(name, "__not__" | "Bool").then(|| a.clone());
    }
    if let Some(dim) = a.as_dim() {
        let size = match name {
            "neg" => Some(-dim.clone()),
            "floor" | "ceil" | "round" | "trunc" | "item" | "Int" | "detach" | "clone"
            | "contiguous" => Some(dim.clone()),
            "abs" => dim.as_number().map(|n| Dim::from(n.saturating_abs())),
            _ => None,
        };
        if let Some(size) = size {
            return Some(Value::size(size));
        }
    }
    if let ("item" | "detach" | "clone" | "contiguous", Value::Bool(_) | Value::Float(_)) =
        (name, a)
    {
        return Some(a.clone());
    }
    let x = a.as_f64()?;
    // Python's floor of a float is an int.
    let int = |x: f64| Some(Value::Int(x as i64));
    match name {
        "floor" => int(x.floor()),
        "ceil" => int(x.ceil()),
        "round" => Some(Value::Float(x.round_ties_even())),
        "trunc" => int(x.trunc()),
        "neg" => Some(Value::Float(-x)),
        "abs" => Some(Value::Float(x.abs())),
        "sqrt" => Some(Value::Float(x.sqrt())),
        "exp" => Some(Value::Float(x.exp())),
        "log" => Some(Value::Float(x.ln())),
        "Float" | "FloatImplicit" => Some(Value::Float(x)),
        "Bool" => Some(Value::Bool(x != 0.0)),
        _ => None,
    }
}

fn cast<'a>(a: &Value<'a>, dtype: i64) -> Option<Value<'a>> {
    let dtype = dtype_from_code(dtype)?;
    match (a, dtype) {
        (Value::Size(dim), _) if dtype != DType::Bool => Some(Value::Size(dim.clone())),
        (a, DType::Bool) => a.as_f64().map(|x| Value::Bool(x != 0.0)),
        (a, dtype) if dtype.is_float() => a.as_f64().map(Value::Float),
        (a, _) => a.as_f64().map(|x| Value::Int(x as i64)),
    }
}

/// Whether two values are equal, where that can be known.
fn same(a: &Value<'_>, b: &Value<'_>) -> Option<bool> {
    same_within(a, b, &mut MAX_VISITS.clone())
}

fn same_within(a: &Value<'_>, b: &Value<'_>, visits: &mut u32) -> Option<bool> {
    *visits = visits.checked_sub(1)?;
    let unknown = |v: &Value<'_>| matches!(v, Value::Tensor(_) | Value::Run(_) | Value::Unknown(_));
    match (a.unwrap_zero_dim(), b.unwrap_zero_dim()) {
        (a, b) if unknown(a) || unknown(b) => None,
        (Value::None, Value::None) => Some(true),
        (Value::Str(a), Value::Str(b)) | (Value::Device(a), Value::Device(b)) => Some(a == b),
        (a @ (Value::List(_) | Value::Tuple(_)), b @ (Value::List(_) | Value::Tuple(_))) => {
            let (a, b) = (a.items()?, b.items()?);
            if a.len() != b.len() {
                return Some(false);
            }
            let mut all = true;
            for (a, b) in a.iter().zip(&b) {
                all &= same_within(a, b, visits)?;
            }
            Some(all)
        }
        (a, b) => match (a.as_dim(), b.as_dim()) {
            (Some(a), Some(b)) => (a - b).as_number().map(|difference| difference == 0),
            _ => match (a.as_f64(), b.as_f64()) {
                (Some(a), Some(b)) => Some(a == b),
                (None, None) => None,
                _ => Some(false),
            },
        },
    }
}

/// A comparison, where its outcome can be known; unknown, with the reason, where it depends on a size.
fn compare<'a>(name: &str, a: &Value<'a>, b: &Value<'a>) -> Option<Value<'a>> {
    if !matches!(name, "eq" | "ne" | "lt" | "le" | "gt" | "ge") {
        return None;
    }
    if let ("eq" | "ne", Some(equal)) = (name, same(a, b)) {
        return Some(Value::Bool(equal == (name == "eq")));
    }
    if let (Value::Unknown(why), _) | (_, Value::Unknown(why)) = (a, b) {
        return Some(Value::Unknown(why.clone()));
    }
    if let (Some(x), Some(y)) = (a.as_dim(), b.as_dim()) {
        let (low, high) = bounds(&(x.clone() - y.clone()));
        let known = match name {
            "lt" if high < 0 => Some(true),
            "lt" if low >= 0 => Some(false),
            "le" if high <= 0 => Some(true),
            "le" if low > 0 => Some(false),
            "gt" if low > 0 => Some(true),
            "gt" if high <= 0 => Some(false),
            "ge" if low >= 0 => Some(true),
            "ge" if high < 0 => Some(false),
            "eq" if low > 0 || high < 0 => Some(false),
            "ne" if low > 0 || high < 0 => Some(true),
            _ => None,
        };
        return Some(match known {
            Some(known) => Value::Bool(known),
            None => {
                let size = if x.as_number().is_none() { x } else { y };
                Value::Unknown(
                    format!("a condition compares the size {size}, known only when the model runs")
                        .into(),
                )
            }
        });
    }
    let (x, y) = (a.as_f64()?, b.as_f64()?);
    Some(Value::Bool(match name {
        "eq" => x == y,
        "ne" => x != y,
        "lt" => x < y,
        "le" => x <= y,
        "gt" => x > y,
        _ => x >= y,
    }))
}

/// The least and the largest value of a size whose symbols are at least 1.
fn bounds(dim: &Dim) -> (i64, i64) {
    dim.fold(&mut Bounds)
}

struct Bounds;

impl DimBuilder<(i64, i64)> for Bounds {
    fn number(&mut self, n: i64) -> (i64, i64) {
        (n, n)
    }
    fn symbol(&mut self, _: &Symbol) -> (i64, i64) {
        (1, i64::MAX)
    }
    fn add(&mut self, a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
        (a.0.saturating_add(b.0), a.1.saturating_add(b.1))
    }
    fn mul(&mut self, a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
        let products = [
            a.0.saturating_mul(b.0),
            a.0.saturating_mul(b.1),
            a.1.saturating_mul(b.0),
            a.1.saturating_mul(b.1),
        ];
        products
            .iter()
            .fold((i64::MAX, i64::MIN), |(low, high), &p| {
                (low.min(p), high.max(p))
            })
    }
    fn floor_div(&mut self, a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
        if b.0 <= 0 {
            return (i64::MIN, i64::MAX);
        }
        let quotients = [
            a.0.div_euclid(b.0),
            a.0.div_euclid(b.1),
            a.1.div_euclid(b.0),
            a.1.div_euclid(b.1),
        ];
        quotients
            .iter()
            .fold((i64::MAX, i64::MIN), |(low, high), &q| {
                (low.min(q), high.max(q))
            })
    }
    fn max(&mut self, a: (i64, i64), b: (i64, i64)) -> (i64, i64) {
        (a.0.max(b.0), a.1.max(b.1))
    }
}
