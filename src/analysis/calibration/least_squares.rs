//! Least squares: the weight and the bias of one layer that give its targets best.

use std::ops::{AddAssign, Sub};

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use ndarray::Array2;
use ndarray::linalg::general_mat_mul;
use rayon::prelude::*;

use super::{Layer, add_all, every, in_parts, sampled};
use crate::Result;
use crate::analysis::refinement::refine;
use crate::exec::Stored;
use crate::ir::Mask;

/// The elements of a matrix, row by row.
pub(super) fn elements(matrix: &Mat<f64>) -> Vec<f64> {
    let at = (0..matrix.nrows()).flat_map(|i| (0..matrix.ncols()).map(move |j| (i, j)));
    at.map(|at| matrix[at]).collect()
}

/// Sums over positions, of features and of what they should give.
#[derive(Clone)]
pub(super) struct Sums {
    count: f64,
    feature: Vec<f64>,
    target: Vec<f64>,
    /// The sum of the squares of all targets.
    target_squares: f64,
    /// `[features, features]`.
    gram: Array2<f64>,
    /// `[outputs, features]`.
    cross: Array2<f64>,
}

impl Sums {
    /// The sums over each part of the samples; what the layer is to give are `targets`, less what is `beside` it.
    pub(super) fn over(
        layer: &Layer,
        features: &[&Stored],
        targets: &[&Stored],
        beside: Option<&[&Stored]>,
    ) -> Result<Vec<Sums>> {
        let (n, m) = (layer.features(), layer.outputs());
        let empty = || Sums {
            count: 0.0,
            feature: vec![0.0; n],
            target: vec![0.0; m],
            target_squares: 0.0,
            gram: Array2::zeros((n, n)),
            cross: Array2::zeros((m, n)),
        };
        let batches: Vec<usize> = (0..features.len()).collect();
        let every = every(layer, features);
        in_parts(&batches, empty, |sums, i| {
            let x = features[*i].read()?;
            let mut y = targets[*i].read()?;
            if let Some(beside) = beside {
                y = (y.into_owned() - beside[*i].read()?).into_shared();
            }
            let mut targets = layer.results(&y);
            let mut gram = Array2::<f32>::zeros((n, n));
            let mut cross = Array2::<f32>::zeros((m, n));
            layer.each_image(&x, |x| {
                let Some(y) = targets.next() else { return };
                let [x, y] = [x, y].map(|rows| sampled(rows, every));
                sums.count += x.ncols() as f64;
                general_mat_mul(1.0, &x, &x.t(), 1.0, &mut gram);
                general_mat_mul(1.0, &y, &x.t(), 1.0, &mut cross);
                for (sum, row) in sums.feature.iter_mut().zip(x.rows()) {
                    *sum += f64::from(row.sum());
                }
                for (sum, row) in sums.target.iter_mut().zip(y.rows()) {
                    *sum += f64::from(row.sum());
                    sums.target_squares += f64::from(row.dot(&row));
                }
            })?;
            sums.gram
                .zip_mut_with(&gram, |sum, x| *sum += f64::from(*x));
            sums.cross
                .zip_mut_with(&cross, |sum, x| *sum += f64::from(*x));
            Ok(())
        })
    }

    /// How features and targets vary.
    pub(super) fn moments(&self) -> Moments {
        let (m, n) = self.cross.dim();
        let mean = |sums: &[f64]| -> Vec<f64> { sums.iter().map(|s| s / self.count).collect() };
        let (x, y) = (mean(&self.feature), mean(&self.target));
        Moments {
            covariance: Mat::from_fn(n, n, |i, j| self.gram[(i, j)] / self.count - x[i] * x[j]),
            cross: Mat::from_fn(m, n, |o, i| self.cross[(o, i)] / self.count - y[o] * x[i]),
            variance: self.target_squares / self.count - y.iter().map(|y| y * y).sum::<f64>(),
            x,
            y,
        }
    }

    /// The squared error, in all, of a weight and a bias.
    pub(super) fn error(&self, weight: &Mat<f64>, bias: &[f64]) -> f64 {
        let (m, n) = (weight.nrows(), weight.ncols());
        let gram = Mat::from_fn(n, n, |i, j| self.gram[(i, j)]);
        let through = weight * gram;
        let of_row = |o: usize| {
            let row = |f: &dyn Fn(usize) -> f64| (0..n).map(f).sum::<f64>();
            let squares = row(&|i| weight[(o, i)] * (through[(o, i)] - 2.0 * self.cross[(o, i)]));
            let mean = row(&|i| weight[(o, i)] * self.feature[i]);
            squares + bias[o] * (self.count * bias[o] - 2.0 * self.target[o] + 2.0 * mean)
        };
        self.target_squares + (0..m).map(of_row).sum::<f64>()
    }
}

