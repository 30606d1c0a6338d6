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
use super::write::{Spelled, Writer};
use crate::formats::spelling::of_reduction;
use crate::ir::Op;

/// Adds the nodes of an operation; the last one's result has the name that `spelled` says.
pub(super) fn emit(w: &mut Writer<'_>, op: &Op, spelled: &Spelled<'_>) -> Result<(), OnnxError> {
    use Op::*;
    match op {
        Conv { .. } | ConvTranspose { .. } => layers::conv(w, op, spelled),
        Linear {} => layers::linear(w, spelled),
        MatMul {} => pointwise::alike(w, "MatMul", spelled),
        Attention { scale, causal } => {
            attention::attention(w, spelled, scale.map(|s| s.0), *causal)
        }
        MaxPool { .. } | AvgPool { .. } => pool::pool(w, op, spelled),
        AdaptiveAvgPool { output } => adaptive::pool(w, spelled, output, false),
        AdaptiveMaxPool { output } => adaptive::pool(w, spelled, output, true),
        Resize { size, mode } => layers::resize(w, spelled, size, *mode),

        BatchNorm { eps } => normalisation::batch(w, spelled, eps.0),
        LayerNorm { axes, eps } => normalisation::layer(w, spelled, *axes, eps.0),
        GroupNorm { groups, eps } => normalisation::group(w, spelled, *groups, eps.0),
        PRelu {} => pointwise::prelu(w, spelled),

        Clip { min, max } => pointwise::clip(w, spelled, min.0, max.0),
        Div {} => pointwise::quotient(w, spelled),
        Softmax { axis } => normalisation::softmax(w, "Softmax", spelled, *axis),
        LogSoftmax { axis } => normalisation::softmax(w, "LogSoftmax", spelled, *axis),

        ReduceMean { .. } | ReduceSum { .. } | ReduceMax { .. } => reduce(w, op, spelled),

        Pad { .. } => layout::pad(w, op, spelled),
        Concat { axis } => pointwise::with(w, "Concat", spelled, int("axis", *axis as i64)),
        Slice { .. } => layout::slice(w, op, spelled),
        Gather { axis, index } => layout::gather(w, spelled, *axis, index),
        Flatten { start, end } => layout::flatten(w, spelled, *start, *end),
        Reshape { shape } => layout::reshape(w, spelled, shape),
        Transpose { perm } => {
            let perm = ints("perm", perm.iter().map(|axis| *axis as i64));
            pointwise::with(w, "Transpose", spelled, perm)
        }
        Squeeze { axes } => axes_removed_or_added(w, "Squeeze", spelled, axes),
        Unsqueeze { axes } => axes_removed_or_added(w, "Unsqueeze", spelled, axes),
        Expand { shape } => layout::expand(w, spelled, shape),
        Cast { dtype } => {
            let to = int("to", super::tensor::code(*dtype).into());
            pointwise::with(w, "Cast", spelled, to)
        }
        Dropout { p } => layout::dropout(w, spelled, p.0),
        Identity {} => pointwise::alike(w, "Identity", spelled),
        // These are written by their template.
        Opaque(_) => Ok(()),
        op => pointwise::function(w, op, spelled),
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
    spelled: &Spelled<'_>,
    axes: &[usize],
) -> Result<(), OnnxError> {
    let x = w.value(spelled.operands[0])?;
    let (inputs, attributes) = with_axes(w, 13, x, axes);
    w.last(spelled, op, &inputs, attributes)
}

/// A reduction that keeps its axes, on the way to `spelled`: a mean or a maximum.
fn reduced(w: &mut Writer<'_>, spelled: &Spelled<'_>, op: &str, x: &str, axes: &[usize]) -> String {
    let (inputs, mut attributes) = with_axes(w, 18, x.to_owned(), axes);
    attributes.insert(0, int("keepdims", 1));
    w.step(spelled, op, &inputs, attributes)
}

fn reduce(w: &mut Writer<'_>, op: &Op, spelled: &Spelled<'_>) -> Result<(), OnnxError> {
    let Some((row, axes, keep)) = of_reduction(op) else {
        return Err(OnnxError::unwritable(op.name(), MISTAKE));
    };
    // No axes at all would mean all of them.
    if axes.is_empty() {
        return pointwise::alike(w, "Identity", spelled);
    }
    let (name, since) = row.onnx;
    let x = w.value(spelled.operands[0])?;
    let (inputs, mut attributes) = with_axes(w, since, x, axes);
    attributes.insert(0, int("keepdims", keep.into()));
    w.last(spelled, name, &inputs, attributes)
}
