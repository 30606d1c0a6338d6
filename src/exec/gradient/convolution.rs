//! Derivatives of convolutions and transposed convolutions: each is a convolution of the other kind.

use std::any::TypeId;

use super::super::array::{Array, from_vec};
use super::super::conv::{conv, conv_transpose};
use super::super::window::{Spec, Windows};
use super::direct::Packed;
use crate::ir::{Ints, Op, Padding, Real};

/// A convolution of stride 1 on single precision, whose weights are packed for both directions.
pub(super) struct Direct {
    forward: Packed,
    backward: Packed,
    bias: Option<Vec<f32>>,
    /// Of the kernel.
    lengths: Vec<usize>,
    ahead: Geometry,
    back: Geometry,
    /// Channels of the result, of the operand.
    features: usize,
    channels: usize,
}

/// How the windows of one direction lie.
struct Geometry {
    pad: Padding,
    dilation: Ints,
}

impl Direct {
    /// `None` for what is to be left to the interpreter.
    pub(super) fn new<T: Real>(
        op: &Op,
        weight: &Array<T>,
        bias: Option<&Array<T>>,
    ) -> Option<Direct> {
        let Op::Conv {
            stride,
            pad,
            dilation,
            groups,
        } = op
        else {
            return None;
        };
        let [features, inputs, lengths @ ..] = weight.shape() else {
            return None;
        };
        let (features, inputs, groups) = (*features, *inputs, *groups);
        let single = TypeId::of::<T>() == TypeId::of::<f32>();
        let whole = groups > 0 && features.is_multiple_of(groups) && features * inputs > 0;
        let axes = [
            stride.len(),
            pad.before.len(),
            pad.after.len(),
            dilation.len(),
        ];
        let fits = axes.iter().all(|n| *n == lengths.len()) && (1..=3).contains(&lengths.len());
        if !single || !whole || !fits || stride.iter().any(|stride| *stride != 1) {
            return None;
        }
        // What of a window reaches over one side of the operand, on the way back reaches over the result's.
        let others = |pads: &Ints| -> Option<Ints> {
            let reach = lengths.iter().zip(dilation).zip(pads);
            reach
                .map(|((k, d), pad)| (d * k.checked_sub(1)?).checked_sub(*pad))
                .collect()
        };
        let back = Padding {
            before: others(&pad.before)?,
            after: others(&pad.after)?,
        };
        let taps: usize = lengths.iter().product();
        let outputs = features / groups;
        let weight: Vec<f32> = single_precision(weight)?;
        let at = |o: usize, i: usize, t: usize| weight[(o * inputs + i) * taps + t];
        Some(Direct {
            forward: Packed::new([groups, inputs, outputs, taps], at),
            backward: Packed::new([groups, outputs, inputs, taps], |i, o, t| {
                at(i / inputs * outputs + o, i % inputs, taps - 1 - t)
            }),
            bias: match bias {
                Some(bias) => Some(single_precision(bias)?),
                None => None,
            },
            lengths: lengths.to_vec(),
            ahead: Geometry {
                pad: pad.clone(),
                dilation: dilation.clone(),
            },
            back: Geometry {
                pad: back,
                dilation: dilation.clone(),
            },
            features,
            channels: groups * inputs,
        })
    }

    pub(super) fn run<'a, T: Real>(&self, x: &Array<T>) -> Result<Array<'a, T>, String> {
        self.through(
            &self.forward,
            &self.ahead,
            [self.channels, self.features],
            x,
            self.bias.as_deref(),
        )
    }

    pub(super) fn back<'a, T: Real>(&self, adjoint: &Array<T>) -> Result<Array<'a, T>, String> {
        self.through(
            &self.backward,
            &self.back,
            [self.features, self.channels],
            adjoint,
            None,
        )
    }

    fn through<'a, T: Real>(
        &self,
        packed: &Packed,
        geometry: &Geometry,
        [read, made]: [usize; 2],
        x: &Array<T>,
        bias: Option<&[f32]>,
    ) -> Result<Array<'a, T>, String> {
        let misfit = || format!("an input of shape {:?} has not {read} channels", x.shape());
        let [images, channels, spatial @ ..] = x.shape() else {
            return Err(misfit());
        };
        if *channels != read {
            return Err(misfit());
        }
        let stride = vec![1; spatial.len()];
        let spec = Spec {
            kernel: &self.lengths,
            stride: &stride,
            pad: &geometry.pad,
            dilation: &geometry.dilation,
            ceil: false,
        };
        let windows = Windows::new(spatial, &spec)?;
        let shape = [&[*images, made][..], &windows.outputs()].concat();
        let x = x.contiguous();
        let x: &[f32] = bytemuck::cast_slice(x.as_slice().unwrap_or_default());
        let result = packed.run(&windows, x, bias);
        from_vec(&shape, bytemuck::cast_vec(result))
    }
}

/// The elements, where they are of single precision.
fn single_precision<T: Real>(array: &Array<T>) -> Option<Vec<f32>> {
    let elements: Vec<T> = array.view().iter().copied().collect();
    bytemuck::try_cast_vec(elements).ok()
}

fn geometry(op: &Op) -> Result<(&Ints, &Padding, &Ints, usize), String> {
    let geometry = op.convolution();
    geometry.ok_or_else(|| format!("{} is no convolution", op.name()))
}

/// What a convolution's adjoint makes of the adjoint of its result, for an operand of this shape.
pub(super) fn conv_back<'a, T: Real>(
    op: &Op,
    weight: &Array<T>,
    shape: &[usize],
    adjoint: &Array<T>,
) -> Result<Array<'a, T>, String> {
    let (stride, pad, dilation, groups) = geometry(op)?;
    // What no window reaches at the end of the operand.
    let left = |d: usize| -> Option<usize> {
        let span = dilation.get(d)? * weight.shape().get(d + 2)?.checked_sub(1)? + 1;
        let padded = shape.get(d + 2)? + pad.before.get(d)? + pad.after.get(d)?;
        Some(padded.checked_sub(span)? % stride.get(d)?)
    };
    let output_pad = (0..stride.len()).map(left).collect::<Option<Ints>>();
    let transposed = Op::ConvTranspose {
        stride: stride.clone(),
        pad: pad.clone(),
        output_pad: output_pad.ok_or_else(|| format!("the window does not fit {shape:?}"))?,
        dilation: dilation.clone(),
        groups,
    };
    conv_transpose(&transposed, adjoint, weight, None)
}

/// The same for a transposed convolution, which a convolution is the adjoint of.
pub(super) fn conv_transpose_back<'a, T: Real>(
    op: &Op,
    weight: &Array<T>,
    adjoint: &Array<T>,
) -> Result<Array<'a, T>, String> {
    let (stride, pad, dilation, groups) = geometry(op)?;
    let straight = Op::Conv {
        stride: stride.clone(),
        pad: pad.clone(),
        dilation: dilation.clone(),
        groups,
    };
    conv(&straight, adjoint, weight, None)
}
