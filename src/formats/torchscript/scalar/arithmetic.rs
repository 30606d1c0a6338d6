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
            ("div", [a, b]) => self.division(a, b, args.get(usize::MAX, "rounding_mode"))?,
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
            ("all" | "any", [list]) => list.items().and_then(|items| {
                let known = items.iter().map(|value| self.known_bool(value));
                let known = known.collect::<Option<Vec<_>>>()?;
                Some(Value::Bool(match name {
                    "all" => !known.contains(&false),
                    _ => known.contains(&true),
                }))
            }),
            ("sum", [Value::List(list)]) => self.total("add", &list.items.borrow(), 0)?,
            ("prod", [Value::List(list)]) => self.total("mul", &list.items.borrow(), 1)?,
            ("__not__", [Value::Unknown { why, .. }]) => {
                Some(self.unknown(why.clone(), name, args, "bool"))
            }
            ("Bool", [a @ Value::Unknown { .. }]) => Some(a.clone()),
            (_, [a]) => unary(name, a),
            (_, [a, b]) => self.binary(name, a, b)?,
            ("__range_length", [start, end, step]) => range_length(start, end, step),
            ("__derive_index", [i, start, step]) => {
                let known = i.as_dim().zip(start.as_dim()).zip(step.as_dim());
                known.map(|((i, start), step)| Value::size(start + i * step))
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

    fn division(
        &mut self,
        a: &Value<'a>,
        b: &Value<'a>,
        rounding: Option<&Value<'a>>,
    ) -> Eval<Option<Value<'a>>> {
        match rounding {
            Some(Value::Str(mode)) => match &**mode {
                "floor" => self.binary("floordiv", a, b),
                "trunc" if non_negative(a) && non_negative(b) => self.binary("floordiv", a, b),
                _ => Ok(None),
            },
            _ => self.binary("div", a, b),
        }
    }

    /// A list's sum or product.
    fn total(&mut self, op: &str, items: &[Value<'a>], neutral: i64) -> Eval<Option<Value<'a>>> {
        let mut total = match items.first() {
            Some(Value::Float(_)) => Value::Float(neutral as f64),
            _ => Value::Int(neutral),
        };
        for item in items {
            match self.binary(op, &total, item)? {
                Some(next) => total = next,
                None => return Ok(None),
            }
        }
        Ok(Some(total))
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
        let conditions = is_condition(a) && is_condition(b);
        let either = |known| self.known_bool(a) == Some(known) || self.known_bool(b) == Some(known);
        match name {
            "__and__" if conditions && either(false) => return Ok(Some(Value::Bool(false))),
            "__or__" if conditions && either(true) => return Ok(Some(Value::Bool(true))),
            _ => {}
        }
        if let (Value::Unknown { why, .. }, _) | (_, Value::Unknown { why, .. }) = (a, b) {
            let ty = if conditions || is_comparison(name) {
                "bool"
            } else {
                "Scalar"
            };
            return Ok(Some(self.unknown(why.clone(), name, &both(), ty)));
        }
        if let (Some(x), Some(y)) = (a.as_dim(), b.as_dim()) {
            return Ok(of_sizes(name, x, y));
        }
        let floats = a.as_f64().zip(b.as_f64());
        Ok(floats.and_then(|(x, y)| of_floats(name, x, y)))
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

/// An operator of two sizes.
fn of_sizes<'a>(name: &str, x: Dim, y: Dim) -> Option<Value<'a>> {
    let value = match name {
        "add" => x + y,
        "sub" => x - y,
        "rsub" => y - x,
        "mul" => x * y,
        "floordiv" | "floor_divide" | "__floordiv__" if y.as_number() != Some(0) => x.floor_div(&y),
        "remainder" | "fmod"
            if (y.clone() - Dim::from(1)).is_never_negative()
                && (name == "remainder" || x.is_never_negative()) =>
        {
            remainder(&x, &y)
        }
        "max" | "maximum" => x.maximum(&y),
        "min" | "minimum" => x.minimum(&y),
        "div" | "true_divide" | "__truediv__" => return true_division(&x, &y),
        // Of whole numbers too it is a float.
        "pow" => {
            let (x, y) = (x.as_number()?, y.as_number()?);
            return Some(Value::Float((x as f64).powf(y as f64)));
        }
        "__and__" | "__or__" | "__xor__" | "__lshift__" | "__rshift__" => {
            return bitwise(name, x.as_number()?, y.as_number()?).map(Value::Int);
        }
        _ => return None,
    };
    // Too long an expression is left to the running network.
    bounded(value).map(Value::size)
}

/// An operator of two numbers that are not both whole.
fn of_floats<'a>(name: &str, x: f64, y: f64) -> Option<Value<'a>> {
    Some(Value::Float(match name {
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
        _ => return None,
    }))
}

/// How often the loop `for i in range(start, end, step)` runs, as scripting counts it.
fn range_length<'a>(start: &Value<'_>, end: &Value<'_>, step: &Value<'_>) -> Option<Value<'a>> {
    let (start, end) = (start.as_dim()?, end.as_dim()?);
    let (length, step) = match step.as_int()? {
        0 => return None,
        step @ 1.. => (end - start, step),
        step => (start - end, step.saturating_neg()),
    };
    let steps = length.ceil_div(&Dim::from(step));
    Some(Value::size(steps.maximum(&Dim::from(0))))
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
            "abs" => Some(dim.clone().maximum(&-dim.clone())),
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
