//! Pools: maxima and means over windows of the spatial dimensions.

use std::ops::Range;

use rayon::prelude::*;

use super::array::{Array, element_count, from_vec, zeros};
use super::evaluate::length;
use super::window::{Axis, Spec, Windows};
use crate::ir::{Bindings, Dim, Ints, Op, Padding, Real};

/// One window along one dimension.
pub(super) struct Span {
    /// First position, end, and step.
    pub inside: Range<usize>,
    pub step: usize,
    /// Positions with those in the pad, as a mean may count them.
    pub padded: usize,
}

/// What a pool makes of the elements of a window.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Reduce {
    Max,
    Mean {
        /// Whether zeros of the pad count.
        count_pad: bool,
    },
}

/// What an operator says that pools over windows of fixed size.
pub(super) struct Pool<'o> {
    kernel: Vec<usize>,
    stride: Vec<usize>,
    pad: &'o Padding,
    dilation: Ints,
    pub ceil: bool,
    pub reduce: Reduce,
}

impl<'o> Pool<'o> {
    /// What `op` says, its sizes taken under `bindings`.
    pub fn of(op: &'o Op, bindings: &Bindings) -> Result<Pool<'o>, String> {
        let (kernel, stride, pad, dilation, ceil, reduce) = match op {
            Op::MaxPool {
                kernel,
                stride,
                pad,
                dilation,
                ceil,
            } => (kernel, stride, pad, dilation.clone(), ceil, Reduce::Max),
            Op::AvgPool {
                kernel,
                stride,
                pad,
                ceil,
                count_pad,
            } => {
                let count_pad = *count_pad;
                let dilation = Ints::from_elem(1, kernel.len());
                let mean = Reduce::Mean { count_pad };
                (kernel, stride, pad, dilation, ceil, mean)
            }
            _ => return Err(format!("{} has no windows of fixed size", op.name())),
        };
        let all = |dims: &[Dim]| -> Result<Vec<usize>, String> {
            dims.iter().map(|dim| length(dim, bindings)).collect()
        };
        Ok(Pool {
            kernel: all(kernel)?,
            stride: all(stride)?,
            pad,
            dilation,
            ceil: *ceil,
            reduce,
        })
    }

    /// The windows over an input of these spatial lengths.
    pub fn windows(&self, spatial: &[usize]) -> Result<Windows, String> {
        let spec = Spec {
            kernel: &self.kernel,
            stride: &self.stride,
            pad: self.pad,
            dilation: &self.dilation,
            ceil: self.ceil,
        };
        Windows::new(spatial, &spec)
    }
}

/// A pool over windows of fixed size.
pub(super) fn pool<'a, T: Real>(x: &Array<T>, pool: &Pool) -> Result<Array<'a, T>, String> {
    let windows = pool.windows(spatial(x)?)?;
    let spans = windows.axes.map(|axis| spans(&axis));
    over_spans(x, &spans, &windows.outputs(), pool.reduce)
}

pub(super) fn spans(axis: &Axis) -> Vec<Span> {
    let span_of = |output: usize| {
        let start = output * axis.stride;
        let reach = start + axis.dilation * (axis.kernel - 1) + 1;
        // The first tap that is not in the pad before.
        let skipped = axis.before.saturating_sub(start).div_ceil(axis.dilation);
        let first = (start + skipped * axis.dilation).saturating_sub(axis.before);
        let end = reach.saturating_sub(axis.before).min(axis.input);
        Span {
            inside: first.min(end)..end,
            step: axis.dilation,
            padded: reach.min(axis.before + axis.input + axis.after) - start,
        }
    };
    (0..axis.output).map(span_of).collect()
}

/// A pool over `output` windows as even as they can be.
pub(super) fn adaptive_pool<'a, T: Real>(
    x: &Array<T>,
    output: &[usize],
    reduce: Reduce,
) -> Result<Array<'a, T>, String> {
    // Before a span is made for every position: are there sensibly many?
    element_count::<T>(output)?;
    over_spans(x, &even_spans(spatial(x)?, output)?, output, reduce)
}

