//! What the time of an operator depends on.

use serde::{Deserialize, Serialize};

use crate::analysis::cost::op_macs;
use crate::ir::{Dim, Op, Type, binaries, functions};

/// Operators that runtimes have one kernel for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A convolution over channels and more than one position; also one in groups.
    Conv,
    /// A convolution over channels only.
    Pointwise,
    /// A convolution over positions only: each channel has its own kernel.
    Depthwise,
    /// A linear layer, or another product of matrices; also attention, which is two of them.
    Linear,
    /// Channels picked, cut or added.
    Gather,
    /// A ReLU or a clip, which runtimes compute together with what comes before.
    Activation,
    /// Any other element-wise function of one operand.
    Unary,
    /// An element-wise function of two operands.
    Binary,
    /// A batch normalisation.
    BatchNorm,
    /// A pool, or a mean over positions.
    Pool,
    /// What moves no data: a reshape, a flatten, a dropout.
    View,
    /// Anything else.
    Other,
}

/// An operator, as far as its time depends on it. What it computes on, and how much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Which kernel of the runtime does it.
    pub op: Kind,
    /// The side of the window, or of the square of the same area; 1 where there is none.
    pub kernel: u64,
    /// The stride of the window; 1 where there is none.
    pub stride: u64,
    /// The channels that each channel of the result is made from; for a gather, those of its operand.
    pub channels_in: u64,
    /// The channels of the result.
    pub channels_out: u64,
    /// Positions of the result, over the whole batch: 196 for one of 14 x 14.
    pub positions: u64,
    /// Multiply-adds.
    pub macs: u64,
    /// Elements read and written, weights included.
    pub moved: u64,
}

impl Shape {
    /// The shape of `op` on operands of these types; `number` gives sizes their numbers. What is unknown counts as 0, or 1 for
    /// a channel.
    pub fn of(
        op: &Op,
        operands: &[&Type],
        results: &[Type],
        number: &dyn Fn(&Dim) -> u64,
    ) -> Shape {
        let size = |ty: &Type| -> u64 {
            let dims = ty.shape().unwrap_or_default();
            let elements = dims.iter().map(number).fold(1, u64::saturating_mul);
            if ty.shape().is_some() { elements } else { 0 }
        };
        let axis = |ty: Option<&Type>, axis: usize| -> u64 {
            let dim = ty.and_then(Type::shape).and_then(|shape| shape.get(axis));
            dim.map_or(1, number).max(1)
        };
        let result = results.first();
        let operand = operands.first().copied();
        let weight = operands.get(1).copied();
        let sum = |sizes: &mut dyn Iterator<Item = u64>| sizes.fold(0, u64::saturating_add);
        let moved = sum(&mut operands.iter().map(|ty| size(ty)))
            .saturating_add(sum(&mut results.iter().map(size)));
        let last = |ty: Option<&Type>| {
            let rank = ty.and_then(Type::rank).unwrap_or_default();
            axis(ty, rank.saturating_sub(1))
        };
        let channels_out = match op {
            Op::Linear {} => axis(weight, 0),
            Op::MatMul {} | Op::Attention { .. } => last(result),
            _ => axis(result, 1),
        };
        let plain = Shape {
            op: kind(op, weight),
            kernel: 1,
            stride: 1,
            channels_in: axis(operand, 1),
            channels_out,
            positions: result.map_or(0, size) / channels_out,
            macs: op_macs(op, operands, results).map_or(0, |macs| macs.number(number)),
            moved,
        };
        let window = |area: u64, stride: Option<u64>| Shape {
            kernel: (area as f64).sqrt().round().max(1.0) as u64,
            stride: stride.unwrap_or(1).max(1),
            ..plain
        };
        match op {
            Op::Conv { stride, .. } | Op::ConvTranspose { stride, .. } => {
                let area = weight.and_then(Type::shape).and_then(|w| w.get(2..));
                let area = area.map_or(1, |k| k.iter().map(number).product());
                let conv = window(area, stride.first().map(|s| *s as u64));
                Shape {
                    channels_in: axis(weight, 1),
                    ..conv
                }
            }
            Op::MaxPool { kernel, stride, .. } | Op::AvgPool { kernel, stride, .. } => window(
                kernel.iter().map(number).product(),
                stride.first().map(number),
            ),
            Op::Linear {} => Shape {
                channels_in: axis(weight, 1),
                ..plain
            },
            Op::MatMul {} | Op::Attention { .. } => Shape {
                channels_in: last(operand),
                ..plain
            },
            _ => plain,
        }
    }

