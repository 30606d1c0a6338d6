//! Parts of tensors, and tensors put together.

use super::layout::operand;
use super::{Argument, Builder, Call, Eval, Lowered, Read, need, one};
use crate::formats::sizes::from_front;
use crate::ir::{self, DType, Dim, Dims, Index, Op};

pub(super) fn cat(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let tensors = need!(call.tensors("tensors"));
    let rank = need!(tensors.iter().find_map(|v| ev.shape(*v))).len();
    let axis = need!(call.axis("dim", rank, 0));
    one(ev.emit("cat", Op::Concat { axis }, &tensors)?)
}

pub(super) fn stack(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let tensors = need!(call.tensors("tensors"));
    let rank = need!(tensors.first().and_then(|v| ev.shape(*v))).len();
    let axis = need!(call.axis("dim", rank + 1, 0));
    let mut parts = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let axes = ir::Ints::from_slice(&[axis]);
        parts.push(need!(ev.emit(
            "unsqueeze",
            Op::Unsqueeze { axes },
            &[tensor]
        )?));
    }
    one(ev.emit("stack", Op::Concat { axis }, &parts)?)
}

/// What an operator works on, and along which axis.
fn along(ev: &dyn Builder, call: &Call<'_>) -> Option<(ir::Value, Dims, usize)> {
    let (x, shape) = operand(ev, call)?;
    let axis = call.axis("dim", shape.len(), 0)?;
    Some((x, shape, axis))
}

/// A position of an axis as Python's slices mean it: negative from the end, and within the axis.
fn bound(at: Option<&Argument>, size: &Dim, default: &Dim) -> Option<Dim> {
    let Some(at) = at else {
        return Some(default.clone());
    };
    let at = at.as_dim()?;
    match (at.as_number(), size.as_number()) {
        (Some(i64::MAX), _) => Some(size.clone()),
        (Some(n), Some(size)) => Some(Dim::from(from_front(n, size).clamp(0, size))),
        (Some(0), None) => Some(at),
        (Some(n), None) if n < 0 => Some((size.clone() + at).maximum(&Dim::from(0))),
        (Some(_), None) => Some(at.minimum(size)),
        // Where the size says itself how far to go.
        (None, _) if at == *size => Some(at),
        // A size says nothing of its sign: where it counts from must not depend on what it is in the end.
        (None, _) if at.is_never_negative() => match (size.clone() - at.clone()).as_number() {
            Some(0..) => Some(at),
            _ => Some(at.minimum(size)),
        },
        (None, _) if (Dim::from(-1) - at.clone()).is_never_negative() => {
            Some((size.clone() + at).maximum(&Dim::from(0)))
        }
        (None, _) => None,
    }
}

/// `op`, a slice of `x`, unless it is all of it.
fn part(ev: &mut dyn Builder, x: ir::Value, op: Op, size: &Dim) -> Read {
    match &op {
        Op::Slice {
            start,
            end,
            step: 1,
            ..
        } if start.as_number() == Some(0) && end == size => Ok(Some(Lowered::Same)),
        _ => one(ev.emit("slice", op, &[x])?),
    }
}

pub(super) fn slice(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape, axis) = need!(along(ev, call));
    let step = need!(
        call.int_or("step", 1)
            .and_then(|s| usize::try_from(s).ok())
            .filter(|s| *s > 0)
    );
    let size = &shape[axis];
    let start = need!(bound(call.get("start"), size, &Dim::from(0)));
    let end = need!(bound(call.get("end"), size, size));
    // An empty slice ends where it starts.
    let end = match (end.clone() - start.clone()).as_number() {
        Some(..0) => start.clone(),
        _ => end,
    };
    let op = Op::Slice {
        axis,
        start,
        end,
        step,
    };
    part(ev, x, op, size)
}

pub(super) fn narrow(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape, axis) = need!(along(ev, call));
    let start = need!(bound(call.get("start"), &shape[axis], &Dim::from(0)));
    let length = need!(call.get("length").and_then(Argument::as_dim));
    let op = Op::slice(axis, start.clone(), start + length);
    part(ev, x, op, &shape[axis])
}

pub(super) fn select(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape, axis) = need!(along(ev, call));
    let index = need!(call.get("index").and_then(Argument::as_dim));
    let start = if (Dim::from(-1) - index.clone()).is_never_negative() {
        shape[axis].clone() + index
    } else if index.is_never_negative() {
        index
    } else {
        return Ok(None);
    };
    one(pick(ev, x, axis, start)?)
}

