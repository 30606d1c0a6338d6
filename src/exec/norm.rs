//! Normalisations. Statistics are summed in double precision.

use rayon::prelude::*;

use super::array::{Array, from_vec};
use super::matmul::vector;
use crate::ir::Real;

/// `x [N,C,..]`, then scale, shift, mean and variance `[C]` each.
pub(super) fn batch_norm<'a, T: Real>(
    x: Array<'a, T>,
    parameters: [&Array<T>; 4],
    eps: f64,
) -> Result<Array<'a, T>, String> {
    let channels = *x.shape().get(1).ok_or("the input has no channels")?;
    let [scale, shift, mean, variance] = parameters;
    let scale = vector(scale, channels, "scale")?;
    let shift = vector(shift, channels, "shift")?;
    let mean = vector(mean, channels, "mean")?;
    let variance = vector(variance, channels, "variance")?;
    let affine: Vec<(T, T)> = (0..channels)
        .map(|c| {
            let factor = scale[c].to_f64() / (variance[c].to_f64() + eps).sqrt();
            let offset = shift[c].to_f64() - mean[c].to_f64() * factor;
            (T::from_f64(factor), T::from_f64(offset))
        })
        .collect();
    let shape = x.shape().to_vec();
    let plane: usize = shape[2..].iter().product();
    let mut result = x.into_vec();
    result
        .par_chunks_mut(plane.max(1))
        .enumerate()
        .for_each(|(i, plane)| {
            let (factor, offset) = affine[i % channels];
            for x in plane {
                *x = *x * factor + offset;
            }
        });
    from_vec(&shape, result)
}

/// Normalisation over the last `axes` axes, then scale and shift of their shape.
pub(super) fn layer_norm<'a, T: Real>(
    x: Array<'a, T>,
    scale: Option<&Array<T>>,
    shift: Option<&Array<T>>,
    axes: usize,
    eps: f64,
) -> Result<Array<'a, T>, String> {
    let shape = x.shape().to_vec();
    let first = shape
        .len()
        .checked_sub(axes)
        .ok_or_else(|| format!("{axes} axes to normalise, {} there", shape.len()))?;
    let inner = &shape[first..];
    let len: usize = inner.iter().product();
    let parameter = |array: Option<&Array<T>>, what: &str| match array {
        Some(array) if array.shape() == inner => {
            Ok(Some(array.view().iter().copied().collect::<Vec<T>>()))
        }
        Some(array) => Err(format!(
            "the {what} has the shape {:?} instead of {inner:?}",
            array.shape()
        )),
        None => Ok(None),
    };
    let (scale, shift) = (parameter(scale, "scale")?, parameter(shift, "shift")?);
    let mut result = x.into_vec();
    result.par_chunks_mut(len.max(1)).for_each(|row| {
        normalise(row, eps);
        if let Some(scale) = &scale {
            row.iter_mut().zip(scale).for_each(|(x, s)| *x = *x * *s);
        }
        if let Some(shift) = &shift {
            row.iter_mut().zip(shift).for_each(|(x, s)| *x = *x + *s);
        }
    });
    from_vec(&shape, result)
}

/// Normalisation of `[N,C,..]` within each group of channels, then scale and shift `[C]`.
pub(super) fn group_norm<'a, T: Real>(
    x: Array<'a, T>,
    scale: Option<&Array<T>>,
    shift: Option<&Array<T>>,
    groups: usize,
    eps: f64,
) -> Result<Array<'a, T>, String> {
    let shape = x.shape().to_vec();
    let channels = *shape.get(1).ok_or("the input has no channels")?;
    if groups == 0 || channels % groups != 0 {
        return Err(format!("{channels} channels do not make {groups} groups"));
    }
    let scale = scale.map(|s| vector(s, channels, "scale")).transpose()?;
    let shift = shift.map(|s| vector(s, channels, "shift")).transpose()?;
    let plane: usize = shape[2..].iter().product::<usize>();
    let members = channels / groups;
    let mut result = x.into_vec();
    result
        .par_chunks_mut((members * plane).max(1))
        .enumerate()
        .for_each(|(group, elements)| {
            normalise(elements, eps);
            for (i, plane) in elements.chunks_mut(plane.max(1)).enumerate() {
                let channel = group % groups * members + i;
                let scale = scale.as_ref().map_or(T::one(), |s| s[channel]);
                let shift = shift.as_ref().map_or(T::zero(), |s| s[channel]);
                for x in plane {
                    *x = *x * scale + shift;
                }
            }
        });
    from_vec(&shape, result)
}

/// Makes mean 0 and variance 1, but for `eps`.
fn normalise<T: Real>(xs: &mut [T], eps: f64) {
    let count = xs.len() as f64;
    let mean = xs.iter().map(|&x| x.to_f64()).sum::<f64>() / count;
    let variance = xs.iter().map(|&x| (x.to_f64() - mean).powi(2)).sum::<f64>() / count;
    let factor = (variance + eps).sqrt().recip();
    for x in xs {
        *x = T::from_f64((x.to_f64() - mean) * factor);
    }
}
