//! Reductions and softmax.

use super::expression::int;
use super::{Builder, Call, Expression, Read, Written, need, one};
use crate::formats::dtypes::names;
use crate::formats::spelling::{REDUCTIONS, of_reduction};
use crate::ir::{DType, Ints, Op};

pub(super) fn mean(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let rank = need!(ev.shape(x)).len();
    // A cast on the way, or `mean(x, dtype)`: not to be said.
    let casts = call.get("dtype").is_some_and(|v| v.as_int().is_some());
    let lone_int = call.name != "amax" && call.get("dim").is_some_and(|v| v.items().is_none());
    // Sums of small whole numbers are large ones.
    let ty = ev.graph().ty(x);
    let widens = call.name == "sum" && !ty.is_float() && ty.dtype() != Some(DType::I64);
    if casts || lone_int || widens {
        return Ok(None);
    }
    let axes = if call.lacks("dim") {
        Ints::new()
    } else {
        need!(call.axes("dim", rank))
    };
    // No axes are all axes.
    let axes = if axes.is_empty() {
        (0..rank).collect()
    } else {
        axes
    };
    let keep = need!(call.bool_or("keepdim", false));
    let row = need!(REDUCTIONS.iter().find(|row| row.aten.0 == call.name));
    let op = (row.make)(axes, keep);
    one(ev.emit(op.name(), op, &[x])?)
}

pub(super) fn softmax(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let rank = need!(ev.shape(x)).len();
    let axis = need!(call.axis("dim", rank, -1));
    let own = ev.graph().ty(x).dtype().map(|dtype| names(dtype).aten);
    let casts = call
        .get("dtype")
        .and_then(|v| v.as_int())
        .is_some_and(|code| own != Some(code) || !ev.graph().is_dtype_certain(x));
    if casts {
        return Ok(None);
    }
    let op = if call.name.contains("log") {
        Op::LogSoftmax { axis }
    } else {
        Op::Softmax { axis }
    };
    one(ev.emit(op.name(), op, &[x])?)
}

pub(super) fn write(w: &Written<'_>) -> Result<Option<Expression>, String> {
    use Expression::Bool;
    if let Some((row, axes, keep)) = of_reduction(w.op) {
        let arguments = [w.x(), Expression::ints(axes), Bool(keep)];
        return Ok(Some(Expression::call(row.aten.0, row.aten.1, arguments)));
    }
    let softmax = |name, core, axis: usize| {
        if w.core {
            Expression::call(core, "default", [w.x(), int(axis), Bool(false)])
        } else {
            Expression::call(name, "int", [w.x(), int(axis)])
        }
    };
    Ok(Some(match w.op {
        Op::Softmax { axis } => softmax("softmax", "_softmax", *axis),
        Op::LogSoftmax { axis } => softmax("log_softmax", "_log_softmax", *axis),
        _ => return Ok(None),
    }))
}
