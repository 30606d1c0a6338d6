//! Which features to do without, if the others may make up for it.
//!
//! A layer multiplies features by a weight. Without feature j, the least squares fit of the others loses
//! `|w_j|² / P_jj` where `P` is the inverse of the features' Gram matrix, and `P` without j is `P - P_:j P_j: / P_jj`: so one
//! inverse is enough to remove features one by one, each time the one whose loss is least, at O(n²) each. The closed form of
//! the greedy removal that LRF does filter by filter (Joo, Yi, Baek, Kim, AAAI 2021), which fits all anew for every candidate.

mod blocks;

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

pub use blocks::{BlockElimination, BlockReader, Features, eliminate_blocks};

/// What is left of a feature when all others are taken from it, squared and relative, below which it is made of them: the
/// rounding of 32-bit weights.
const DEPENDENT: f64 = 1e-13;

/// The same below which removing a feature leaves too few digits of the inverse, which is then computed anew.
const NEARLY_DEPENDENT: f64 = 1e-8;

/// Features in the order in which they are best removed.
#[derive(Clone, Debug)]
pub struct Elimination {
    /// The features, the first to go first.
    pub order: Vec<usize>,
    /// What removing one more loses: element k is the squared error of the result, in all, without the first k features.
    pub loss: Vec<f64>,
}

/// How features are chosen. Whichever it is, the others make up for those that go, and what is made of others goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Criterion {
    /// The one whose removal loses least goes, then the next (LRF).
    Backward,
    /// The one that explains most of the result stays, then the next.
    Forward,
    /// The one of which most is left, when those that stay are taken from it, stays: pivoted Cholesky.
    Pivot,
    /// The smallest goes.
    Norm,
}

/// What is added to the diagonal of a matrix that rounding has left without a factorisation, relative to the diagonal's mean: the
/// first that is enough.
const RIDGES: [f64; 6] = [0.0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2];

/// What `of` finds for the matrix, or for the nearest to it that it finds something for.
pub fn regularised<T>(gram: &Mat<f64>, of: impl Fn(&Mat<f64>) -> Option<T>) -> Option<T> {
    let n = gram.nrows();
    if !gram.is_all_finite() {
        return None;
    }
    let mean = (0..n).map(|j| gram[(j, j)].max(0.0)).sum::<f64>() / n.max(1) as f64;
    RIDGES.iter().find_map(|ridge| match *ridge {
        0.0 => of(gram),
        ridge => {
            let mut regular = gram.clone();
            (0..n).for_each(|j| regular[(j, j)] += ridge * mean + f64::MIN_POSITIVE);
            of(&regular)
        }
    })
}

/// Removes up to `most` features of a layer with this weight, `[outputs, n]`, and this Gram matrix of the features, `[n, n]`,
/// one by one. `None` if there are numbers that are not finite, or a matrix far from every Gram matrix.
pub fn eliminate(
    gram: &Mat<f64>,
    weight: &Mat<f64>,
    criterion: Criterion,
    most: usize,
) -> Option<Elimination> {
    if !weight.is_all_finite() {
        return None;
    }
    regularised(gram, |gram| {
        eliminate_regular(gram, weight, criterion, most)
    })
}

fn eliminate_regular(
    gram: &Mat<f64>,
    weight: &Mat<f64>,
    criterion: Criterion,
    most: usize,
) -> Option<Elimination> {
    let n = gram.nrows();
    let regular =
        |inverse: &Mat<f64>| (0..n).all(|j| inverse[(j, j)] * gram[(j, j)] < DEPENDENT.recip());
    let whole = inverse(gram).filter(regular);
    let (independent, mut dependent) = match whole {
        Some(_) => ((0..n).collect(), Vec::new()),
        None => pivots(gram, &vec![1.0; n]),
    };
    dependent.truncate(most);
    let mut found = Elimination {
        loss: vec![0.0; dependent.len() + 1],
        order: dependent,
    };
    if found.order.len() == most {
        return Some(found);
    }
    let (gram, inverse, weight) = match whole {
        Some(inverse) => (gram.to_owned(), inverse, weight.to_owned()),
        None => {
            let weight = compensate_regular(gram, weight, &independent)?;
            let gram = submatrix(gram, &independent);
            let inverse = inverse(&gram)?;
            (gram, inverse, weight)
        }
    };
    let energy = |j: usize| squared(&weight, j);
    let chosen: Option<Vec<usize>> = match criterion {
        Criterion::Backward => None,
        Criterion::Forward => Some(forward(&gram, &weight)),
        Criterion::Pivot => {
            let energies: Vec<f64> = (0..gram.nrows()).map(energy).collect();
            let (stays, last) = pivots(&gram, &energies);
            Some(stays.into_iter().chain(last).rev().collect())
        }
        Criterion::Norm => {
            let mut order: Vec<usize> = (0..gram.nrows()).collect();
            let size = |j: usize| energy(j) * gram[(j, j)];
            order.sort_by(|a, b| size(*a).total_cmp(&size(*b)));
            Some(order)
        }
    };
    let mut left = Left::new(gram, inverse, weight);
    for k in 0..(most - found.order.len()).min(independent.len()) {
        let j = match &chosen {
            Some(order) => order[k],
            None => left.cheapest()?,
        };
        let loss = left.remove(j)?;
        found.loss.push(found.loss[found.loss.len() - 1] + loss);
        found.order.push(independent[j]);
    }
    Some(found)
}

