//! Spatial dimensions resampled, one after the other.

use ndarray::{Axis, Zip};

use super::array::{Array, element_count};
use crate::ir::{Real, ResizeMode};

/// Spatial dimensions resampled to `size`.
pub(super) fn resize<'a, T: Real>(
    x: Array<'a, T>,
    size: &[usize],
    mode: ResizeMode,
) -> Result<Array<'a, T>, String> {
    if x.shape().len() != size.len() + 2 {
        return Err(format!(
            "the size {size:?} does not fit the shape {:?}",
            x.shape()
        ));
    }
    let mut x = x;
    for (i, target) in size.iter().enumerate() {
        let axis = i + 2;
        let len = x.shape()[axis];
        if len == *target {
            continue;
        }
        let mut shape = x.shape().to_vec();
        shape[axis] = *target;
        element_count::<T>(&shape)?;
        if len == 0 {
            return Err(format!("axis {axis} of {:?} is empty", x.shape()));
        }
        let samples: Vec<_> = (0..*target)
            .map(|o| sample(o, len, *target, mode))
            .collect();
        let lower: Vec<usize> = samples.iter().map(|s| s.0).collect();
        let mut result = x.view().select(Axis(axis), &lower);
        if mode != ResizeMode::Nearest {
            for (mut lane, (lower, weight)) in result.axis_iter_mut(Axis(axis)).zip(&samples) {
                let weight = T::from_f64(*weight);
                let view = x.view();
                let upper = view.index_axis(Axis(axis), (lower + 1).min(len - 1));
                Zip::from(&mut lane)
                    .and(&upper)
                    .for_each(|a, b| *a = *a + (*b - *a) * weight);
            }
        }
        x = result.into();
    }
    Ok(x)
}

/// The sample at or before output position `o`, and how far on to the next one it lies.
pub(super) fn sample(o: usize, len: usize, target: usize, mode: ResizeMode) -> (usize, f64) {
    let at = match mode {
        ResizeMode::Nearest => return (o * len / target, 0.0),
        ResizeMode::Linear => ((o as f64 + 0.5) * len as f64 / target as f64 - 0.5).max(0.0),
        ResizeMode::LinearAligned if target == 1 => 0.0,
        ResizeMode::LinearAligned => o as f64 * (len - 1) as f64 / (target - 1) as f64,
    };
    let lower = (at as usize).min(len - 1);
    (lower, at - lower as f64)
}