/// Windows as even as they can be over dimensions of these lengths.
pub(super) fn even_spans(lengths: &[usize], output: &[usize]) -> Result<[Vec<Span>; 3], String> {
    if lengths.len() != output.len() || !(1..=3).contains(&output.len()) {
        return Err(format!(
            "output {output:?} does not fit {} spatial dimensions",
            lengths.len()
        ));
    }
    let even = |n: usize, count: usize| -> Vec<Span> {
        (0..count)
            .map(|i| {
                let inside = i * n / count..((i + 1) * n).div_ceil(count);
                Span {
                    padded: inside.len(),
                    inside,
                    step: 1,
                }
            })
            .collect()
    };
    let mut spans = [even(1, 1), even(1, 1), even(1, 1)];
    for (i, (n, count)) in lengths.iter().zip(output).enumerate() {
        spans[3 - output.len() + i] = even(*n, *count);
    }
    Ok(spans)
}

fn spatial<'v, T: Real>(x: &'v Array<T>) -> Result<&'v [usize], String> {
    x.shape().get(2..).ok_or_else(|| {
        format!(
            "an input of shape {:?} has no spatial dimensions",
            x.shape()
        )
    })
}

fn over_spans<'a, T: Real>(
    x: &Array<T>,
    spans: &[Vec<Span>; 3],
    output: &[usize],
    reduce: Reduce,
) -> Result<Array<'a, T>, String> {
    let shape = [&x.shape()[..2], output].concat();
    let mut result = zeros::<T>(&shape)?;
    let spatial = &x.shape()[2..];
    let input_len: usize = spatial.iter().product();
    let length = |back: usize| spatial.len().checked_sub(back).map_or(1, |i| spatial[i]);
    let (height, width) = (length(2), length(1));
    let x = x.contiguous();
    if let (Some(x), false) = (x.as_slice(), result.is_empty()) {
        let len = output.iter().product();
        result
            .par_chunks_exact_mut(len)
            .enumerate()
            .for_each(|(plane, result)| {
                let x = &x[plane * input_len..][..input_len];
                over_plane(x, [height, width], spans, reduce, result);
            });
    }
    from_vec(&shape, result)
}

/// Pools one plane, of `height` rows a slice and `width` elements a row.
fn over_plane<T: Real>(
    x: &[T],
    [height, width]: [usize; 2],
    spans: &[Vec<Span>; 3],
    reduce: Reduce,
    result: &mut [T],
) {
    let mut rows = result.chunks_exact_mut(spans[2].len());
    // The starts of the input rows under the current row of windows.
    let mut starts = Vec::new();
    for z in &spans[0] {
        for (y, row) in spans[1].iter().zip(&mut rows) {
            starts.clear();
            for z in z.inside.clone().step_by(z.step) {
                let rows = y.inside.clone().step_by(y.step);
                starts.extend(rows.map(|y| (z * height + y) * width));
            }
            for (x_span, target) in spans[2].iter().zip(row) {
                let padded = z.padded * y.padded * x_span.padded;
                let windows = starts.iter().map(|start| {
                    let inside = start + x_span.inside.start..start + x_span.inside.end;
                    (&x[inside], x_span.step)
                });
                *target = reduce.over(windows, padded);
            }
        }
    }
}

impl Reduce {
    /// The value of a window, given as its rows and the step along them.
    fn over<'x, T: Real>(self, rows: impl Iterator<Item = (&'x [T], usize)>, padded: usize) -> T {
        match self {
            Reduce::Max => {
                let mut max = T::neg_infinity();
                for (row, step) in rows {
                    each(row, step, |x| max = larger(max, x));
                }
                max
            }
            Reduce::Mean { count_pad } => {
                let (mut sum, mut count) = (0.0, 0usize);
                for (row, step) in rows {
                    each(row, step, |x| {
                        sum += x.to_f64();
                        count += 1;
                    });
                }
                let count = if count_pad { padded } else { count };
                T::from_f64(sum / count.max(1) as f64)
            }
        }
    }
}

/// Every `step`-th element; a step of 1 is worth its own loop.
fn each<T: Copy>(row: &[T], step: usize, visit: impl FnMut(T)) {
    match step {
        1 => row.iter().copied().for_each(visit),
        _ => row.iter().copied().step_by(step).for_each(visit),
    }
}

/// The larger of the two; NaN if either is.
pub(super) fn larger<T: Real>(a: T, b: T) -> T {
    if b > a || b.is_nan() { b } else { a }
}
