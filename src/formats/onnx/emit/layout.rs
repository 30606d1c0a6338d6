//! Elements moved about.

use super::Emitted;
use super::layers::needs;
use crate::formats::onnx::attributes::{float, int, ints, string};
use crate::formats::onnx::error::{MISTAKE, OnnxError};
use crate::formats::onnx::proto::AttributeProto;
use crate::ir::{DType, Dim, Dims, NodeId, Op, PadMode, Tensor, Value};

pub(super) fn dropout(w: &mut Emitted<'_, '_>, p: f64) -> Result<(), OnnxError> {
    let x = w.operand(0)?;
    if w.opset < 12 {
        return w.last("Dropout", &[x], vec![float("ratio", p)]);
    }
    let ratio = w.scalar(p, DType::F32);
    w.last("Dropout", &[x, ratio], vec![])
}

pub(super) fn gather(w: &mut Emitted<'_, '_>, axis: usize, index: &[u32]) -> Result<(), OnnxError> {
    let x = w.operand(0)?;
    let index = w.int_list(index.iter().map(|i| i64::from(*i)));
    w.last("Gather", &[x, index], vec![int("axis", axis as i64)])
}

/// A `Flatten` where it says that, a reshape elsewhere.
pub(super) fn flatten(w: &mut Emitted<'_, '_>, start: usize, end: usize) -> Result<(), OnnxError> {
    let rank = w.types[0].rank();
    if start == 1 && rank == Some(end + 1) {
        let x = w.operand(0)?;
        return w.last("Flatten", &[x], vec![int("axis", 1)]);
    }
    let rank = w.known_rank(0)?;
    // Sizes before stay; those after stay where nothing is joined, and one may be left to be found out.
    let known = w.result.shape().unwrap_or_default().to_vec();
    if known.len() == rank - (end - start) {
        return reshape(w, &known);
    }
    let what = format!("the shape of `{}` is not known", w.out);
    Err(OnnxError::unwritable(
        what,
        "give the inputs' shapes with --input",
    ))
}

/// Sizes that stay where they are are 0, and one that is no number is -1: so no size has to be computed in most reshapes.
pub(super) fn reshape(w: &mut Emitted<'_, '_>, shape: &[Dim]) -> Result<(), OnnxError> {
    let x = w.operand(0)?;
    let from = w.types[0].shape().unwrap_or_default();
    let empty = shape.iter().any(|d| d.as_number() == Some(0));
    let mut target: Dims = shape.into();
    if !empty {
        for (axis, size) in target.iter_mut().enumerate() {
            if size.as_number().is_none() && from.get(axis) == Some(size) {
                *size = Dim::from(0);
            }
        }
        let symbolic = |size: &Dim| size.as_number().is_none();
        // What is left out must be what the others leave, which a size of 0 somewhere would hide.
        if target.iter().filter(|d| symbolic(d)).count() == 1
            && let Some(at) = target.iter().position(symbolic)
        {
            target[at] = Dim::from(-1);
        }
    }
    let list = w.size_list(&target);
    let attributes = if empty {
        needs(w, 14, "a reshape of nothing")?;
        vec![int("allowzero", 1)]
    } else {
        vec![]
    };
    w.last("Reshape", &[x, list], attributes)
}

/// Sizes that stay are 1, as the other side then has them.
pub(super) fn expand(w: &mut Emitted<'_, '_>, shape: &[Dim]) -> Result<(), OnnxError> {
    let x = w.operand(0)?;
    let mut target: Dims = shape.into();
    if let Some(from) = w.types[0].shape() {
        let skipped = target.len().saturating_sub(from.len());
        for (size, from) in target[skipped..].iter_mut().zip(from) {
            if size == from {
                *size = Dim::from(1);
            }
        }
    }
    let list = w.size_list(&target);
    w.last("Expand", &[x, list], vec![])
}

