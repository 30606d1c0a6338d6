//! Convolution: pointwise kernels as one matrix product, depthwise ones tap by tap, the others by unfolding the input's
//! patches into columns (im2col), a bounded number of them at a time.

use ndarray::{ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;

use super::array::{Array, element_count, from_vec, zeros};
use super::matmul::{product, vector};
use super::window::{Spec, Windows, along_row};
use crate::ir::{Op, Real};

/// Bytes of unfolded patches that exist at a time, over all threads.
const COLUMN_BYTES: usize = 32 << 20;

/// The sizes that a convolution of either direction works with.
struct Sizes {
    images: usize,
    groups: usize,
    /// Channels a group on the side of the operand.
    inputs: usize,
    /// Channels a group on the side of the result.
    outputs: usize,
    /// Elements of a kernel.
    taps: usize,
    /// Positions of the operand, of the result.
    input_len: usize,
    output_len: usize,
}

/// `x [N,C,..]`, `W [O,C/groups,k..]`, `[b [O]]` -> `[N,O,..]`.
pub(super) fn conv<'a, T: Real>(
    op: &Op,
    x: &Array<T>,
    weight: &Array<T>,
    bias: Option<&Array<T>>,
) -> Result<Array<'a, T>, String> {
    let (spec, groups) = spec(op, weight.shape())?;
    let ([images, channels, spatial @ ..], [features, inputs, ..]) = (x.shape(), weight.shape())
    else {
        return Err(misfit(x, weight));
    };
    let (images, channels, features, inputs) = (*images, *channels, *features, *inputs);
    if inputs.checked_mul(groups) != Some(channels) || features % groups != 0 {
        return Err(misfit(x, weight));
    }
    let windows = Windows::new(spatial, &spec)?;
    let shape = [&[images, features][..], &windows.outputs()].concat();
    let mut result = zeros::<T>(&shape)?;
    let sizes = Sizes {
        images,
        groups,
        inputs,
        outputs: features / groups,
        taps: spec.kernel.iter().product(),
        input_len: spatial.iter().product(),
        output_len: windows.outputs().iter().product(),
    };
    if result.is_empty() {
        return from_vec(&shape, result);
    }
    if let Some(bias) = bias {
        let bias = vector(bias, features, "bias")?;
        for (plane, bias) in result
            .chunks_exact_mut(sizes.output_len)
            .zip(bias.iter().cycle())
        {
            plane.fill(*bias);
        }
    }
    let (x, weight) = (x.contiguous(), weight.contiguous());
    let (Some(x), Some(weight)) = (x.as_slice(), weight.as_slice()) else {
        return from_vec(&shape, result);
    };
    if sizes.input_len > 0 {
        match inputs {
            1 if groups > 1 => depthwise(&windows, &sizes, x, weight, &mut result),
            _ => by_columns(&windows, &sizes, x, weight, &mut result)?,
        }
    }
    from_vec(&shape, result)
}

fn spec<'s>(op: &'s Op, weight: &'s [usize]) -> Result<(Spec<'s>, usize), String> {
    let (stride, pad, dilation, groups) = op
        .convolution()
        .ok_or_else(|| format!("{} is not a convolution", op.name()))?;
    if groups == 0 {
        return Err("a convolution has at least one group".into());
    }
    let spec = Spec {
        kernel: weight.get(2..).unwrap_or_default(),
        stride,
        pad,
        dilation,
        ceil: false,
    };
    Ok((spec, groups))
}

fn misfit<T: Real>(x: &Array<T>, weight: &Array<T>) -> String {
    format!(
        "a weight of shape {:?} does not fit an input of shape {:?}",
        weight.shape(),
        x.shape()
    )
}

/// One input channel an output channel: a sum of shifted planes.
fn depthwise<T: Real>(windows: &Windows, sizes: &Sizes, x: &[T], weight: &[T], result: &mut [T]) {
    let features = sizes.groups * sizes.outputs;
    let plane_of = |i: usize| i / features * sizes.groups + i % features / sizes.outputs;
    let width = windows.axes[2].output;
    let planes = result.par_chunks_exact_mut(sizes.output_len).enumerate();
    planes.for_each(|(i, plane)| {
        let x = &x[plane_of(i) * sizes.input_len..][..sizes.input_len];
        let kernel = &weight[i % features * sizes.taps..][..sizes.taps];
        let rows = windows.output_rows(0..windows.output_row_count());
        for (row, output) in rows.zip(plane.chunks_exact_mut(width)) {
            for (tap, w) in windows.taps().zip(kernel) {
                if let Some(start) = windows.input_row(row, tap) {
                    along_row(&windows.axes[2], tap[2], output, &x[start..], |o, x| {
                        *o = *o + *w * x;
                    });
                }
            }
        }
    });
}

