//! One operator on arrays.

use smallvec::SmallVec;

use super::array::Array;
use super::conv::{conv, conv_transpose};
use super::pool::{Pool, Reduce, adaptive_pool, pool};
use super::reduce::{Reduction, reduce, softmax};
use super::{attention, elementwise, matmul, movement, norm, resize};
use crate::ir::{Bindings, Dim, Op, Real, movements};

/// The result of `op` on these operands. Sizes among its attributes are taken under `bindings`.
///
/// An operand that is handed over as its only owner may be overwritten with the result.
///
/// # Errors
/// What does not fit, in words; an opaque operator always.
pub fn evaluate<'a, T: Real>(
    op: &Op,
    operands: impl IntoIterator<Item = Array<'a, T>>,
    bindings: &Bindings,
) -> Result<Array<'a, T>, String> {
    let mut operands: SmallVec<[Array<'a, T>; 4]> = operands.into_iter().collect();
    if !op.arity().contains(&operands.len()) {
        return Err(format!(
            "{} takes {:?} operands, not {}",
            op.name(),
            op.arity(),
            operands.len()
        ));
    }
    let all = |dims: &[Dim]| lengths(dims, bindings);
    match op {
        Op::Conv { .. } => conv(op, &operands[0], &operands[1], operands.get(2)),
        Op::ConvTranspose { .. } => conv_transpose(op, &operands[0], &operands[1], operands.get(2)),
        Op::Linear {} => matmul::linear(&operands[0], &operands[1], operands.get(2)),
        Op::MatMul {} => matmul::matmul(&operands[0], &operands[1]),
        Op::BatchNorm { eps } => {
            let x = operands.remove(0);
            let [scale, shift, mean, variance] = &operands[..] else {
                return Err("batch_norm takes five operands".into());
            };
            norm::batch_norm(x, [scale, shift, mean, variance], eps.0)
        }
        Op::LayerNorm { axes, eps } => {
            let x = operands.remove(0);
            norm::layer_norm(x, operands.first(), operands.get(1), *axes, eps.0)
        }
        Op::GroupNorm { groups, eps } => {
            let x = operands.remove(0);
            norm::group_norm(x, operands.first(), operands.get(1), *groups, eps.0)
        }
        Op::PRelu {} => {
            let x = operands.remove(0);
            prelu(x, operands.remove(0))
        }
        Op::Softmax { axis } => softmax(operands.remove(0), *axis, false),
        Op::LogSoftmax { axis } => softmax(operands.remove(0), *axis, true),
        Op::Attention { scale, causal } => {
            let [q, k, v, mask @ ..] = &operands[..] else {
                return Err("attention takes queries, keys and values".into());
            };
            attention::attention(q, k, v, mask.first(), scale.map(|s| s.0), *causal)
        }
        Op::MaxPool { .. } | Op::AvgPool { .. } => pool(&operands[0], &Pool::of(op, bindings)?),
        Op::AdaptiveAvgPool { output } => {
            let mean = Reduce::Mean { count_pad: false };
            adaptive_pool(&operands[0], &all(output)?, mean)
        }
        Op::AdaptiveMaxPool { output } => adaptive_pool(&operands[0], &all(output)?, Reduce::Max),
        Op::ReduceMean { axes, keep } => reduce(operands.remove(0), axes, *keep, Reduction::Mean),
        Op::ReduceSum { axes, keep } => reduce(operands.remove(0), axes, *keep, Reduction::Sum),
        Op::ReduceMax { axes, keep } => reduce(operands.remove(0), axes, *keep, Reduction::Max),
        Op::Resize { size, mode } => resize::resize(operands.remove(0), &all(size)?, *mode),
        movements!() => moved(op, operands, bindings),
        Op::Opaque(opaque) => Err(format!(
            "optc does not know what the operator {} computes",
            opaque.name
        )),
        _ if operands.len() == 2 => {
            let (b, a) = (operands.remove(1), operands.remove(0));
            elementwise::binary(op, a, b)
                .unwrap_or_else(|| Err(format!("{} is not a binary function", op.name())))
        }
        _ => elementwise::unary(op, operands.remove(0)),
    }
}

/// The first operand with a slope for what is below zero, one a channel or one for all.
fn prelu<'a, T: Real>(x: Array<'a, T>, slope: Array<'a, T>) -> Result<Array<'a, T>, String> {
    let mut shape = vec![1; x.shape().len()];
    if let (Some(channels), Some(slopes)) = (shape.get_mut(1), slope.shape().first()) {
        *channels = *slopes;
    }
    let slope = slope.reshaped(&shape)?;
    if elementwise::broadcast_shape(x.shape(), &shape)? != x.shape() {
        return Err(format!("{shape:?} slopes for an input of {:?}", x.shape()));
    }
    elementwise::zip(
        x,
        slope,
        |x, slope| if x < T::zero() { x * slope } else { x },
    )
}

/// The result of an operator that moves elements about.
fn moved<'a, T: Real>(
    op: &Op,
    mut operands: SmallVec<[Array<'a, T>; 4]>,
    bindings: &Bindings,
) -> Result<Array<'a, T>, String> {
    let one = |dim: &Dim| length(dim, bindings);
    let all = |dims: &[Dim]| lengths(dims, bindings);
    match op {
        Op::Pad {
            before,
            after,
            mode,
            value,
        } => {
            let amounts = |dims: &[Dim]| -> Result<Vec<i64>, String> {
                dims.iter().map(|dim| number(dim, bindings)).collect()
            };
            let (before, after) = (amounts(before)?, amounts(after)?);
            movement::pad(operands.remove(0), &before, &after, *mode, value.0)
        }
        Op::Concat { axis } => movement::concat(&operands, *axis),
        Op::Slice {
            axis,
            start,
            end,
            step,
        } => movement::slice(operands.remove(0), *axis, one(start)?, one(end)?, *step),
        Op::Gather { axis, index } => movement::gather(&operands[0], *axis, index),
        Op::Flatten { start, end } => movement::flatten(operands.remove(0), *start, *end),
        Op::Reshape { shape } => operands.remove(0).reshaped(&all(shape)?),
        Op::Transpose { perm } => movement::transpose(operands.remove(0), perm),
        Op::Squeeze { axes } => movement::squeeze(operands.remove(0), axes),
        Op::Unsqueeze { axes } => movement::unsqueeze(operands.remove(0), axes),
        Op::Expand { shape } => movement::expand(&operands[0], &all(shape)?),
        op => Err(format!("{} moves no elements", op.name())),
    }
}

/// The sizes as lengths.
fn lengths(dims: &[Dim], bindings: &Bindings) -> Result<Vec<usize>, String> {
    dims.iter().map(|dim| length(dim, bindings)).collect()
}

/// The size as a number.
pub(super) fn number(dim: &Dim, bindings: &Bindings) -> Result<i64, String> {
    dim.eval(bindings)
        .ok_or_else(|| format!("the size {dim} has no number"))
}

/// The size as a length.
pub(super) fn length(dim: &Dim, bindings: &Bindings) -> Result<usize, String> {
    let n = number(dim, bindings)?;
    usize::try_from(n).map_err(|_| format!("the size {dim} is {n}"))
}
