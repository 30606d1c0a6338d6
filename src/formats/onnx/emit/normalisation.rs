//! Normalisations.

use super::layout::{filled, per_channel};
use super::{Emitted, reduced};
use crate::formats::onnx::attributes::{float, int, ints};
use crate::formats::onnx::error::OnnxError;
use crate::ir::Dim;

pub(super) fn batch(w: &mut Emitted<'_, '_>, eps: f64) -> Result<(), OnnxError> {
    let inputs = w.operand_names()?;
    w.last("BatchNormalization", &inputs, vec![float("epsilon", eps)])
}

/// The operand, or what leaves a result as it is: ones for a scale, zeros for a shift.
fn parameter(w: &mut Emitted<'_, '_>, i: usize, shape: &[usize]) -> Result<String, OnnxError> {
    match w.operands.get(i).copied() {
        Some(value) => w.value(value),
        None => {
            let x = if i == 1 { 1.0 } else { 0.0 };
            let dtype = w.dtype();
            Ok(filled(w, shape, x, dtype))
        }
    }
}

pub(super) fn layer(w: &mut Emitted<'_, '_>, axes: usize, eps: f64) -> Result<(), OnnxError> {
    let rank = w.known_rank(0)?;
    let x = w.operand(0)?;
    let first = rank.saturating_sub(axes);
    let lengths: Option<Vec<usize>> = w.types[0]
        .shape()
        .unwrap_or_default()
        .get(first..)
        .and_then(|dims| dims.iter().map(Dim::as_len).collect());
    if w.opset >= 17
        && let (Some(lengths), false) = (&lengths, axes == 0)
    {
        let mut inputs = vec![x, parameter(w, 1, lengths)?];
        if w.operands.len() > 2 {
            inputs.push(parameter(w, 2, lengths)?);
        }
        // From the end, so that it holds for any rank.
        let attributes = vec![int("axis", -(axes as i64)), float("epsilon", eps)];
        return w.last("LayerNormalization", &inputs, attributes);
    }
    let over: Vec<usize> = (first..rank).collect();
    let mean = reduced(w, "ReduceMean", &x, &over);
    let centred = w.step("Sub", &[x, mean], vec![]);
    let square = w.step("Mul", &[centred.clone(), centred.clone()], vec![]);
    let variance = reduced(w, "ReduceMean", &square, &over);
    let eps = w.number(eps);
    let shifted = w.step("Add", &[variance, eps], vec![]);
    let root = w.step("Sqrt", &[shifted], vec![]);
    let mut value = w.step("Div", &[centred, root], vec![]);
    for (i, op) in [(1, "Mul"), (2, "Add")] {
        if let Some(parameter) = w.operands.get(i).copied() {
            let parameter = w.value(parameter)?;
            value = w.step(op, &[value, parameter], vec![]);
        }
    }
    w.last("Identity", &[value], vec![])
}

/// As the normalisation of instances, each of them a group.
pub(super) fn group(w: &mut Emitted<'_, '_>, groups: usize, eps: f64) -> Result<(), OnnxError> {
    let rank = w.known_rank(0)?;
    let x = w.operand(0)?;
    let channels = w.types[0].len(1);
    let epsilon = float("epsilon", eps);
    if channels == Some(groups) && rank > 2 {
        let scale = parameter(w, 1, &[groups])?;
        let shift = parameter(w, 2, &[groups])?;
        return w.last("InstanceNormalization", &[x, scale, shift], vec![epsilon]);
    }
    if w.opset >= 21
        && let Some(channels) = channels
    {
        let scale = parameter(w, 1, &[channels])?;
        let shift = parameter(w, 2, &[channels])?;
        let attributes = vec![epsilon, int("num_groups", groups as i64)];
        return w.last("GroupNormalization", &[x, scale, shift], attributes);
    }
    let rows = w.int_list([0, groups as i64, -1]);
    let rows = w.step("Reshape", &[x.clone(), rows], vec![]);
    let dtype = w.dtype();
    let ones = filled(w, &[groups], 1.0, dtype);
    let zeros = filled(w, &[groups], 0.0, dtype);
    let normal = w.step("InstanceNormalization", &[rows, ones, zeros], vec![epsilon]);
    let shape = w.step("Shape", &[x], vec![]);
    let mut value = w.step("Reshape", &[normal, shape], vec![]);
    for (i, op) in [(1, "Mul"), (2, "Add")] {
        if i >= w.operands.len() {
            continue;
        }
        let parameter = per_channel(w, i, rank)?;
        value = w.step(op, &[value, parameter], vec![]);
    }
    w.last("Identity", &[value], vec![])
}

/// Until version 13 the last axis is the only one over which ONNX means what the IR does.
pub(super) fn softmax(w: &mut Emitted<'_, '_>, op: &str, axis: usize) -> Result<(), OnnxError> {
    let x = w.operand(0)?;
    let attribute = |axis: usize| vec![int("axis", axis as i64)];
    if w.opset >= 13 {
        return w.last(op, &[x], attribute(axis));
    }
    let rank = w.known_rank(0)?;
    let after = w.types[0].shape().and_then(|shape| shape.get(axis + 1..));
    if after.is_some_and(|after| after.iter().all(|d| d.as_number() == Some(1))) {
        return w.last(op, &[x], attribute(axis));
    }
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(axis, rank - 1);
    let swapped = w.step("Transpose", &[x], vec![ints("perm", perm.clone())]);
    let value = w.step(op, &[swapped], attribute(rank - 1));
    w.last("Transpose", &[value], vec![ints("perm", perm)])
}
