//! Layers of one operator.

use super::super::weights;
use super::{Added, Builder};
use crate::ir::{Dim, Float, NodeId, Op, Padding, ResizeMode};

impl Builder<'_> {
    /// A convolution, grouped, depthwise or tied at times.
    pub(super) fn convolution(&mut self, x: NodeId) -> Added {
        let inputs = self.channels(x);
        let groups = match self.choices.below(4) {
            3 => inputs,
            2 if inputs.is_multiple_of(2) => 2,
            _ => 1,
        };
        let outputs = groups * (1 + self.choices.below(12 / groups.min(12)));
        let kernel = self.choices.pick(&[3, 1, 2]);
        let stride = self.choices.pick(&[1, 1, 2]);
        let op = Op::Conv {
            stride: [stride, stride].into_iter().collect(),
            pad: self.padding(kernel),
            dilation: [1, self.choices.pick(&[1, 1, 2])].into_iter().collect(),
            groups,
        };
        self.conv(x, op, &[outputs, inputs / groups, kernel, kernel])
    }

    pub(super) fn padding(&mut self, kernel: usize) -> Padding {
        match self.choices.below(3) {
            0 => Padding::symmetric([kernel / 2, kernel / 2]),
            1 => Padding::symmetric([0, 0]),
            _ => Padding {
                before: [0, kernel / 2].into_iter().collect(),
                after: [1, 0].into_iter().collect(),
            },
        }
    }

    pub(super) fn conv(&mut self, x: NodeId, op: Op, shape: &[usize]) -> Added {
        let plan = self.plan(shape[0]);
        let name = self.graph.fresh_name("conv");
        let tied = self.weights.iter().copied().find(|w| {
            let has = self.graph.constant(*w).map(|c| c.tensor.shape());
            has == Some(shape)
        });
        let weight = match tied {
            Some(weight) if self.choices.one_in(2) => weight,
            _ => {
                let tensor = weights::weight(&mut self.choices, &plan, shape);
                self.parameter(&format!("{name}.weight"), tensor)
            }
        };
        self.weights.push(weight);
        let mut operands = vec![x, weight];
        if self.choices.below(3) > 0 {
            let tensor = weights::vector(&mut self.choices, &plan, 0.0, 0.5);
            operands.push(self.parameter(&format!("{name}.bias"), tensor));
        }
        self.op(&name, op, &operands)
    }

    pub(super) fn transposed_convolution(&mut self, x: NodeId) -> Added {
        let (inputs, outputs) = (self.channels(x), 1 + self.choices.below(4));
        let plan = self.plan(inputs);
        let tensor = weights::weight(&mut self.choices, &plan, &[inputs, outputs, 2, 2]);
        let weight = self.parameter("up.weight", tensor);
        let op = Op::ConvTranspose {
            stride: [2, 1].into_iter().collect(),
            pad: Padding::symmetric([0, 1]),
            output_pad: [0, 0].into_iter().collect(),
            dilation: [1, 1].into_iter().collect(),
            groups: 1,
        };
        self.op("up", op, &[x, weight])
    }

    pub(super) fn batch_norm(&mut self, x: NodeId) -> Added {
        let plan = self.plan(self.channels(x));
        let name = self.graph.fresh_name("norm");
        let tensors = [
            (
                "weight",
                weights::vector(&mut self.choices, &plan, 1.0, 0.3),
            ),
            ("bias", weights::vector(&mut self.choices, &plan, 0.0, 0.3)),
            (
                "running_mean",
                weights::vector(&mut self.choices, &plan, 0.0, 0.3),
            ),
            ("running_var", weights::positive(&mut self.choices, &plan)),
        ];
        let mut operands = vec![x];
        for (field, tensor) in tensors {
            operands.push(self.parameter(&format!("{name}.{field}"), tensor));
        }
        let eps = Float::from(self.choices.pick(&[1e-5, 1e-3]));
        self.op(&name, Op::BatchNorm { eps }, &operands)
    }

    pub(super) fn activation(&mut self, x: NodeId) -> Added {
        let op = match self.choices.below(16) {
            0..6 => Op::Relu {},
            6 => Op::LeakyRelu { slope: 0.25.into() },
            7 => Op::Clip {
                min: 0.0.into(),
                max: 6.0.into(),
            },
            8 => Op::Silu {},
            9 => Op::HardSwish {},
            10 => Op::Sigmoid {},
            11 => Op::Tanh {},
            12 => Op::Gelu { tanh: false },
            13 => Op::Elu { alpha: 1.0.into() },
            14 => Op::Dropout { p: 0.5.into() },
            _ => {
                let plan = self.plan(self.channels(x));
                let tensor = weights::vector(&mut self.choices, &plan, 0.25, 0.1);
                let slope = self.parameter("prelu.weight", tensor);
                return self.op("prelu", Op::PRelu {}, &[x, slope]);
            }
        };
        let name = op.name();
        self.op(name, op, &[x])
    }

    pub(super) fn pool(&mut self, x: NodeId) -> Added {
        let kernel = [2.into(), 2.into()].into_iter().collect();
        let stride = [2.into(), 1.into()].into_iter().collect();
        let pad = self.padding(1);
        let op = match self.choices.below(2) {
            0 => Op::MaxPool {
                kernel,
                stride,
                pad,
                dilation: [1, 1].into_iter().collect(),
                ceil: self.choices.one_in(2),
            },
            _ => Op::AvgPool {
                kernel,
                stride,
                pad,
                ceil: false,
                count_pad: self.choices.one_in(2),
            },
        };
        let name = op.name();
        self.op(name, op, &[x])
    }

    pub(super) fn resize(&mut self, x: NodeId) -> Added {
        let shape = self.graph.ty(x.into()).shape().unwrap_or_default().to_vec();
        let op = Op::Resize {
            size: shape
                .into_iter()
                .skip(2)
                .map(|d| d + Dim::from(1))
                .collect(),
            mode: self
                .choices
                .pick(&[ResizeMode::Nearest, ResizeMode::Linear]),
        };
        self.op("resize", op, &[x])
    }
}
