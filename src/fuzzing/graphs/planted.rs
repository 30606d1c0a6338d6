//! A layer with a redundant channel.

use super::super::weights::Plan;
use super::{Added, Builder};
use crate::ir::{NodeId, Op, Tensor};

/// What some channels of a layer have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Channel 3 is channel 0.
    Equal,
    /// Channel 3 is twice channel 0.
    Proportional,
    /// Channel 3 is zero.
    Zero,
    /// Channel 3 is one number that is not zero.
    Constant,
}

impl Builder<'_> {
    /// A layer of six channels, named `planted`, of which one is redundant.
    pub(super) fn planted(&mut self, x: NodeId, planted: Planted) -> Added {
        let inputs = self.channels(x);
        let mut rows = Plan::distinct(6).rows(7, 1.0, &[6, inputs]);
        let mut bias = Plan::distinct(6).rows(8, 0.5, &[6]);
        let first = rows[..inputs].to_vec();
        let (factor, constant) = match planted {
            Planted::Equal => (1.0, None),
            Planted::Proportional => (2.0, None),
            Planted::Zero => (0.0, Some(0.0)),
            Planted::Constant => (0.0, Some(0.75)),
        };
        let other = first.iter().map(|x| x * factor);
        rows.splice(3 * inputs..4 * inputs, other);
        bias[3] = constant.unwrap_or(bias[0] * factor);
        let weight = Tensor::from_vec(&[6, inputs, 1, 1], rows);
        let weight = self.constant("planted.weight", weight);
        let bias = self.constant("planted.bias", Tensor::from_vec(&[6], bias));
        self.op("planted", Op::pointwise(2, 1), &[x, weight, bias])
    }
}
