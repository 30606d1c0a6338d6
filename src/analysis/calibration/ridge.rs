//! The ridge: how strongly a fit is drawn to the weight that is there, so that it is better on samples that it has not seen.
//!
//! Where a layer reads few positions, as behind a global pool, there may be fewer of them than features, and what fits them best is
//! far off everywhere else. So each part of the samples is predicted from the others.

use faer::Mat;

use super::least_squares::Sums;
use super::{MANY, RIDGE};

/// Ridges, relative to the mean variance of the features.
const RIDGES: [f64; 6] = [RIDGE, 1e-3, 1e-2, 1e-1, 1.0, 10.0];

/// The best of all ridges for a layer of this weight and bias, given the sums over parts of the samples and over all; `None` where the
/// layer is better left as it is. Features that are `unread` have no weight.
pub(super) fn ridge(
    parts: &[Sums],
    all: &Sums,
    weight: &Mat<f64>,
    bias: &[f64],
    unread: &[usize],
) -> Option<f64> {
    if parts.len() < 2 {
        return Some(RIDGE);
    }
    let tried = if weight.ncols() > MANY {
        1
    } else {
        parts.len()
    };
    let mut errors = [0.0; RIDGES.len()];
    let mut as_it_is = 0.0;
    for part in &parts[..tried] {
        let others = (all - part).moments();
        for (error, ridge) in errors.iter_mut().zip(RIDGES) {
            let fitted = others.fit(weight, ridge, unread);
            *error += fitted.map_or(f64::INFINITY, |(weight, bias)| part.error(&weight, &bias));
        }
        as_it_is += part.error(weight, bias);
    }
    let best = errors.iter().zip(RIDGES).min_by(|a, b| a.0.total_cmp(b.0));
    best.filter(|(error, _)| **error < as_it_is)
        .map(|(_, ridge)| ridge)
}
