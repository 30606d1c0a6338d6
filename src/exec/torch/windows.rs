//! Convolutions and pools. libtorch pads both sides of a dimension alike; where the IR does not, the pad is made apart.

use tch::{TchError, Tensor};

use super::convert::{ints, shape};
use super::operators::{Computed, pad_spatial};
use crate::exec::pool::{Pool, Reduce};
use crate::exec::window::Axis;
use crate::ir::Op;

/// A convolution of either direction.
pub(super) fn convolution(op: &Op, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Computed {
    let (stride, pad, dilation, groups) = op.convolution().ok_or("not a convolution")?;
    let output_pad = match op {
        Op::ConvTranspose { output_pad, .. } => Some(output_pad),
        _ => None,
    };
    let run = |x: &Tensor, bias: Option<&Tensor>, pad: &[usize], output_pad: &[usize]| {
        let (x, weight) = if is_misread(op, x, weight, pad) {
            (&channels_first(x)?, &channels_first(weight)?)
        } else {
            (x, weight)
        };
        x.f_convolution(
            weight,
            bias,
            ints(stride),
            ints(pad),
            ints(dilation),
            matches!(op, Op::ConvTranspose { .. }),
            ints(output_pad),
            ints(&[groups])[0],
        )
    };
    let none = vec![0; stride.len()];
    let symmetric = pad.is_symmetric();
    let Some(output_pad) = output_pad else {
        return if symmetric {
            Ok(run(x, bias, &pad.before, &none)?)
        } else {
            let sides = ints(&pad.before).into_iter().zip(ints(&pad.after));
            let x = pad_spatial(x, &sides.collect::<Vec<_>>(), 0.0)?;
            Ok(run(&x, bias, &none, &none)?)
        };
    };
    if symmetric {
        return Ok(run(x, bias, &pad.before, output_pad)?);
    }
    // The whole of every window, then less at either end; the bias is added to what no window reaches too.
    let whole = run(x, None, &none, &none)?;
    let sides: Vec<(i64, i64)> = (0..stride.len())
        .map(|d| {
            let [before, after, extra] = [pad.before[d], pad.after[d], output_pad[d]];
            (-(before as i64), extra as i64 - after as i64)
        })
        .collect();
    let result = pad_spatial(&whole, &sides, 0.0)?;
    let Some(bias) = bias else {
        return Ok(result);
    };
    let mut channels = vec![1; result.dim()];
    channels[1] = -1;
    Ok(result.f_add(&bias.f_reshape(channels)?)?)
}

/// Whether libtorch 2.11 misreads images that lie channels last in this convolution, as it does on processors with AVX-512: of
/// one channel and one window wide, it takes wrong rows; narrower than a stride or a dilation, it may read outside of them.
fn is_misread(op: &Op, x: &Tensor, weight: &Tensor, pad: &[usize]) -> bool {
    let Some((stride, _, dilation, groups)) = op.convolution() else {
        return false;
    };
    let (lengths, kernel) = (shape(x), shape(weight));
    let (
        &[_, stride],
        &[_, pad],
        &[_, dilation],
        &[_, channels, _, width],
        &[_, features, _, taps],
    ) = (&stride[..], pad, &dilation[..], &lengths[..], &kernel[..])
    else {
        return false;
    };
    if matches!(op, Op::ConvTranspose { .. }) {
        // Its gradient is the convolution of what it makes.
        return groups * features == 1 && width == 1;
    }
    let padded = pad.saturating_mul(2).saturating_add(width);
    let second = dilation
        .saturating_mul(taps.saturating_sub(1))
        .saturating_add(stride);
    width < stride.max(dilation) || channels == 1 && padded <= second
}

/// The same images or kernels, said to lie channels first. Those of one channel lie alike in both orders.
fn channels_first(x: &Tensor) -> Result<Tensor, TchError> {
    let [_, c, h, w] = ints(&shape(x))[..] else {
        return Ok(x.shallow_clone());
    };
    let strides = [c * h * w, h * w, w, 1];
    x.f_contiguous()?
        .f_as_strided(x.size(), strides, None::<i64>)
}

/// A pool over windows of fixed size.
pub(super) fn pool(x: &Tensor, pool: &Pool) -> Computed {
    let lengths = shape(x);
    let spatial = lengths.get(2..).ok_or("there are no spatial dimensions")?;
    let windows = pool.windows(spatial)?;
    // libtorch pools one dimension with fewer options than two.
    let axes = match spatial.len() {
        3 => &windows.axes[..],
        _ => &windows.axes[1..],
    };
    let flat = spatial.len() == 1;
    let x = if flat { &x.f_unsqueeze(2)? } else { x };
    let is_native = |axis: &Axis| axis.before == axis.after && 2 * axis.before <= axis.kernel;
    let result = if axes.iter().all(is_native) {
        Arguments::native(axes, pool.ceil).run(x, pool.reduce)?
    } else {
        padded(x, axes, pool.reduce)?
    };
    if flat {
        Ok(result.f_squeeze_dim(2)?)
    } else {
        Ok(result)
    }
}

/// A mean over windows as even as they can be.
pub(super) fn adaptive_avg_pool(x: &Tensor, output: Vec<i64>) -> Computed {
    Ok(match output.len() {
        1 => x.f_adaptive_avg_pool1d(output)?,
        2 => x.f_adaptive_avg_pool2d(output)?,
        _ => x.f_adaptive_avg_pool3d(output)?,
    })
}

/// A maximum over windows as even as they can be.
pub(super) fn adaptive_max_pool(x: &Tensor, output: Vec<i64>) -> Computed {
    let (result, _) = match output.len() {
        1 => x.f_adaptive_max_pool1d(output)?,
        2 => x.f_adaptive_max_pool2d(output)?,
        _ => x.f_adaptive_max_pool3d(output)?,
    };
    Ok(result)
}

/// As [`pool`], every position that a window covers being there before.
fn padded(x: &Tensor, axes: &[Axis], reduce: Reduce) -> Computed {
    let length = |n: usize| n as i64;
    let pads = |reach: &dyn Fn(&Axis) -> (usize, usize)| -> Vec<(i64, i64)> {
        let side = |axis: &Axis| {
            let (before, input) = reach(axis);
            let end = (axis.output.max(1) - 1) * axis.stride + axis.dilation * (axis.kernel - 1);
            (length(before), length(end + 1) - length(input + before))
        };
        axes.iter().map(side).collect()
    };
    let around = pads(&|axis| (axis.before, axis.input));
    let pool = Arguments::plain(axes);
    let Reduce::Mean { count_pad } = reduce else {
        return pool.run(&pad_spatial(x, &around, f64::NEG_INFINITY)?, reduce);
    };
    let lengths: Vec<i64> = axes.iter().map(|axis| length(axis.input)).collect();
    let ones = Tensor::f_ones([vec![1, 1], lengths].concat(), (x.f_kind()?, x.device()))?;
    let counted = if count_pad {
        let sides: Vec<_> = axes
            .iter()
            .map(|axis| (length(axis.before), length(axis.after)))
            .collect();
        let inside = pad_spatial(&ones, &sides, 1.0)?;
        let beyond = pads(&|axis| (0, axis.before + axis.input + axis.after));
        pad_spatial(&inside, &beyond, 0.0)?
    } else {
        pad_spatial(&ones, &around, 0.0)?
    };
    let count = pool.sum(&counted)?.f_clamp_min(1.0)?;
    Ok(pool.sum(&pad_spatial(x, &around, 0.0)?)?.f_div(&count)?)
}

/// The arguments of libtorch's pools.
struct Arguments {
    kernel: Vec<i64>,
    stride: Vec<i64>,
    pad: Vec<i64>,
    dilation: Vec<i64>,
    ceil: bool,
}

impl Arguments {
    fn native(axes: &[Axis], ceil: bool) -> Arguments {
        let list = |get: fn(&Axis) -> usize| ints(&axes.iter().map(get).collect::<Vec<_>>());
        Arguments {
            kernel: list(|axis| axis.kernel),
            stride: list(|axis| axis.stride),
            pad: list(|axis| axis.before),
            dilation: list(|axis| axis.dilation),
            ceil,
        }
    }

    fn plain(axes: &[Axis]) -> Arguments {
        Arguments {
            pad: vec![0; axes.len()],
            ..Arguments::native(axes, false)
        }
    }

    fn run(&self, x: &Tensor, reduce: Reduce) -> Computed {
        match reduce {
            Reduce::Mean { count_pad } => self.mean(x, count_pad, None),
            Reduce::Max => {
                let [kernel, stride, pad, dilation] =
                    [&self.kernel, &self.stride, &self.pad, &self.dilation];
                Ok(match self.kernel.len() {
                    3 => x.f_max_pool3d(kernel, stride, pad, dilation, self.ceil)?,
                    _ => x.f_max_pool2d(kernel, stride, pad, dilation, self.ceil)?,
                })
            }
        }
    }

    fn sum(&self, x: &Tensor) -> Computed {
        self.mean(x, true, Some(1))
    }

    fn mean(&self, x: &Tensor, count_pad: bool, divisor: Option<i64>) -> Computed {
        let [kernel, stride, pad] = [&self.kernel, &self.stride, &self.pad];
        Ok(match self.kernel.len() {
            3 => x.f_avg_pool3d(kernel, stride, pad, self.ceil, count_pad, divisor)?,
            _ => x.f_avg_pool2d(kernel, stride, pad, self.ceil, count_pad, divisor)?,
        })
    }
}
