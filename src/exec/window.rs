//! Where a window falls on the spatial dimensions: one geometry for convolutions and pools of 1 to 3 dimensions.

use std::ops::Range;

use super::array::element_count;
use crate::ir::Padding;

/// A window moved over one spatial dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Axis {
    pub input: usize,
    pub kernel: usize,
    pub stride: usize,
    pub before: usize,
    pub after: usize,
    pub dilation: usize,
    pub output: usize,
}

impl Axis {
    /// An axis of length 1 that nothing happens on.
    const NONE: Axis = Axis {
        input: 1,
        kernel: 1,
        stride: 1,
        before: 0,
        after: 0,
        dilation: 1,
        output: 1,
    };

    /// The input position under tap `k` of the window at `output`, if it is not in the pad.
    pub fn position(&self, output: usize, k: usize) -> Option<usize> {
        (output * self.stride + k * self.dilation)
            .checked_sub(self.before)
            .filter(|i| *i < self.input)
    }

    /// The windows whose tap `k` is not in the pad.
    pub fn outputs_of_tap(&self, k: usize) -> Range<usize> {
        let offset = k * self.dilation;
        let first = self.before.saturating_sub(offset).div_ceil(self.stride);
        let end = (self.input + self.before).saturating_sub(offset);
        let end = end.div_ceil(self.stride).min(self.output);
        first.min(end)..end
    }
}

/// What an operator says about its windows; lists hold one entry a spatial dimension.
pub(super) struct Spec<'s> {
    pub kernel: &'s [usize],
    pub stride: &'s [usize],
    pub pad: &'s Padding,
    pub dilation: &'s [usize],
    /// Whether a last window that starts inside counts although it ends outside.
    pub ceil: bool,
}

/// Windows over up to three spatial dimensions; missing ones come first, with length 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    pub axes: [Axis; 3],
    rank: usize,
}

/// Amounts beyond this are a mistake, and sums of a few of them do not overflow.
const MAX_AMOUNT: usize = 1 << 40;

impl Windows {
    /// The windows of a convolution or pool over an input of these spatial lengths.
    pub fn new(spatial: &[usize], spec: &Spec) -> Result<Windows, String> {
        Windows::build(spatial, spec, |input, axis, spec| {
            let span = axis.dilation * (axis.kernel - 1) + 1;
            let padded = input + axis.before + axis.after;
            let (room, lacking) = (padded.checked_sub(span), span.saturating_sub(padded));
            let output = match room {
                Some(room) => {
                    let whole = room / axis.stride + 1;
                    let partial =
                        room % axis.stride != 0 && whole * axis.stride < input + axis.before;
                    whole + usize::from(spec.ceil && partial)
                }
                // The first window is the last that starts inside.
                None if spec.ceil && lacking < axis.stride && padded > 0 => 1,
                None => {
                    return Err(format!(
                        "a window of {span} does not fit into a length of {input} with a pad of {} and {}",
                        axis.before, axis.after
                    ));
                }
            };
            Ok(Axis {
                input,
                output,
                ..axis
            })
        })
    }

    /// The windows of the convolution that this transposed one, over an input of these spatial lengths, is the adjoint of:
    /// the result is `axes[..].input`.
    pub fn transposed(
        spatial: &[usize],
        spec: &Spec,
        output_pad: &[usize],
    ) -> Result<Windows, String> {
        if output_pad.len() != spatial.len() || output_pad.iter().any(|n| *n > MAX_AMOUNT) {
            return Err(format!(
                "output_pad {output_pad:?} does not fit {} spatial dimensions",
                spatial.len()
            ));
        }
        let mut extra = output_pad.iter();
        Windows::build(spatial, spec, |length, axis, _| {
            let full = length
                .checked_sub(1)
                .and_then(|n| n.checked_mul(axis.stride))
                .map(|n| n + axis.dilation * (axis.kernel - 1) + 1);
            let input = full
                .map(|n| n + extra.next().copied().unwrap_or(0))
                .and_then(|n| n.checked_sub(axis.before + axis.after))
                .ok_or_else(|| format!("nothing is left of a length of {length}"))?;
            Ok(Axis {
                input,
                output: length,
                ..axis
            })
        })
    }