/// How features and what they should give vary.
pub(super) struct Moments {
    x: Vec<f64>,
    y: Vec<f64>,
    /// `[features, features]`.
    covariance: Mat<f64>,
    /// `[outputs, features]`.
    cross: Mat<f64>,
    variance: f64,
}

impl Moments {
    /// The system whose solution fits best, drawn to this weight by a ridge that is relative to the mean variance. Features that are
    /// `unread` get no weight.
    fn system(&self, weight: &Mat<f64>, ridge: f64, unread: &[usize]) -> System {
        let n = weight.ncols();
        let diagonal: f64 = (0..n).map(|i| self.covariance[(i, i)]).sum();
        let ridge = ridge * diagonal / n as f64 + f64::from(f32::MIN_POSITIVE);
        let mut regular = self.covariance.clone();
        (0..n).for_each(|i| regular[(i, i)] += ridge);
        let mut wanted = &self.cross + weight * faer::Scale(ridge);
        // They say nothing of the others, and nothing is wanted of them.
        for i in unread {
            let own = regular[(*i, *i)];
            regular.row_mut(*i).fill(0.0);
            regular.col_mut(*i).fill(0.0);
            regular[(*i, *i)] = own;
            wanted.col_mut(*i).fill(0.0);
        }
        System { regular, wanted }
    }

    /// The best weight, and the bias for it.
    pub(super) fn fit(
        &self,
        weight: &Mat<f64>,
        ridge: f64,
        unread: &[usize],
    ) -> Option<(Mat<f64>, Vec<f64>)> {
        let solution = self.system(weight, ridge, unread).free()?;
        let bias = self.bias(&solution);
        Some((solution, bias))
    }

    /// The bias that is best for a weight.
    fn bias(&self, weight: &Mat<f64>) -> Vec<f64> {
        let (m, n) = (weight.nrows(), weight.ncols());
        let mean = |o: usize| (0..n).map(|i| weight[(o, i)] * self.x[i]).sum::<f64>();
        (0..m).map(|o| self.y[o] - mean(o)).collect()
    }

    /// The error of a weight with its best bias, relative to how the targets vary.
    fn error(&self, weight: &Mat<f64>) -> f64 {
        let through = weight * &self.covariance;
        let dot = |a: &Mat<f64>| {
            let at = (0..weight.nrows()).flat_map(|o| (0..weight.ncols()).map(move |i| (o, i)));
            at.map(|at| a[at] * weight[at]).sum::<f64>()
        };
        let residual = self.variance - 2.0 * dot(&self.cross) + dot(&through);
        (residual.max(0.0) / self.variance.max(f64::MIN_POSITIVE)).sqrt()
    }

    /// The weight of this form and the bias of `layer` that give the targets best, drawn to the present ones by the ridge; and the
    /// relative errors before, with the best bias, and after. `None` if there is no unique solution.
    pub(super) fn solve(
        &self,
        layer: &Layer,
        form: &Form,
        ridge: f64,
        unread: &[usize],
    ) -> Option<(Solution, [f64; 2])> {
        let weight = layer.matrix();
        let system = self.system(&weight, ridge, unread);
        let System { regular, wanted } = &system;
        let (solution, pair) = match (form, layer.separation()) {
            (Form::Product { rank, scales }, _) => {
                let free = system.free()?;
                let [outer, inner] = truncate(&free, &self.covariance, *rank, scales.as_deref())?;
                (&outer * &inner, Some([outer, inner]))
            }
            (Form::Masked(mask), _) => (solve_masked(regular, wanted, mask)?, None),
            (Form::Any, Some((layout, separation))) => {
                (refine(&layout, &separation, regular, wanted)?, None)
            }
            (Form::Any, None) => (system.free()?, None),
        };
        let bias = self.bias(&solution);
        let errors = [self.error(&weight), self.error(&solution)];
        let finite = bias.iter().all(|b| b.is_finite()) && errors[1].is_finite();
        let (weight, inner) = match pair {
            Some([outer, inner]) => (outer, Some(inner)),
            None => (solution, None),
        };
        let solution = Solution {
            weight,
            inner,
            bias,
        };
        finite.then_some((solution, errors))
    }
}

/// What a weight `W` has to solve: `W regular = wanted`.
struct System {
    regular: Mat<f64>,
    wanted: Mat<f64>,
}

impl System {
    fn free(&self) -> Option<Mat<f64>> {
        let factor = self.regular.llt(Side::Lower).ok()?;
        let solved = factor.solve(self.wanted.transpose());
        Some(solved.transpose().to_owned())
    }
}

