//! How operators move channels: the one table that every pass asks.
//!
//! A *channel* is a position along one axis of a value, whatever the axis: axis 1 of an image, the last axis of a token. For
//! an operator and an axis of its result, [`flow`] says where the channels of that axis come from.

mod moves;
mod products;
mod weights;

use smallvec::SmallVec;

use super::dim::Dim;
use super::op::{Op, binaries, functions, movements};
use super::regroup::Regroup;
use super::types::Type;
pub use weights::{WeightAxes, dense_axis};

/// Where the channels of a result's axis come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Flow {
    /// Channel c of the result is computed from channel c of each operand alone, the same way for every c.
    Keeps(Keeps),
    /// Channel c of the result is channel `source[c]` of operand 0 along `axis`, or a constant.
    Selects {
        /// The axis of operand 0.
        axis: usize,
        /// A channel of operand 0, or a constant value.
        source: Vec<Source>,
    },
    /// The channels of all operands along `axis`, one operand after the other.
    Offsets {
        /// The axis of every operand.
        axis: usize,
    },
    /// The positions of the axis are made of those of axes of operand 0, by a change of shape: each [`Regroup`] is some channels
    /// that are found again.
    Regroups(SmallVec<[Regroup; 2]>),
    /// Channels come in `groups` groups, one after the other. Each channel of the result depends, by way of weights, on all
    /// channels of the same group of operand 0 along `axis`.
    Groups {
        /// The axis of operand 0.
        axis: usize,
        /// How many.
        groups: usize,
    },
    /// Each channel of the result depends on all channels of operand 0 along `axis`, by way of weights.
    Mixes {
        /// The axis of operand 0.
        axis: usize,
    },
    /// Channels do not cross, for this reason.
    Refuses(&'static str),
}

/// A channel, or a value that a channel has everywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// This channel.
    Channel(usize),
    /// This value at every position.
    Constant(f64),
}

/// What [`Flow::Keeps`] keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct Keeps {
    /// For each operand the axis along which its channels correspond to the result's; `None` where the operand is the same
    /// for every channel.
    pub axes: SmallVec<[Option<usize>; 5]>,
    /// Which factors may be taken out of a channel of the first operand that has channels: f(s x) = s f(x).
    pub factors: Factors,
    /// What a constant channel becomes.
    pub constants: Constants,
}

/// What becomes of channels that have one value everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constants {
    /// They may vary, at the border for example.
    Vary,
    /// Zero stays zero; others may vary.
    Zero,
    /// They keep their value.
    Same,
    /// They get the value that the operator gives single elements.
    Mapped,
}

/// Which factors commute with an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// Only 1.
    None,
    /// Positive factors: ReLU, maxima.
    Positive,
    /// All factors: linear operators.
    All,
}

impl Factors {
    /// Whether f(s x) = s f(x).
    pub fn allow(self, s: f64) -> bool {
        match self {
            Factors::None => s == 1.0,
            Factors::Positive => s > 0.0,
            Factors::All => true,
        }
    }
}

fn keeps(
    axes: impl IntoIterator<Item = Option<usize>>,
    factors: Factors,
    constants: Constants,
) -> Flow {
    Flow::Keeps(Keeps {
        axes: axes.into_iter().collect(),
        factors,
        constants,
    })
}

