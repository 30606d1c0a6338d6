//! Operators that move elements and compute nothing.

use ndarray::{ArrayD, Axis, IxDyn, Slice};

use super::array::{Array, element_count};
use super::elementwise::broadcast;
use crate::ir::{PadMode, Real};

macro_rules! either {
    ($array:expr, $a:ident => $moved:expr) => {
        match $array {
            Array::Borrowed($a) => Array::Borrowed($moved),
            Array::Shared($a) => Array::Shared($moved),
        }
    };
}

fn check_axis<T: Real>(x: &Array<T>, axis: usize) -> Result<(), String> {
    if axis < x.shape().len() {
        Ok(())
    } else {
        Err(format!(
            "there is no axis {axis} in the shape {:?}",
            x.shape()
        ))
    }
}

/// Axis `perm[i]` of the operand becomes axis i; no element moves.
pub(super) fn transpose<'a, T: Real>(
    x: Array<'a, T>,
    perm: &[usize],
) -> Result<Array<'a, T>, String> {
    let mut sorted = perm.to_vec();
    sorted.sort();
    if !sorted.iter().copied().eq(0..x.shape().len()) {
        return Err(format!(
            "{perm:?} is no permutation of the axes of {:?}",
            x.shape()
        ));
    }
    Ok(either!(x, x => x.permuted_axes(perm)))
}

/// Positions `start`, `start + step`, .. before `end` of `axis`.
pub(super) fn slice<'a, T: Real>(
    x: Array<'a, T>,
    axis: usize,
    start: usize,
    end: usize,
    step: usize,
) -> Result<Array<'a, T>, String> {
    check_axis(&x, axis)?;
    let len = x.shape()[axis];
    let Ok(signed_step @ 1..) = isize::try_from(step) else {
        return Err(format!("a slice cannot go in steps of {step}"));
    };
    if start > end || end > len {
        return Err(format!(
            "{start}..{end} is not within the length {len} of axis {axis}"
        ));
    }
    let slice = Slice::new(start as isize, Some(end as isize), signed_step);
    Ok(either!(x, x => x.slice_axis_move(Axis(axis), slice)))
}

/// Position `index[i]` of `axis` at position i.
pub(super) fn gather<'a, T: Real>(
    x: &Array<T>,
    axis: usize,
    index: &[u32],
) -> Result<Array<'a, T>, String> {
    check_axis(x, axis)?;
    let len = x.shape()[axis];
    if let Some(i) = index.iter().find(|i| **i as usize >= len) {
        return Err(format!(
            "the index has position {i}, axis {axis} only {len}"
        ));
    }
    let index: Vec<usize> = index.iter().map(|i| *i as usize).collect();
    select(x, axis, &index)
}

/// As [`gather`], of positions that are there.
fn select<'a, T: Real>(x: &Array<T>, axis: usize, index: &[usize]) -> Result<Array<'a, T>, String> {
    let mut shape = x.shape().to_vec();
    shape[axis] = index.len();
    element_count::<T>(&shape)?;
    Ok(x.view().select(Axis(axis), index).into())
}

/// Arrays one after the other along `axis`.
pub(super) fn concat<'a, T: Real>(
    parts: &[Array<'a, T>],
    axis: usize,
) -> Result<Array<'a, T>, String> {
    let views: Vec<_> = parts.iter().map(Array::view).collect();
    let mut shape = views.first().ok_or("nothing to join")?.shape().to_vec();
    if axis >= shape.len() {
        return Err(format!("there is no axis {axis} in the shape {shape:?}"));
    }
    shape[axis] = 0;
    for view in &views {
        let fits = view.ndim() == shape.len()
            && (0..shape.len()).all(|a| a == axis || view.len_of(Axis(a)) == shape[a]);
        if !fits {
            return Err(format!(
                "{:?} does not fit beside {:?} along axis {axis}",
                view.shape(),
                views[0].shape()
            ));
        }
        shape[axis] = shape[axis].saturating_add(view.len_of(Axis(axis)));
    }
    element_count::<T>(&shape)?;
    ndarray::concatenate(Axis(axis), &views)
        .map(Array::from)
        .map_err(|e| e.to_string())
}

/// Axes `start..=end` joined into one.
pub(super) fn flatten<'a, T: Real>(
    x: Array<'a, T>,
    start: usize,
    end: usize,
) -> Result<Array<'a, T>, String> {
    let shape = x.shape();
    if start > end || end >= shape.len() {
        return Err(format!("{shape:?} has no axes {start} to {end} to join"));
    }
    let joined = shape[start..=end].iter().product();
    let shape = [&shape[..start], &[joined], &shape[end + 1..]].concat();
    x.reshaped(&shape)
}

