//! Shapes of products, normalisations, and of what moves elements about.

use super::super::attribute::PadMode;
use super::super::dim::{Dim, Dims};
use super::{Shape, are_different, broadcast, check_axis, check_shape, is_negative, product, same};

/// Input, weight, bias.
pub(super) fn linear(operands: &[Option<&[Dim]>]) -> Result<Shape, String> {
    let Some(weight) = operands[1] else {
        return Ok(None);
    };
    let [outputs, inputs] = weight else {
        return Err(format!("the weight has {} axes, not 2", weight.len()));
    };
    let bias = operands.get(2).copied().flatten();
    check_shape(bias, std::slice::from_ref(outputs), "the bias")?;
    let Some(x) = operands[0] else {
        return Ok(None);
    };
    let Some((last, rest)) = x.split_last() else {
        return Err("the input is a scalar".to_string());
    };
    same(last, inputs, || {
        "features of the input and those that the weight reads".to_string()
    })?;
    Ok(Some(rest.iter().chain([outputs]).cloned().collect()))
}

pub(super) fn matmul(a: Option<&[Dim]>, b: Option<&[Dim]>) -> Result<Shape, String> {
    let (Some(a), Some(b)) = (a, b) else {
        return Ok(None);
    };
    let ([batch_a @ .., rows, inner_a], [batch_b @ .., inner_b, columns]) = (a, b) else {
        return Err("an operand has under 2 axes".to_string());
    };
    same(inner_a, inner_b, || "inner sizes".to_string())?;
    let mut shape = broadcast(batch_a, batch_b)?;
    shape.extend([rows.clone(), columns.clone()]);
    Ok(Some(shape))
}

/// Query, key, value, mask.
pub(super) fn attention(operands: &[Option<&[Dim]>]) -> Result<Shape, String> {
    let (Some(q), Some(k), Some(v)) = (operands[0], operands[1], operands[2]) else {
        return Ok(None);
    };
    let (
        [batch_q @ .., queries, width_q],
        [batch_k @ .., keys, width_k],
        [batch_v @ .., values, width],
    ) = (q, k, v)
    else {
        return Err("an operand has under 2 axes".to_string());
    };
    same(width_q, width_k, || "widths of query and key".to_string())?;
    let keys = same(keys, values, || "lengths of key and value".to_string())?;
    let batch = broadcast(&broadcast(batch_q, batch_k)?, batch_v)?;
    if let Some(mask) = operands.get(3).copied().flatten() {
        let mut scores = batch.clone();
        scores.extend([queries.clone(), keys]);
        if mask.len() > scores.len() {
            return Err(format!(
                "the mask has {} axes, the scores {}",
                mask.len(),
                scores.len()
            ));
        }
        broadcast(&scores, mask).map_err(|e| format!("scores and mask: {e}"))?;
    }
    let mut shape = batch;
    shape.extend([queries.clone(), width.clone()]);
    Ok(Some(shape))
}

/// The size of axis 1.
fn channels(x: &[Dim]) -> Result<&Dim, String> {
    x.get(1)
        .ok_or_else(|| format!("the input has {} axes and so no channels", x.len()))
}

/// Input, then scale, shift, mean, variance.
pub(super) fn batch_norm(operands: &[Option<&[Dim]>]) -> Result<Shape, String> {
    let Some(x) = operands[0] else {
        return Ok(None);
    };
    let channels = channels(x)?;
    for (operand, what) in
        operands[1..]
            .iter()
            .zip(["the scale", "the shift", "the mean", "the variance"])
    {
        check_shape(*operand, std::slice::from_ref(channels), what)?;
    }
    Ok(Some(x.into()))
}

/// Input, scale, shift.
pub(super) fn layer_norm(axes: usize, operands: &[Option<&[Dim]>]) -> Result<Shape, String> {
    let Some(x) = operands[0] else {
        return Ok(None);
    };
    let first = x.len().checked_sub(axes).filter(|_| axes > 0);
    let first = first.ok_or_else(|| format!("the last {axes} of {} axes", x.len()))?;
    scale_and_shift(&operands[1..], &x[first..])?;
    Ok(Some(x.into()))
}

/// Input, scale, shift.
pub(super) fn group_norm(groups: usize, operands: &[Option<&[Dim]>]) -> Result<Shape, String> {
    let Some(x) = operands[0] else {
        return Ok(None);
    };
    let (channels, groups) = (channels(x)?, Dim::from(groups));
    if are_different(&(channels.floor_div(&groups) * groups.clone()), channels) {
        return Err(format!(
            "{channels} channels cannot be split into {groups} groups"
        ));
    }
    scale_and_shift(&operands[1..], std::slice::from_ref(channels))?;
    Ok(Some(x.into()))
}

fn scale_and_shift(operands: &[Option<&[Dim]>], expected: &[Dim]) -> Result<(), String> {
    for (operand, what) in operands.iter().zip(["the scale", "the shift"]) {
        check_shape(*operand, expected, what)?;
    }
    Ok(())
}

pub(super) fn prelu(x: Option<&[Dim]>, slope: Option<&[Dim]>) -> Result<Shape, String> {
    if let (Some(x), Some(slope)) = (x, slope)
        && (slope.len() != 1 || slope[0].as_number() != Some(1))
    {
        check_shape(Some(slope), std::slice::from_ref(channels(x)?), "the slope")?;
    }
    Ok(x.map(Dims::from))
}

pub(super) fn reduce(x: &[Dim], axes: &[usize], keep: bool) -> Result<Dims, String> {
    for axis in axes {
        check_axis(*axis, x.len())?;
    }
    let sizes =
        x.iter()
            .enumerate()
            .filter_map(|(axis, size)| match (axes.contains(&axis), keep) {
                (false, _) => Some(size.clone()),
                (true, true) => Some(Dim::from(1)),
                (true, false) => None,
            });
    Ok(sizes.collect())
}

