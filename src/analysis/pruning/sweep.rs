//! The sweep: from the first column to the last, weights become zero, and those to the right make up for them.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, Par};
use rayon::prelude::*;

use super::{Factor, Pruned, Zeros};

/// How many columns are decided on together, and how many rows are worked on at a time; neither depends on the number of threads.
const COLUMNS: usize = 128;
const ROWS: usize = 16;

/// Makes weights zero in rows that have whole units of `zeros` along both axes. `before` is how many weights of the layer come before
/// them, so that what is rounded in small parts adds up to the share of the layer.
pub fn sweep(factor: &Factor, rows: &[f64], zeros: Zeros, before: usize) -> Pruned {
    let n = factor.features();
    let outputs = rows.len() / n.max(1);
    let mut pruned = Pruned {
        weight: rows.to_vec(),
        kept: vec![true; rows.len()],
        loss: 0.0,
    };
    let [_, unit] = zeros.unit();
    let wide = (COLUMNS / unit).max(1) * unit;
    for first in (0..n).step_by(wide) {
        let chunk = Chunk::new(factor, first..(first + wide).min(n));
        if let Zeros::Share { share, block } = zeros {
            let area = block[0] * block[1];
            let so_far = |columns: usize| share * ((before + outputs * columns) / area) as f64;
            let count = so_far(chunk.columns.end).round() - so_far(first).round();
            chunk.choose(&mut pruned, block, count as usize, n);
        }
        pruned.loss += chunk.clear(&mut pruned, zeros, n);
    }
    pruned
}

/// Columns that are decided on together.
struct Chunk {
    columns: Range<usize>,
    /// Their rows and columns of U, transposed, so that a row lies in one piece.
    own: Mat<f64>,
    /// The columns after them that have to do with them, and those of U.
    rest: Range<usize>,
    beyond: Mat<f64>,
}

impl Chunk {
    fn new(factor: &Factor, columns: Range<usize>) -> Chunk {
        let rest = columns.end..factor.end(columns.end - 1);
        Chunk {
            own: factor
                .part(columns.clone(), columns.clone())
                .transpose()
                .to_owned(),
            beyond: factor.part(columns.clone(), rest.clone()),
            columns,
            rest,
        }
    }

    /// Marks so many blocks of rows by columns: those without which the result loses least.
    fn choose(&self, pruned: &mut Pruned, [tall, wide]: [usize; 2], count: usize, n: usize) {
        let across = self.columns.len() / wide;
        let blocks = across * (pruned.weight.len() / n / tall);
        let weight = &pruned.weight;
        let place = |block: usize| (block / across * tall, block % across * wide);
        let loss = |block: usize| {
            let (top, left) = place(block);
            let of_row = |row: usize| {
                let at = row * n + self.columns.start + left;
                self.lost(left, &weight[at..at + wide])
            };
            ((top..top + tall).map(of_row).sum::<f64>(), block)
        };
        let mut losses: Vec<(f64, usize)> = (0..blocks).into_par_iter().map(loss).collect();
        losses.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (_, block) in losses.into_iter().take(count) {
            let (top, left) = place(block);
            for row in top..top + tall {
                let at = row * n + self.columns.start + left;
                pruned.kept[at..at + wide].fill(false);
            }
        }
    }

    /// What the result of a row loses without all of these weights, of which the first is in this column of the chunk.
    fn lost(&self, first: usize, weights: &[f64]) -> f64 {
        // The squared norm of e with e U = w.
        let mut errors: Vec<f64> = Vec::with_capacity(weights.len());
        for (j, weight) in weights.iter().enumerate() {
            let known = errors.iter().enumerate();
            let known: f64 = known
                .map(|(i, e)| e * self.own[(first + j, first + i)])
                .sum();
            errors.push((weight - known) / self.own[(first + j, first + j)]);
        }
        errors.iter().map(|e| e * e).sum()
    }

    /// Makes weights zero: those that are marked, or, by a pattern, those that are chosen when their turn comes. All to the right of
    /// them make up for it. What that loses.
    fn clear(&self, pruned: &mut Pruned, zeros: Zeros, n: usize) -> f64 {
        let rows = pruned.weight.par_chunks_mut(ROWS * n);
        let kept = pruned.kept.par_chunks_mut(ROWS * n);
        let losses = rows.zip(kept).map(|(rows, kept)| {
            let outputs = rows.len() / n;
            let mut errors = Mat::<f64>::zeros(outputs, self.columns.len());
            let each = rows.chunks_mut(n).zip(kept.chunks_mut(n)).enumerate();
            for (o, (row, kept)) in each {
                let (row, kept) = (
                    &mut row[self.columns.clone()],
                    &mut kept[self.columns.clone()],
                );
                for j in 0..row.len() {
                    if let Zeros::Pattern { kept: stay, of } = zeros
                        && j % of == 0
                    {
                        self.choose_of(j, &row[j..j + of], &mut kept[j..j + of], stay);
                    }
                    if !kept[j] {
                        errors[(o, j)] = self.clear_one(row, j);
                    }
                }
            }
            if !self.rest.is_empty() {
                let rows = MatMut::from_row_major_slice_mut(rows, outputs, n);
                let rest = rows.subcols_mut(self.rest.start, self.rest.len());
                matmul(rest, Accum::Add, &errors, &self.beyond, -1.0, Par::Seq);
            }
            errors.squared_norm_l2()
        });
        losses.collect::<Vec<f64>>().iter().sum()
    }

    /// Makes one weight zero and lets those to the right of it make up for it; its error in units of what it cannot be made up by.
    fn clear_one(&self, row: &mut [f64], j: usize) -> f64 {
        let error = row[j] / self.own[(j, j)];
        row[j] = 0.0;
        let (rest, factors) = (&mut row[j + 1..], self.own.col(j));
        let factors = factors.subrows(j + 1, rest.len());
        let pairs = rest.iter_mut().zip(factors.iter());
        pairs.for_each(|(weight, u)| *weight -= error * u);
        error
    }

    /// Marks all but `stay` of some weights beside each other, one by one, each time the one without which the result loses least.
    fn choose_of(&self, first: usize, weights: &[f64], kept: &mut [bool], stay: usize) {
        let m = weights.len();
        let mut left = weights.to_vec();
        // Their own inverse, U^T U of their part.
        let part = self.own.submatrix(first, first, m, m);
        let mut inverse = part * part.transpose();
        for _ in stay..m {
            let loss = |j: usize| left[j] * left[j] / inverse[(j, j)].max(f64::MIN_POSITIVE);
            let rest = (0..m).filter(|j| kept[*j]);
            let Some(gone) = rest.min_by(|a, b| loss(*a).total_cmp(&loss(*b))) else {
                return;
            };
            kept[gone] = false;
            let column: Vec<f64> = (0..m).map(|i| inverse[(i, gone)]).collect();
            let pivot = column[gone].max(f64::MIN_POSITIVE);
            let weight = left[gone];
            for i in (0..m).filter(|i| kept[*i]) {
                left[i] -= weight * column[i] / pivot;
                for j in (0..m).filter(|j| kept[*j]) {
                    inverse[(i, j)] -= column[i] * column[j] / pivot;
                }
            }
        }
    }
}
