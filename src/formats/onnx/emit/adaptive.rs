//! Pools to a given size.

use super::layout::cut;
use super::{Emitted, reduced};
use crate::formats::onnx::attributes::{int, ints};
use crate::formats::onnx::error::OnnxError;
use crate::ir::Dim;

/// As a pool over everything, or one with windows of one size; else axis by axis, window by window.
pub(super) fn pool(
    w: &mut Emitted<'_, '_>,
    output: &[Dim],
    maximum: bool,
) -> Result<(), OnnxError> {
    let x = w.operand(0)?;
    let (global, windows, reduce) = if maximum {
        ("GlobalMaxPool", "MaxPool", "ReduceMax")
    } else {
        ("GlobalAveragePool", "AveragePool", "ReduceMean")
    };
    if output.iter().all(|n| n.as_number() == Some(1)) {
        return w.last(global, &[x], vec![]);
    }
    w.known_rank(0)?;
    let from = w.spatial(0).unwrap_or_default();
    let even = |(from, to): (&Dim, &Dim)| match (from.as_number(), to.as_number()) {
        (Some(from), Some(to)) if to > 0 && from % to == 0 => Some(from / to),
        _ => None,
    };
    let kernel: Option<Vec<i64>> = from.iter().zip(output).map(even).collect();
    if let Some(kernel) = kernel {
        let attributes = vec![
            ints("kernel_shape", kernel.clone()),
            ints("strides", kernel),
        ];
        return w.last(windows, &[x], attributes);
    }
    let mut value = x;
    for (i, (from, to)) in from.iter().zip(output).enumerate() {
        if from == to {
            continue;
        }
        let Some(count) = to.as_number().filter(|n| *n <= MAX_WINDOWS) else {
            let what = format!("`{}` pools to {to} windows", w.out);
            return Err(OnnxError::unwritable(
                what,
                "give the pool a fixed output size, or write another format",
            ));
        };
        let axis = i + 2;
        let mut parts = Vec::new();
        for window in 0..count {
            let start = (from.clone() * Dim::from(window)).floor_div(to);
            let end = (from.clone() * Dim::from(window + 1)).ceil_div(to);
            let part = cut(w, &value, axis, &start, &end);
            parts.push(reduced(w, reduce, &part, &[axis]));
        }
        value = w.step("Concat", &parts, vec![int("axis", axis as i64)]);
    }
    w.last("Identity", &[value], vec![])
}

/// The most windows of different sizes that are written one by one.
const MAX_WINDOWS: i64 = 64;
