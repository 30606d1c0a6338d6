//! Python's own functions, those of `ops.prim`, and texts.

use std::rc::Rc;

use super::strings::print_number;
use crate::error::FormatError;
use crate::formats::dtypes::names;
use crate::formats::torchscript::eval::{Args, Eval, Evaluator};
use crate::formats::torchscript::value::Value;
use crate::ir::{DType, Type};

impl<'a> Evaluator<'a> {
    /// Names without a namespace: conversions and Python's own functions.
    pub fn call_builtin(&mut self, name: &str, args: Args<'a>) -> Eval<Value<'a>> {
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
                Value::Unknown { .. } => Some(value.clone()),
                value => self.known_bool(value).map(Value::Bool),
            },
            ("str", [value]) => Some(self.str_of(value)?),
            ("sorted", [value]) => self.sorted_copy(value)?,
            (
                "len" | "abs" | "round" | "floor" | "ceil" | "ord" | "chr" | "hex" | "oct" | "bin",
                _,
            ) => {
                return self.call_torch(name, args, None);
            }
            ("range", bounds) => {
                let bounds: Option<Vec<i64>> = bounds.iter().map(Value::as_int).collect();
                let Some(bounds) = bounds else {
                    return self.depends_on_data(
                        "a loop runs as often as a size says, known only when the model runs",
                    );
                };
                let (start, end, step) = match bounds.as_slice() {
                    [end] => (0, *end, 1),
                    [start, end] => (*start, *end, 1),
                    [start, end, step] if *step != 0 => (*start, *end, *step),
                    _ => return self.damaged("range without bounds"),
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
            ("list", [Value::Str(_)]) => return self.call_torch(name, args, None),
            ("list", [value]) => value.items().map(Value::list),
            ("tuple", [value]) => value.items().map(Value::tuple),
            _ => None,
        };
        match value {
            Some(value) => Ok(value),
            None if args.all().any(Value::is_run)
                || args.all().any(|v| {
                    matches!(
                        v,
                        Value::Size(_) | Value::ZeroDim(_) | Value::Unknown { .. }
                    )
                }) =>
            {
                let ty = Type::Other(name.into());
                self.opaque(name, args, vec![ty])
            }
            None => {
                let kinds: Vec<&str> = args.all().map(Value::kind).collect();
                self.beyond(format!("`{name}` of {} is not supported", kinds.join(", ")))
            }
        }
    }

    /// `ops.prim.…`: what the compiler itself put into the code.
    pub fn call_prim(&mut self, name: &str, args: Args<'a>) -> Eval<Value<'a>> {
        match (name, args.positional.as_slice()) {
            ("NumToTensor", [value]) => match value {
                Value::Run(_) => self.opaque(
                    "ops.prim.NumToTensor",
                    args,
                    vec![Type::Tensor(DType::I64, Some(Default::default()))],
                ),
                value => Ok(Value::ZeroDim(Rc::new(value.clone()))),
            },
            ("RaiseException", [message, ..]) => self.raised(message),
            ("max" | "min", [Value::List(_), _]) => self.refuse(name, &args.positional[0]),
            ("max" | "min", [_, _]) | ("abs", [_]) => match self.arithmetic(name, &args)? {
                Some(value) => Ok(value),
                None => {
                    let types = args.all().filter_map(|value| self.type_name(value));
                    let float = types.into_iter().any(|ty| ty != "int");
                    let ty = Type::Other(if float { "float" } else { "int" }.into());
                    self.opaque(&format!("ops.prim.{name}"), args, vec![ty])
                }
            },
            ("max" | "min", [list]) => self.extreme(name, list),
            ("device", [_]) => Ok(Value::Device("cpu".into())),
            ("dtype", [value]) => match self.dtype_of(value) {
                Some(dtype) => Ok(Value::Int(names(dtype).aten)),
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
            _ => self.call_library(&format!("ops.prim.{name}"), args, None),
        }
    }

    /// The exception that the model raises.
    fn raised(&mut self, message: &Value<'a>) -> Eval<Value<'a>> {
        let mut text = String::new();
        self.show(message, 0, &mut text)?;
        let help =
            "the model refuses this use of it; check --input, or export it with another example";
        Err(FormatError::Raised {
            message: text,
            at: self.location(),
            help: help.to_owned(),
        }
        .into())
    }

    /// The largest or smallest element of a list.
    fn extreme(&mut self, name: &str, list: &Value<'a>) -> Eval<Value<'a>> {
        let items = list.items().unwrap_or_default();
        let Some((first, rest)) = items.split_first() else {
            return self.damaged(format!("`{name}` of an empty list"));
        };
        let mut best = first.clone();
        for item in rest {
            match self.binary(name, &best, item)? {
                Some(next) => best = next,
                None => return self.fail(format!("`{name}` of this list"), "trace the model"),
            }
        }
        Ok(best)
    }

    /// `isinstance(value, type)`, with the type as text.
    pub fn is_instance(&mut self, value: &Value<'a>, ty: &str) -> Eval<Value<'a>> {
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

    /// Adds a value to a text as PyTorch prints it; whether that is exactly what it prints.
    pub(super) fn show(&mut self, value: &Value<'a>, depth: usize, out: &mut String) -> Eval<bool> {
        self.step()?;
        self.check_items(out.len())?;
        if depth > 16 {
            out.push_str("...");
            return Ok(false);
        }
        let mut exact = !matches!(value, Value::ZeroDim(_));
        match value.unwrap_zero_dim() {
            Value::None => out.push_str("None"),
            Value::Bool(b) => out.push_str(if *b { "True" } else { "False" }),
            Value::Int(n) => out.push_str(&n.to_string()),
            Value::Size(dim) => {
                out.push_str(&dim.to_string());
                exact = false;
            }
            Value::Float(x) => print_number(*x, out),
            Value::Str(text) | Value::Device(text) => out.push_str(text),
            value @ (Value::List(_) | Value::Tuple(_)) => {
                let items = value.items().unwrap_or_default();
                let (open, close) = match value {
                    Value::List(_) => ('[', "]"),
                    _ if items.len() == 1 => ('(', ",)"),
                    _ => ('(', ")"),
                };
                out.push(open);
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    exact &= self.show(item, depth + 1, out)?;
                }
                out.push_str(close);
            }
            Value::Dict(dict) => {
                let items = dict.items.borrow().clone();
                out.push('{');
                for (i, (key, item)) in items.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    exact &= self.show(key, depth + 1, out)?;
                    out.push_str(": ");
                    exact &= self.show(item, depth + 1, out)?;
                }
                out.push('}');
            }
            Value::Unknown { why, .. } => {
                out.push_str(why);
                exact = false;
            }
            other => {
                out.push_str(&format!("<{}>", other.kind()));
                exact = false;
            }
        }
        Ok(exact)
    }
}