/// A matrix product a group and image: weights times unfolded patches.
fn by_columns<T: Real>(
    windows: &Windows,
    sizes: &Sizes,
    x: &[T],
    weight: &[T],
    result: &mut [T],
) -> Result<(), String> {
    let depth = sizes.inputs * sizes.taps;
    let width = windows.axes[2].output;
    let columns = element_count::<T>(&[depth, width])?;
    let threads = rayon::current_num_threads();
    let rows_at_a_time = (COLUMN_BYTES / size_of::<T>() / threads / columns.max(1)).max(1);
    let group = |(i, target): (usize, &mut [T]), patches: &mut Vec<T>| {
        let x = &x[i * sizes.inputs * sizes.input_len..][..sizes.inputs * sizes.input_len];
        let weight = &weight[i % sizes.groups * sizes.outputs * depth..][..sizes.outputs * depth];
        let (Ok(weight), Ok(mut target)) = (
            ArrayView2::from_shape((sizes.outputs, depth), weight),
            ArrayViewMut2::from_shape((sizes.outputs, sizes.output_len), target),
        ) else {
            return;
        };
        if windows.is_pointwise() {
            if let Ok(x) = ArrayView2::from_shape((depth, sizes.output_len), x) {
                product(weight, x, target);
            }
            return;
        }
        let rows = windows.output_row_count();
        for first in (0..rows).step_by(rows_at_a_time) {
            let range = first..rows.min(first + rows_at_a_time);
            let positions = range.start * width..range.end * width;
            unfold(windows, range, x, sizes.input_len, patches);
            if let Ok(patches) =
                ArrayView2::from_shape((depth, positions.len()), patches.as_slice())
            {
                product(weight, patches, target.slice_mut(s![.., positions]));
            }
        }
    };
    let parts = result.chunks_exact_mut(sizes.outputs * sizes.output_len);
    if sizes.images * sizes.groups < 2 * threads {
        let mut patches = Vec::new();
        parts.enumerate().for_each(|part| group(part, &mut patches));
    } else {
        result
            .par_chunks_exact_mut(sizes.outputs * sizes.output_len)
            .enumerate()
            .for_each_init(Vec::new, |patches, part| group(part, patches));
    }
    Ok(())
}

/// The patches of one image `x [C, ..]` that the kernels of `op`, of these lengths, meet: `[C * taps, positions]`, all taps of a
/// channel before those of the next. For a convolution that is not transposed.
pub(crate) fn patches<T: Real>(
    op: &Op,
    kernel: &[usize],
    spatial: &[usize],
    x: &[T],
    patches: &mut Vec<T>,
) -> Result<(), String> {
    let shape = [&[1, 1], kernel].concat();
    let (spec, _) = spec(op, &shape)?;
    let windows = Windows::new(spatial, &spec)?;
    let input_len = spatial.iter().product();
    unfold(
        &windows,
        0..windows.output_row_count(),
        x,
        input_len,
        patches,
    );
    Ok(())
}

/// The patches under these output rows: one row of `patches` a channel and tap, one column an output position.
fn unfold<T: Real>(
    windows: &Windows,
    rows: std::ops::Range<usize>,
    x: &[T],
    input_len: usize,
    patches: &mut Vec<T>,
) {
    let width = windows.axes[2].output;
    let taps: Vec<_> = windows.taps().collect();
    let channels = x.len() / input_len;
    patches.clear();
    patches.resize(channels * taps.len() * rows.len() * width, T::zero());
    patches
        .par_chunks_exact_mut(taps.len() * rows.len() * width)
        .zip(x.par_chunks_exact(input_len))
        .for_each(|(patches, x)| {
            for (patch_row, tap) in patches.chunks_exact_mut(rows.len() * width).zip(&taps) {
                let output_rows = windows.output_rows(rows.clone());
                for (row, output) in output_rows.zip(patch_row.chunks_exact_mut(width)) {
                    if let Some(start) = windows.input_row(row, *tap) {
                        along_row(&windows.axes[2], tap[2], output, &x[start..], |o, x| *o = x);
                    }
                }
            }
        });
}

