//! How operators move channels: the one table that every pass asks.
//!
//! A *channel* is a position along one axis of a value, whatever the axis: axis 1 of an image, the last axis of a token. For
//! an operator and an axis of its result, [`flow`] says where the channels of that axis come from.

use smallvec::SmallVec;

use super::attribute::PadMode;
use super::dim::Dim;
use super::op::{Op, binaries, functions};
use super::regroup::{self, Regroup};
use super::types::Type;

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
        Op::Softmax { .. } | Op::LogSoftmax { .. } => {
            Flow::Refuses("it normalises over the channels")
        }
        Op::Conv { groups, .. } => match (axis, operands[1].shape()) {
            (1, Some(_)) if *groups == 1 => Flow::Mixes { axis: 1 },
            (1, Some(w)) if w[0].as_len() == Some(*groups) && x[1].as_len() == Some(*groups) => {
                let parameters = operands[1..].iter().map(|_| Some(0));
                keeps(
                    std::iter::once(Some(1)).chain(parameters),
                    Factors::None,
                    Vary,
                )
            }
            (1, Some(_)) => Flow::Groups {
                axis: 1,
                groups: *groups,
            },
            _ => Flow::Refuses("the axis is not the channels'"),
        },
        Op::ConvTranspose { groups, .. } => match (axis, operands[1].shape()) {
            (1, _) if *groups == 1 => Flow::Mixes { axis: 1 },
            (1, Some(w)) if w[0].as_len() == Some(*groups) && w[1].as_len() == Some(1) => {
                let bias = operands[2..].iter().map(|_| Some(0));
                let both = [Some(1), Some(0)].into_iter();
                keeps(both.chain(bias), Factors::None, Vary)
            }
            (1, _) => Flow::Groups {
                axis: 1,
                groups: *groups,
            },
            _ => Flow::Refuses("the axis is not the channels'"),
        },
        Op::Linear {} if axis + 1 == rank => Flow::Mixes { axis: x.len() - 1 },
        Op::Linear {} => keeps(
            std::iter::once(Some(axis)).chain(operands[1..].iter().map(|_| None)),
            Factors::None,
            Vary,
        ),
        Op::MaxPool { .. } | Op::AdaptiveMaxPool { .. } if axis < 2 => {
            keeps([Some(axis)], factors, Same)
        }
        Op::AvgPool { pad, count_pad, .. } if axis < 2 => keeps(
            [Some(axis)],
            factors,
            if pad.is_zero() || !count_pad {
                Same
            } else {
                Zero
            },
        ),
        Op::AdaptiveAvgPool { .. } if axis < 2 => keeps([Some(axis)], factors, Same),
        Op::Resize { .. } if axis < 2 => keeps([Some(axis)], factors, Same),
        Op::ReduceMean { axes, keep }
        | Op::ReduceSum { axes, keep }
        | Op::ReduceMax { axes, keep } => {
            let axis = if *keep {
                Some(axis)
            } else {
                (0..x.len()).filter(|a| !axes.contains(a)).nth(axis)
            };
            match axis {
                Some(axis) if !axes.contains(&axis) => keeps(
                    [Some(axis)],
                    factors,
                    if matches!(op, Op::ReduceSum { .. }) {
                        Zero
                    } else {
                        Same
                    },
                ),
                _ => Flow::Refuses("it reduces over the channels"),
            }
        }
        Op::Pad {
            before,
            after,
            mode,
            value,
        } => match (
            before[axis].as_number(),
            after[axis].as_number(),
            x[axis].as_len(),
        ) {
            (Some(0), Some(0), _) => {
                let constants = match mode {
                    PadMode::Constant if value.0 == 0.0 => Zero,
                    PadMode::Constant => Vary,
                    _ => Same,
                };
                keeps([Some(axis)], factors, constants)
            }
            (Some(before), Some(after), Some(n))
                if before >= 0
                    && after >= 0
                    && *mode == PadMode::Constant
                    && only_axis(op, axis) =>
            {
                let constants = |n: i64| std::iter::repeat_n(Source::Constant(value.0), n as usize);
                let source = constants(before)
                    .chain((0..n).map(Source::Channel))
                    .chain(constants(after))
                    .collect();
                Flow::Selects { axis, source }
            }
            _ => Flow::Refuses("it pads the channels"),
        },
        Op::Slice { axis: sliced, .. } | Op::Gather { axis: sliced, .. } if *sliced != axis => {
            keeps([Some(axis)], Factors::All, Same)
        }
        Op::Slice {
            start, end, step, ..
        } => match (start.as_len(), end.as_len(), x[axis].as_len()) {
            (Some(start), Some(end), Some(n)) if end <= n => {
                let source = (start..end)
                    .step_by((*step).max(1))
                    .map(Source::Channel)
                    .collect();
                Flow::Selects { axis, source }
            }
            _ => Flow::Refuses("it slices the channels at a size known only at run time"),
        },
        Op::Gather { index, .. } => {
            let source = index.iter().map(|i| Source::Channel(*i as usize)).collect();
            Flow::Selects { axis, source }
        }
        Op::Concat { axis: joined } if *joined == axis => Flow::Offsets { axis },
        Op::Concat { .. } => keeps(operands.iter().map(|_| Some(axis)), Factors::None, Same),
        Op::Flatten { .. } | Op::Reshape { .. } => {
            regrouped(x, result.shape().unwrap_or_default(), axis)
        }
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
        Op::Expand { .. } => match (axis + x.len()).checked_sub(rank) {
            Some(from) if x[from] == result.shape().unwrap_or_default()[axis] => {
                keeps([Some(from)], Factors::All, Same)
            }
            _ => Flow::Refuses("it repeats the channels"),
        },
        Op::Unsqueeze { .. } | Op::Resize { .. } => Flow::Refuses("the axis is not the channels'"),
        Op::MaxPool { .. }
        | Op::AdaptiveMaxPool { .. }
        | Op::AvgPool { .. }
        | Op::AdaptiveAvgPool { .. } => Flow::Refuses("the axis is not the channels'"),
        Op::MatMul {} if axis + 1 == rank => {
            let columns = operands[1].rank().and_then(|rank| rank.checked_sub(1));
            keeps([None, columns], Factors::All, Zero)
        }
        Op::MatMul {} if axis + 2 == rank => {
            let rows = x.len().checked_sub(2);
            keeps([rows, None], Factors::All, Zero)
        }
        Op::MatMul {} => keeps(aligned(operands, axis, rank), Factors::All, Vary),
        // Weights of attention add up to 1, so a value that all keys have is the result.
        Op::Attention { .. } if axis + 1 == rank => {
            let values = operands[2].rank().and_then(|rank| rank.checked_sub(1));
            let mask = operands[3..].iter().map(|_| None);
            keeps(
                [None, None, values].into_iter().chain(mask),
                Factors::All,
                Same,
            )
        }
        Op::Attention { .. } if axis + 2 == rank => Flow::Refuses("attention orders its rows"),
        Op::Attention { .. } => keeps(aligned(operands, axis, rank), Factors::None, Vary),
        Op::Opaque(_) => Flow::Refuses("it is opaque"),
    }
}

