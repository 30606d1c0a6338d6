//! Measuring: what convolutions read, and what layers compute.

use std::ops::AddAssign;

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2};
use rustc_hash::FxHashMap;

use super::{Layer, MANY, RIDGE, add_all, every, in_parts, sampled as some_of, total};
use crate::Result;
use crate::analysis::kernels::KernelLayout;
use crate::exec::{Frontier, Sampled};
use crate::ir::{Graph, NodeId};

/// The most elements of a patch, over all channels, whose covariances are measured jointly, where nobody needs more.
pub const MOST_JOINT: usize = 1152;

/// The moments of the patches that the kernels of one convolution meet, by input channel.
#[derive(Clone, Debug)]
pub struct PatchMoments {
    /// The mean of each tap, `[inputs * taps]`.
    pub mean: Vec<f64>,
    /// The covariance of the taps of each channel, `[taps, taps]`, regularised.
    pub covariance: Vec<Mat<f64>>,
    /// The covariance of all taps of all channels, `[inputs * taps, inputs * taps]`, where these are few enough; nearer to that of
    /// independent ones the fewer samples it is known from.
    pub joint: Option<Mat<f64>>,
    /// How many patches were looked at.
    pub count: f64,
}

/// Measures the patches that convolutions read. `layers` are in the graph's topological order, and none is transposed. Patches of
/// more than `most_joint` elements are measured by channel.
///
/// `progress` is told each layer before its turn, with the fraction done; where it fails, so does this.
///
/// # Errors
/// When the samples do not fit the network, or it has an operator before a layer that cannot be run.
pub fn patch_moments(
    graph: &Graph,
    layers: &[(NodeId, KernelLayout)],
    most_joint: usize,
    sampled: &Sampled,
    progress: &mut dyn FnMut(&str, f64) -> Result<()>,
) -> Result<FxHashMap<NodeId, PatchMoments>> {
    let mut frontier = Frontier::new(graph, sampled)?;
    let mut found = FxHashMap::default();
    for (i, (node, layout)) in layers.iter().enumerate() {
        progress(&graph.node(*node).name, i as f64 / layers.len() as f64)?;
        frontier.run_to(graph, *node)?;
        let layer = Layer::of(graph, *node)?;
        let x = frontier.arrays(graph, layer.x)?;
        let all = layout.inputs * layout.taps;
        let (blocks, size) = if layout.groups == 1 && all <= most_joint {
            (1, all)
        } else {
            (layout.inputs, layout.taps)
        };
        let every = every(&layer, x.iter().copied());
        let parts = in_parts(
            &x,
            || PatchSums::new(blocks, size),
            |sums, x| layer.each_image(x, |features| sums.add(some_of(features, every).view())),
        )?;
        found.insert(*node, moments(&parts, layout.taps));
    }
    Ok(found)
}

/// Measures what comes out of convolutions of one group and linear layers, which are in the graph's topological order.
///
/// `progress` is told each layer before its turn, with the fraction done; where it fails, so does this.
///
/// # Errors
/// As [`patch_moments`].
pub fn result_moments(
    graph: &Graph,
    layers: &[NodeId],
    sampled: &Sampled,
    progress: &mut dyn FnMut(&str, f64) -> Result<()>,
) -> Result<FxHashMap<NodeId, ResultMoments>> {
    let mut frontier = Frontier::new(graph, sampled)?;
    let mut found = FxHashMap::default();
    for node in layers {
        frontier.hold((*node).into());
    }
    for (i, node) in layers.iter().enumerate() {
        progress(&graph.node(*node).name, i as f64 / layers.len() as f64)?;
        frontier.run_past(graph, *node)?;
        let layer = Layer::of(graph, *node)?;
        let results = frontier.arrays(graph, (*node).into())?;
        let parts = in_parts(
            &results,
            || PatchSums::new(1, layer.outputs()),
            |sums, y| {
                let y = y.as_standard_layout();
                layer.results(&y).for_each(|y| sums.add(y));
                Ok(())
            },
        )?;
        let sums = total(&parts);
        let (mean, covariance) = (sums.mean(), sums.covariance(0));
        found.insert(*node, ResultMoments { mean, covariance });
        frontier.release((*node).into());
    }
    Ok(found)
}

/// The moments of what a layer computes, over images and positions.
#[derive(Clone, Debug)]
pub struct ResultMoments {
    /// The mean of each channel.
    pub mean: Vec<f64>,
    /// The covariance of the channels.
    pub covariance: Mat<f64>,
}

