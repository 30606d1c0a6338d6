//! Traces: the order in which a row's weights go best, one by one.
//!
//! After each the inverse of what is left is had from the one before, `P - P_:q P_q: / P_qq` without weight q. This is exact where the
//! sweep is not, in that weights on both sides make up for what goes, and one trace says what any number of zeros loses; it takes
//! the cube of a row's features for each row, so it is for layers that are not large (Optimal Brain Compression, Frantar and
//! Alistarh, NeurIPS 2022).

use rayon::prelude::*;

use super::{Factor, Zeros};

/// The traces of a layer's rows.
#[derive(Clone, Debug, Default)]
pub struct Traces(Vec<Trace>);

/// What goes of a row, within features that have to do with each other.
#[derive(Clone, Debug)]
struct Trace {
    /// Where the row begins among all elements.
    row: usize,
    /// The features, the first to go first.
    order: Vec<usize>,
    /// What each loses.
    losses: Vec<f64>,
}

impl Traces {
    /// The work that the traces of so many rows take: the sum of the cubes of what has to do with each other.
    pub fn work(factor: &Factor, rows: usize) -> usize {
        let cubes = factor.blocks().map(|(_, block)| block.nrows().pow(3));
        rows.saturating_mul(cubes.sum())
    }

    /// Whether zeros of this kind can be had from traces: single weights, by a pattern only where a row is of one piece.
    pub fn fit(factor: &Factor, zeros: &Zeros) -> bool {
        match zeros {
            Zeros::Share { block, .. } => *block == [1, 1],
            Zeros::Pattern { .. } => factor.blocks().count() == 1,
        }
    }

    /// Those of rows whose first element is `first` among all of the layer; as far as a pattern allows, or to the end.
    pub fn add(&mut self, factor: &Factor, rows: &[f64], first: usize, zeros: &Zeros) {
        let n = factor.features().max(1);
        for (at, block) in factor.blocks() {
            let inverse = Triangle::of_factor(block);
            let of_row = |(o, row): (usize, &[f64])| {
                let weights = row[at..at + block.nrows()].to_vec();
                let mut trace = trace(inverse.clone(), weights, zeros);
                trace.row = first + o * n;
                trace.order.iter_mut().for_each(|feature| *feature += at);
                trace
            };
            let traces = rows.par_chunks(n).enumerate().map(of_row);
            self.0.extend(traces.collect::<Vec<Trace>>());
        }
    }

    /// Marks the `count` weights that cost least as gone, or all that a trace has; what that loses.
    pub fn choose(&self, count: usize, kept: &mut [bool]) -> f64 {
        let mut steps: Vec<(f64, usize, usize)> = Vec::new();
        for (t, trace) in self.0.iter().enumerate() {
            // A step is not to be taken before those that it follows.
            let mut least = 0.0f64;
            for (k, loss) in trace.losses.iter().enumerate() {
                least = least.max(*loss);
                steps.push((least, t, k));
            }
        }
        let by_cost = |a: &(f64, usize, usize), b: &(f64, usize, usize)| {
            a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2)))
        };
        steps.par_sort_unstable_by(by_cost);
        let mut lost = 0.0;
        for (_, t, k) in steps.into_iter().take(count) {
            let trace = &self.0[t];
            kept[trace.row + trace.order[k]] = false;
            lost += trace.losses[k];
        }
        lost
    }
}

/// The lower triangle of a symmetric matrix, row by row.
#[derive(Clone)]
struct Triangle(Vec<f64>);

impl Triangle {
    /// `U^T U`.
    fn of_factor(factor: &faer::Mat<f64>) -> Triangle {
        let inverse = factor.transpose() * factor;
        let n = inverse.nrows();
        let at = (0..n).flat_map(|i| (0..=i).map(move |j| (i, j)));
        Triangle(at.map(|at| inverse[at]).collect())
    }

    fn row(&mut self, i: usize) -> &mut [f64] {
        &mut self.0[i * (i + 1) / 2..][..=i]
    }

    fn at(&self, i: usize, j: usize) -> f64 {
        let (i, j) = (i.max(j), i.min(j));
        self.0[i * (i + 1) / 2 + j]
    }

    /// Its part for some rows, in order.
    fn part(&self, of: &[usize]) -> Triangle {
        let at = (0..of.len()).flat_map(|i| (0..=i).map(move |j| (i, j)));
        Triangle(at.map(|(i, j)| self.at(of[i], of[j])).collect())
    }
}

/// Lets weights go one by one, each time the one that costs least.
fn trace(mut inverse: Triangle, mut weights: Vec<f64>, zeros: &Zeros) -> Trace {
    let n = weights.len();
    let (stay, of) = match zeros {
        Zeros::Share { .. } => (0, n.max(1)),
        Zeros::Pattern { kept, of } => (*kept, *of),
    };
    let mut in_group = vec![of; n / of];
    let mut left: Vec<usize> = (0..n).collect();
    let mut gone = vec![false; n];
    let mut found = Trace {
        row: 0,
        order: Vec::new(),
        losses: Vec::new(),
    };
    for _ in 0..n / of * (of - stay) {
        let loss = |i: usize| weights[i] * weights[i] / inverse.at(i, i).max(f64::MIN_POSITIVE);
        let free = (0..left.len()).filter(|i| !gone[*i] && in_group[left[*i] / of] > stay);
        let Some(q) = free.min_by(|a, b| loss(*a).total_cmp(&loss(*b))) else {
            break;
        };
        found.order.push(left[q]);
        found.losses.push(loss(q));
        in_group[left[q] / of] -= 1;
        gone[q] = true;
        let column: Vec<f64> = (0..left.len()).map(|i| inverse.at(i, q)).collect();
        let pivot = column[q].max(f64::MIN_POSITIVE);
        let weight = weights[q];
        for i in (0..left.len()).filter(|i| !gone[*i]) {
            let factor = column[i] / pivot;
            weights[i] -= factor * weight;
            let pairs = inverse.row(i).iter_mut().zip(&column);
            pairs.for_each(|(x, c)| *x -= factor * c);
        }
        // What is gone need not be carried along for long.
        if 2 * found.order.len() > 2 * n - left.len() {
            let stays: Vec<usize> = (0..left.len()).filter(|i| !gone[*i]).collect();
            inverse = inverse.part(&stays);
            weights = stays.iter().map(|i| weights[*i]).collect();
            left = stays.iter().map(|i| left[*i]).collect();
            gone = vec![false; left.len()];
        }
    }
    found
}