pub(super) fn pad(x: &[Dim], before: &[Dim], after: &[Dim], mode: PadMode) -> Result<Dims, String> {
    if before.len() != x.len() {
        return Err(format!(
            "amounts for {} axes, the input has {}",
            before.len(),
            x.len()
        ));
    }
    let limit = |size: &Dim| match mode {
        PadMode::Constant => None,
        PadMode::Reflect => Some(size.clone() - Dim::from(1)),
        PadMode::Circular => Some(size.clone()),
        PadMode::Replicate => (size.as_number() == Some(0)).then(|| Dim::from(0)),
    };
    let mut shape = Dims::new();
    for (axis, size) in x.iter().enumerate() {
        for amount in [&before[axis], &after[axis]] {
            if let Some(limit) = limit(size)
                && amount.as_number() != Some(0)
                && is_negative(&(limit - amount.clone()))
            {
                return Err(format!(
                    "axis {axis} of size {size} is too short for a pad of {amount}"
                ));
            }
        }
        shape.push(size.clone() + before[axis].clone() + after[axis].clone());
    }
    Ok(shape)
}

pub(super) fn concat(axis: usize, operands: &[Option<&[Dim]>]) -> Result<Shape, String> {
    let known: Vec<&[Dim]> = operands.iter().copied().flatten().collect();
    let Some((first, rest)) = known.split_first() else {
        return Ok(None);
    };
    check_axis(axis, first.len())?;
    let mut shape = Dims::from(*first);
    for operand in rest {
        if operand.len() != shape.len() {
            return Err(format!(
                "an operand has {} axes, another {}",
                shape.len(),
                operand.len()
            ));
        }
        for (i, size) in operand.iter().enumerate() {
            shape[i] = if i == axis {
                shape[i].clone() + size.clone()
            } else {
                same(&shape[i], size, || format!("sizes of axis {i}"))?
            };
        }
    }
    Ok((known.len() == operands.len()).then_some(shape))
}

pub(super) fn slice(
    x: &[Dim],
    axis: usize,
    start: &Dim,
    end: &Dim,
    step: usize,
) -> Result<Dims, String> {
    check_axis(axis, x.len())?;
    let length = end.clone() - start.clone();
    if is_negative(start) || is_negative(&length) || is_negative(&(x[axis].clone() - end.clone())) {
        return Err(format!(
            "positions {start} to {end} of an axis of size {}",
            x[axis]
        ));
    }
    Ok(with(x, axis, length.ceil_div(&step.into())))
}

pub(super) fn gather(x: &[Dim], axis: usize, index: &[u32]) -> Result<Dims, String> {
    check_axis(axis, x.len())?;
    if let Some(size) = x[axis].as_number()
        && let Some(position) = index.iter().find(|i| i64::from(**i) >= size)
    {
        return Err(format!("position {position} of an axis of size {size}"));
    }
    Ok(with(x, axis, index.len().into()))
}

pub(super) fn flatten(x: &[Dim], start: usize, end: usize) -> Result<Dims, String> {
    check_axis(end, x.len())?;
    let mut shape = Dims::from(&x[..start]);
    shape.push(product(&x[start..=end])?);
    shape.extend(x[end + 1..].iter().cloned());
    Ok(shape)
}

pub(super) fn reshape(x: &[Dim], shape: &[Dim]) -> Result<Dims, String> {
    // A size that may be 0 makes equal whatever else there is.
    let (from, to) = Dim::apart(x, shape, |size| {
        (size.clone() - Dim::from(1)).is_never_negative()
    });
    let (from, to) = (product(&from)?, product(&to)?);
    if are_different(&from, &to) {
        Err(format!("{from} elements as {to}: {x:?} as {shape:?}"))
    } else {
        Ok(shape.into())
    }
}

pub(super) fn transpose(x: &[Dim], perm: &[usize]) -> Result<Dims, String> {
    if perm.len() == x.len() {
        Ok(perm.iter().map(|axis| x[*axis].clone()).collect())
    } else {
        Err(format!("perm has {} of {} axes", perm.len(), x.len()))
    }
}

pub(super) fn squeeze(x: &[Dim], axes: &[usize]) -> Result<Dims, String> {
    for axis in axes {
        check_axis(*axis, x.len())?;
        same(&Dim::from(1), &x[*axis], || {
            format!("size of axis {axis} and 1")
        })?;
    }
    reduce(x, axes, false)
}

pub(super) fn unsqueeze(x: &[Dim], axes: &[usize]) -> Result<Dims, String> {
    let rank = x.len() + axes.len();
    for axis in axes {
        check_axis(*axis, rank)?;
    }
    let mut rest = x.iter().cloned();
    Ok((0..rank)
        .filter_map(|axis| {
            if axes.contains(&axis) {
                Some(Dim::from(1))
            } else {
                rest.next()
            }
        })
        .collect())
}

pub(super) fn expand(x: &[Dim], shape: &[Dim]) -> Result<Dims, String> {
    let Some(new) = shape.len().checked_sub(x.len()) else {
        return Err(format!("{} axes as only {}", x.len(), shape.len()));
    };
    let mut result = Dims::from(shape);
    for (axis, size) in x.iter().enumerate() {
        if size.as_number() != Some(1) {
            let what = || format!("sizes of axis {axis} before and after");
            result[new + axis] = same(&shape[new + axis], size, what)?;
        }
    }
    Ok(result)
}

fn with(x: &[Dim], axis: usize, size: Dim) -> Dims {
    let mut shape = Dims::from(x);
    shape[axis] = size;
    shape
}