/// Axes of length 1 removed.
pub(super) fn squeeze<'a, T: Real>(
    x: Array<'a, T>,
    axes: &[usize],
) -> Result<Array<'a, T>, String> {
    let shape = x.shape().to_vec();
    if let Some(axis) = axes.iter().find(|a| shape.get(**a) != Some(&1)) {
        return Err(format!("axis {axis} of {shape:?} does not have length 1"));
    }
    let mut axes = axes.to_vec();
    axes.sort();
    axes.dedup();
    let mut x = x;
    for axis in axes.into_iter().rev() {
        x = either!(x, x => x.remove_axis(Axis(axis)).into_dyn());
    }
    Ok(x)
}

/// Axes of length 1 inserted, at these positions of the result.
pub(super) fn unsqueeze<'a, T: Real>(
    x: Array<'a, T>,
    axes: &[usize],
) -> Result<Array<'a, T>, String> {
    let mut axes = axes.to_vec();
    axes.sort();
    let mut x = x;
    for axis in axes {
        if axis > x.shape().len() {
            return Err(format!(
                "an axis cannot be inserted at {axis} of {:?}",
                x.shape()
            ));
        }
        x = either!(x, x => x.insert_axis(Axis(axis)));
    }
    Ok(x)
}

/// Axes of length 1 repeated, new axes put in front.
pub(super) fn expand<'a, T: Real>(x: &Array<T>, shape: &[usize]) -> Result<Array<'a, T>, String> {
    element_count::<T>(shape)?;
    Ok(broadcast(x, shape)?.to_owned().into())
}

/// Positions added to every axis; negative amounts cut.
pub(super) fn pad<'a, T: Real>(
    x: Array<'a, T>,
    before: &[i64],
    after: &[i64],
    mode: PadMode,
    value: f64,
) -> Result<Array<'a, T>, String> {
    let rank = x.shape().len();
    if before.len() != rank || after.len() != rank {
        return Err(format!(
            "amounts for {} and {} axes, {rank} there",
            before.len(),
            after.len()
        ));
    }
    let mut x = x;
    for axis in 0..rank {
        x = pad_axis(x, axis, before[axis], after[axis], mode, value)?;
    }
    Ok(x)
}

fn pad_axis<'a, T: Real>(
    x: Array<'a, T>,
    axis: usize,
    before: i64,
    after: i64,
    mode: PadMode,
    value: f64,
) -> Result<Array<'a, T>, String> {
    let cut = |amount: i64| usize::try_from(amount.saturating_neg()).unwrap_or(0);
    let add = |amount: i64| usize::try_from(amount).unwrap_or(0);
    let len = x.shape()[axis];
    let end = len.saturating_sub(cut(after));
    let x = slice(x, axis, cut(before), end, 1)?;
    let (len, before, after) = (x.shape()[axis], add(before), add(after));
    if before == 0 && after == 0 {
        return Ok(x);
    }
    let total = len
        .checked_add(before)
        .and_then(|n| n.checked_add(after))
        .ok_or("the pad is too large")?;
    let mut shape = x.shape().to_vec();
    shape[axis] = total;
    element_count::<T>(&shape)?;
    if mode == PadMode::Constant {
        let mut result = ArrayD::from_elem(IxDyn(&shape), T::from_f64(value));
        result
            .slice_axis_mut(Axis(axis), Slice::from(before..before + len))
            .assign(&x.view());
        return Ok(result.into());
    }
    select(&x, axis, &padded_positions(len, before, after, mode)?)
}

/// Which positions of an axis of length `len` one that is padded otherwise than by a constant shows.
pub(super) fn padded_positions(
    len: usize,
    before: usize,
    after: usize,
    mode: PadMode,
) -> Result<Vec<usize>, String> {
    let limit = match mode {
        PadMode::Reflect => len.saturating_sub(1),
        PadMode::Circular => len,
        _ if len == 0 => 0,
        _ => usize::MAX,
    };
    if before.max(after) > limit {
        return Err(format!(
            "a length of {len} is too short for a pad of {before} and {after}"
        ));
    }
    let total = before.saturating_add(len).saturating_add(after);
    element_count::<u8>(&[total])?;
    let source = |i: usize| match mode {
        PadMode::Reflect if i < before => before - i,
        PadMode::Reflect if i >= before + len => 2 * (len - 1) - (i - before),
        PadMode::Circular => (i + len - before) % len,
        _ => i.saturating_sub(before).min(len - 1),
    };
    Ok((0..total).map(source).collect())
}
