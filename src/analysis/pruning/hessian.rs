//! The covariance of what rows of weights read, and the factor of its inverse.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use rayon::prelude::*;

/// The covariance of a layer's features: one matrix for all of them, or one for each of several runs of features between which
/// nothing is known.
#[derive(Clone, Debug)]
pub struct Hessian {
    blocks: Vec<Mat<f64>>,
}

impl Hessian {
    /// Of these blocks along the diagonal, each with `damping` times the mean of all diagonals added to its own. Features that never
    /// vary get a diagonal too.
    pub fn new(mut blocks: Vec<Mat<f64>>, damping: f64) -> Hessian {
        let diagonal =
            |block: &Mat<f64>| -> f64 { (0..block.nrows()).map(|i| block[(i, i)]).sum() };
        let n: usize = blocks.iter().map(Mat::nrows).sum();
        let mean = blocks.iter().map(diagonal).sum::<f64>() / n.max(1) as f64;
        // Where nothing varies, all features are alike.
        let ridge = if mean > 0.0 { damping * mean } else { 1.0 };
        for block in &mut blocks {
            (0..block.nrows()).for_each(|i| block[(i, i)] += ridge);
        }
        Hessian { blocks }
    }

    /// The features.
    pub fn features(&self) -> usize {
        self.blocks.iter().map(Mat::nrows).sum()
    }

    /// The blocks along the diagonal, each with the first of its features.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, &Mat<f64>)> {
        with_first(&self.blocks)
    }

    /// How much rows, one after the other, vary in all.
    pub fn energy(&self, rows: &[f64]) -> f64 {
        let n = self.features().max(1);
        let weight = Mat::from_fn(rows.len() / n, n, |o, i| rows[o * n + i]);
        let of_block = |(first, block): (usize, &Mat<f64>)| {
            let own = weight.subcols(first, block.nrows());
            let through = own * block;
            let columns = (0..own.ncols()).map(|i| own.col(i).transpose() * through.col(i));
            columns.sum::<f64>()
        };
        self.blocks().map(of_block).sum()
    }

    /// The factor of the inverse; `None` where there is no inverse, as with elements that are not finite.
    pub fn factor(&self) -> Option<Factor> {
        let blocks: Option<Vec<Mat<f64>>> = self.blocks.iter().map(inverse_factor).collect();
        let blocks = blocks?;
        let mut place = Vec::with_capacity(self.features());
        for (b, block) in blocks.iter().enumerate() {
            let first = place.len();
            place.extend((0..block.nrows()).map(|_| (b, first)));
        }
        Some(Factor { blocks, place })
    }
}

/// Blocks along a diagonal, each with the first of its rows.
fn with_first(blocks: &[Mat<f64>]) -> impl Iterator<Item = (usize, &Mat<f64>)> {
    let mut first = 0;
    blocks.iter().map(move |block| {
        let at = first;
        first += block.nrows();
        (at, block)
    })
}

/// U, upper triangular, with `H^-1 = U^T U`. With features in reverse order H is `L L^T`, and U is `L^-1` read backwards.
fn inverse_factor(block: &Mat<f64>) -> Option<Mat<f64>> {
    let n = block.nrows();
    let last = n.checked_sub(1)?;
    if !block.is_all_finite() {
        return None;
    }
    let reversed = Mat::from_fn(n, n, |i, j| block[(last - i, last - j)]);
    let factor = reversed.llt(Side::Lower).ok()?;
    let mut inverse = Mat::<f64>::identity(n, n);
    faer::linalg::triangular_solve::solve_lower_triangular_in_place(
        factor.L(),
        inverse.as_mut(),
        faer::get_global_parallelism(),
    );
    Some(Mat::from_fn(n, n, |i, j| inverse[(last - i, last - j)]))
}

/// The upper triangular factor U of an inverse, `H^-1 = U^T U`. Its part for features from j on is that of their own inverse, which
/// knows nothing of those before.
#[derive(Clone, Debug)]
pub struct Factor {
    blocks: Vec<Mat<f64>>,
    /// For each feature its block, and the first feature of that.
    place: Vec<(usize, usize)>,
}

impl Factor {
    /// The features.
    pub fn features(&self) -> usize {
        self.place.len()
    }

    /// The blocks along the diagonal, each with the first of its features.
    pub fn blocks(&self) -> impl Iterator<Item = (usize, &Mat<f64>)> {
        with_first(&self.blocks)
    }

    /// One past the last feature that feature `i` has anything to do with.
    pub fn end(&self, i: usize) -> usize {
        let (block, first) = self.place[i];
        first + self.blocks[block].nrows()
    }

    /// An element.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        let ((block, first), (other, _)) = (self.place[i], self.place[j]);
        if block == other {
            self.blocks[block][(i - first, j - first)]
        } else {
            0.0
        }
    }

    /// Some rows and columns of it.
    pub fn part(&self, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>) -> Mat<f64> {
        Mat::from_fn(rows.len(), columns.len(), |i, j| {
            self.at(rows.start + i, columns.start + j)
        })
    }
}

/// The rows nearest to `rows` in what they give, each with weights only where `kept` says; `None` where a system has no solution.
pub fn fit(hessian: &Hessian, rows: &[f64], kept: &[bool]) -> Option<Vec<f64>> {
    let n = hessian.features().max(1);
    let fitted = |(row, kept): (&[f64], &[bool])| -> Option<Vec<f64>> {
        let mut fitted = vec![0.0; n];
        for (first, block) in hessian.blocks() {
            let all = first..first + block.nrows();
            let stays: Vec<usize> = all
                .clone()
                .filter(|i| kept[*i])
                .map(|i| i - first)
                .collect();
            if stays.is_empty() {
                continue;
            }
            let system = Mat::from_fn(stays.len(), stays.len(), |a, b| block[(stays[a], stays[b])]);
            let wanted = Mat::from_fn(stays.len(), 1, |a, _| {
                all.clone()
                    .map(|i| block[(stays[a], i - first)] * row[i])
                    .sum::<f64>()
            });
            let solved = system.llt(Side::Lower).ok()?.solve(wanted);
            for (a, i) in stays.iter().enumerate() {
                fitted[first + i] = solved[(a, 0)];
            }
        }
        Some(fitted)
    };
    let rows = rows.par_chunks(n).zip(kept.par_chunks(n)).map(fitted);
    Some(rows.collect::<Option<Vec<_>>>()?.concat())
}
