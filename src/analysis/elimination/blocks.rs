//! Which channels to do without, if what reads them may make up for it with the channels that stay.
//!
//! A channel is a block of features, its taps, in each layer that reads it. Without block q the least squares fit of the others
//! loses `tr(W_q (P_qq)^-1 W_q^T)`, where P is the inverse of the features' covariance and W the weight refitted so far: the
//! algebra of [`eliminate`](super::eliminate), in blocks and summed over all readers.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, Side, get_global_parallelism};

use super::inverse;

/// What is added to the diagonal of a covariance, relative to its mean.
const RIDGE: f64 = 1e-3;

/// A layer that reads the channels.
pub struct BlockReader {
    /// How its features vary together.
    pub reads: Features,
    /// Its weight, `[outputs, features]`.
    pub weight: Mat<f64>,
    /// The features that each channel is.
    pub blocks: Vec<Vec<usize>>,
    /// How much a squared error of its result counts.
    pub counts: f64,
}

/// The covariance of features.
pub enum Features {
    /// Of all, `[features, features]`.
    Joint(Mat<f64>),
    /// Of those of each channel of the layer, one after the other, which then cannot stand in for each other.
    Blocks(Vec<Mat<f64>>),
}

/// Channels in the order in which they are best removed.
pub struct BlockElimination {
    /// The channels, the first to go first.
    pub order: Vec<usize>,
    /// For each reader, what removing one more loses: element k is the squared error of its result without the first k channels.
    pub losses: Vec<Vec<f64>>,
}

/// Removes up to `most` channels, each time the one whose loss, summed over the readers, is least. `None` where a covariance has no
/// inverse.
pub fn eliminate_blocks(readers: Vec<BlockReader>, most: usize) -> Option<BlockElimination> {
    let channels = readers.first()?.blocks.len();
    let mut left: Vec<Left> = readers.into_iter().map(Left::new).collect::<Option<_>>()?;
    let mut rest: Vec<usize> = (0..channels).collect();
    let mut found = BlockElimination {
        order: Vec::new(),
        losses: vec![vec![0.0]; left.len()],
    };
    for _ in 0..most.min(channels) {
        let loss = |q: usize| left.iter().map(|l| l.counts * l.loss(q)).sum::<f64>();
        let (at, q) = rest
            .iter()
            .map(|q| (loss(*q), *q))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, q)| (rest.iter().position(|r| *r == q), q))?;
        rest.remove(at?);
        for (left, losses) in left.iter_mut().zip(&mut found.losses) {
            let before = losses[losses.len() - 1];
            losses.push(before + left.remove(q)?);
        }
        found.order.push(q);
    }
    Some(found)
}

/// The features that are left of one reader.
struct Left {
    inverse: Inverse,
    weight: Mat<f64>,
    blocks: Vec<Vec<usize>>,
    counts: f64,
}

enum Inverse {
    /// P, `[features, features]`; what is gone from it is zero.
    Joint(Mat<f64>),
    /// The covariance of each channel, and its taps.
    Blocks(Vec<Mat<f64>>),
}

impl Left {
    fn new(reader: BlockReader) -> Option<Left> {
        let inverse = match reader.reads {
            Features::Joint(mut covariance) => {
                let n = covariance.nrows();
                let mean = (0..n).map(|i| covariance[(i, i)]).sum::<f64>() / n.max(1) as f64;
                (0..n).for_each(|i| covariance[(i, i)] += RIDGE * mean + f64::MIN_POSITIVE);
                Inverse::Joint(inverse(&covariance)?)
            }
            Features::Blocks(blocks) => Inverse::Blocks(blocks),
        };
        Some(Left {
            inverse,
            weight: reader.weight,
            blocks: reader.blocks,
            counts: reader.counts,
        })
    }

    /// The columns of the weight that a channel has.
    fn columns(&self, q: usize) -> Mat<f64> {
        let block = &self.blocks[q];
        Mat::from_fn(self.weight.nrows(), block.len(), |o, j| {
            self.weight[(o, block[j])]
        })
    }

    /// What the result loses without a channel.
    fn loss(&self, q: usize) -> f64 {
        if let (Inverse::Joint(inverse), [feature]) = (&self.inverse, &self.blocks[q][..]) {
            let energy = super::squared(&self.weight, *feature);
            return energy / inverse[(*feature, *feature)].max(f64::MIN_POSITIVE);
        }
        let columns = self.columns(q);
        let through = match &self.inverse {
            Inverse::Joint(inverse) => {
                let block = &self.blocks[q];
                let own = Mat::from_fn(block.len(), block.len(), |i, j| {
                    inverse[(block[i], block[j])]
                });
                match own.llt(Side::Lower) {
                    Ok(factor) => factor.solve(columns.transpose()),
                    // Nothing is left of it that others have not.
                    Err(_) => return f64::MAX,
                }
            }
            Inverse::Blocks(blocks) => self.through_blocks(blocks, q, &columns),
        };
        (0..columns.nrows())
            .flat_map(|o| (0..columns.ncols()).map(move |j| (o, j)))
            .map(|(o, j)| columns[(o, j)] * through[(j, o)])
            .sum()
    }