    fn build(
        spatial: &[usize],
        spec: &Spec,
        mut finish: impl FnMut(usize, Axis, &Spec) -> Result<Axis, String>,
    ) -> Result<Windows, String> {
        let rank = spatial.len();
        let Spec {
            kernel,
            stride,
            pad,
            dilation,
            ..
        } = spec;
        let lists = [*kernel, *stride, &pad.before, &pad.after, *dilation];
        if !(1..=3).contains(&rank) || lists.iter().any(|list| list.len() != rank) {
            return Err(format!(
                "kernel {kernel:?}, stride {stride:?}, pad and dilation {dilation:?} do not fit {rank} spatial dimensions"
            ));
        }
        if lists
            .iter()
            .copied()
            .flatten()
            .chain(spatial)
            .any(|n| *n > MAX_AMOUNT)
            || [*kernel, *stride, *dilation]
                .iter()
                .copied()
                .flatten()
                .any(|n| *n == 0)
        {
            return Err(format!(
                "kernel {kernel:?}, stride {stride:?} and dilation {dilation:?} must be positive and sensible"
            ));
        }
        let mut axes = [Axis::NONE; 3];
        for (i, input) in spatial.iter().enumerate() {
            let axis = Axis {
                input: *input,
                kernel: kernel[i],
                stride: stride[i],
                before: pad.before[i],
                after: pad.after[i],
                dilation: dilation[i],
                output: 0,
            };
            if axis
                .dilation
                .checked_mul(axis.kernel)
                .is_none_or(|n| n > MAX_AMOUNT)
            {
                return Err(format!("a kernel of {} is too large", axis.kernel));
            }
            axes[3 - rank + i] = finish(*input, axis, spec)?;
        }
        let windows = Windows { axes, rank };
        // Before anybody makes a list of the windows, even for no images.
        element_count::<f64>(&windows.outputs())?;
        element_count::<f64>(&windows.inputs())?;
        Ok(windows)
    }

    /// The spatial lengths of the result.
    pub fn outputs(&self) -> Vec<usize> {
        self.axes[3 - self.rank..]
            .iter()
            .map(|a| a.output)
            .collect()
    }

    /// The spatial lengths of the operand.
    pub fn inputs(&self) -> Vec<usize> {
        self.axes[3 - self.rank..].iter().map(|a| a.input).collect()
    }

    /// Whether the window is one position wide and visits every position once.
    pub fn is_pointwise(&self) -> bool {
        self.axes
            .iter()
            .all(|a| a.kernel == 1 && a.stride == 1 && a.before == 0 && a.after == 0)
    }

    /// The taps, in row-major order.
    pub fn taps(&self) -> impl Iterator<Item = [usize; 3]> + use<> {
        let [z, y, x] = self.axes.map(|a| a.kernel);
        (0..z).flat_map(move |z| (0..y).flat_map(move |y| (0..x).map(move |x| [z, y, x])))
    }

    /// Output rows (runs of the last dimension) as positions in the first two, in row-major order.
    pub fn output_rows(&self, range: Range<usize>) -> impl Iterator<Item = [usize; 2]> + use<> {
        let rows = self.axes[1].output.max(1);
        range.map(move |row| [row / rows, row % rows])
    }

    /// How many output rows there are.
    pub fn output_row_count(&self) -> usize {
        self.axes[0].output * self.axes[1].output
    }

    /// Where the input row under this tap of the windows in this output row begins, if it is not in the pad.
    pub fn input_row(&self, [oz, oy]: [usize; 2], [kz, ky, _]: [usize; 3]) -> Option<usize> {
        let [z, y, x] = &self.axes;
        let (iz, iy) = (z.position(oz, kz)?, y.position(oy, ky)?);
        Some((iz * y.input + iy) * x.input)
    }
}

/// Copies or adds up the elements under one tap: `apply(output, input)` for each window of an output row whose tap `k` is
/// inside, `input` being the row of the operand.
pub(super) fn along_row<T: Copy>(
    axis: &Axis,
    k: usize,
    output: &mut [T],
    input: &[T],
    apply: impl Fn(&mut T, T),
) {
    let inside = axis.outputs_of_tap(k);
    if inside.is_empty() {
        return;
    }
    let first = inside.start * axis.stride + k * axis.dilation - axis.before;
    let output = &mut output[inside];
    if axis.stride == 1 {
        for (o, i) in output.iter_mut().zip(&input[first..]) {
            apply(o, *i);
        }
    } else {
        for (o, i) in output
            .iter_mut()
            .zip(input[first..].iter().step_by(axis.stride))
        {
            apply(o, *i);
        }
    }
}
