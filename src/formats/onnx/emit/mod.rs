//! Operators of the IR as nodes of ONNX, each in the version of the model: one table, and what a version lacks out of what it has.

mod adaptive;
mod attention;
mod layers;
mod layout;
mod normalisation;
mod pointwise;
mod pool;

use super::attributes::{int, ints};
use super::error::{MISTAKE, OnnxError};
use super::proto::AttributeProto;
use super::write::{Emitted, Writer};
use crate::formats::spelling::of_reduction;
use crate::ir::Op;

/// Adds the nodes of an operation; the last one's result has the name that `emitted` says.
pub(super) fn emit(w: &mut Writer<'_>, op: &Op, emitted: &Emitted<'_>) -> Result<(), OnnxError> {
    use Op::*;
    match op {
        Conv { .. } | ConvTranspose { .. } => layers::conv(w, op, emitted),
        Linear {} => layers::linear(w, emitted),
        MatMul {} => pointwise::alike(w, "MatMul", emitted),
        Attention { scale, causal } => {
            attention::attention(w, emitted, scale.map(|s| s.0), *causal)
        }
        MaxPool { .. } | AvgPool { .. } => pool::pool(w, op, emitted),
        AdaptiveAvgPool { output } => adaptive::pool(w, emitted, output, false),
        AdaptiveMaxPool { output } => adaptive::pool(w, emitted, output, true),
        Resize { size, mode } => layers::resize(w, emitted, size, *mode),

        BatchNorm { eps } => normalisation::batch(w, emitted, eps.0),
        LayerNorm { axes, eps } => normalisation::layer(w, emitted, *axes, eps.0),
        GroupNorm { groups, eps } => normalisation::group(w, emitted, *groups, eps.0),
        PRelu {} => pointwise::prelu(w, emitted),

        Clip { min, max } => pointwise::clip(w, emitted, min.0, max.0),
        Div {} => pointwise::quotient(w, emitted),
        Softmax { axis } => normalisation::softmax(w, "Softmax", emitted, *axis),
        LogSoftmax { axis } => normalisation::softmax(w, "LogSoftmax", emitted, *axis),

        ReduceMean { .. } | ReduceSum { .. } | ReduceMax { .. } => reduce(w, op, emitted),

        Pad { .. } => layout::pad(w, op, emitted),
        Concat { axis } => pointwise::with(w, "Concat", emitted, int("axis", *axis as i64)),
        Slice { .. } => layout::slice(w, op, emitted),
        Gather { axis, index } => layout::gather(w, emitted, *axis, index),
        Flatten { start, end } => layout::flatten(w, emitted, *start, *end),
        Reshape { shape } => layout::reshape(w, emitted, shape),
        Transpose { perm } => {
            let perm = ints("perm", perm.iter().map(|axis| *axis as i64));
            pointwise::with(w, "Transpose", emitted, perm)
        }
        Squeeze { axes } => axes_removed_or_added(w, "Squeeze", emitted, axes),
        Unsqueeze { axes } => axes_removed_or_added(w, "Unsqueeze", emitted, axes),
        Expand { shape } => layout::expand(w, emitted, shape),
        Cast { dtype } => {
            let to = int("to", super::tensor::code(*dtype).into());
            pointwise::with(w, "Cast", emitted, to)
        }
        Dropout { p } => layout::dropout(w, emitted, p.0),
        Identity {} => pointwise::alike(w, "Identity", emitted),
        // These are written by their template.
        Opaque(_) => Ok(()),
        op => pointwise::function(w, op, emitted),
    }
}

/// Operands and attributes of a node whose axes are an attribute before version `since`, and an operand from then on.
fn with_axes(
    w: &mut Writer<'_>,
    since: i64,
    x: String,
    axes: &[usize],
) -> (Vec<String>, Vec<AttributeProto>) {
    let axes = axes.iter().map(|axis| *axis as i64);
    if w.opset < since {
        (vec![x], vec![ints("axes", axes)])
    } else {
        (vec![x, w.int_list(axes)], vec![])
    }
}

fn axes_removed_or_added(
    w: &mut Writer<'_>,
    op: &str,
    emitted: &Emitted<'_>,
    axes: &[usize],
) -> Result<(), OnnxError> {
    let x = w.value(emitted.operands[0])?;
    let (inputs, attributes) = with_axes(w, 13, x, axes);
    w.last(emitted, op, &inputs, attributes)
}

/// A reduction that keeps its axes, on the way to `emitted`: a mean or a maximum.
fn reduced(w: &mut Writer<'_>, emitted: &Emitted<'_>, op: &str, x: &str, axes: &[usize]) -> String {
    let (inputs, mut attributes) = with_axes(w, 18, x.to_owned(), axes);
    attributes.insert(0, int("keepdims", 1));
    w.step(emitted, op, &inputs, attributes)
}

fn reduce(w: &mut Writer<'_>, op: &Op, emitted: &Emitted<'_>) -> Result<(), OnnxError> {
    let Some((row, axes, keep)) = of_reduction(op) else {
        return Err(OnnxError::unwritable(op.name(), MISTAKE));
    };
    // No axes at all would mean all of them.
    if axes.is_empty() {
        return pointwise::alike(w, "Identity", emitted);
    }
    let (name, since) = row.onnx;
    let x = w.value(emitted.operands[0])?;
    let (inputs, mut attributes) = with_axes(w, since, x, axes);
    attributes.insert(0, int("keepdims", keep.into()));
    w.last(emitted, name, &inputs, attributes)
}
