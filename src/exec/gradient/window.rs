//! Pools and resampling.

use ndarray::{ArrayD, Axis, IxDyn};

use super::super::array::{Array, from_vec, zeros};
use super::super::evaluate::length;
use super::super::pool::{Pool, Reduce, Span, even_spans, spans};
use super::super::resize::sample;
use super::operator::Site;
use crate::ir::{Op, Real, ResizeMode};

/// Back to the first of the largest elements of a window, or to all of them.
pub(super) fn pool<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    reduce: Reduce,
    adjoint: &Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let shape = site.shape(0);
    let spatial = shape.get(2..).unwrap_or_default();
    let spans = all_spans(site, spatial)?;
    let mut lengths = [1; 3];
    lengths[3 - spatial.len().min(3)..].copy_from_slice(&spatial[..spatial.len().min(3)]);
    let (plane, windows) = (
        lengths.iter().product::<usize>(),
        spans.iter().map(Vec::len).product::<usize>(),
    );
    let mut result = zeros::<T>(shape)?;
    let x = match reduce {
        Reduce::Max => Some(site.operand(0)?.contiguous()),
        Reduce::Mean { .. } => None,
    };
    let x = x.as_ref().and_then(|x| x.as_slice());
    let adjoint = adjoint.contiguous();
    let adjoint = adjoint.as_slice().unwrap_or_default();
    let planes = result.chunks_exact_mut(plane.max(1));
    for (i, (target, adjoint)) in planes.zip(adjoint.chunks_exact(windows.max(1))).enumerate() {
        let x = x.map(|x| &x[i * plane..][..plane]);
        let mut adjoint = adjoint.iter();
        for z in &spans[0] {
            for y in &spans[1] {
                for (x_span, adjoint) in spans[2].iter().zip(&mut adjoint) {
                    let window = [z, y, x_span];
                    one_window(window, lengths, reduce, x, *adjoint, target);
                }
            }
        }
    }
    from_vec(shape, result)
}

fn one_window<T: Real>(
    window: [&Span; 3],
    [_, height, width]: [usize; 3],
    reduce: Reduce,
    x: Option<&[T]>,
    adjoint: T,
    target: &mut [T],
) {
    let along = |d: usize| window[d].inside.clone().step_by(window[d].step);
    let positions = || {
        along(0).flat_map(move |z| {
            along(1).flat_map(move |y| along(2).map(move |x| (z * height + y) * width + x))
        })
    };
    match (reduce, x) {
        (Reduce::Mean { count_pad }, _) => {
            let padded: usize = window.iter().map(|span| span.padded).product();
            let count = if count_pad {
                padded
            } else {
                positions().count()
            };
            let share = adjoint * T::from_f64((count.max(1) as f64).recip());
            positions().for_each(|at| target[at] = target[at] + share);
        }
        (Reduce::Max, Some(x)) => {
            let first = |best: Option<usize>, at: usize| match best {
                Some(best) if x[at] <= x[best] => Some(best),
                _ => Some(at),
            };
            if let Some(at) = positions().fold(None, first) {
                target[at] = target[at] + adjoint;
            }
        }
        (Reduce::Max, None) => {}
    }
}

fn all_spans<T: Real>(site: &Site<T>, spatial: &[usize]) -> Result<[Vec<Span>; 3], String> {
    match site.op {
        Op::AdaptiveAvgPool { output } | Op::AdaptiveMaxPool { output } => {
            let output: Result<Vec<usize>, String> = output
                .iter()
                .map(|dim| length(dim, site.bindings))
                .collect();
            even_spans(spatial, &output?)
        }
        op => {
            let windows = Pool::of(op, site.bindings)?.windows(spatial)?;
            Ok(windows.axes.map(|axis| spans(&axis)))
        }
    }
}

/// Dimensions that were resampled one after the other, from the last to the first.
pub(super) fn resize<'g, T: Real>(
    shape: &[usize],
    mode: ResizeMode,
    adjoint: &Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let mut adjoint: ArrayD<T> = adjoint.view().to_owned();
    for (axis, len) in shape.iter().enumerate().skip(2).rev() {
        let target = adjoint.shape()[axis];
        if target == *len {
            continue;
        }
        let mut lengths = adjoint.shape().to_vec();
        lengths[axis] = *len;
        let mut result = ArrayD::from_elem(IxDyn(&lengths), T::zero());
        for o in 0..target {
            let (lower, weight) = sample(o, *len, target, mode);
            let from = adjoint.index_axis(Axis(axis), o);
            let weight = T::from_f64(weight);
            result
                .index_axis_mut(Axis(axis), lower)
                .scaled_add(T::one() - weight, &from);
            if weight > T::zero() {
                let upper = (lower + 1).min(len - 1);
                result
                    .index_axis_mut(Axis(axis), upper)
                    .scaled_add(weight, &from);
            }
        }
        adjoint = result;
    }
    Ok(adjoint.into())
}
