//! Channels that sums of products mix, or leave apart.

use super::{Constants, Factors, Flow, aligned, keeps};
use crate::ir::{Dim, Type};

pub(super) fn convolution(groups: usize, axis: usize, operands: &[&Type], x: &[Dim]) -> Flow {
    match (axis, operands[1].shape()) {
        (1, Some(_)) if groups == 1 => Flow::Mixes { axis: 1 },
        (1, Some(w)) if w[0].as_len() == Some(groups) && x[1].as_len() == Some(groups) => {
            let parameters = operands[1..].iter().map(|_| Some(0));
            let all = std::iter::once(Some(1)).chain(parameters);
            keeps(all, Factors::None, Constants::Vary)
        }
        (1, Some(_)) => Flow::Groups { axis: 1, groups },
        _ => Flow::Refuses("the axis is not the channels'"),
    }
}

pub(super) fn transposed(groups: usize, axis: usize, operands: &[&Type]) -> Flow {
    match (axis, operands[1].shape()) {
        (1, _) if groups == 1 => Flow::Mixes { axis: 1 },
        (1, Some(w)) if w[0].as_len() == Some(groups) && w[1].as_len() == Some(1) => {
            let bias = operands[2..].iter().map(|_| Some(0));
            let both = [Some(1), Some(0)].into_iter();
            keeps(both.chain(bias), Factors::None, Constants::Vary)
        }
        (1, _) => Flow::Groups { axis: 1, groups },
        _ => Flow::Refuses("the axis is not the channels'"),
    }
}

pub(super) fn linear(axis: usize, rank: usize, operands: &[&Type], x: &[Dim]) -> Flow {
    if axis + 1 == rank {
        return Flow::Mixes { axis: x.len() - 1 };
    }
    let parameters = operands[1..].iter().map(|_| None);
    let all = std::iter::once(Some(axis)).chain(parameters);
    keeps(all, Factors::None, Constants::Vary)
}

pub(super) fn matmul(axis: usize, rank: usize, operands: &[&Type], x: &[Dim]) -> Flow {
    if axis + 1 == rank {
        let columns = operands[1].rank().and_then(|rank| rank.checked_sub(1));
        keeps([None, columns], Factors::All, Constants::Zero)
    } else if axis + 2 == rank {
        let rows = x.len().checked_sub(2);
        keeps([rows, None], Factors::All, Constants::Zero)
    } else {
        let all = aligned(operands, axis, rank);
        keeps(all, Factors::All, Constants::Vary)
    }
}

/// Weights of attention add up to 1, so a value that all keys have is the result.
pub(super) fn attention(axis: usize, rank: usize, operands: &[&Type]) -> Flow {
    if axis + 1 == rank {
        let values = operands[2].rank().and_then(|rank| rank.checked_sub(1));
        let mask = operands[3..].iter().map(|_| None);
        let all = [None, None, values].into_iter().chain(mask);
        keeps(all, Factors::All, Constants::Same)
    } else if axis + 2 == rank {
        Flow::Refuses("attention orders its rows")
    } else {
        let all = aligned(operands, axis, rank);
        keeps(all, Factors::None, Constants::Vary)
    }
}
