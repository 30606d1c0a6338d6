//! Normalisations. Sums are made in double precision.

use super::super::array::{Array, from_vec};
use super::super::matmul::vector;
use super::super::movement::transpose;
use super::operator::Site;
use crate::ir::Real;

/// At inference a factor for each channel.
pub(super) fn batch_norm<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    eps: f64,
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let shape = adjoint.shape().to_vec();
    let [_, channels, spatial @ ..] = &shape[..] else {
        return Err(format!("an input of shape {shape:?} has no channels"));
    };
    let scale = vector(site.operand(1)?, *channels, "scale")?;
    let variance = vector(site.operand(4)?, *channels, "variance")?;
    let factor = |(s, v): (&T, &T)| T::from_f64(Real::to_f64(*s) / (Real::to_f64(*v) + eps).sqrt());
    let factors: Vec<T> = scale.iter().zip(&variance).map(factor).collect();
    let plane: usize = spatial.iter().product();
    let mut adjoint = adjoint.into_vec();
    let planes = adjoint.chunks_exact_mut(plane.max(1));
    for (plane, factor) in planes.zip(factors.iter().cycle()) {
        plane.iter_mut().for_each(|a| *a = *a * *factor);
    }
    from_vec(&shape, adjoint)
}

pub(super) fn layer_norm<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    axes: usize,
    eps: f64,
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let shape = adjoint.shape().to_vec();
    let first = shape.len().saturating_sub(axes);
    let len: usize = shape[first..].iter().product();
    let mut adjoint = adjoint.into_vec();
    if let Ok(scale) = site.operand(1) {
        let scale: Vec<T> = scale.view().iter().copied().collect();
        adjoint
            .iter_mut()
            .zip(scale.iter().cycle())
            .for_each(|(a, s)| *a = *a * *s);
    }
    let x = site.operand(0)?.contiguous();
    let rows = x.as_slice().unwrap_or_default().chunks_exact(len.max(1));
    for (row, adjoint) in rows.zip(adjoint.chunks_exact_mut(len.max(1))) {
        normalised(row, adjoint, eps);
    }
    from_vec(&shape, adjoint)
}

pub(super) fn group_norm<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    groups: usize,
    eps: f64,
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let shape = adjoint.shape().to_vec();
    let [_, channels, spatial @ ..] = &shape[..] else {
        return Err(format!("an input of shape {shape:?} has no channels"));
    };
    let plane: usize = spatial.iter().product::<usize>().max(1);
    let mut adjoint = adjoint.into_vec();
    if let Ok(scale) = site.operand(1) {
        let scale = vector(scale, *channels, "scale")?;
        for (plane, s) in adjoint.chunks_exact_mut(plane).zip(scale.iter().cycle()) {
            plane.iter_mut().for_each(|a| *a = *a * *s);
        }
    }
    let len = (channels / groups.max(1) * plane).max(1);
    let x = site.operand(0)?.contiguous();
    let rows = x.as_slice().unwrap_or_default().chunks_exact(len);
    for (row, adjoint) in rows.zip(adjoint.chunks_exact_mut(len)) {
        normalised(row, adjoint, eps);
    }
    from_vec(&shape, adjoint)
}

/// The adjoint of a row before it was given mean 0 and variance 1, in the place of that after.
fn normalised<T: Real>(row: &[T], adjoint: &mut [T], eps: f64) {
    let mean_of = |sum: f64| sum / row.len().max(1) as f64;
    let mean = mean_of(row.iter().map(|x| Real::to_f64(*x)).sum());
    let variance = mean_of(row.iter().map(|x| (Real::to_f64(*x) - mean).powi(2)).sum());
    let factor = (variance + eps).sqrt().recip();
    let y = |x: &T| (Real::to_f64(*x) - mean) * factor;
    let level = mean_of(adjoint.iter().map(|a| Real::to_f64(*a)).sum());
    let along = mean_of(
        adjoint
            .iter()
            .zip(row)
            .map(|(a, x)| Real::to_f64(*a) * y(x))
            .sum(),
    );
    for (a, x) in adjoint.iter_mut().zip(row) {
        *a = T::from_f64(factor * (Real::to_f64(*a) - level - y(x) * along));
    }
}

/// By the result of a softmax, or of its logarithm.
pub(super) fn softmax<'g, T: Real>(
    y: &Array<'g, T>,
    axis: usize,
    log: bool,
    adjoint: &Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let rank = y.shape().len();
    let mut perm: Vec<usize> = (0..rank).filter(|a| *a != axis).collect();
    perm.push(axis);
    let (y, adjoint) = (
        transpose(y.clone(), &perm)?,
        transpose(adjoint.clone(), &perm)?,
    );
    let shape = y.shape().to_vec();
    let len = shape.last().copied().unwrap_or(1).max(1);
    let y = y.contiguous();
    let mut result = adjoint.into_vec();
    let rows = y.as_slice().unwrap_or_default().chunks_exact(len);
    for (y, adjoint) in rows.zip(result.chunks_exact_mut(len)) {
        let sum: f64 = if log {
            adjoint.iter().map(|a| Real::to_f64(*a)).sum()
        } else {
            let both = adjoint.iter().zip(y);
            both.map(|(a, y)| Real::to_f64(*a) * Real::to_f64(*y)).sum()
        };
        let sum = T::from_f64(sum);
        for (a, y) in adjoint.iter_mut().zip(y) {
            *a = if log {
                *a - y.exp() * sum
            } else {
                *y * (*a - sum)
            };
        }
    }
    let mut back: Vec<usize> = (0..rank - 1).collect();
    back.insert(axis, rank - 1);
    transpose(from_vec(&shape, result)?, &back)
}