/// Position `start` of an axis, which is removed.
pub(super) fn pick(
    ev: &mut dyn Builder,
    x: ir::Value,
    axis: usize,
    start: Dim,
) -> Eval<Option<ir::Value>> {
    let end = start.clone() + Dim::from(1);
    let axes = ir::Ints::from_slice(&[axis]);
    match ev.emit("select", Op::slice(axis, start, end), &[x])? {
        Some(slice) => ev.emit("select", Op::Squeeze { axes }, &[slice]),
        None => Ok(None),
    }
}

/// Consecutive parts of an axis, of these lengths.
pub(super) fn parts(ev: &mut dyn Builder, x: ir::Value, axis: usize, lengths: &[Dim]) -> Read {
    let mut start = Dim::from(0);
    let mut values = Vec::with_capacity(lengths.len());
    for length in lengths {
        let end = start.clone() + length.clone();
        let part = Op::slice(axis, start, end.clone());
        values.push(need!(ev.emit("split", part, &[x])?));
        start = end;
    }
    Ok(Some(Lowered::List(values)))
}

/// Parts of an axis into which PyTorch may cut it at once.
const MAX_PARTS: i64 = 4096;

/// `size` cut into parts of `length`, the last one shorter.
fn even(size: i64, length: i64) -> Option<Vec<Dim>> {
    if length <= 0 || size <= 0 || (size - 1) / length >= MAX_PARTS {
        return None;
    }
    Some(
        (0..size)
            .step_by(length as usize)
            .map(|start| Dim::from(length.min(size - start)))
            .collect(),
    )
}

pub(super) fn chunk(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape, axis) = need!(along(ev, call));
    let chunks = need!(call.int("chunks").filter(|n| (1..=MAX_PARTS).contains(n)));
    let lengths = match shape[axis].as_number() {
        Some(size) => need!(even(size, size / chunks + i64::from(size % chunks != 0))),
        None => {
            // As many parts as said only where the size is a multiple.
            let length = shape[axis].floor_div(&Dim::from(chunks));
            if length.clone() * Dim::from(chunks) != shape[axis] {
                return Ok(None);
            }
            vec![length; chunks as usize]
        }
    };
    parts(ev, x, axis, &lengths)
}

pub(super) fn split(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape, axis) = need!(along(ev, call));
    let given = need!(call.get("split_size").or(call.get("split_sizes")));
    let lengths = match given.items() {
        Some(items) => need!(
            items
                .iter()
                .map(Argument::as_dim)
                .collect::<Option<Vec<_>>>()
        ),
        None => need!(even(need!(shape[axis].as_number()), need!(given.as_int()))),
    };
    parts(ev, x, axis, &lengths)
}

pub(super) fn tensor_split(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape, axis) = need!(along(ev, call));
    let indices = need!(need!(call.get("indices")).items());
    let mut lengths = Vec::with_capacity(indices.len() + 1);
    let mut start = Dim::from(0);
    let ends = indices.iter().map(Argument::as_dim);
    for end in ends.chain([Some(shape[axis].clone())]) {
        let end = need!(end);
        let length = end.clone() - start;
        // Others count from the end, overlap or are cut off.
        if !length.is_never_negative() {
            return Ok(None);
        }
        lengths.push(length);
        start = end;
    }
    parts(ev, x, axis, &lengths)
}

pub(super) fn unbind(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape, axis) = need!(along(ev, call));
    let n = need!(shape[axis].as_number().filter(|n| *n <= MAX_PARTS));
    let mut values = Vec::new();
    for i in 0..n {
        values.push(need!(pick(ev, x, axis, Dim::from(i))?));
    }
    Ok(Some(Lowered::List(values)))
}

pub(super) fn index_select(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, _, axis) = need!(along(ev, call));
    let index = need!(call.tensor("index"));
    let tensor = &need!(ev.graph().constant(index.node)).tensor;
    if !matches!(tensor.dtype(), DType::I64 | DType::I32) || tensor.shape().len() != 1 {
        return Ok(None);
    }
    let whole = |x: &f64| (0.0..=f64::from(u32::MAX)).contains(x).then_some(*x as u32);
    let index: Index = need!(
        tensor
            .elements::<f64>()
            .iter()
            .map(whole)
            .collect::<Option<Vec<_>>>()
    )
    .into();
    one(ev.emit("index_select", Op::Gather { axis, index }, &[x])?)
}
