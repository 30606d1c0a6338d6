//! On which axes of a weight, and of what it is applied to, the channels of a layer lie.

use crate::ir::{Op, no_products};

impl Op {
    /// The axis of the weight that holds output channels, and the one that holds input channels, where the operator is a
    /// product with a dense weight: operand 1 of a convolution with one group, or of a linear layer.
    pub(crate) fn weight_axes(&self) -> Option<WeightAxes> {
        match self {
            Op::Conv { groups: 1, .. } | Op::Linear {} => Some(WeightAxes {
                output: 0,
                input: 1,
            }),
            Op::ConvTranspose { groups: 1, .. } => Some(WeightAxes {
                output: 1,
                input: 0,
            }),
            Op::Conv { .. } | Op::ConvTranspose { .. } | Op::MatMul {} | Op::Attention { .. } => {
                None
            }
            Op::Opaque(_) | no_products!() => None,
        }
    }

    /// As [`Op::weight_axes`], and for a matrix product whose operand 1 has this rank, where that is a matrix.
    pub(crate) fn product_axes(&self, rank: usize) -> Option<WeightAxes> {
        match self {
            Op::MatMul {} => (rank == 2).then_some(WeightAxes {
                output: 1,
                input: 0,
            }),
            op => op.weight_axes(),
        }
    }
}

/// Which axis of a dense weight is which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightAxes {
    /// The axis of output channels.
    pub output: usize,
    /// The axis of input channels.
    pub input: usize,
}

/// The axis of an activation that a dense operator's channels lie on, for its operand 0 or its result of this rank.
pub fn dense_axis(op: &Op, rank: usize) -> usize {
    if matches!(op, Op::Linear {} | Op::MatMul {}) {
        rank.saturating_sub(1)
    } else {
        1
    }
}
