//! Functions of one element.

use super::{Argument, Builder, Call, Expression, Lowered, Read, Written, need, one};
use crate::formats::dtypes::{called, names};
use crate::formats::spelling::{self, Spelling};
use crate::ir::Op;

/// A function that the table of all formats has.
pub(super) fn function(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let op = need!(call.spelled());
    one(ev.emit(op.name(), op, &[x])?)
}

pub(super) fn prelu(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, weight) = (need!(call.tensor("self")), need!(call.tensor("weight")));
    if ev.shape(weight).is_none_or(|shape| shape.len() != 1) {
        return Ok(None);
    }
    one(ev.emit("prelu", Op::PRelu {}, &[x, weight])?)
}

pub(super) fn clip(ev: &mut dyn Builder, call: &Call<'_>, min: f64, max: f64) -> Read {
    let x = need!(call.tensor("self"));
    let is_whole = |bound: f64| bound.fract() == 0.0 || bound.is_infinite();
    let bounds_fit = ev.graph().ty(x).is_float() || is_whole(min) && is_whole(max);
    if !bounds_fit {
        return Ok(None);
    }
    one(ev.emit(
        call.name.trim_end_matches('_'),
        Op::Clip {
            min: min.into(),
            max: max.into(),
        },
        &[x],
    )?)
}

pub(super) fn hardtanh(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (min, max) = (
        need!(call.float_or("min_val", -1.0)),
        need!(call.float_or("max_val", 1.0)),
    );
    clip(ev, call, min, max)
}

pub(super) fn relu6(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    clip(ev, call, 0.0, 6.0)
}

pub(super) fn clamp(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    // Whole numbers that are clamped to others become such.
    let bounds = ["min", "max"].map(|name| call.get(name));
    let floats = bounds
        .iter()
        .any(|bound| matches!(bound, Some(Argument::Float(_))));
    if !ev.graph().is_dtype_certain(x) || floats && !ev.graph().ty(x).is_float() {
        return Ok(None);
    }
    let min = need!(call.float_or("min", f64::NEG_INFINITY));
    let max = need!(call.float_or("max", f64::INFINITY));
    clip(ev, call, min, max)
}

pub(super) fn dropout(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("input"));
    let p = need!(call.float_or("p", 0.5));
    if need!(call.bool_or("train", true)) && p > 0.0 {
        return Err(ev.training("dropout"));
    }
    one(ev.emit("dropout", Op::Dropout { p: p.into() }, &[x])?)
}

pub(super) fn same(_: &mut dyn Builder, call: &Call<'_>) -> Read {
    Ok(matches!(call.get("self"), Some(Argument::Tensor(_))).then_some(Lowered::Same))
}

pub(super) fn clone(_: &mut dyn Builder, call: &Call<'_>) -> Read {
    one(call.tensor("self"))
}

/// `to(x, dtype, ..)`, `to(x, device, dtype, ..)`, `to(x, other)`: devices do not matter here.
pub(super) fn to(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let code_of = |ev: &dyn Builder, value| {
        let dtype = ev.graph().ty(value).dtype();
        dtype.map(|dtype| names(dtype).aten)
    };
    let (mut dtype, mut flags) = (None, Vec::new());
    for argument in call.args.positional.iter().skip(1) {
        match argument {
            Argument::Int(code) if dtype.is_none() && flags.is_empty() => dtype = Some(*code),
            Argument::Tensor(other) if !ev.graph().is_dtype_certain(*other) => return Ok(None),
            Argument::Tensor(other) if dtype.is_none() => dtype = code_of(ev, *other),
            Argument::Bool(flag) => flags.push(*flag),
            Argument::Int(_) | Argument::Other | Argument::None => {}
            _ => return Ok(None),
        }
    }
    // `non_blocking`, then `copy`; one name says that it always copies.
    let mut copy = flags.get(1).copied().unwrap_or(call.name == "_to_copy");
    for (name, value) in &call.args.keyword {
        match (*name, value) {
            ("dtype", Argument::Int(code)) => dtype = Some(*code),
            ("other", Argument::Tensor(other)) if !ev.graph().is_dtype_certain(*other) => {
                return Ok(None);
            }
            ("other", Argument::Tensor(other)) => dtype = code_of(ev, *other),
            ("copy", Argument::Bool(flag)) => copy = *flag,
            _ => {}
        }
    }
    let code = match dtype {
        Some(code) if code_of(ev, x) != Some(code) || !ev.graph().is_dtype_certain(x) => code,
        _ if copy => return one(Some(x)),
        _ => return Ok(Some(Lowered::Same)),
    };
    let dtype = need!(called(|names| names.aten == code));
    one(ev.emit("to", Op::Cast { dtype }, &[x])?)
}

pub(super) fn write(w: &Written<'_>) -> Result<Option<Expression>, String> {
    use Expression::{Bool, Dtype, Float, Int, None as Nothing};
    let call =
        |name, rest: &[Expression]| Expression::call(name, "default", [&[w.x()], rest].concat());
    if let Some(row) = spelling::of_op(w.op).filter(|row| row.operands() == 1) {
        return match row.aten.names.first() {
            Some(name) => Ok(Some(attributes(
                row,
                w,
                Expression::call(name, "default", [w.x()]),
            ))),
            None => Ok(None),
        };
    }
    Ok(Some(match w.op {
        Op::PRelu {} => call("prelu", &[w.optional(1)]),
        Op::Clip { min, max } if !w.ty(0)?.is_float() && (min.is_finite() || max.is_finite()) => {
            let bound = |x: f64| {
                if x.is_finite() {
                    Int(x as i64)
                } else {
                    Nothing
                }
            };
            call("clamp", &[bound(min.0), bound(max.0)])
        }
        Op::Clip { min, max } => match (min.is_finite(), max.is_finite()) {
            (true, true) => call("hardtanh", &[Float(min.0), Float(max.0)]),
            (true, false) if w.core => call("clamp", &[Float(min.0)]),
            (false, true) if w.core => call("clamp", &[Nothing, Float(max.0)]),
            (true, false) => call("clamp_min", &[Float(min.0)]),
            (false, true) => call("clamp_max", &[Float(max.0)]),
            (false, false) => w.x(),
        },
        Op::Dropout { .. } if w.core => w.x(),
        Op::Dropout { p } => call("dropout", &[Float(p.0), Bool(false)]),
        Op::Identity {} => w.x(),
        Op::Cast { dtype } if w.core => call("_to_copy", &[]).keyword("dtype", Dtype(*dtype)),
        Op::Cast { dtype } => Expression::call("to", "dtype", [w.x(), Dtype(*dtype)]),
        _ => return Ok(None),
    }))
}

/// A call with the attributes that its row says: numbers by their places, others by their names.
fn attributes(row: &Spelling, w: &Written<'_>, call: Expression) -> Expression {
    let attributes = row.write(w.op, row.aten.attributes);
    attributes.fold(call, |call, (name, value)| match value {
        spelling::Value::Real(x) => call.positional(Expression::Float(x)),
        spelling::Value::Text(text) => call.keyword(name, Expression::Str(text)),
    })
}
