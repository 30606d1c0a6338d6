//! Which features to do without, if the others may make up for it.
//!
//! A layer multiplies features by a weight. Without feature j, the least squares fit of the others loses
//! `|w_j|² / P_jj` where `P` is the inverse of the features' Gram matrix, and `P` without j is `P - P_:j P_j: / P_jj`: so one
//! inverse is enough to remove features one by one, each time the one whose loss is least, at O(n²) each. The closed form of
//! the greedy removal that LRF does filter by filter (Joo, Yi, Baek, Kim, AAAI 2021).

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

/// Features in the order in which they are best removed.
#[derive(Clone, Debug)]
pub struct Elimination {
    /// The features, the first to go first.
    pub order: Vec<usize>,
    /// What removing one more loses: element k is the squared error of the result, in all, without the first k features.
    pub loss: Vec<f64>,
}

/// Removes all features of a layer with this weight, `[outputs, n]`, and this Gram matrix of the features, `[n, n]`, one by
/// one. `None` if the matrix is not positive definite.
pub fn eliminate(gram: &Mat<f64>, weight: &Mat<f64>) -> Option<Elimination> {
    let n = gram.nrows();
    let mut inverse = gram
        .llt(Side::Lower)
        .ok()?
        .solve(Mat::<f64>::identity(n, n));
    // Row j of the transposed weight is what feature j does.
    let mut weight = weight.transpose().to_owned();
    let outputs = weight.ncols();
    let mut left: Vec<usize> = (0..n).collect();
    let mut found = Elimination {
        order: Vec::with_capacity(n),
        loss: vec![0.0],
    };
    let mut energy: Vec<f64> = (0..n).map(|j| squared(&weight, j)).collect();
    let mut total = 0.0;
    while !left.is_empty() {
        let loss = |j: usize| energy[j] / inverse[(j, j)].max(f64::MIN_POSITIVE);
        let (at, cost) = left.iter().enumerate().map(|(at, j)| (at, loss(*j))).fold(
            (0, f64::INFINITY),
            |best, next| {
                if next.1 < best.1 { next } else { best }
            },
        );
        let j = left.swap_remove(at);
        total += cost;
        found.order.push(j);
        found.loss.push(total);
        let pivot = inverse[(j, j)].max(f64::MIN_POSITIVE);
        let column: Vec<f64> = (0..n).map(|i| inverse[(i, j)]).collect();
        let gone: Vec<f64> = (0..outputs).map(|o| weight[(j, o)]).collect();
        for i in &left {
            let factor = column[*i] / pivot;
            if factor == 0.0 {
                continue;
            }
            let mut sum = 0.0;
            for (o, gone) in gone.iter().enumerate() {
                let w = &mut weight[(*i, o)];
                *w -= factor * gone;
                sum += *w * *w;
            }
            energy[*i] = sum;
        }
        for b in &left {
            let factor = column[*b] / pivot;
            let target = inverse.col_mut(*b);
            if let Some(target) = target.try_as_col_major_mut() {
                let target = target.as_slice_mut();
                target
                    .iter_mut()
                    .zip(&column)
                    .for_each(|(p, c)| *p -= factor * c);
            }
        }
    }
    Some(found)
}

fn squared(matrix: &Mat<f64>, row: usize) -> f64 {
    (0..matrix.ncols()).map(|o| matrix[(row, o)].powi(2)).sum()
}

/// The weight, `[outputs, kept]`, of the features `kept` that comes nearest to what `weight` makes of all.
pub fn compensate(gram: &Mat<f64>, weight: &Mat<f64>, kept: &[usize]) -> Option<Mat<f64>> {
    let k = kept.len();
    let inner = Mat::from_fn(k, k, |a, b| gram[(kept[a], kept[b])]);
    let some = Mat::from_fn(gram.nrows(), k, |i, a| gram[(i, kept[a])]);
    let target = weight * some;
    let solved = inner.llt(Side::Lower).ok()?.solve(target.transpose());
    Some(solved.transpose().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(n: usize, outputs: usize) -> (Mat<f64>, Mat<f64>) {
        let noise = |a: f64, b: f64| ((a * 12.9898 + b * 78.233).sin() * 43758.5453).fract();
        let features = Mat::from_fn(n, 3 * n, |i, t| noise(i as f64, t as f64));
        let gram = &features * features.transpose();
        let weight = Mat::from_fn(outputs, n, |o, i| noise(o as f64 + 0.3, i as f64));
        (gram, weight)
    }

    /// The squared error without some features, the others refitted.
    fn error(gram: &Mat<f64>, weight: &Mat<f64>, kept: &[usize]) -> f64 {
        let best = compensate(gram, weight, kept).unwrap();
        let mut difference = weight.clone();
        for (a, j) in kept.iter().enumerate() {
            for o in 0..weight.nrows() {
                difference[(o, *j)] -= best[(o, a)];
            }
        }
        let through = &difference * gram * difference.transpose();
        (0..weight.nrows()).map(|o| through[(o, o)]).sum()
    }

    #[test]
    fn losses_are_those_of_a_refit_and_each_removal_is_the_cheapest() {
        let (gram, weight) = problem(7, 3);
        let found = eliminate(&gram, &weight).unwrap();
        for gone in 0..7 {
            let kept: Vec<usize> = found.order[gone..].to_vec();
            let exact = error(&gram, &weight, &kept);
            assert!((exact - found.loss[gone]).abs() < 1e-8 * (1.0 + exact));
            for other in 1..kept.len() {
                let without = |at: usize| -> Vec<usize> {
                    let others = kept.iter().enumerate().filter(|(i, _)| *i != at);
                    others.map(|(_, j)| *j).collect()
                };
                let (best, worse) = (without(0), without(other));
                assert!(error(&gram, &weight, &best) <= error(&gram, &weight, &worse) + 1e-9);
            }
        }
    }

    #[test]
    fn a_feature_made_of_others_goes_first_and_costs_nothing() {
        let (mut gram, weight) = problem(4, 2);
        // Feature 3 becomes the sum of 0 and 1, all but a trace.
        for i in 0..3 {
            let sum = gram[(0, i)] + gram[(1, i)];
            (gram[(3, i)], gram[(i, 3)]) = (sum, sum);
        }
        gram[(3, 3)] = gram[(0, 0)] + gram[(1, 1)] + 2.0 * gram[(0, 1)] + 1e-9;
        let found = eliminate(&gram, &weight).unwrap();
        assert!([0, 1, 3].contains(&found.order[0]));
        assert!(found.loss[1] < 1e-7);
    }
}