    /// `C_qq W_q^T`, where a channel of the group is one or several of the layer.
    fn through_blocks(&self, blocks: &[Mat<f64>], q: usize, columns: &Mat<f64>) -> Mat<f64> {
        let taps = blocks.first().map_or(1, Mat::nrows);
        let mut through = Mat::zeros(columns.ncols(), columns.nrows());
        for (k, features) in self.blocks[q].chunks(taps).enumerate() {
            let own = columns.subcols(k * taps, features.len());
            let product = &blocks[features[0] / taps] * own.transpose();
            through
                .subrows_mut(k * taps, features.len())
                .copy_from(product);
        }
        through
    }

    /// Removes a channel, for which the others make up; what that loses.
    fn remove(&mut self, q: usize) -> Option<f64> {
        let loss = self.loss(q);
        let block = self.blocks[q].clone();
        let columns = self.columns(q);
        if let Inverse::Joint(inverse) = &mut self.inverse {
            let n = inverse.nrows();
            let across = Mat::from_fn(block.len(), n, |j, i| inverse[(block[j], i)]);
            let own = Mat::from_fn(block.len(), block.len(), |i, j| {
                inverse[(block[i], block[j])]
            });
            // P_qq^-1 P_q:
            let factors = own.llt(Side::Lower).ok()?.solve(&across);
            let subtract = |from: &mut Mat<f64>, left: &Mat<f64>| {
                let threads = get_global_parallelism();
                matmul(from.as_mut(), Accum::Add, left, &factors, -1.0, threads);
            };
            subtract(&mut self.weight, &columns);
            subtract(inverse, &across.transpose().to_owned());
            for i in &block {
                inverse.col_mut(*i).fill(0.0);
                inverse.row_mut(*i).fill(0.0);
            }
        }
        for i in &block {
            self.weight.col_mut(*i).fill(0.0);
        }
        Some(loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::elimination::{Criterion, compensate, eliminate};

    fn noise(i: usize, j: usize) -> f64 {
        ((i as f64 * 12.9898 + j as f64 * 78.233).sin() * 43758.5453).fract()
    }

    fn covariance(n: usize) -> Mat<f64> {
        let samples = Mat::from_fn(n, 5 * n, noise);
        &samples * samples.transpose()
    }

    fn reader(n: usize, taps: usize, outputs: usize) -> BlockReader {
        BlockReader {
            reads: Features::Joint(covariance(n)),
            weight: Mat::from_fn(outputs, n, |o, i| noise(o + 40, i)),
            blocks: (0..n / taps)
                .map(|c| (c * taps..(c + 1) * taps).collect())
                .collect(),
            counts: 1.0,
        }
    }

    #[test]
    fn blocks_of_one_feature_go_as_features_do() {
        let found = eliminate_blocks(vec![reader(8, 1, 3)], 8).unwrap();
        let reader = reader(8, 1, 3);
        let Features::Joint(gram) = &reader.reads else {
            panic!()
        };
        let one = eliminate(gram, &reader.weight, Criterion::Backward, 8).unwrap();
        assert_eq!(found.order, one.order);
        for (a, b) in found.losses[0].iter().zip(&one.loss).take(7) {
            assert!((a - b).abs() <= 0.02 * b.abs() + 1e-9, "{a} {b}");
        }
    }

    #[test]
    fn what_is_lost_is_what_the_best_fit_to_the_others_loses() {
        let (n, taps) = (12, 3);
        let BlockElimination { order, losses } =
            eliminate_blocks(vec![reader(n, taps, 4)], 2).unwrap();
        let reader = reader(n, taps, 4);
        let Features::Joint(gram) = &reader.reads else {
            panic!()
        };
        let gone: Vec<usize> = order
            .iter()
            .flat_map(|q| reader.blocks[*q].clone())
            .collect();
        let kept: Vec<usize> = (0..n).filter(|i| !gone.contains(i)).collect();
        let fitted = compensate(gram, &reader.weight, &kept).unwrap();
        let mut error = reader.weight.clone();
        for (a, i) in kept.iter().enumerate() {
            for o in 0..4 {
                error[(o, *i)] -= fitted[(o, a)];
            }
        }
        let through = &error * gram;
        let lost: f64 = (0..4)
            .flat_map(|o| (0..n).map(move |i| (o, i)))
            .map(|at| error[at] * through[at])
            .sum();
        assert!(
            (losses[0][2] / lost - 1.0).abs() < 0.02,
            "{} {lost}",
            losses[0][2]
        );
    }
}
