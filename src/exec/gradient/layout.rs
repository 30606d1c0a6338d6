//! Elements moved to other places, and one element of many.

use ndarray::{ArrayD, Axis, IxDyn, Slice};

use super::super::array::{Array, from_vec, zeros};
use super::super::elementwise::broadcast;
use super::super::evaluate::{evaluate, length};
use super::super::movement;
use super::super::reduce::Reduction;
use super::operator::Site;
use crate::ir::{Dim, Op, PadMode, Real};

/// Carries elements back to where an operator took them from: parts as they lie, others as the operator shows it on the positions
/// themselves.
pub(super) fn moved<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let one = |dim: &Dim| length(dim, site.bindings);
    match site.op {
        Op::Slice {
            axis,
            start,
            end,
            step,
        } => {
            let mut result = ArrayD::from_elem(IxDyn(site.shape(0)), T::zero());
            let end = one(end)? as isize;
            let part = Slice::new(one(start)? as isize, Some(end), *step as isize);
            let mut target = result.slice_axis_mut(Axis(*axis), part);
            target.assign(&adjoint.view());
            Ok(result.into())
        }
        Op::Pad {
            before,
            mode: PadMode::Constant,
            ..
        } if before.iter().all(|n| one(n).is_ok()) => inside(
            site,
            &before.iter().map(one).collect::<Result<Vec<_>, _>>()?,
            adjoint,
        ),
        _ => shown(site, &adjoint),
    }
}

/// What lies after so many positions of each axis, where the operand lay; `shown` where some of it was cut off.
fn inside<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    before: &[usize],
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let ends = before.iter().zip(site.shape(0)).map(|(n, len)| n + len);
    if ends
        .clone()
        .zip(adjoint.shape())
        .any(|(end, len)| end > *len)
    {
        return shown(site, &adjoint);
    }
    let mut part = adjoint;
    for (axis, (start, end)) in before.iter().zip(ends).enumerate() {
        part = movement::slice(part, axis, *start, end, 1)?;
    }
    Ok(part)
}

fn shown<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    adjoint: &Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let shape = site.shape(0);
    let mut result = zeros::<T>(shape)?;
    // From 1: what is padded with 0 comes from nowhere.
    let positions = (1..=result.len()).map(|i| i as f64).collect();
    let positions: Array<f64> = from_vec(shape, positions)?;
    let op = match site.op {
        Op::Pad {
            before,
            after,
            mode,
            ..
        } => Op::Pad {
            before: before.clone(),
            after: after.clone(),
            mode: *mode,
            value: 0.0.into(),
        },
        other => other.clone(),
    };
    let from = evaluate(&op, [positions], site.bindings)?;
    for (from, adjoint) in from.view().iter().zip(adjoint.view()) {
        // Positions are far below 2^53.
        if let Some(target) = (*from as usize)
            .checked_sub(1)
            .and_then(|i| result.get_mut(i))
        {
            *target = *target + *adjoint;
        }
    }
    from_vec(shape, result)
}

pub(super) fn transpose<'g, T: Real>(
    perm: &[usize],
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let mut inverse = vec![0; perm.len()];
    for (to, from) in perm.iter().enumerate() {
        *inverse.get_mut(*from).ok_or("it is no permutation")? = to;
    }
    movement::transpose(adjoint, &inverse)
}

/// The part that was this operand.
pub(super) fn concat<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    operand: usize,
    axis: usize,
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let length = |i: usize| site.shape(i).get(axis).copied().unwrap_or_default();
    let start = (0..operand).map(length).sum();
    movement::slice(adjoint, axis, start, start + length(operand), 1)
}

/// Back to every element of a sum or a mean, to the first of the largest of a maximum.
pub(super) fn reduction<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    axes: &[usize],
    reduction: Reduction,
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let shape = site.shape(0);
    let kept: Vec<usize> = (0..shape.len())
        .map(|axis| if axes.contains(&axis) { 1 } else { shape[axis] })
        .collect();
    let adjoint = adjoint.reshaped(&kept)?;
    let count: usize = axes.iter().map(|axis| shape[*axis]).product();
    if reduction == Reduction::Max {
        return maximum(site.operand(0)?, axes, &adjoint);
    }
    let mut result: ArrayD<T> = broadcast(&adjoint, shape)?.to_owned();
    if reduction == Reduction::Mean {
        let share = T::from_f64((count.max(1) as f64).recip());
        result.mapv_inplace(|a| a * share);
    }
    Ok(result.into())
}

fn maximum<'g, T: Real>(
    x: &Array<'g, T>,
    axes: &[usize],
    adjoint: &Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let mut result = ArrayD::from_elem(IxDyn(x.shape()), T::zero());
    let x = x.view();
    for (at, adjoint) in adjoint.view().indexed_iter() {
        let axis = |d: ndarray::AxisDescription| {
            if axes.contains(&d.axis.index()) {
                Slice::from(..)
            } else {
                Slice::from(at[d.axis.index()]..at[d.axis.index()] + 1)
            }
        };
        let mut target = result.slice_each_axis_mut(axis);
        let elements = x.slice_each_axis(axis);
        let first = |best: Option<(usize, T)>, (i, x): (usize, &T)| match best {
            Some((_, largest)) if *x <= largest => best,
            _ => Some((i, *x)),
        };
        if let Some((i, _)) = elements.iter().enumerate().fold(None, first)
            && let Some(target) = target.iter_mut().nth(i)
        {
            *target = *adjoint;
        }
    }
    Ok(result.into())
}
