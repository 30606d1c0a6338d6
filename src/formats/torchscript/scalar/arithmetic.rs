//! Arithmetic of numbers and sizes.

use std::rc::Rc;

use super::compare::{bounds, compare};
use crate::formats::dtypes::called;
use crate::formats::sizes::{bounded, remainder};
use crate::formats::torchscript::eval::{Args, Eval, Evaluator};
use crate::formats::torchscript::value::Value;
use crate::ir::{DType, Dim};

impl<'a> Evaluator<'a> {
    /// Arithmetic on numbers and sizes; `None` if this is none, or not to be known here.
    pub(super) fn arithmetic(&mut self, name: &str, args: &Args<'a>) -> Eval<Option<Value<'a>>> {
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
                let start = i64::from(name == "prod");
                let mut total = match list.items.borrow().first() {
                    Some(Value::Float(_)) => Value::Float(start as f64),
                    _ => Value::Int(start),
                };
                for item in list.items.borrow().iter() {
                    let op = if name == "sum" { "add" } else { "mul" };
                    let Some(next) = self.binary(op, &total, item)? else {
                        return Ok(None);
                    };
                    total = next;
                }
                Some(total)
            }
            ("__not__", [Value::Unknown { why, .. }]) => {
                Some(self.unknown(why.clone(), name, args, "bool"))
            }
            ("Bool", [a @ Value::Unknown { .. }]) => Some(a.clone()),
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

    pub(super) fn binary(
        &mut self,
        name: &str,
        a: &Value<'a>,
        b: &Value<'a>,
    ) -> Eval<Option<Value<'a>>> {
        self.step()?;
        let both = || Args::of([a.clone(), b.clone()]);
        match compare(name, a, b) {
            Some(Ok(known)) => return Ok(Some(Value::Bool(known))),
            Some(Err(why)) => return Ok(Some(self.unknown(why.into(), name, &both(), "bool"))),
            None => {}
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
        if let (Value::Unknown { why, .. }, _) | (_, Value::Unknown { why, .. }) = (a, b) {
            let ty = match is_condition(a) && is_condition(b) || is_comparison(name) {
                true => "bool",
                false => "Scalar",
            };
            return Ok(Some(self.unknown(why.clone(), name, &both(), ty)));
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
                "remainder" | "fmod"
                    if (y.clone() - Dim::from(1)).is_never_negative()
                        && (name == "remainder" || x.is_never_negative()) =>
                {
                    remainder(&x, &y)
                }
                "max" | "maximum" => x.at_least(&y),
                "min" | "minimum" => x.at_most(&y),
                "div" | "true_divide" | "__truediv__" => return Ok(true_division(&x, &y)),
                // Of whole numbers too it is a float.
                "pow" => {
                    let floats = a.as_f64().zip(b.as_f64());
                    return Ok(floats.map(|(x, y)| Value::Float(x.powf(y))));
                }
                "__and__" | "__or__" | "__xor__" | "__lshift__" | "__rshift__" => {
                    let bits = x.as_number().zip(y.as_number());
                    return Ok(bits.and_then(|(x, y)| bitwise(name, x, y)).map(Value::Int));
                }
                _ => return Ok(None),
            };
            // Too long an expression is left to the running network.
            return Ok(bounded(value).map(Value::size));
        }
        let (Some(x), Some(y)) = (a.as_f64(), b.as_f64()) else {
            return Ok(None);
        };
        Ok(Some(Value::Float(match name {
            "fmod" => x % y,
            "log" => x.ln() / y.ln(),
            "atan2" => x.atan2(y),
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

    pub(super) fn known_bool(&self, value: &Value<'a>) -> Option<bool> {
        match value.unwrap_zero_dim() {
            Value::Bool(b) => Some(*b),
            Value::Int(n) => Some(*n != 0),
            Value::Float(x) => Some(*x != 0.0),
            Value::Tensor(cell) => self.scalar_constant(cell).and_then(|v| self.known_bool(&v)),
            _ => None,
        }
    }
}

fn is_number(value: &Value<'_>) -> bool {
    matches!(
        value,
        Value::Bool(_) | Value::Int(_) | Value::Size(_) | Value::Float(_)
    )
}

/// The type of what an operator makes of numbers.
#[derive(Clone, Copy)]
pub(super) enum Made {
    /// That of the numbers: a float if one of them is.
    Like,
    As(&'static str),
}

/// What an operator makes of numbers; `None` if there is no such operator of numbers.
pub(super) fn number_operator(name: &str) -> Option<Made> {
    Some(match name {
        "add" | "sub" | "rsub" | "mul" | "floordiv" | "floor_divide" | "remainder" | "neg"
        | "abs" => Made::Like,
        "floor" | "ceil" | "trunc" | "gcd" | "factorial" | "__and__" | "__or__" | "__xor__"
        | "__lshift__" | "__rshift__" => Made::As("int"),
        "div" | "true_divide" | "fmod" | "pow" | "round" | "sqrt" | "exp" | "log" | "log10"
        | "log1p" | "expm1" | "sin" | "cos" | "tan" | "asin" | "acos" | "atan" | "atan2"
        | "sinh" | "cosh" | "tanh" | "asinh" | "acosh" | "atanh" | "degrees" | "radians"
        | "fabs" | "copysign" | "erf" | "erfc" | "gamma" | "lgamma" | "mathremainder" | "ldexp" => {
            Made::As("float")
        }
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "isnan" | "isinf" | "isfinite" | "__not__" => {
            Made::As("bool")
        }
        _ => return None,
    })
}

/// Whether a type of TorchScript is that of a number or a truth value.
pub(super) fn is_number_type(name: &str) -> bool {
    matches!(name, "int" | "float" | "bool" | "Scalar" | "number")
}

fn bitwise(name: &str, x: i64, y: i64) -> Option<i64> {
    let by = || u32::try_from(y).ok();
    match name {
        "__and__" => Some(x & y),
        "__or__" => Some(x | y),
        "__xor__" => Some(x ^ y),
        "__lshift__" => x.checked_shl(by()?),
        _ => x.checked_shr(by()?),
    }
}

fn is_comparison(name: &str) -> bool {
    matches!(name, "eq" | "ne" | "lt" | "le" | "gt" | "ge")
}

fn is_condition(value: &Value<'_>) -> bool {
    matches!(value, Value::Bool(_) | Value::Unknown { .. })
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
    if let Some(dim) = a.as_dim() {
        let size = match name {
            "neg" => Some(-dim.clone()),
            "floor" | "ceil" | "round" | "trunc" | "item" | "Int" | "detach" | "clone"
            | "contiguous" => Some(dim.clone()),
            "abs" => Some(dim.clone().at_least(&-dim.clone())),
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
        "log10" => Some(Value::Float(x.log10())),
        "log1p" => Some(Value::Float(x.ln_1p())),
        "sin" => Some(Value::Float(x.sin())),
        "cos" => Some(Value::Float(x.cos())),
        "tan" => Some(Value::Float(x.tan())),
        "atan" => Some(Value::Float(x.atan())),
        "tanh" => Some(Value::Float(x.tanh())),
        "isnan" => Some(Value::Bool(x.is_nan())),
        "isinf" => Some(Value::Bool(x.is_infinite())),
        "isfinite" => Some(Value::Bool(x.is_finite())),
        "Float" | "FloatImplicit" => Some(Value::Float(x)),
        "Bool" => Some(Value::Bool(x != 0.0)),
        _ => None,
    }
}

fn cast<'a>(a: &Value<'a>, dtype: i64) -> Option<Value<'a>> {
    let dtype = called(|names| names.aten == dtype)?;
    match (a, dtype) {
        (Value::Size(dim), _) if dtype != DType::Bool => Some(Value::Size(dim.clone())),
        (a, DType::Bool) => a.as_f64().map(|x| Value::Bool(x != 0.0)),
        (a, dtype) if dtype.is_float() => a.as_f64().map(Value::Float),
        (a, _) => a.as_f64().map(|x| Value::Int(x as i64)),
    }
}