/// Where the channels of `axis` of the result of `op` come from, for operands and a result of these types.
pub fn flow(op: &Op, axis: usize, operands: &[&Type], result: &Type) -> Flow {
    use Constants::{Mapped, Same, Vary, Zero};
    let Some(rank) = result.rank().filter(|rank| axis < *rank) else {
        return Flow::Refuses("its shape is unknown");
    };
    let unknown = operands.iter().any(|ty| ty.rank().is_none());
    let Some(x) = operands
        .first()
        .and_then(|x| x.shape())
        .filter(|_| !unknown)
    else {
        return Flow::Refuses("the shape of its operand is unknown");
    };
    let factors = op.factors();
    match op {
        Op::Identity {} | Op::Dropout { .. } => keeps([Some(axis)], factors, Same),
        functions!() => {
            let constants = match op {
                Op::Cast { .. } => Vary,
                _ => Mapped,
            };
            keeps([Some(axis)], factors, constants)
        }
        Op::PRelu {} => {
            let slopes = (axis == 1 && operands[1].len(0) != Some(1)).then_some(0);
            keeps([Some(axis), slopes], factors, Mapped)
        }
        binaries!() => keeps(aligned(operands, axis, rank), factors, Mapped),
        Op::BatchNorm { .. }
        | Op::LayerNorm { .. }
        | Op::GroupNorm { .. }
        | Op::Softmax { .. }
        | Op::LogSoftmax { .. } => normalised(op, axis, rank, operands),
        Op::Conv { groups, .. } => products::convolution(*groups, axis, operands, x),
        Op::ConvTranspose { groups, .. } => products::transposed(*groups, axis, operands),
        Op::Linear {} => products::linear(axis, rank, operands, x),
        Op::MatMul {} => products::matmul(axis, rank, operands, x),
        Op::Attention { .. } => products::attention(axis, rank, operands),
        Op::MaxPool { .. }
        | Op::AvgPool { .. }
        | Op::AdaptiveMaxPool { .. }
        | Op::AdaptiveAvgPool { .. }
        | Op::Resize { .. } => over_space(op, axis),
        Op::ReduceMean { axes, keep }
        | Op::ReduceSum { axes, keep }
        | Op::ReduceMax { axes, keep } => {
            let constants = match op {
                Op::ReduceSum { .. } => Zero,
                _ => Same,
            };
            let axis = if *keep {
                Some(axis)
            } else {
                (0..x.len()).filter(|a| !axes.contains(a)).nth(axis)
            };
            match axis.filter(|axis| !axes.contains(axis)) {
                Some(axis) => keeps([Some(axis)], factors, constants),
                None => Flow::Refuses("it reduces over the channels"),
            }
        }
        movements!() => {
            let result = result.shape().unwrap_or_default();
            moved(op, axis, operands.len(), x, result)
        }
        Op::Opaque(_) => Flow::Refuses("it is opaque"),
    }
}

/// [`flow`] of what normalises.
fn normalised(op: &Op, axis: usize, rank: usize, operands: &[&Type]) -> Flow {
    use Constants::{Mapped, Vary};
    match op {
        Op::BatchNorm { .. } => {
            let parameters = (axis == 1).then_some(0);
            keeps(
                [Some(axis)].into_iter().chain([parameters; 4]),
                Factors::None,
                Mapped,
            )
        }
        Op::LayerNorm { axes, .. } if axis + axes < rank => keeps(
            std::iter::once(Some(axis)).chain(operands[1..].iter().map(|_| None)),
            Factors::None,
            Vary,
        ),
        Op::LayerNorm { .. } | Op::GroupNorm { .. } => {
            Flow::Refuses("its statistics weigh all channels")
        }
        Op::Softmax { axis: over } | Op::LogSoftmax { axis: over } if *over != axis => {
            keeps([Some(axis)], Factors::None, Vary)
        }
        _ => Flow::Refuses("it normalises over the channels"),
    }
}

/// [`flow`] of what slides windows over the axes behind the channels, or resamples them.
fn over_space(op: &Op, axis: usize) -> Flow {
    if axis >= 2 {
        return Flow::Refuses("the axis is not the channels'");
    }
    let constants = match op {
        // At the border it counts zeros in.
        Op::AvgPool { pad, count_pad, .. } if *count_pad && !pad.is_zero() => Constants::Zero,
        _ => Constants::Same,
    };
    keeps([Some(axis)], op.factors(), constants)
}

/// [`flow`] of what moves the elements of so many operands about, the first of shape `x`.
fn moved(op: &Op, axis: usize, operands: usize, x: &[Dim], result: &[Dim]) -> Flow {
    use Constants::Same;
    match op {
        Op::Pad { .. } => moves::pad(op, axis, x),
        Op::Concat { axis: joined } if *joined == axis => Flow::Offsets { axis },
        Op::Concat { .. } => keeps(vec![Some(axis); operands], Factors::None, Same),
        Op::Slice { axis: sliced, .. } | Op::Gather { axis: sliced, .. } if *sliced != axis => {
            keeps([Some(axis)], Factors::All, Same)
        }
        Op::Slice {
            start, end, step, ..
        } => moves::slice(start, end, *step, axis, x),
        Op::Gather { index, .. } => {
            let source = index.iter().map(|i| Source::Channel(*i as usize)).collect();
            Flow::Selects { axis, source }
        }
        Op::Flatten { .. } | Op::Reshape { .. } => moves::regrouped(x, result, axis),
        Op::Transpose { perm } => keeps([Some(perm[axis])], Factors::All, Same),
        Op::Squeeze { axes } => match (0..x.len()).filter(|a| !axes.contains(a)).nth(axis) {
            Some(axis) => keeps([Some(axis)], Factors::All, Same),
            None => Flow::Refuses("the axis is not the channels'"),
        },
        Op::Unsqueeze { axes } if !axes.contains(&axis) => keeps(
            [Some(axis - axes.iter().filter(|a| **a < axis).count())],
            Factors::All,
            Same,
        ),
        Op::Expand { .. } => match (axis + x.len()).checked_sub(result.len()) {
            Some(from) if x[from] == result[axis] => keeps([Some(from)], Factors::All, Same),
            _ => Flow::Refuses("it repeats the channels"),
        },
        _ => Flow::Refuses("the axis is not the channels'"),
    }
}

