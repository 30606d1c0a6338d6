//! Operators along axes: sums, means, maxima, softmax.

use rayon::prelude::*;

use super::array::{Array, from_vec};
use super::movement::transpose;
use super::pool::larger;
use crate::ir::Real;

/// Mean, sum or maximum over axes.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Reduction {
    Mean,
    Sum,
    Max,
}

/// Reduces over `axes`, which stay as 1 if `keep`.
pub(super) fn reduce<'a, T: Real>(
    x: Array<'a, T>,
    axes: &[usize],
    keep: bool,
    reduction: Reduction,
) -> Result<Array<'a, T>, String> {
    let shape = x.shape().to_vec();
    if let Some(axis) = axes.iter().find(|axis| **axis >= shape.len()) {
        return Err(format!("there is no axis {axis} in the shape {shape:?}"));
    }
    let kept: Vec<usize> = (0..shape.len()).filter(|a| !axes.contains(a)).collect();
    let reduced: Vec<usize> = (0..shape.len()).filter(|a| axes.contains(a)).collect();
    let len: usize = reduced.iter().map(|a| shape[*a]).product();
    let count: usize = kept.iter().map(|a| shape[*a]).product();
    if len == 0 && reduction == Reduction::Max {
        return Err("nothing has no maximum".into());
    }
    let elements = transpose(x, &[&kept[..], &reduced].concat())?;
    let elements = elements.contiguous();
    let elements = elements.as_slice().unwrap_or_default();
    let row = |i: usize| {
        let row = &elements[i * len..][..len];
        let sum = || row.iter().map(|&x| x.to_f64()).sum::<f64>();
        match reduction {
            Reduction::Sum => T::from_f64(sum()),
            Reduction::Mean => T::from_f64(sum() / len as f64),
            Reduction::Max => row.iter().copied().fold(T::neg_infinity(), larger),
        }
    };
    let result: Vec<T> = (0..count)
        .into_par_iter()
        .with_min_len(64)
        .map(row)
        .collect();
    let shape: Vec<usize> = if keep {
        (0..shape.len())
            .map(|a| if axes.contains(&a) { 1 } else { shape[a] })
            .collect()
    } else {
        kept.iter().map(|a| shape[*a]).collect()
    };
    from_vec(&shape, result)
}

/// Softmax along an axis, or its logarithm.
pub(super) fn softmax<'a, T: Real>(
    x: Array<'a, T>,
    axis: usize,
    log: bool,
) -> Result<Array<'a, T>, String> {
    let rank = x.shape().len();
    if axis >= rank {
        return Err(format!(
            "there is no axis {axis} in the shape {:?}",
            x.shape()
        ));
    }
    // The axis goes last and back again.
    let mut perm: Vec<usize> = (0..rank).filter(|a| *a != axis).collect();
    perm.push(axis);
    let x = transpose(x, &perm)?;
    let shape = x.shape().to_vec();
    let mut result = x.into_vec();
    result
        .par_chunks_mut(shape[rank - 1].max(1))
        .with_min_len(16)
        .for_each(|row| softmax_row(row, log));
    let mut back: Vec<usize> = (0..rank - 1).collect();
    back.insert(axis, rank - 1);
    transpose(from_vec(&shape, result)?, &back)
}

/// Softmax of one row in place, or its logarithm.
pub(super) fn softmax_row<T: Real>(row: &mut [T], log: bool) {
    let max = row.iter().copied().fold(T::neg_infinity(), larger);
    if log {
        let sum: f64 = row.iter().map(|x| (*x - max).exp().to_f64()).sum();
        let offset = max + T::from_f64(sum.ln());
        for x in row {
            *x = *x - offset;
        }
        return;
    }
    let mut sum = 0.0;
    for x in row.iter_mut() {
        *x = (*x - max).exp();
        sum += x.to_f64();
    }
    let factor = T::from_f64(sum.recip());
    for x in row {
        *x = *x * factor;
    }
}
