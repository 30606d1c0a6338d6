//! How the weight of a convolution lies.

use faer::Mat;

use crate::ir::{Op, Real};

/// How the weight of a convolution, transposed or not, lies in memory when it is seen by input channel: for each channel a
/// matrix of `outputs` kernels with `taps` elements each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelLayout {
    /// Groups of the convolution.
    pub groups: usize,
    /// Input channels, over all groups.
    pub inputs: usize,
    /// Output channels of one group.
    pub outputs: usize,
    /// Elements of a kernel.
    pub taps: usize,
    /// Whether input channels come first in memory, as they do in a transposed convolution.
    pub transposed: bool,
}

impl KernelLayout {
    /// The layout of the weight of `op`, which has this shape; `None` for what is no convolution, is pointwise or depthwise,
    /// or has no elements.
    pub fn of(op: &Op, shape: &[usize]) -> Option<KernelLayout> {
        op.convolution()?;
        let layout = KernelLayout::dense(op, shape)?;
        let separable = layout.taps > 1 && layout.outputs > 0 && layout.inputs > layout.groups;
        (separable && layout.inputs % layout.groups == 0).then_some(layout)
    }

    /// The layout of any convolution or linear layer.
    pub fn dense(op: &Op, shape: &[usize]) -> Option<KernelLayout> {
        let groups = match op {
            Op::Linear {} => 1,
            op => op.convolution()?.3,
        };
        let [first, second, kernel @ ..] = shape else {
            return None;
        };
        let transposed = matches!(op, Op::ConvTranspose { .. });
        let (inputs, outputs) = if transposed {
            (*first, *second)
        } else {
            (second * groups, first.checked_div(groups)?)
        };
        Some(KernelLayout {
            groups,
            inputs,
            outputs,
            taps: kernel.iter().product(),
            transposed,
        })
    }

    /// The group that an input channel is in.
    pub fn group(&self, channel: usize) -> usize {
        channel / (self.inputs / self.groups)
    }

    /// Where the kernels of `channel` begin, and how far it is from each to the next.
    fn place(&self, channel: usize) -> (usize, usize) {
        let inputs = self.inputs / self.groups;
        let (first, step) = if self.transposed {
            (channel * self.outputs, 1)
        } else {
            let group = self.group(channel) * self.outputs;
            (group * inputs + channel % inputs, inputs)
        };
        (first * self.taps, step * self.taps)
    }

    /// The kernels of one input channel, `[outputs, taps]`.
    pub fn matrix<T: Real>(&self, weight: &[T], channel: usize) -> Mat<f64> {
        let (first, step) = self.place(channel);
        Mat::from_fn(self.outputs, self.taps, |output, tap| {
            Real::to_f64(weight[first + output * step + tap])
        })
    }

    /// Writes the kernels of one input channel.
    pub fn set_matrix(&self, weight: &mut [f64], channel: usize, kernels: &Mat<f64>) {
        let (first, step) = self.place(channel);
        for output in 0..self.outputs {
            for tap in 0..self.taps {
                weight[first + output * step + tap] = kernels[(output, tap)];
            }
        }
    }

    /// What the weight makes of one patch, `[inputs * taps]`: `[outputs of all groups]`.
    pub fn apply(&self, weight: &[f64], patch: &[f64]) -> Vec<f64> {
        let mut results = vec![0.0; self.outputs * self.groups];
        for (channel, patch) in patch.chunks_exact(self.taps.max(1)).enumerate() {
            let kernels = self.matrix(weight, channel);
            let first = self.group(channel) * self.outputs;
            for output in 0..self.outputs {
                let products = patch
                    .iter()
                    .enumerate()
                    .map(|(tap, x)| x * kernels[(output, tap)]);
                results[first + output] += products.sum::<f64>();
            }
        }
        results
    }

    /// Multiply-adds of the convolution for each position that its kernels are applied at.
    pub fn dense_work(&self) -> usize {
        self.inputs * self.outputs * self.taps
    }

    /// The same of the separated form with `kernels` depthwise kernels in all.
    pub fn separated_work(&self, kernels: usize) -> usize {
        kernels * (self.taps + self.outputs)
    }
}
