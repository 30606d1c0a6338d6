//! Python's own functions, those of `ops.prim`, and texts.

use std::rc::Rc;

use crate::formats::aten::dtype_code;
use crate::formats::error::FormatError;
use crate::formats::torchscript::eval::{Args, Eval, Evaluator};
use crate::formats::torchscript::value::{Value, print_float};
use crate::ir::{DType, Type};

impl<'a> Evaluator<'a> {
    /// Names without a namespace: conversions and Python's own functions.
    pub(in crate::formats::torchscript) fn call_builtin(
        &mut self,
        name: &str,
        args: Args<'a>,
    ) -> Eval<Value<'a>> {
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
    pub(in crate::formats::torchscript) fn call_prim(
        &mut self,
        name: &str,
        args: Args<'a>,
    ) -> Eval<Value<'a>> {
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
    pub(in crate::formats::torchscript) fn is_instance(
        &mut self,
        value: &Value<'a>,
        ty: &str,
    ) -> Eval<Value<'a>> {
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

    pub(super) fn format(&mut self, pattern: &str, values: &[Value<'a>]) -> Eval<Value<'a>> {
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
    pub(super) fn show(&mut self, value: &Value<'a>, depth: usize) -> Eval<String> {
        self.step()?;
        if depth > 16 {
            return Ok("...".to_owned());
        }
        Ok(match value.unwrap_zero_dim() {
            Value::None => "None".to_owned(),
            Value::Bool(b) => if *b { "True" } else { "False" }.to_owned(),
            Value::Int(n) => n.to_string(),
            Value::Size(dim) => dim.to_string(),
            Value::Float(x) => print_float(*x),
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
}
