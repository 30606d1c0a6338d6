//! Normalisations.

use super::expression::{int, size};
use super::{Builder, Call, Eval, Expression, Read, Written, first, need, one};
use crate::ir::{self, DType, Dim, Dims, Op, Tensor, Type};

/// A weight made of a direction `v` and the norm `g` that its slices along `dim` are to have, or it as a whole where that is -1.
pub(super) fn weight_norm(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (v, g) = (need!(call.tensor("v")), need!(call.tensor("g")));
    let dim = need!(call.int_or("dim", 0));
    let rank = need!(ev.shape(v).map(|shape| shape.len()));
    if dim >= rank as i64 || dim < -1 {
        return Ok(None);
    }
    let axes = (0..rank).filter(|axis| *axis as i64 != dim).collect();
    let squares = need!(ev.emit("squares", Op::Mul {}, &[v, v])?);
    let sum = Op::ReduceSum { axes, keep: true };
    let sum = need!(ev.emit("sum", sum, &[squares])?);
    let norm = need!(ev.emit("norm", Op::Sqrt {}, &[sum])?);
    let gain = need!(ev.emit("gain", Op::Div {}, &[g, norm])?);
    one(ev.emit("weight_norm", Op::Mul {}, &[v, gain])?)
}

pub(super) fn batch_norm(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("input"));
    let statistics = (call.tensor("running_mean"), call.tensor("running_var"));
    let training = need!(call.bool_or("training", false));
    let (Some(mean), Some(variance)) = statistics else {
        // Without running statistics a batch norm uses the batch's own, in training and evaluation alike.
        return Ok(None);
    };
    if training {
        return Err(ev.training("batch norm"));
    }
    let channels = need!(ev.graph().ty(mean).len(0));
    if let Some(rank) = ev.shape(x).map(|s| s.len()).filter(|rank| *rank > 1) {
        let mut sizes = vec![None; rank];
        sizes[1] = i64::try_from(channels).ok();
        let dtype = ev.graph().ty(mean).dtype();
        ev.demand(x, &sizes, dtype)?;
    }
    let scale = need!(affine(ev, call, "weight", mean, 1.0)?);
    let shift = need!(affine(ev, call, "bias", mean, 0.0)?);
    let eps = need!(call.float_or("eps", 1e-5)).into();
    one(ev.emit(
        "batch_norm",
        Op::BatchNorm { eps },
        &[x, scale, shift, mean, variance],
    )?)
}

/// A per-channel operand; one that is left out is a constant.
pub(super) fn affine(
    ev: &mut dyn Builder,
    call: &Call<'_>,
    name: &str,
    like: ir::Value,
    value: f64,
) -> Eval<Option<ir::Value>> {
    if !call.lacks(name) {
        return Ok(call.tensor(name));
    }
    let (Some(n), Some(dtype)) = (ev.graph().ty(like).len(0), ev.graph().ty(like).dtype()) else {
        return Ok(None);
    };
    let tensor = Tensor::from_f64(dtype, &[n], std::iter::repeat_n(value, n));
    Ok(Some(ev.literal(name, tensor)))
}