/// `x [N,C,..]`, `W [C,O/groups,k..]`, `[b [O]]` -> `[N,O,..]`: a matrix product gives each position's contribution to the
/// window around it, and the windows are added up.
pub(super) fn conv_transpose<'a, T: Real>(
    op: &Op,
    x: &Array<T>,
    weight: &Array<T>,
    bias: Option<&Array<T>>,
) -> Result<Array<'a, T>, String> {
    let (spec, groups) = spec(op, weight.shape())?;
    let Op::ConvTranspose { output_pad, .. } = op else {
        return Err(format!("{} is not a transposed convolution", op.name()));
    };
    let ([images, channels, spatial @ ..], [inputs, outputs, ..]) = (x.shape(), weight.shape())
    else {
        return Err(misfit(x, weight));
    };
    let (images, channels, outputs) = (*images, *channels, *outputs);
    if *inputs != channels || channels % groups != 0 {
        return Err(misfit(x, weight));
    }
    let windows = Windows::transposed(spatial, &spec, output_pad)?;
    let features = outputs
        .checked_mul(groups)
        .ok_or_else(|| misfit(x, weight))?;
    let shape = [&[images, features][..], &windows.inputs()].concat();
    let mut result = zeros::<T>(&shape)?;
    let sizes = Sizes {
        images,
        groups,
        inputs: channels / groups,
        outputs,
        taps: spec.kernel.iter().product(),
        input_len: spatial.iter().product(),
        output_len: windows.inputs().iter().product(),
    };
    let bias = bias.map(|b| vector(b, features, "bias")).transpose()?;
    let (x, weight) = (x.contiguous(), weight.contiguous());
    let (Some(x), Some(weight), false) = (x.as_slice(), weight.as_slice(), result.is_empty())
    else {
        return from_vec(&shape, result);
    };
    // Channels of the result that are computed at a time.
    let per_channel = element_count::<T>(&[sizes.taps, sizes.input_len])?.max(1);
    let block = (COLUMN_BYTES / size_of::<T>() / per_channel).clamp(1, outputs.max(1));
    let mut contributions = Vec::new();
    for (i, target) in result
        .chunks_exact_mut(outputs * sizes.output_len)
        .enumerate()
    {
        let x = &x[i * sizes.inputs * sizes.input_len..][..sizes.inputs * sizes.input_len];
        let depth = outputs * sizes.taps;
        let weight = &weight[i % groups * sizes.inputs * depth..][..sizes.inputs * depth];
        let (Ok(x), Ok(weight)) = (
            ArrayView2::from_shape((sizes.inputs, sizes.input_len), x),
            ArrayView2::from_shape((sizes.inputs, depth), weight),
        ) else {
            continue;
        };
        for (b, planes) in target.chunks_mut(block * sizes.output_len).enumerate() {
            let first = b * block;
            let count = planes.len() / sizes.output_len;
            let rows = count * sizes.taps;
            let weight = weight.slice(s![.., first * sizes.taps..first * sizes.taps + rows]);
            contribute(weight, x, &mut contributions);
            planes
                .par_chunks_exact_mut(sizes.output_len)
                .enumerate()
                .for_each(|(o, plane)| {
                    let feature = i % groups * outputs + first + o;
                    plane.fill(bias.as_ref().map_or(T::zero(), |b| b[feature]));
                    let kernel = &contributions[o * per_channel..];
                    fold(&windows, kernel, sizes.input_len, plane);
                });
        }
    }
    from_vec(&shape, result)
}

/// The contributions of each position, `[channel and tap, position]`.
fn contribute<T: Real>(weight: ArrayView2<T>, x: ArrayView2<T>, contributions: &mut Vec<T>) {
    let shape = (weight.ncols(), x.ncols());
    contributions.clear();
    contributions.resize(shape.0 * shape.1, T::zero());
    if let Ok(target) = ArrayViewMut2::from_shape(shape, contributions) {
        product(weight.reversed_axes(), x, target);
    }
}

/// Adds every contribution, `[tap, position]`, to the place of the result that it belongs to.
fn fold<T: Real>(windows: &Windows, contributions: &[T], positions: usize, plane: &mut [T]) {
    let x_axis = &windows.axes[2];
    for (tap, from) in windows
        .taps()
        .zip(contributions.chunks_exact(positions.max(1)))
    {
        let rows = windows.output_rows(0..windows.output_row_count());
        for (row, from) in rows.zip(from.chunks_exact(x_axis.output.max(1))) {
            let Some(start) = windows.input_row(row, tap) else {
                continue;
            };
            for i in x_axis.outputs_of_tap(tap[2]) {
                let to = start + i * x_axis.stride + tap[2] * x_axis.dilation - x_axis.before;
                plane[to] = plane[to] + from[i];
            }
        }
    }
}