/// The axis of each operand that is broadcast to `axis` of a result of this rank; `None` where it has one position for all.
fn aligned(operands: &[&Type], axis: usize, rank: usize) -> impl Iterator<Item = Option<usize>> {
    operands.iter().map(move |ty| {
        let axis = (axis + ty.rank()?).checked_sub(rank)?;
        (ty.len(axis) != Some(1)).then_some(axis)
    })
}

impl Op {
    /// This operator for an axis of its result that has length `n`, where [`flow`] says that it keeps or regroups channels.
    pub(crate) fn with_channels(&self, axis: usize, n: usize) -> Op {
        match self {
            Op::Conv { .. } | Op::ConvTranspose { .. } => self.with_groups(n),
            Op::Reshape { shape } => {
                let mut shape = shape.clone();
                shape[axis] = n.into();
                Op::Reshape { shape }
            }
            Op::Expand { shape } => {
                let mut shape = shape.clone();
                shape[axis] = n.into();
                Op::Expand { shape }
            }
            op => op.clone(),
        }
    }

    /// This convolution, of either direction, with another number of groups; any other operator as it is.
    pub(crate) fn with_groups(&self, n: usize) -> Op {
        let mut op = self.clone();
        if let Op::Conv { groups, .. } | Op::ConvTranspose { groups, .. } = &mut op {
            *groups = n;
        }
        op
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::regroup::Spread;
    use crate::ir::{DType, Dim, PadMode};

    fn ty(shape: &str) -> Type {
        format!("f32[{shape}]").parse().unwrap()
    }

    #[test]
    fn a_flatten_makes_blocks_and_a_broadcast_operand_is_the_same_for_every_channel() {
        let flat = flow(
            &Op::Flatten { start: 1, end: 3 },
            1,
            &[&ty("N,8,3,2")],
            &ty("N,48"),
        );
        let Flow::Regroups(flat) = flat else { panic!() };
        let block = Spread {
            repeats: 1,
            block: 6,
        };
        assert_eq!(
            (flat[0].axis, flat[0].from, flat[0].to),
            (1, Spread::WHOLE, block)
        );
        let gate = flow(
            &Op::Mul {},
            1,
            &[&ty("N,8,H,W"), &ty("8,1,1")],
            &ty("N,8,H,W"),
        );
        assert_eq!(
            gate,
            keeps([Some(1), Some(0)], Factors::None, Constants::Mapped)
        );
        let scalar = flow(&Op::Add {}, 1, &[&ty("N,8,H,W"), &ty("")], &ty("N,8,H,W"));
        assert_eq!(
            scalar,
            keeps([Some(1), None], Factors::None, Constants::Mapped)
        );
    }

    #[test]
    fn a_channel_pad_selects_channels_and_zeros() {
        let zero: crate::ir::Dims = [0, 1, 0, 0].map(Dim::from).into_iter().collect();
        let pad = Op::Pad {
            before: zero.clone(),
            after: zero,
            mode: PadMode::Constant,
            value: 0.0.into(),
        };
        let shape = Type::tensor(DType::F32, [Dim::symbol("N"), 4.into(), 5.into(), 5.into()]);
        let Flow::Selects { source, .. } = flow(&pad, 1, &[&ty("N,2,5,5")], &shape) else {
            panic!()
        };
        assert_eq!(source[0], Source::Constant(0.0));
        assert_eq!(source[2], Source::Channel(1));
    }
}
