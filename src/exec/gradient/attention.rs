//! Attention, by the products that it is made of.

use ndarray::Dimension;

use super::super::array::Array;
use super::super::elementwise::zip;
use super::super::matmul::matmul;
use super::super::reduce::softmax;
use super::norm;
use super::operator::Site;
use super::pointwise::sum_to;
use super::product::flipped;
use crate::ir::Real;

pub(super) fn attention<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    operand: usize,
    scale: Option<f64>,
    causal: bool,
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let (q, k, v) = (site.operand(0)?, site.operand(1)?, site.operand(2)?);
    let features = q.shape().last().copied().unwrap_or(1) as f64;
    let scale = T::from_f64(scale.unwrap_or(features.sqrt().recip()));
    let scaled = |x: Array<'g, T>| zip(x.clone(), x, |x, _| x * scale);
    let mut scores = scaled(matmul(q, &flipped(k)?)?)?;
    if let Ok(mask) = site.operand(3) {
        scores = zip(scores, mask.clone(), |x, m| x + m)?;
    }
    if causal {
        let mut elements = scores.into_owned();
        for (at, x) in elements.indexed_iter_mut() {
            let last = at.ndim() - 1;
            if at[last] > at[last - 1] {
                *x = T::neg_infinity();
            }
        }
        scores = elements.into();
    }
    let last = scores.shape().len() - 1;
    let shares = softmax(scores, last, false)?;
    let share = match operand {
        2 => matmul(&flipped(&shares)?, &adjoint)?,
        _ => {
            let by_shares = matmul(&adjoint, &flipped(v)?)?;
            let by_scores = norm::softmax(&shares, last, false, &by_shares)?;
            match operand {
                0 => scaled(matmul(&by_scores, k)?)?,
                1 => scaled(matmul(&flipped(&by_scores)?, q)?)?,
                _ => by_scores,
            }
        }
    };
    sum_to(share, site.shape(operand))
}