/// The axis of each operand that is broadcast to `axis` of a result of this rank; `None` where it has one position for all.
fn aligned(operands: &[&Type], axis: usize, rank: usize) -> impl Iterator<Item = Option<usize>> {
    operands.iter().map(move |ty| {
        let axis = (axis + ty.rank()?).checked_sub(rank)?;
        (ty.len(axis) != Some(1)).then_some(axis)
    })
}

/// Where the positions of an axis come from when an array of shape `x` gets the shape `result`.
fn regrouped(x: &[Dim], result: &[Dim], axis: usize) -> Flow {
    let factors = regroup::Factors::of(x, result);
    if let Some(from) = factors.kept(axis) {
        return keeps([Some(from)], Factors::All, Constants::Same);
    }
    let found = factors.regroups(axis);
    match found.as_slice() {
        [] if result[axis].as_number().is_none() => {
            Flow::Refuses("it joins or splits axes into one whose size is known only at run time")
        }
        [] => Flow::Refuses("it cuts across axes"),
        _ => Flow::Regroups(found),
    }
}

/// Whether a pad touches this axis alone.
fn only_axis(op: &Op, axis: usize) -> bool {
    let Op::Pad { before, after, .. } = op else {
        return false;
    };
    let zero = |(a, n): (usize, &Dim)| a == axis || n.as_number() == Some(0);
    before.iter().enumerate().all(zero) && after.iter().enumerate().all(zero)
}

impl Op {
    /// This operator for an axis of its result that has length `n`, where [`flow`] says that it keeps or regroups channels.
    pub fn with_channels(&self, axis: usize, n: usize) -> Op {
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
    pub fn with_groups(&self, n: usize) -> Op {
        let mut op = self.clone();
        if let Op::Conv { groups, .. } | Op::ConvTranspose { groups, .. } = &mut op {
            *groups = n;
        }
        op
    }

    /// The axis of the weight that holds output channels, and the one that holds input channels, where the operator is a
    /// product with a dense weight: operand 1 of a convolution with one group, or of a linear layer.
    pub fn weight_axes(&self) -> Option<WeightAxes> {
        match self {
            Op::Conv { groups: 1, .. } | Op::Linear {} => Some(WeightAxes {
                output: 0,
                input: 1,
            }),
            Op::ConvTranspose { groups: 1, .. } => Some(WeightAxes {
                output: 1,
                input: 0,
            }),
            _ => None,
        }
    }
}

impl Op {
    /// As [`Op::weight_axes`], and for a matrix product whose operand 1 has this rank, where that is a matrix.
    pub fn product_axes(&self, rank: usize) -> Option<WeightAxes> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::regroup::Spread;
    use crate::ir::{DType, Dim};

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
