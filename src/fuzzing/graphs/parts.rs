//! Branches that meet again, and channels that are cut, put together or mixed.

use smallvec::SmallVec;

use super::super::weights;
use super::{Added, Builder};
use crate::ir::{Dim, NodeId, Op, PadMode, Padding, Tensor};

impl Builder<'_> {
    /// `x + f(x)`.
    pub(super) fn residual(&mut self, x: NodeId) -> Added {
        let channels = self.channels(x);
        let conv = Op::Conv {
            stride: [1, 1].into_iter().collect(),
            pad: Padding::symmetric([1, 1]),
            dilation: [1, 1].into_iter().collect(),
            groups: 1,
        };
        let mut branch = self.conv(x, conv.clone(), &[channels, channels, 3, 3])?;
        if self.choices.one_in(2) {
            branch = self.activation(branch)?;
            branch = self.conv(branch, conv, &[channels, channels, 3, 3])?;
        }
        if self.choices.one_in(2) {
            branch = self.batch_norm(branch)?;
        }
        let sum = self.op("add", Op::Add {}, &[branch, x])?;
        if self.choices.one_in(2) {
            self.op("relu", Op::Relu {}, &[sum])
        } else {
            Ok(sum)
        }
    }

    /// An element-wise operation with another feature of the same type.
    pub(super) fn binary(&mut self, x: NodeId) -> Added {
        let ty = self.graph.ty(x.into());
        let fits = |y: &&NodeId| self.graph.ty((**y).into()) == ty;
        let fitting: Vec<NodeId> = self.features.iter().filter(fits).copied().collect();
        let y = self.choices.pick(&fitting);
        let op = match self.choices.below(6) {
            0..3 => Op::Add {},
            3 => Op::Sub {},
            4 => Op::Mul {},
            _ => Op::Maximum {},
        };
        let name = op.name();
        self.op(name, op, &[x, y])
    }

    /// Squeeze and excitation.
    pub(super) fn gate(&mut self, x: NodeId) -> Added {
        let channels = self.channels(x);
        let output = [1.into(), 1.into()].into_iter().collect();
        let mean = self.op("squeeze", Op::AdaptiveAvgPool { output }, &[x])?;
        let conv = Op::Conv {
            stride: [1, 1].into_iter().collect(),
            pad: Padding::symmetric([0, 0]),
            dilation: [1, 1].into_iter().collect(),
            groups: 1,
        };
        let hidden = self.conv(mean, conv.clone(), &[2, channels, 1, 1])?;
        let hidden = self.op("relu", Op::Relu {}, &[hidden])?;
        let gate = self.conv(hidden, conv, &[channels, 2, 1, 1])?;
        let gate = self.op("sigmoid", Op::Sigmoid {}, &[gate])?;
        self.op("scale", Op::Mul {}, &[x, gate])
    }

    /// Features of the same height and width, one after the other.
    pub(super) fn concat(&mut self, x: NodeId) -> Added {
        if self.channels(x) > 16 {
            return Err("wide enough".to_string());
        }
        let others = |node: NodeId| {
            let mut shape = self.graph.ty(node.into()).shape()?.to_vec();
            shape.remove(1);
            Some(shape)
        };
        let fits = |y: &&NodeId| others(**y) == others(x);
        let fitting: Vec<NodeId> = self.features.iter().filter(fits).copied().collect();
        let mut operands = vec![x];
        for _ in 0..1 + self.choices.below(2) {
            operands.push(self.choices.pick(&fitting));
        }
        self.op("concat", Op::Concat { axis: 1 }, &operands)
    }

    /// Some channels, or every other row.
    pub(super) fn part(&mut self, x: NodeId) -> Added {
        let channels = self.channels(x);
        let op = match self.choices.below(3) {
            0 => Op::Slice {
                axis: 1,
                start: self.choices.below(channels).into(),
                end: channels.into(),
                step: 1 + self.choices.below(2),
            },
            1 => {
                let index: Vec<u32> = (0..1 + self.choices.below(8))
                    .map(|_| self.choices.below(channels) as u32)
                    .collect();
                Op::Gather {
                    axis: 1,
                    index: index.into(),
                }
            }
            _ => {
                let end = self
                    .graph
                    .ty(x.into())
                    .shape()
                    .map(|shape| shape[2].clone());
                Op::Slice {
                    axis: 2,
                    start: 0.into(),
                    end: end.unwrap_or_else(|| 1.into()),
                    step: 2,
                }
            }
        };
        let name = op.name();
        self.op(name, op, &[x])
    }

    /// Zeros (or another value) around, or zero channels as in a shortcut without parameters.
    pub(super) fn pad(&mut self, x: NodeId) -> Added {
        let (before, after): ([i64; 4], [i64; 4]) = match self.choices.below(3) {
            0 => ([0, 1, 0, 0], [0, 2, 0, 0]),
            1 => ([0, 0, 1, 0], [0, 0, 1, 1]),
            _ => ([0, 0, 1, 1], [0, 0, 0, -1]),
        };
        let op = Op::Pad {
            before: before.map(Dim::from).into_iter().collect(),
            after: after.map(Dim::from).into_iter().collect(),
            mode: PadMode::Constant,
            value: self.choices.pick(&[0.0, 0.0, 1.0]).into(),
        };
        self.op("pad", op, &[x])
    }

    /// A constant a channel, or one for all, added or multiplied.
    pub(super) fn per_channel(&mut self, x: NodeId) -> Added {
        let channels = self.channels(x);
        let plan = self.plan(channels);
        let tensor = weights::vector(&mut self.choices, &plan, 1.0, 0.5);
        let shape: &[usize] = match self.choices.below(3) {
            0 => &[channels, 1, 1],
            1 => &[1, channels, 1, 1],
            _ => &[],
        };
        let tensor = match shape {
            [] => Tensor::from_vec(&[], vec![0.5f32]),
            shape => tensor.reshaped(shape)?,
        };
        let constant = self.parameter("factor", tensor);
        let op = match self.choices.below(3) {
            0 => Op::Add {},
            1 => Op::Mul {},
            _ => Op::Sub {},
        };
        let name = op.name();
        if self.choices.one_in(3) {
            self.op(name, op, &[constant, x])
        } else {
            self.op(name, op, &[x, constant])
        }
    }

    /// A channel shuffle, as in ShuffleNet: reshape, transpose, reshape.
    pub(super) fn shuffle(&mut self, x: NodeId) -> Added {
        let channels = self.channels(x);
        let Some([n, c, h, w]) = self
            .graph
            .ty(x.into())
            .shape()
            .map(|s| s.to_vec())
            .and_then(|s| <[Dim; 4]>::try_from(s).ok())
        else {
            return Err("not four axes".to_string());
        };
        if channels % 2 == 1 {
            return Err("an odd number of channels".to_string());
        }
        let shape = SmallVec::from_iter([
            n.clone(),
            2.into(),
            (channels / 2).into(),
            h.clone(),
            w.clone(),
        ]);
        let split = self.op("split", Op::Reshape { shape }, &[x])?;
        let perm = [0, 2, 1, 3, 4].into_iter().collect();
        let shuffled = self.op("deal", Op::Transpose { perm }, &[split])?;
        let shape = SmallVec::from_iter([n, c, h, w]);
        self.op("join", Op::Reshape { shape }, &[shuffled])
    }
}
