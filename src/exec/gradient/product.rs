//! Matrix products.

use super::super::array::Array;
use super::super::matmul::{linear as product, matmul as matrix_product};
use super::super::movement::transpose;
use super::operator::Site;
use super::pointwise::sum_to;
use crate::ir::Real;

/// `x W^T`, by `x`.
pub(super) fn linear<'g, T: Real>(
    weight: &Array<'g, T>,
    shape: &[usize],
    adjoint: &Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let transposed = transpose(weight.clone(), &[1, 0])?;
    product(adjoint, &transposed, None)?.reshaped(shape)
}

pub(super) fn matmul<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    operand: usize,
    adjoint: &Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let share = match operand {
        0 => matrix_product(adjoint, &flipped(site.operand(1)?)?),
        _ => matrix_product(&flipped(site.operand(0)?)?, adjoint),
    };
    sum_to(share?, site.shape(operand))
}

/// With the last two axes exchanged.
pub(super) fn flipped<'g, T: Real>(x: &Array<'g, T>) -> Result<Array<'g, T>, String> {
    let rank = x.shape().len();
    let mut perm: Vec<usize> = (0..rank).collect();
    match rank {
        0 | 1 => return Err(format!("{:?} is no matrix", x.shape())),
        _ => perm.swap(rank - 1, rank - 2),
    }
    transpose(x.clone(), &perm)
}
