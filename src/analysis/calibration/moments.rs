//! Measuring: what convolutions read, and what layers compute.

use std::ops::AddAssign;

use faer::Mat;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2};
use rustc_hash::FxHashMap;

use super::shrinkage::shrunk;
use super::{Layer, RIDGE, add_all, every, in_parts, sampled as some_of, total};
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
        let every = every(&layer, &x);
        let parts = in_parts(
            &x,
            || PatchSums::new(blocks, size),
            |sums, x| {
                layer.each_image(&x.read()?, |features| {
                    sums.add(some_of(features, every).view());
                })
            },
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
                layer.results(&y.read()?).for_each(|y| sums.add(y));
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

    /// How two elements of the first block vary together about this mean, which need not be their own.
    fn about(&self, mean: &[f64], i: usize, j: usize) -> f64 {
        let own = |i: usize| self.sum[i] / self.count;
        self.products[0][(i, j)] / self.count + mean[i] * mean[j]
            - own(i) * mean[j]
            - mean[i] * own(j)
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
    let shares: Vec<f64> = parts.iter().map(|part| part.count / sums.count).collect();
    let of_part = |part: usize, i: usize, j: usize| parts[part].about(&mean, i, j);
    let joint = joint.map(|joint| shrunk(joint, &shares, of_part));
    PatchMoments {
        count: sums.count,
        mean,
        covariance,
        joint,
    }
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
