//! LRF as its authors do it: every filter that is left is fitted anew on all the others before each removal.

use faer::linalg::solvers::{Solve, SolveLstsq};
use faer::{Mat, Side};

/// How a filter is fitted on others.
#[derive(Clone, Copy)]
pub enum Fit {
    /// By least squares on the filters themselves, as the authors do.
    LeastSquares,
    /// By the normal equations: the same solution, sooner.
    Normal,
}

/// Removes `count` of the rows of `features`, one at a time: that one goes whose fit on the others leaves least, times the norm
/// of its column of `mix`, which the columns of the others take over. The rows that stay, and the mix of all columns; those of
/// rows that are gone mean nothing.
fn remove(
    features: &Mat<f64>,
    mut mix: Mat<f64>,
    count: usize,
    fit: Fit,
) -> (Vec<usize>, Mat<f64>) {
    let gram = features * features.transpose();
    let mut left: Vec<usize> = (0..features.nrows()).collect();
    for _ in 0..count {
        let mut best: Option<(f64, usize, Vec<usize>, Mat<f64>)> = None;
        for j in &left {
            let others: Vec<usize> = left.iter().copied().filter(|i| i != j).collect();
            let k = others.len();
            let (lambda, left) = match fit {
                Fit::LeastSquares => {
                    let m = features.ncols();
                    let of = Mat::from_fn(m, k, |e, a| features[(others[a], e)]);
                    let target = Mat::from_fn(m, 1, |e, _| features[(*j, e)]);
                    let lambda = of.qr().solve_lstsq(&target);
                    let left = (target - of * &lambda).squared_norm_l2();
                    (lambda, left)
                }
                Fit::Normal => {
                    let inner = Mat::from_fn(k, k, |a, b| gram[(others[a], others[b])]);
                    let target = Mat::from_fn(k, 1, |a, _| gram[(others[a], *j)]);
                    let lambda = inner.llt(Side::Lower).unwrap().solve(&target);
                    let fit: f64 = (0..k).map(|a| lambda[(a, 0)] * target[(a, 0)]).sum();
                    (lambda, gram[(*j, *j)] - fit)
                }
            };
            let score = left.sqrt() * mix.col(*j).norm_l2();
            if best.as_ref().is_none_or(|(least, ..)| score < *least) {
                best = Some((score, *j, others, lambda));
            }
        }
        let Some((_, gone, others, lambda)) = best else {
            break;
        };
        for (a, l) in others.iter().enumerate() {
            for o in 0..mix.nrows() {
                let share = lambda[(a, 0)] * mix[(o, gone)];
                mix[(o, *l)] += share;
            }
        }
        left = others;
    }
    (left, mix)
}

/// Both sides of a weight `[outputs, inputs, taps]`: filters, then input channels. What stays of each, the 1x1 convolution
/// behind, `[outputs, filters]`, and that before, `[channels, inputs]`.
pub struct Removed {
    pub filters: Vec<usize>,
    pub channels: Vec<usize>,
    pub expand: Mat<f64>,
    pub squeeze: Mat<f64>,
}

pub fn both_sides(
    weight: &[f64],
    [outputs, inputs, taps]: [usize; 3],
    gone: [usize; 2],
    fit: Fit,
) -> Removed {
    let rows = Mat::from_fn(outputs, inputs * taps, |o, e| weight[o * inputs * taps + e]);
    let (filters, mix) = remove(&rows, Mat::identity(outputs, outputs), gone[0], fit);
    let expand = Mat::from_fn(outputs, filters.len(), |o, a| mix[(o, filters[a])]);
    let slices = Mat::from_fn(inputs, filters.len() * taps, |c, e| {
        rows[(filters[e / taps], c * taps + e % taps)]
    });
    let (channels, mix) = remove(&slices, Mat::identity(inputs, inputs), gone[1], fit);
    let squeeze = Mat::from_fn(channels.len(), inputs, |a, c| mix[(c, channels[a])]);
    Removed {
        filters,
        channels,
        expand,
        squeeze,
    }
}
