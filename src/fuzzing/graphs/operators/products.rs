//! Sums of products: convolutions, linear layers, matrix products, attention.

use super::super::{Added, Builder};
use super::ints;
use crate::fuzzing::weights;
use crate::ir::{NodeId, Op, Padding, Tensor};

impl Builder<'_> {
    /// Of one, two or three spatial dimensions.
    pub(super) fn any_convolution(&mut self, x: NodeId) -> Added {
        let dims = 1 + self.choices.below(3);
        let inputs = self.channels(x);
        let x = match dims {
            1 => self.op("flatten", Op::Flatten { start: 2, end: 3 }, &[x])?,
            2 => return self.convolution(x),
            _ => self.op("unsqueeze", Op::Unsqueeze { axes: ints([2]) }, &[x])?,
        };
        let groups = if self.choices.one_in(3) { inputs } else { 1 };
        let outputs = groups * (1 + self.choices.below(8 / groups.min(8)));
        let mut shape = vec![outputs, inputs / groups];
        let kernel = 1 + self.choices.below(3);
        shape.extend((0..dims).map(|d| if dims == 3 && d == 0 { 1 } else { kernel }));
        let stride = 1 + self.choices.below(2);
        let op = Op::Conv {
            stride: ints((0..dims).map(|d| if dims == 3 && d == 0 { 1 } else { stride })),
            pad: Padding {
                before: ints((0..dims).map(|d| if dims == 3 && d == 0 { 0 } else { kernel / 2 })),
                after: ints((0..dims).map(|d| if d + 1 == dims { kernel / 2 } else { 0 })),
            },
            dilation: ints((0..dims).map(|d| {
                if d + 1 == dims {
                    1 + self.choices.below(2)
                } else {
                    1
                }
            })),
            groups,
        };
        let y = self.conv(x, op, &shape)?;
        match dims {
            1 => self.op("unsqueeze", Op::Unsqueeze { axes: ints([3]) }, &[y]),
            _ => self.op("squeeze", Op::Squeeze { axes: ints([2]) }, &[y]),
        }
    }

    pub(super) fn any_transposed_convolution(&mut self, x: NodeId) -> Added {
        let inputs = self.channels(x);
        let groups = match self.choices.below(3) {
            0 => 1,
            1 => inputs,
            _ if inputs.is_multiple_of(2) => 2,
            _ => 1,
        };
        let each = 1 + self.choices.below(3);
        let kernel = 1 + self.choices.below(3);
        let (stride, dilation) = (1 + self.choices.below(2), 1 + self.choices.below(2));
        let plan = self.plan(inputs);
        let shape = [inputs, each, kernel, kernel];
        let tensor = weights::weight(&mut self.choices, &plan, &shape);
        let mut operands = vec![x, self.parameter("up.weight", tensor)];
        if self.choices.one_in(2) {
            let plan = self.plan(groups * each);
            let bias = weights::vector(&mut self.choices, &plan, 0.0, 0.5);
            operands.push(self.parameter("up.bias", bias));
        }
        // ONNX Runtime takes none of the stride or more.
        let extra = (stride - 1).min(self.choices.below(2));
        let op = Op::ConvTranspose {
            stride: ints([stride, 1]),
            pad: Padding::symmetric([0, (kernel / 2).min(self.choices.below(2))]),
            output_pad: ints([extra, 0]),
            dilation: ints([dilation, 1]),
            groups,
        };
        self.op("up", op, &operands)
    }

    /// A layer on the channels as the last axis, with a bias or without, or a product of two features.
    pub(super) fn product(&mut self, name: &str, x: NodeId) -> Added {
        let inputs = self.channels(x);
        if name == "matmul" && self.choices.one_in(2) {
            let small = self.op("tanh", Op::Tanh {}, &[x])?;
            let perm = ints([0, 1, 3, 2]);
            let turned = self.op("transpose", Op::Transpose { perm }, &[small])?;
            return self.op("matmul", Op::MatMul {}, &[small, turned]);
        }
        let perm = ints([0, 2, 3, 1]);
        let last = self.op("transpose", Op::Transpose { perm }, &[x])?;
        let outputs = 1 + self.choices.below(6);
        let shape = match name {
            "linear" => [outputs, inputs],
            _ => [inputs, outputs],
        };
        let plan = self.plan(shape[0]);
        let tensor = weights::weight(&mut self.choices, &plan, &shape);
        let mut operands = vec![last, self.parameter("product.weight", tensor)];
        if name == "linear" && self.choices.one_in(2) {
            let plan = self.plan(outputs);
            let bias = weights::vector(&mut self.choices, &plan, 0.0, 0.5);
            operands.push(self.parameter("product.bias", bias));
        }
        let op = match name {
            "linear" => Op::Linear {},
            _ => Op::MatMul {},
        };
        let y = self.op(name, op, &operands)?;
        let perm = ints([0, 3, 1, 2]);
        self.op("transpose", Op::Transpose { perm }, &[y])
    }

    /// Of rows as they are, with a scale of its own, causal or not, with a mask or without.
    pub(super) fn any_attention(&mut self, x: NodeId) -> Added {
        let small = self.op("tanh", Op::Tanh {}, &[x])?;
        let mut operands = vec![small, small, x];
        if self.choices.one_in(2) {
            let mask = Tensor::from_vec(&[1, 1], vec![0.5f32]);
            operands.push(self.parameter("mask", mask));
        }
        // ONNX has no such scale for queries whose width only the run tells.
        let width = self.shape(x)?[3].as_len();
        let scale = self.choices.pick(&[None, Some(0.5.into())]);
        let op = Op::Attention {
            scale: scale.or((width.is_none()).then(|| 0.5.into())),
            causal: self.choices.one_in(2),
        };
        self.op("attention", op, &operands)
    }
}