    /// Whether a runtime with a blocked layout keeps operand and result in it.
    pub(super) fn is_aligned(&self) -> bool {
        let even = |channels: u64| channels == 1 || channels.is_multiple_of(ALIGNMENT);
        even(self.channels_in) && even(self.channels_out)
    }

    /// How far another shape of the same kind is, as what was measured there says something about here: powers of two of
    /// channels and positions, more for another kernel or stride.
    pub(super) fn distance(&self, other: &Shape) -> f64 {
        let octaves = |a: u64, b: u64| (a.max(1) as f64 / b.max(1) as f64).log2();
        let terms = [
            octaves(self.channels_in, other.channels_in),
            octaves(self.channels_out, other.channels_out),
            octaves(self.positions, other.positions) / 2.0,
            4.0 * octaves(self.kernel, other.kernel),
            4.0 * octaves(self.stride, other.stride),
            if self.is_aligned() == other.is_aligned() {
                0.0
            } else {
                8.0
            },
        ];
        terms.iter().map(|t| t * t).sum::<f64>().sqrt()
    }
}

/// Runtimes with blocked layouts take another way where channels are not a multiple of this: ONNX Runtime's depthwise
/// convolutions are then ten times slower.
const ALIGNMENT: u64 = 4;

fn kind(op: &Op, weight: Option<&Type>) -> Kind {
    match op {
        Op::Conv { groups, .. } => {
            let shape = weight.and_then(Type::shape).unwrap_or_default();
            let len = |i: usize| shape.get(i).and_then(Dim::as_len);
            let points = shape.iter().skip(2).all(|k| k.as_len() == Some(1));
            match groups {
                1 if points => Kind::Pointwise,
                groups if *groups > 1 && len(0) == Some(*groups) && len(1) == Some(1) => {
                    Kind::Depthwise
                }
                _ => Kind::Conv,
            }
        }
        Op::ConvTranspose { .. } => Kind::Conv,
        Op::Linear {} | Op::MatMul {} | Op::Attention { .. } => Kind::Linear,
        Op::Gather { .. } | Op::Slice { .. } | Op::Pad { .. } => Kind::Gather,
        functions!() => match op {
            Op::Relu {} | Op::LeakyRelu { .. } | Op::Clip { .. } => Kind::Activation,
            Op::Cast { .. } => Kind::Other,
            _ => Kind::Unary,
        },
        Op::PRelu {} => Kind::Unary,
        binaries!() => Kind::Binary,
        Op::BatchNorm { .. } => Kind::BatchNorm,
        Op::MaxPool { .. }
        | Op::AvgPool { .. }
        | Op::AdaptiveAvgPool { .. }
        | Op::AdaptiveMaxPool { .. }
        | Op::ReduceMean { .. }
        | Op::ReduceSum { .. }
        | Op::ReduceMax { .. } => Kind::Pool,
        Op::Flatten { .. }
        | Op::Reshape { .. }
        | Op::Squeeze { .. }
        | Op::Unsqueeze { .. }
        | Op::Dropout { .. }
        | Op::Identity {} => Kind::View,
        Op::LayerNorm { .. } | Op::GroupNorm { .. } => Kind::Other,
        Op::Softmax { .. } | Op::LogSoftmax { .. } => Kind::Other,
        Op::Resize { .. } | Op::Concat { .. } => Kind::Other,
        Op::Transpose { .. } | Op::Expand { .. } | Op::Opaque(_) => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_product_is_timed_as_the_linear_layer_of_its_sizes() {
        let shape = |op: &Op, operands: [&str; 2]| {
            let operands = operands.map(|ty| ty.parse::<Type>().unwrap());
            let operands = operands.each_ref();
            let results = crate::ir::infer::infer(op, &operands).unwrap();
            Shape::of(op, &operands, &results, &|dim| dim.as_len().unwrap() as u64)
        };
        let linear = shape(&Op::Linear {}, ["f32[8,64]", "f32[32,64]"]);
        assert_eq!(shape(&Op::MatMul {}, ["f32[8,64]", "f32[64,32]"]), linear);
    }
}
