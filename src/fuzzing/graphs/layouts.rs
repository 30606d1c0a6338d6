//! Layers around which channels change their place: split and joined axes, channels last, attention.

use smallvec::SmallVec;

use super::super::weights;
use super::{Added, Builder};
use crate::ir::{Dim, Dims, NodeId, Op, Tensor};

impl Builder<'_> {
    /// One of them.
    pub(super) fn layout(&mut self, x: NodeId) -> Added {
        match self.choices.below(6) {
            0 => self.halves(x),
            1 => self.gated(x),
            2 => self.pixel_shuffle(x),
            3 => self.channels_last(x),
            _ => self.attention(x),
        }
    }

    pub(super) fn shape(&self, x: NodeId) -> Result<[Dim; 4], String> {
        let shape = self.graph.ty(x.into()).shape().unwrap_or_default().to_vec();
        <[Dim; 4]>::try_from(shape).map_err(|_| "not four axes".to_string())
    }

    fn reshape(&mut self, x: NodeId, shape: impl IntoIterator<Item = Dim>) -> Added {
        let shape: Dims = shape.into_iter().collect();
        self.op("reshape", Op::Reshape { shape }, &[x])
    }

    fn transpose(&mut self, x: NodeId, perm: &[usize]) -> Added {
        let perm = perm.iter().copied().collect();
        self.op("transpose", Op::Transpose { perm }, &[x])
    }

    /// The channels in two halves, one above the other, and what the reduction over both is.
    fn halves(&mut self, x: NodeId) -> Added {
        let [n, _, h, w] = self.shape(x)?;
        let channels = self.even(x, 2)?;
        let split = self.reshape(x, [n, 2.into(), (channels / 2).into(), h, w])?;
        let axes = [1].into_iter().collect();
        let op = match self.choices.below(3) {
            0 => Op::ReduceSum { axes, keep: false },
            1 => Op::ReduceMax { axes, keep: false },
            _ => {
                let one = self.op(
                    "slice",
                    Op::Slice {
                        axis: 1,
                        start: 1.into(),
                        end: 2.into(),
                        step: 1,
                    },
                    &[split],
                )?;
                return self.op("squeeze", Op::Squeeze { axes }, &[one]);
            }
        };
        let name = op.name();
        self.op(name, op, &[split])
    }

    /// One half of the channels, times a gate that the other half makes.
    fn gated(&mut self, x: NodeId) -> Added {
        let channels = self.even(x, 2)?;
        let half = |start: usize| Op::Slice {
            axis: 1,
            start: start.into(),
            end: (start + channels / 2).into(),
            step: 1,
        };
        let value = self.op("slice", half(0), &[x])?;
        let gate = self.op("slice", half(channels / 2), &[x])?;
        let gate = self.op("sigmoid", Op::Sigmoid {}, &[gate])?;
        self.op("mul", Op::Mul {}, &[value, gate])
    }

    /// Four channels as one of twice the height and width.
    fn pixel_shuffle(&mut self, x: NodeId) -> Added {
        let [n, _, h, w] = self.shape(x)?;
        let channels = self.even(x, 4)? / 4;
        let two = || Dim::from(2);
        if self.choices.one_in(2) {
            return Err("large enough".to_string());
        }
        let split = [
            n.clone(),
            channels.into(),
            two(),
            two(),
            h.clone(),
            w.clone(),
        ];
        let split = self.reshape(x, split)?;
        let shuffled = self.transpose(split, &[0, 1, 4, 2, 5, 3])?;
        self.reshape(shuffled, [n, channels.into(), h * two(), w * two()])
    }

    /// Two layers on the channels as the last axis, as a transformer's block has them.
    fn channels_last(&mut self, x: NodeId) -> Added {
        let channels = self.channels(x);
        let last = self.transpose(x, &[0, 2, 3, 1])?;
        let last = if self.choices.one_in(3) {
            let eps = 1e-5.into();
            self.op("layer_norm", Op::LayerNorm { axes: 1, eps }, &[last])?
        } else {
            last
        };
        let hidden = self.dense(last, channels, 6)?;
        let hidden = self.activation(hidden)?;
        let outputs = 1 + self.choices.below(6);
        let result = self.dense(hidden, 6, outputs)?;
        self.transpose(result, &[0, 3, 1, 2])
    }

    /// A linear layer, or a product with a matrix and a sum.
    fn dense(&mut self, x: NodeId, inputs: usize, outputs: usize) -> Added {
        let plan = self.plan(outputs);
        let tensor = weights::weight(&mut self.choices, &plan, &[outputs, inputs]);
        let bias = weights::vector(&mut self.choices, &plan, 0.0, 0.5);
        let bias = self.parameter("dense.bias", bias);
        if self.choices.one_in(3) {
            let rows = tensor.elements::<f32>();
            let turned = (0..inputs * outputs).map(|i| rows[i % outputs * inputs + i / outputs]);
            let turned = Tensor::from_vec(&[inputs, outputs], turned.collect::<Vec<f32>>());
            let weight = self.parameter("dense.weight", turned);
            let product = self.op("matmul", Op::MatMul {}, &[x, weight])?;
            return self.op("add", Op::Add {}, &[bias, product]);
        }
        let weight = self.parameter("dense.weight", tensor);
        self.op("dense", Op::Linear {}, &[x, weight, bias])
    }

    /// Attention of two heads over all positions, the projections apart or in one layer.
    fn attention(&mut self, x: NodeId) -> Added {
        let [n, c, h, w] = self.shape(x)?;
        let (channels, heads, width) = (self.channels(x), 2, 1 + self.choices.below(3));
        let positions = h.clone() * w.clone();
        let tokens = self.op("flatten", Op::Flatten { start: 2, end: 3 }, &[x])?;
        let tokens = self.transpose(tokens, &[0, 2, 1])?;
        let [rows, heads_, wide] = [positions.clone(), heads.into(), width.into()];
        let parts: Vec<NodeId> = if self.choices.one_in(2) {
            let all = self.dense(tokens, channels, 3 * heads * width)?;
            let split = self.reshape(all, [n.clone(), rows, 3.into(), heads_, wide])?;
            let apart = self.transpose(split, &[2, 0, 3, 1, 4])?;
            let part = |i: usize| Op::Slice {
                axis: 0,
                start: i.into(),
                end: (i + 1).into(),
                step: 1,
            };
            let squeeze = || Op::Squeeze {
                axes: [0].into_iter().collect(),
            };
            let one = |builder: &mut Self, i: usize| {
                let part = builder.op("part", part(i), &[apart])?;
                builder.op("squeeze", squeeze(), &[part])
            };
            (0..3).map(|i| one(self, i)).collect::<Result<_, _>>()?
        } else {
            let shape = SmallVec::<[Dim; 4]>::from_iter([n.clone(), rows, heads_, wide]);
            let one = |builder: &mut Self| {
                let all = builder.dense(tokens, channels, heads * width)?;
                let split = builder.reshape(all, shape.clone())?;
                builder.transpose(split, &[0, 2, 1, 3])
            };
            (0..3).map(|_| one(self)).collect::<Result<_, _>>()?
        };
        let mixed = if self.choices.one_in(2) {
            let keys = self.transpose(parts[1], &[0, 1, 3, 2])?;
            let scores = self.op("scores", Op::MatMul {}, &[parts[0], keys])?;
            let weights = self.op("softmax", Op::Softmax { axis: 3 }, &[scores])?;
            self.op("mix", Op::MatMul {}, &[weights, parts[2]])?
        } else {
            let causal = self.choices.one_in(2);
            let scale = None;
            self.op("attention", Op::Attention { scale, causal }, &parts)?
        };
        let back = self.transpose(mixed, &[0, 2, 1, 3])?;
        let joined = self.reshape(back, [n.clone(), positions, (heads * width).into()])?;
        let result = self.dense(joined, heads * width, channels)?;
        let result = self.transpose(result, &[0, 2, 1])?;
        self.reshape(result, [n, c, h, w])
    }

    /// The number of channels, if it is a multiple.
    fn even(&self, x: NodeId, of: usize) -> Result<usize, String> {
        let channels = self.channels(x);
        if channels.is_multiple_of(of) {
            Ok(channels)
        } else {
            Err(format!("not a multiple of {of} channels"))
        }
    }
}