/// The features that are left, and what the layer makes of them.
struct Left {
    features: Vec<usize>,
    gram: Mat<f64>,
    /// The inverse of the Gram matrix of the features that are left; the rest has no meaning.
    inverse: Mat<f64>,
    /// `[outputs, n]`, refitted.
    weight: Mat<f64>,
    /// The squared norm of each column of the weight.
    energy: Vec<f64>,
}

impl Left {
    fn new(gram: Mat<f64>, inverse: Mat<f64>, weight: Mat<f64>) -> Left {
        let n = gram.nrows();
        Left {
            features: (0..n).collect(),
            gram,
            inverse,
            energy: (0..n).map(|j| squared(&weight, j)).collect(),
            weight,
        }
    }

    fn loss(&self, j: usize) -> f64 {
        self.energy[j] / self.inverse[(j, j)].max(f64::MIN_POSITIVE)
    }

    fn cheapest(&self) -> Option<usize> {
        let features = self.features.iter().copied();
        features.min_by(|a, b| self.loss(*a).total_cmp(&self.loss(*b)))
    }

    /// Removes a feature, for which the others make up; what that loses.
    fn remove(&mut self, j: usize) -> Option<f64> {
        let loss = self.loss(j);
        let pivot = self.inverse[(j, j)].max(f64::MIN_POSITIVE);
        let column: Vec<f64> = self.inverse.col(j).iter().copied().collect();
        let gone: Vec<f64> = self.weight.col(j).iter().copied().collect();
        self.features.retain(|i| *i != j);
        for i in &self.features {
            let factor = column[*i] / pivot;
            if factor != 0.0 {
                subtract(&mut self.weight, *i, factor, &gone);
                self.energy[*i] = squared(&self.weight, *i);
                subtract(&mut self.inverse, *i, factor, &column);
            }
        }
        if pivot * self.gram[(j, j)] > NEARLY_DEPENDENT.recip() {
            let anew = inverse(&submatrix(&self.gram, &self.features))?;
            for (a, i) in self.features.iter().enumerate() {
                for (b, k) in self.features.iter().enumerate() {
                    self.inverse[(*i, *k)] = anew[(a, b)];
                }
            }
        }
        Some(loss)
    }
}

/// column -= factor * by
fn subtract(matrix: &mut Mat<f64>, column: usize, factor: f64, by: &[f64]) {
    if let Some(column) = matrix.col_mut(column).try_as_col_major_mut() {
        let elements = column.as_slice_mut().iter_mut();
        elements.zip(by).for_each(|(x, y)| *x -= factor * y);
    }
}

fn squared(matrix: &Mat<f64>, column: usize) -> f64 {
    matrix.col(column).iter().map(|x| x * x).sum()
}

fn inverse(gram: &Mat<f64>) -> Option<Mat<f64>> {
    let identity = Mat::<f64>::identity(gram.nrows(), gram.nrows());
    Some(gram.llt(Side::Lower).ok()?.solve(identity))
}

fn submatrix(gram: &Mat<f64>, of: &[usize]) -> Mat<f64> {
    Mat::from_fn(of.len(), of.len(), |a, b| gram[(of[a], of[b])])
}