/// Sums over patches of `blocks` blocks of `size` elements, between which no products are taken.
#[derive(Clone)]
struct PatchSums {
    count: f64,
    /// `[blocks * size]`.
    sum: Vec<f64>,
    /// `[blocks]`, each `[size, size]`.
    products: Vec<Array2<f64>>,
}

impl PatchSums {
    fn new(blocks: usize, size: usize) -> PatchSums {
        PatchSums {
            count: 0.0,
            sum: vec![0.0; blocks * size],
            products: vec![Array2::zeros((size, size)); blocks],
        }
    }

    /// Adds patches `[blocks * size, positions]`.
    fn add(&mut self, patches: ArrayView2<f32>) {
        self.count += patches.ncols() as f64;
        for (sum, row) in self.sum.iter_mut().zip(patches.rows()) {
            *sum += f64::from(row.sum());
        }
        let size = patches.nrows() / self.products.len().max(1);
        let mut product = Array2::<f32>::zeros((size, size));
        for (b, products) in self.products.iter_mut().enumerate() {
            let rows = patches.slice(ndarray::s![b * size..(b + 1) * size, ..]);
            general_mat_mul(1.0, &rows, &rows.t(), 0.0, &mut product);
            products.zip_mut_with(&product, |sum, p| *sum += f64::from(*p));
        }
    }

    fn mean(&self) -> Vec<f64> {
        self.sum.iter().map(|sum| sum / self.count).collect()
    }

    /// The covariance of the elements of a block.
    fn covariance(&self, block: usize) -> Mat<f64> {
        let mean = self.mean();
        let size = self.sum.len() / self.products.len().max(1);
        let mean = &mean[block * size..];
        let products = &self.products[block];
        Mat::from_fn(size, size, |i, j| {
            products[(i, j)] / self.count - mean[i] * mean[j]
        })
    }

    /// How the elements of the first block vary together about this mean.
    fn about(&self, mean: &[f64]) -> Mat<f64> {
        let own = self.mean();
        let products = &self.products[0];
        Mat::from_fn(products.nrows(), products.ncols(), |i, j| {
            products[(i, j)] / self.count + mean[i] * mean[j] - own[i] * mean[j] - mean[i] * own[j]
        })
    }
}

fn moments(parts: &[PatchSums], taps: usize) -> PatchMoments {
    let sums = total(parts);
    let mean = sums.mean();
    let size = mean.len() / sums.products.len().max(1);
    let mut blocks: Vec<Mat<f64>> = (0..sums.products.len())
        .map(|block| sums.covariance(block))
        .collect();
    let covariance = |first: usize| {
        let (block, first) = (&blocks[first / size], first % size);
        let mut covariance = Mat::from_fn(taps, taps, |i, j| block[(first + i, first + j)]);
        // Enough that a channel which hardly ever changes has an inverse too.
        let diagonal = (0..taps).map(|i| covariance[(i, i)].max(0.0)).sum::<f64>();
        let ridge = RIDGE * diagonal / taps as f64 + f64::from(f32::MIN_POSITIVE);
        (0..taps).for_each(|i| covariance[(i, i)] += ridge);
        covariance
    };
    let covariance = (0..mean.len()).step_by(taps).map(covariance).collect();
    let joint = blocks.pop().filter(|_| blocks.is_empty());
    let joint = joint.map(|joint| {
        let of_parts: Vec<(f64, Mat<f64>)> = parts
            .iter()
            .map(|part| (part.count / sums.count, part.about(&mean)))
            .collect();
        shrunk(joint, &of_parts)
    });
    PatchMoments {
        count: sums.count,
        mean,
        covariance,
        joint,
    }
}

/// The covariance with correlations as much smaller as makes it the best guess at that of all there is to sample, given the share and
/// the covariance of each part of the samples.
///
/// Of few samples every feature is made of the others. Correlations are noise by how much they differ from part to part; the formula
/// is Ledoit and Wolf's (2004), with correlations in place of covariances as Schäfer and Strimmer (2005) have it. Features that really
/// are made of others are so in every part, too: where parts are as likely without it, nothing is done.
fn shrunk(covariance: Mat<f64>, parts: &[(f64, Mat<f64>)]) -> Mat<f64> {
    let n = covariance.nrows();
    // What never changes goes with nothing.
    let scale = |i: usize| match covariance[(i, i)] {
        variance if variance > f64::from(f32::MIN_POSITIVE) => variance.sqrt().recip(),
        _ => 0.0,
    };
    let scale: Vec<f64> = (0..n).map(scale).collect();
    let scaled = |c: &Mat<f64>| Mat::from_fn(n, n, |i, j| c[(i, j)] * scale[i] * scale[j]);
    let all = scaled(&covariance);
    let parts: Vec<(f64, Mat<f64>)> = parts.iter().map(|(w, c)| (*w, scaled(c))).collect();
    let kept = kept(&all, &parts);
    if kept == 1.0 || surprise(&all, &parts, 1.0) <= surprise(&all, &parts, kept) {
        return covariance;
    }
    Mat::from_fn(n, n, |i, j| match covariance[(i, j)] {
        own if i == j => own,
        other => kept * other,
    })
}

