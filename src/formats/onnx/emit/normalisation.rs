//! Normalisations.

use super::layout::{filled, per_channel};
use super::reduced;
use crate::formats::onnx::attributes::{float, int, ints};
use crate::formats::onnx::error::OnnxError;
use crate::formats::onnx::write::{Emitted, Writer};
use crate::ir::Dim;

pub(super) fn batch(w: &mut Writer<'_>, emitted: &Emitted<'_>, eps: f64) -> Result<(), OnnxError> {
    let inputs = w.values(&emitted.operands)?;
    w.last(
        emitted,
        "BatchNormalization",
        &inputs,
        vec![float("epsilon", eps)],
    )
}

/// The operand, or what leaves a result as it is: ones for a scale, zeros for a shift.
fn parameter(
    w: &mut Writer<'_>,
    emitted: &Emitted<'_>,
    i: usize,
    shape: &[usize],
) -> Result<String, OnnxError> {
    match emitted.operands.get(i) {
        Some(value) => w.value(*value),
        None => {
            let x = if i == 1 { 1.0 } else { 0.0 };
            Ok(filled(w, shape, x, emitted.dtype()))
        }
    }
}

pub(super) fn layer(
    w: &mut Writer<'_>,
    emitted: &Emitted<'_>,
    axes: usize,
    eps: f64,
) -> Result<(), OnnxError> {
    let rank = w.known_rank(emitted, 0)?;
    let x = w.value(emitted.operands[0])?;
    let first = rank.saturating_sub(axes);
    let lengths: Option<Vec<usize>> = emitted.types[0]
        .shape()
        .unwrap_or_default()
        .get(first..)
        .and_then(|dims| dims.iter().map(Dim::as_len).collect());
    if w.opset >= 17
        && let (Some(lengths), false) = (&lengths, axes == 0)
    {
        let mut inputs = vec![x, parameter(w, emitted, 1, lengths)?];
        if emitted.operands.len() > 2 {
            inputs.push(parameter(w, emitted, 2, lengths)?);
        }
        // From the end, so that it holds for any rank.
        let attributes = vec![int("axis", -(axes as i64)), float("epsilon", eps)];
        return w.last(emitted, "LayerNormalization", &inputs, attributes);
    }
    let over: Vec<usize> = (first..rank).collect();
    let mean = reduced(w, emitted, "ReduceMean", &x, &over);
    let centred = w.step(emitted, "Sub", &[x, mean], vec![]);
    let square = w.step(emitted, "Mul", &[centred.clone(), centred.clone()], vec![]);
    let variance = reduced(w, emitted, "ReduceMean", &square, &over);
    let eps = w.scalar(eps, emitted.dtype());
    let shifted = w.step(emitted, "Add", &[variance, eps], vec![]);
    let root = w.step(emitted, "Sqrt", &[shifted], vec![]);
    let mut value = w.step(emitted, "Div", &[centred, root], vec![]);
    for (i, op) in [(1, "Mul"), (2, "Add")] {
        if let Some(parameter) = emitted.operands.get(i) {
            let parameter = w.value(*parameter)?;
            value = w.step(emitted, op, &[value, parameter], vec![]);
        }
    }
    w.last(emitted, "Identity", &[value], vec![])
}

/// As the normalisation of instances, each of them a group.
pub(super) fn group(
    w: &mut Writer<'_>,
    emitted: &Emitted<'_>,
    groups: usize,
    eps: f64,
) -> Result<(), OnnxError> {
    let rank = w.known_rank(emitted, 0)?;
    let x = w.value(emitted.operands[0])?;
    let channels = emitted.types[0].len(1);
    let epsilon = float("epsilon", eps);
    if channels == Some(groups) && rank > 2 {
        let scale = parameter(w, emitted, 1, &[groups])?;
        let shift = parameter(w, emitted, 2, &[groups])?;
        return w.last(
            emitted,
            "InstanceNormalization",
            &[x, scale, shift],
            vec![epsilon],
        );
    }
    if w.opset >= 21
        && let Some(channels) = channels
    {
        let scale = parameter(w, emitted, 1, &[channels])?;
        let shift = parameter(w, emitted, 2, &[channels])?;
        let attributes = vec![epsilon, int("num_groups", groups as i64)];
        return w.last(
            emitted,
            "GroupNormalization",
            &[x, scale, shift],
            attributes,
        );
    }
    let rows = w.int_list([0, groups as i64, -1]);
    let rows = w.step(emitted, "Reshape", &[x.clone(), rows], vec![]);
    let ones = filled(w, &[groups], 1.0, emitted.dtype());
    let zeros = filled(w, &[groups], 0.0, emitted.dtype());
    let normal = w.step(
        emitted,
        "InstanceNormalization",
        &[rows, ones, zeros],
        vec![epsilon],
    );
    let shape = w.step(emitted, "Shape", &[x], vec![]);
    let mut value = w.step(emitted, "Reshape", &[normal, shape], vec![]);
    for (i, op) in [(1, "Mul"), (2, "Add")] {
        if i >= emitted.operands.len() {
            continue;
        }
        let parameter = per_channel(w, emitted, i, rank)?;
        value = w.step(emitted, op, &[value, parameter], vec![]);
    }
    w.last(emitted, "Identity", &[value], vec![])
}

/// Until version 13 the last axis is the only one over which ONNX means what the IR does.
pub(super) fn softmax(
    w: &mut Writer<'_>,
    op: &str,
    emitted: &Emitted<'_>,
    axis: usize,
) -> Result<(), OnnxError> {
    let x = w.value(emitted.operands[0])?;
    let attribute = |axis: usize| vec![int("axis", axis as i64)];
    if w.opset >= 13 {
        return w.last(emitted, op, &[x], attribute(axis));
    }
    let rank = w.known_rank(emitted, 0)?;
    let after = emitted.types[0]
        .shape()
        .and_then(|shape| shape.get(axis + 1..));
    if after.is_some_and(|after| after.iter().all(|d| d.as_number() == Some(1))) {
        return w.last(emitted, op, &[x], attribute(axis));
    }
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(axis, rank - 1);
    let swapped = w.step(emitted, "Transpose", &[x], vec![ints("perm", perm.clone())]);
    let value = w.step(emitted, op, &[swapped], attribute(rank - 1));
    w.last(emitted, "Transpose", &[value], vec![ints("perm", perm)])
}