pub(super) fn pad(w: &mut Emitted<'_, '_>, op: &Op) -> Result<(), OnnxError> {
    let Op::Pad {
        before,
        after,
        mode,
        value,
    } = op
    else {
        return Err(OnnxError::unwritable(op.name(), MISTAKE));
    };
    if *mode == PadMode::Circular && w.opset < 19 {
        return circular(w, before, after);
    }
    let x = w.operand(0)?;
    let name = match mode {
        PadMode::Constant => "constant",
        PadMode::Reflect => "reflect",
        PadMode::Replicate => "edge",
        PadMode::Circular => "wrap",
    };
    let amounts: Vec<Dim> = before.iter().chain(after).cloned().collect();
    let dtype = w.dtype();
    let constant = (*mode == PadMode::Constant).then_some((value.0, dtype));
    let (inputs, attributes) = pad_of(w, x, name, &amounts, constant)?;
    w.last("Pad", &inputs, attributes)
}

/// `x` with so many of a number before and after it, amounts as ONNX has them, as a node before the last.
pub(super) fn padded(
    w: &mut Emitted<'_, '_>,
    x: String,
    amounts: &[Dim],
    number: (f64, DType),
) -> Result<String, OnnxError> {
    let (inputs, attributes) = pad_of(w, x, "constant", amounts, Some(number))?;
    Ok(w.step("Pad", &inputs, attributes))
}

fn pad_of(
    w: &mut Emitted<'_, '_>,
    x: String,
    mode: &'static str,
    amounts: &[Dim],
    constant: Option<(f64, DType)>,
) -> Result<(Vec<String>, Vec<AttributeProto>), OnnxError> {
    let mut attributes = vec![string("mode", mode)];
    if w.opset < 11 {
        let numbers = amounts
            .iter()
            .map(Dim::as_number)
            .collect::<Option<Vec<_>>>();
        match numbers {
            Some(numbers) => attributes.push(ints("pads", numbers)),
            None => needs(w, 11, "a pad whose amounts depend on the input")?,
        }
        let value = constant.map_or(0.0, |(value, _)| value);
        attributes.push(float("value", value));
        return Ok((vec![x], attributes));
    }
    let mut inputs = vec![x, w.size_list(amounts)];
    if let Some((value, dtype)) = constant {
        inputs.push(w.scalar(value, dtype));
    }
    Ok((inputs, attributes))
}

/// The interior repeated, for versions that have no such pad: axis by axis, parts joined.
fn circular(w: &mut Emitted<'_, '_>, before: &[Dim], after: &[Dim]) -> Result<(), OnnxError> {
    let mut value = w.operand(0)?;
    let shape = w.types[0].shape().map(<[Dim]>::to_vec);
    w.known_rank(0)?;
    for (axis, size) in shape.unwrap_or_default().iter().enumerate() {
        let nothing = |amount: &Dim| amount.as_number() == Some(0);
        let mut parts = Vec::new();
        if !nothing(&before[axis]) {
            let start = size.clone() - before[axis].clone();
            parts.push(cut(w, &value, axis, &start, size));
        }
        parts.push(value.clone());
        if !nothing(&after[axis]) {
            let start = Dim::from(0);
            parts.push(cut(w, &value, axis, &start, &after[axis]));
        }
        if parts.len() > 1 {
            value = w.step("Concat", &parts, vec![int("axis", axis as i64)]);
        }
    }
    w.last("Identity", &[value], vec![])
}

/// A part of a value along one axis.
pub(super) fn cut(w: &mut Emitted<'_, '_>, x: &str, axis: usize, start: &Dim, end: &Dim) -> String {
    let (inputs, attributes) = slice_of(w, x, axis, start, end, 1);
    w.step("Slice", &inputs, attributes)
}

fn slice_of(
    w: &mut Emitted<'_, '_>,
    x: &str,
    axis: usize,
    start: &Dim,
    end: &Dim,
    step: usize,
) -> (Vec<String>, Vec<AttributeProto>) {
    let axis = axis as i64;
    if w.opset < 10
        && step == 1
        && let (Some(start), Some(end)) = (start.as_number(), end.as_number())
    {
        let attributes = vec![
            ints("axes", [axis]),
            ints("starts", [start]),
            ints("ends", [end]),
        ];
        return (vec![x.to_owned()], attributes);
    }
    let mut inputs = vec![x.to_owned(), w.size(start), w.size(end), w.int_list([axis])];
    if step != 1 {
        inputs.push(w.int_list([step as i64]));
    }
    (inputs, vec![])
}