/// Input, and scale and shift if they are given; a shift alone is not to be said.
fn scale_and_shift(call: &Call<'_>) -> Eval<Option<Vec<ir::Value>>> {
    let Some(x) = call.tensor("input") else {
        return Ok(None);
    };
    let mut operands = vec![x];
    for name in ["weight", "bias"] {
        match call.tensor(name) {
            Some(value) if name == "weight" || operands.len() == 2 => operands.push(value),
            None if call.lacks(name) => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(operands))
}

pub(super) fn layer_norm(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let operands = need!(scale_and_shift(call)?);
    let axes = need!(call.dims("normalized_shape")).len();
    // Nothing would tell the writer how long what is normalised is.
    if operands.len() == 1 && ev.shape(operands[0]).is_none() {
        return Ok(None);
    }
    let eps = need!(call.float_or("eps", 1e-5)).into();
    one(ev.emit("layer_norm", Op::LayerNorm { axes, eps }, &operands)?)
}

pub(super) fn group_norm(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let operands = need!(scale_and_shift(call)?);
    let groups = need!(
        call.int("num_groups")
            .or(call.int("group"))
            .and_then(|g| usize::try_from(g).ok())
    );
    let eps = need!(call.float_or("eps", 1e-5)).into();
    one(ev.emit("group_norm", Op::GroupNorm { groups, eps }, &operands)?)
}

/// An instance norm on the input's own statistics is a group norm of one channel a group.
pub(super) fn instance_norm(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let operands = need!(scale_and_shift(call)?);
    if call.bool_or("use_input_stats", true) != Some(true) || !call.lacks("running_mean") {
        return Ok(None);
    }
    let groups = need!(ev.graph().ty(operands[0]).len(1));
    let eps = need!(call.float_or("eps", 1e-5)).into();
    one(ev.emit("group_norm", Op::GroupNorm { groups, eps }, &operands)?)
}

/// The same as they are called once decomposed; statistics for the gradient are further results.
pub(super) fn native(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let result = match call.name {
        "native_layer_norm" => layer_norm(ev, call)?,
        "native_group_norm" => group_norm(ev, call)?,
        _ => batch_norm(ev, call)?,
    };
    let statistics = Type::Tensor(DType::F32, None);
    first(result, [statistics.clone(), statistics])
}

pub(super) fn write(w: &Written<'_>) -> Result<Option<Expression>, String> {
    use Expression::{Bool, Float};
    let (x, scale, shift) = (w.x(), w.optional(1), w.optional(2));
    // Mean and inverse deviation, one for each of what is normalised together.
    let statistics = |shape: Dims| {
        let ty = Type::Tensor(DType::F32, Some(shape));
        [ty.clone(), ty]
    };
    Ok(Some(match w.op {
        Op::BatchNorm { eps } if w.core => {
            let rest = [Float(0.1), Float(eps.0)];
            let arguments = w.operands.iter().cloned().chain(rest);
            let none = statistics(Dims::from_iter([Dim::from(0)]));
            Expression::call("_native_batch_norm_legit_no_training", "default", arguments)
                .beside(none)
        }
        Op::BatchNorm { eps } => {
            let rest = [Bool(false), Float(0.0), Float(eps.0), Bool(true)];
            let arguments = w.operands.iter().cloned().chain(rest);
            Expression::call("batch_norm", "default", arguments)
        }
        Op::LayerNorm { axes, eps } => {
            // Of an input without a shape the scale's is what is normalised.
            let shape = w.shape(0).or_else(|why| w.shape(1).map_err(|_| why))?;
            let (kept, normal) = shape.split_at(shape.len().saturating_sub(*axes));
            let arguments = [x, Expression::sizes(normal), scale, shift, Float(eps.0)];
            let ones = std::iter::repeat_n(Dim::from(1), normal.len());
            let kept = kept.iter().cloned().chain(ones).collect();
            if w.core {
                Expression::call("native_layer_norm", "default", arguments).beside(statistics(kept))
            } else {
                Expression::call("layer_norm", "default", arguments)
            }
        }
        Op::GroupNorm { groups, eps } => match w.core.then(|| w.shape(0)).transpose()? {
            Some([n, c, spatial @ ..]) => {
                let pixels = Dim::product(spatial).ok_or("it has too many sizes")?;
                let sizes = [n.clone(), c.clone(), pixels].map(size);
                let rest = sizes.into_iter().chain([int(*groups), Float(eps.0)]);
                let arguments = [x, scale, shift].into_iter().chain(rest);
                let kept = Dims::from_iter([n.clone(), (*groups).into()]);
                Expression::call("native_group_norm", "default", arguments).beside(statistics(kept))
            }
            _ => {
                let arguments = [x, int(*groups), scale, shift, Float(eps.0)];
                Expression::call("group_norm", "default", arguments)
            }
        },
        _ => return Ok(None),
    }))
}