/// What is left of correlations when those that parts do not agree on are taken away.
fn kept(all: &Mat<f64>, parts: &[(f64, Mat<f64>)]) -> f64 {
    let n = all.nrows();
    let (mut noise, mut squares) = (0.0, 0.0);
    for at in (0..n).flat_map(|j| (0..j).map(move |i| (i, j))) {
        squares += all[at] * all[at];
        let off = parts
            .iter()
            .map(|(share, part)| (share * (part[at] - all[at])).powi(2));
        noise += off.sum::<f64>();
    }
    let parts = parts.len() as f64;
    let noise = noise * parts / (parts - 1.0).max(1.0);
    (1.0 - noise / squares.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
}

/// How unlikely parts are, each by the correlations of the others of which so much is kept: of normal numbers, up to what is the same
/// for all. Of many features one part is tried.
fn surprise(all: &Mat<f64>, parts: &[(f64, Mat<f64>)], kept: f64) -> f64 {
    let n = all.nrows();
    let of = |(share, part): &(f64, Mat<f64>)| {
        let others = Mat::from_fn(n, n, |i, j| {
            let other = (all[(i, j)] - share * part[(i, j)]) / (1.0 - share);
            if i == j { other + RIDGE } else { kept * other }
        });
        let factor = others.llt(Side::Lower).ok()?;
        let logarithm = (0..n).map(|i| factor.L()[(i, i)].ln()).sum::<f64>();
        let explained = factor.solve(part);
        Some(2.0 * logarithm + (0..n).map(|i| explained[(i, i)]).sum::<f64>())
    };
    let tried = if n > MANY { 1 } else { parts.len() };
    let sum = parts[..tried].iter().map(of).sum::<Option<f64>>();
    sum.unwrap_or(f64::INFINITY)
}

impl AddAssign<&PatchSums> for PatchSums {
    fn add_assign(&mut self, other: &PatchSums) {
        self.count += other.count;
        add_all(&mut self.sum, &other.sum);
        for (sum, other) in self.products.iter_mut().zip(&other.products) {
            *sum += other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn correlated(by: f64) -> Mat<f64> {
        Mat::from_fn(2, 2, |i, j| if i == j { 1.0 } else { by })
    }

    #[test]
    fn correlations_count_as_far_as_parts_agree_on_them() {
        let kept_of = |parts: [f64; 2]| {
            let mean = (parts[0] + parts[1]) / 2.0;
            kept(&correlated(mean), &parts.map(|by| (0.5, correlated(by))))
        };
        assert_eq!(kept_of([0.5, 0.5]), 1.0);
        // The square of the mean is 0.25, that of its error (0.4 / 2)^2 * 2 * 2.
        assert!((kept_of([0.9, 0.1]) - 0.36).abs() < 1e-12);
        assert_eq!(kept_of([0.9, -0.9]), 0.0);
    }

    #[test]
    fn correlations_that_are_chance_shrink_and_features_that_are_made_of_others_stay_so() {
        // Eight parts of so many features, each of one position of these coordinates.
        let shrunk_from = |features: usize, coordinates: usize| {
            let mut random = fastrand::Rng::with_seed(5);
            let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
            let mix = Mat::from_fn(features, coordinates, |i, j| match coordinates {
                c if c == features => f64::from(u8::from(i == j)),
                _ => normal(),
            });
            let parts: Vec<(f64, Mat<f64>)> = (0..8)
                .map(|_| {
                    let at = &mix * Mat::from_fn(coordinates, 4, |_, _| normal());
                    (0.125, (&at * at.transpose()) * faer::Scale(0.25))
                })
                .collect();
            let mut all = Mat::zeros(features, features);
            parts
                .iter()
                .for_each(|(share, part)| all += part * faer::Scale(*share));
            shrunk(all.clone(), &parts) == all
        };
        assert!(!shrunk_from(24, 24));
        assert!(shrunk_from(24, 2));
    }

    #[test]
    fn what_never_changes_goes_with_nothing() {
        let still = Mat::zeros(2, 2);
        let shrunk = shrunk(still.clone(), &[(0.5, still.clone()), (0.5, still)]);
        assert!((0..2).all(|i| (0..2).all(|j| shrunk[(i, j)] == 0.0)));
    }
}