pub(super) fn slice(w: &mut Emitted<'_, '_>, op: &Op) -> Result<(), OnnxError> {
    let Op::Slice {
        axis,
        start,
        end,
        step,
    } = op
    else {
        return Err(OnnxError::unwritable(op.name(), MISTAKE));
    };
    if w.split.contains(&w.id) || split(w, *axis)? {
        return Ok(());
    }
    let x = w.operand(0)?;
    let size = w.types[0].shape().and_then(|shape| shape.get(*axis));
    // To the end, whatever that is.
    let end = match size {
        Some(size) if size == end && end.as_number().is_none() => Dim::from(i64::MAX),
        _ => end.clone(),
    };
    let symbolic = start.as_number().is_none() || end.as_number().is_none();
    if w.opset < 10 && (symbolic || *step != 1) {
        return needs(
            w,
            10,
            "a slice with a step, or of sizes that depend on the input",
        );
    }
    let (inputs, attributes) = slice_of(w, &x, *axis, start, &end, *step);
    w.last("Slice", &inputs, attributes)
}

/// Writes slices that are one value cut into all its parts as what they are. Whether this one is of that kind.
fn split(w: &mut Emitted<'_, '_>, axis: usize) -> Result<bool, OnnxError> {
    let x: Value = w.operands[0];
    let Some(size) = w.types[0].len(axis) else {
        return Ok(false);
    };
    let mut parts: Vec<(i64, i64, NodeId)> = Vec::new();
    for (reader, _) in w.graph.readers(x) {
        if let Some(Op::Slice {
            axis: other,
            start,
            end,
            step: 1,
        }) = w.graph.op(reader)
            && *other == axis
            && let (Some(start), Some(end)) = (start.as_number(), end.as_number())
        {
            parts.push((start, end, reader));
        }
    }
    parts.sort();
    let joined = parts
        .windows(2)
        .all(|pair| pair[0].1 == pair[1].0 && pair[0].0 < pair[0].1);
    let first = parts.first().map(|part| part.0);
    let last = parts.last().map(|part| part.1);
    let written = parts.iter().any(|(.., part)| w.done.contains(part));
    if written || parts.len() < 2 || !joined || first != Some(0) || last != Some(size as i64) {
        return Ok(false);
    }
    let name = w.value(x)?;
    let lengths = parts.iter().map(|(start, end, _)| end - start);
    let mut inputs = vec![name];
    let mut attributes = vec![int("axis", axis as i64)];
    if w.opset < 13 {
        attributes.push(ints("split", lengths))
    } else {
        let lengths = w.int_list(lengths);
        inputs.push(lengths);
    }
    let outputs: Vec<String> = parts
        .iter()
        .filter_map(|(.., part)| w.name((*part).into()).cloned())
        .collect();
    w.split.extend(parts.iter().map(|(.., part)| *part));
    w.emit_all("Split", &inputs, attributes, &outputs);
    Ok(true)
}

/// Operand `i`, one number a channel, with one axis of length 1 for each dimension of a tensor of this rank after its channels.
pub(super) fn per_channel(
    w: &mut Emitted<'_, '_>,
    i: usize,
    rank: usize,
) -> Result<String, OnnxError> {
    let (value, trailing) = (w.operands[i], rank.saturating_sub(2));
    if let Some(count) = w.types[i].len(0)
        && w.graph.constant(value.node).is_some()
    {
        let mut shape = vec![1; trailing + 1];
        shape[0] = count;
        return w.reshaped(value, &shape);
    }
    let value = w.value(value)?;
    let shape = std::iter::once(-1).chain(std::iter::repeat_n(1, trailing));
    let shape = w.int_list(shape);
    Ok(w.step("Reshape", &[value, shape], vec![]))
}

/// A list of a repeated number.
pub(super) fn filled(w: &mut Emitted<'_, '_>, shape: &[usize], x: f64, dtype: DType) -> String {
    let count = shape.iter().product();
    w.literal(Tensor::from_f64(
        dtype,
        shape,
        std::iter::repeat_n(x, count),
    ))
}