/// Pivoted Cholesky: the features in the order in which the most is left of them, times their importance, when those before
/// are taken from them; and those of which nothing is left, the last first.
fn pivots(gram: &Mat<f64>, importance: &[f64]) -> (Vec<usize>, Vec<usize>) {
    let n = gram.nrows();
    let mut rest: Vec<usize> = (0..n).collect();
    let mut residual: Vec<f64> = (0..n).map(|j| gram[(j, j)]).collect();
    // Row k of the factor, transposed: `[features]` for each pivot.
    let mut factor: Vec<Vec<f64>> = Vec::new();
    let mut order = Vec::new();
    loop {
        rest.retain(|j| residual[*j] > DEPENDENT * gram[(*j, *j)]);
        let worth = |j: usize| residual[j] * importance[j];
        let best = rest.iter().copied().max_by(|a, b| {
            let by_worth = worth(*a).total_cmp(&worth(*b));
            by_worth.then(b.cmp(a))
        });
        let Some(pivot) = best else { break };
        rest.retain(|j| *j != pivot);
        order.push(pivot);
        let scale = residual[pivot].sqrt().recip();
        let mut row: Vec<f64> = gram.col(pivot).iter().copied().collect();
        for before in &factor {
            let by = before[pivot];
            row.iter_mut().zip(before).for_each(|(x, y)| *x -= by * y);
        }
        row.iter_mut().for_each(|x| *x *= scale);
        for j in &rest {
            residual[*j] -= row[*j] * row[*j];
        }
        factor.push(row);
    }
    let mut taken = vec![false; n];
    order.iter().for_each(|j| taken[*j] = true);
    let dependent = (0..n).rev().filter(|j| !taken[*j]).collect();
    (order, dependent)
}

/// The features, that first which explains least of the result when those after it are there.
fn forward(gram: &Mat<f64>, weight: &Mat<f64>) -> Vec<usize> {
    let n = gram.nrows();
    // What is left of the features, and of the result for each of them, when those that stay are taken from them.
    let mut gram = gram.to_owned();
    let mut cross = weight * &gram;
    let mut rest: Vec<usize> = (0..n).collect();
    let mut order = Vec::with_capacity(n);
    while !rest.is_empty() {
        let worth = |j: usize| squared(&cross, j) / gram[(j, j)].max(f64::MIN_POSITIVE);
        let by_worth = |a: &usize, b: &usize| worth(*a).total_cmp(&worth(*b)).then(b.cmp(a));
        let Some(j) = rest.iter().copied().max_by(by_worth) else {
            break;
        };
        rest.retain(|i| *i != j);
        order.push(j);
        let pivot = gram[(j, j)].max(f64::MIN_POSITIVE);
        let column: Vec<f64> = gram.col(j).iter().copied().collect();
        let explained: Vec<f64> = cross.col(j).iter().copied().collect();
        for i in &rest {
            let factor = column[*i] / pivot;
            subtract(&mut gram, *i, factor, &column);
            subtract(&mut cross, *i, factor, &explained);
        }
    }
    order.reverse();
    order
}

/// The weight, `[outputs, kept]`, of the features `kept` that comes nearest to what `weight` makes of all. What is made of others
/// among them gets no weight. `None` as for [`eliminate`].
pub fn compensate(gram: &Mat<f64>, weight: &Mat<f64>, kept: &[usize]) -> Option<Mat<f64>> {
    regularised(gram, |gram| compensate_regular(gram, weight, kept))
}

fn compensate_regular(gram: &Mat<f64>, weight: &Mat<f64>, kept: &[usize]) -> Option<Mat<f64>> {
    let some = Mat::from_fn(gram.nrows(), kept.len(), |i, a| gram[(i, kept[a])]);
    let target = weight * some;
    let inner = submatrix(gram, kept);
    if let Ok(factor) = inner.llt(Side::Lower) {
        return Some(factor.solve(target.transpose()).transpose().to_owned());
    }
    let (independent, _) = pivots(&inner, &vec![1.0; kept.len()]);
    let factor = submatrix(&inner, &independent).llt(Side::Lower).ok()?;
    let target = Mat::from_fn(weight.nrows(), independent.len(), |o, a| {
        target[(o, independent[a])]
    });
    let solved = factor.solve(target.transpose());
    let mut weight = Mat::zeros(weight.nrows(), kept.len());
    for (a, j) in independent.iter().enumerate() {
        weight.col_mut(*j).copy_from(solved.row(a).transpose());
    }
    Some(weight)
}

#[cfg(test)]
mod tests;