/// The features of input channels that a layer has no weight for: whoever made them so wants them gone.
pub(super) fn unread(layer: &Layer, weight: &Mat<f64>) -> Vec<usize> {
    let taps = layer.weight.shape()[2..].iter().product::<usize>().max(1);
    let is_zero = |i: usize| weight.col(i).iter().all(|w| *w == 0.0);
    let channels = (0..weight.ncols() / taps).map(move |c| c * taps..(c + 1) * taps);
    let unread = channels.filter(|features| features.clone().all(is_zero));
    unread.flatten().collect()
}

/// The rows of `W` with `W regular` = `wanted` in the least squares' sense, each over the features that `mask` keeps in it.
fn solve_masked(regular: &Mat<f64>, wanted: &Mat<f64>, mask: &Mask) -> Option<Mat<f64>> {
    let (m, n) = (wanted.nrows(), wanted.ncols());
    let row = |o: usize| -> Option<Vec<(usize, f64)>> {
        let kept: Vec<usize> = (0..n).filter(|i| mask.keeps(o * n + i)).collect();
        let system = Mat::from_fn(kept.len(), kept.len(), |i, j| regular[(kept[i], kept[j])]);
        let wanted = Mat::from_fn(kept.len(), 1, |i, _| wanted[(o, kept[i])]);
        let solved = if kept.is_empty() {
            wanted
        } else {
            system.llt(Side::Lower).ok()?.solve(wanted)
        };
        Some((0..kept.len()).map(|i| (kept[i], solved[(i, 0)])).collect())
    };
    let rows: Option<Vec<_>> = (0..m).into_par_iter().map(row).collect();
    let mut solution = Mat::zeros(m, n);
    for (o, row) in rows?.into_iter().enumerate() {
        row.into_iter().for_each(|(i, w)| solution[(o, i)] = w);
    }
    Some(solution)
}

impl AddAssign<&Sums> for Sums {
    fn add_assign(&mut self, other: &Sums) {
        self.count += other.count;
        self.target_squares += other.target_squares;
        add_all(&mut self.feature, &other.feature);
        add_all(&mut self.target, &other.target);
        self.gram += &other.gram;
        self.cross += &other.cross;
    }
}

/// The sums over what another has not.
impl Sub for &Sums {
    type Output = Sums;
    fn sub(self, other: &Sums) -> Sums {
        let less = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect();
        Sums {
            count: self.count - other.count,
            feature: less(&self.feature, &other.feature),
            target: less(&self.target, &other.target),
            target_squares: self.target_squares - other.target_squares,
            gram: &self.gram - &other.gram,
            cross: &self.cross - &other.cross,
        }
    }
}

pub(super) struct Solution {
    /// `[outputs, features]`, or `[outputs, rank]` if there is an inner weight.
    pub weight: Mat<f64>,
    /// `[rank, features]`.
    pub inner: Option<Mat<f64>>,
    pub bias: Vec<f64>,
}

/// What a weight has to be.
pub(super) enum Form {
    /// Anything; if its kernels are made of few, it stays so.
    Any,
    /// Zero where nothing is kept.
    Masked(Mask),
    /// The product of two layers' weights, of so many results between them. `scales` is how much each result counts; `None` for
    /// all alike.
    Product {
        rank: usize,
        scales: Option<Vec<f64>>,
    },
}

/// The factors, `[outputs, rank]` and `[rank, features]`, whose product's result is nearest to that of `weight` on features
/// of this covariance: reduced-rank regression, if the weight is that of the regression.
fn truncate(
    weight: &Mat<f64>,
    covariance: &Mat<f64>,
    rank: usize,
    scales: Option<&[f64]>,
) -> Option<[Mat<f64>; 2]> {
    let m = weight.nrows();
    let scale = |o: usize| match scales {
        Some(scales) if scales.len() == m => scales[o].max(f64::from(f32::EPSILON)),
        _ => 1.0,
    };
    let seen = Mat::from_fn(m, weight.ncols(), |o, i| scale(o) * weight[(o, i)]);
    let eigen = (&seen * covariance * seen.transpose())
        .self_adjoint_eigen(Side::Lower)
        .ok()?;
    // Eigenvalues come smallest first.
    let first = m.saturating_sub(rank);
    let directions = eigen.U().subcols(first, m - first);
    let outer = Mat::from_fn(m, rank, |o, k| {
        if k < m - first {
            directions[(o, k)] / scale(o)
        } else {
            0.0
        }
    });
    let mut inner = Mat::zeros(rank, weight.ncols());
    inner
        .subrows_mut(0, m - first)
        .copy_from(directions.transpose() * &seen);
    Some([outer, inner])
}
