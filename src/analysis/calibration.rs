//! What a few unlabelled samples say about a network: the moments of what its convolutions read, and how to repair a network
//! that a pass has changed.
//!
//! [`patch_moments`] measures. [`refit`] is the one solver for every lossy pass: layer after layer, in order, it solves for the
//! weights and the bias by least squares, so that the layer's result *on the changed network's own input* is what the original
//! network computes there. Errors made upstream are so corrected downstream, and no labels and no training are needed.
//! Only Gram matrices are accumulated, and of the activations only those that layers to come will read are kept, for both
//! networks. The idea of fitting to the changed network's own input is asymmetric reconstruction (Zhang et al. 2016).

use std::ops::AddAssign;

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArcArray, Array2, ArrayD, ArrayView2, CowArray, IxDyn};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::kernels::{KernelLayout, Separation};
use super::refinement::refine;
use crate::exec::{Frontier, patches};
use crate::ir::{Graph, NodeId, Op, Tensor, Value};
use crate::{Error, Result};

/// In how many parts sums over samples are made. Fixed, so that results do not depend on the number of threads.
const PARTS: usize = 4;

/// What is added to the diagonal of a covariance before it is inverted, relative to the diagonal's mean.
const RIDGE: f64 = 1e-4;

/// The most features that a layer is refitted for: its Gram matrix has the square of that.
const MOST_FEATURES: usize = 2048;

/// The most elements of a patch, over all channels, whose covariances are measured jointly.
const MOST_JOINT: usize = 1152;

/// The moments of the patches that the kernels of one convolution meet, by input channel.
#[derive(Clone, Debug)]
pub struct PatchMoments {
    /// The mean of each tap, `[inputs * taps]`.
    pub mean: Vec<f64>,
    /// The covariance of the taps of each channel, `[taps, taps]`, regularised.
    pub covariance: Vec<Mat<f64>>,
    /// The covariance of all taps of all channels, `[inputs * taps, inputs * taps]`, where these are few enough.
    pub joint: Option<Mat<f64>>,
}

/// Measures the patches that convolutions read. `layers` are in the graph's topological order, and none is transposed.
///
/// `progress` is told each layer before its turn, with the fraction done.
///
/// # Errors
/// When the samples do not fit the network, or it has an operator before a layer that cannot be run.
pub fn patch_moments(
    graph: &Graph,
    layers: &[(NodeId, KernelLayout)],
    samples: &ArrayD<f32>,
    progress: &mut dyn FnMut(&str, f64),
) -> Result<FxHashMap<NodeId, PatchMoments>> {
    let mut frontier = Frontier::new(graph, samples)?;
    let mut found = FxHashMap::default();
    for (i, (node, layout)) in layers.iter().enumerate() {
        progress(&graph.node(*node).name, i as f64 / layers.len() as f64);
        frontier.run_to(graph, *node)?;
        let layer = Layer::of(graph, *node)?;
        let x = frontier.arrays(graph, layer.x)?;
        let all = layout.inputs * layout.taps;
        let (blocks, size) = match layout.groups == 1 && all <= MOST_JOINT {
            true => (1, all),
            false => (layout.inputs, layout.taps),
        };
        let sums = in_parts(
            &x,
            || PatchSums::new(blocks, size),
            |sums, x| layer.each_image(x, |features| sums.add(features)),
        )?;
        found.insert(*node, sums.moments(layout.taps));
    }
    Ok(found)
}

/// Measures what comes out of convolutions of one group and linear layers, which are in the graph's topological order.
///
/// `progress` is told each layer before its turn, with the fraction done.
///
/// # Errors
/// As [`patch_moments`].
pub fn result_moments(
    graph: &Graph,
    layers: &[NodeId],
    samples: &ArrayD<f32>,
    progress: &mut dyn FnMut(&str, f64),
) -> Result<FxHashMap<NodeId, ResultMoments>> {
    let mut frontier = Frontier::new(graph, samples)?;
    let mut found = FxHashMap::default();
    for node in layers {
        frontier.hold((*node).into());
    }
    for (i, node) in layers.iter().enumerate() {
        progress(&graph.node(*node).name, i as f64 / layers.len() as f64);
        frontier.run_past(graph, *node)?;
        let layer = Layer::of(graph, *node)?;
        let results = frontier.arrays(graph, (*node).into())?;
        let sums = in_parts(
            &results,
            || PatchSums::new(1, layer.outputs()),
            |sums, y| {
                let y = y.as_standard_layout();
                layer.results(&y).for_each(|y| sums.add(y));
                Ok(())
            },
        )?;
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

    fn moments(self, taps: usize) -> PatchMoments {
        let mean = self.mean();
        let size = mean.len() / self.products.len().max(1);
        let mut blocks: Vec<Mat<f64>> = (0..self.products.len())
            .map(|block| self.covariance(block))
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
        PatchMoments {
            covariance: (0..mean.len()).step_by(taps).map(covariance).collect(),
            joint: blocks.pop().filter(|_| blocks.is_empty()),
            mean,
        }
    }
}

impl AddAssign for PatchSums {
    fn add_assign(&mut self, other: PatchSums) {
        self.count += other.count;
        add_all(&mut self.sum, &other.sum);
        for (sum, other) in self.products.iter_mut().zip(&other.products) {
            *sum += other;
        }
    }
}

fn add_all(sums: &mut [f64], others: &[f64]) {
    sums.iter_mut().zip(others).for_each(|(sum, x)| *sum += x);
}

/// Sums over arrays, several parts at a time, added in order.
fn in_parts<A: Sync, S: AddAssign + Send>(
    arrays: &[A],
    empty: impl Fn() -> S + Sync,
    add: impl Fn(&mut S, &A) -> Result<()> + Sync,
) -> Result<S> {
    let part = arrays.len().div_ceil(PARTS).max(1);
    let parts: Vec<Result<S>> = arrays
        .par_chunks(part)
        .map(|arrays| {
            let mut sums = empty();
            arrays.iter().try_for_each(|x| add(&mut sums, x))?;
            Ok(sums)
        })
        .collect();
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or_else(|| Ok(empty()));
    parts.try_fold(first?, |mut sums, part| {
        sums += part?;
        Ok(sums)
    })
}

/// A layer that multiplies features of its operand by a weight `[outputs, features]`.
struct Layer<'g> {
    name: &'g str,
    op: &'g Op,
    x: Value,
    weight: &'g Tensor,
}

impl<'g> Layer<'g> {
    fn of(graph: &'g Graph, node: NodeId) -> Result<Layer<'g>> {
        let operands = graph.operands(node);
        let name = &graph.node(node).name;
        let layer = || {
            let weight = operands.get(1)?.node;
            Some(Layer {
                name,
                op: graph.op(node)?,
                x: operands[0],
                weight: &graph.constant(weight)?.tensor,
            })
        };
        layer().ok_or_else(|| Error::Run {
            node: name.to_string(),
            what: "it has no constant weight".into(),
        })
    }

    fn outputs(&self) -> usize {
        let axis = self.op.weight_axes().map_or(0, |axes| axes.output);
        self.weight.shape()[axis]
    }

    fn features(&self) -> usize {
        self.weight.shape()[1..].iter().product()
    }

    /// The weight, `[outputs, features]`.
    fn matrix(&self) -> Mat<f64> {
        let elements = self.weight.elements::<f64>();
        let features = self.features();
        Mat::from_fn(self.outputs(), features, |o, f| elements[o * features + f])
    }

    /// The few kernels that the weight is made of, where it is: those are then fitted, and stay as few.
    fn separation(&self) -> Option<(KernelLayout, Separation)> {
        let layout = KernelLayout::of(self.op, self.weight.shape())?;
        let epsilon = self.weight.dtype().epsilon();
        let separation = Separation::of(&layout, &self.weight.elements::<f64>(), epsilon)?;
        Some((layout, separation))
    }

    /// The features of each image, `[features, positions]`, or of all at once where positions come first in memory.
    fn each_image(
        &self,
        x: &ArcArray<f32, IxDyn>,
        mut with: impl FnMut(ArrayView2<f32>),
    ) -> Result<()> {
        let failed = |what: String| Error::Run {
            node: self.name.to_string(),
            what,
        };
        let x = x.as_standard_layout();
        let elements = x.as_slice().unwrap_or_default();
        if let Op::Linear {} = self.op {
            with(rows(elements, self.features()).reversed_axes());
            return Ok(());
        }
        let [_, channels, spatial @ ..] = x.shape() else {
            return Err(failed("its operand is no image".into()));
        };
        let kernel = &self.weight.shape()[2..];
        let mut buffer = Vec::new();
        let len = channels * spatial.iter().product::<usize>();
        for image in elements.chunks_exact(len.max(1)) {
            patches(self.op, kernel, spatial, image, &mut buffer).map_err(failed)?;
            let features = channels * kernel.iter().product::<usize>();
            let positions = buffer.len() / features.max(1);
            with(rows(&buffer, positions));
        }
        Ok(())
    }

    /// The results that go with them, `[outputs, positions]`.
    fn results<'y>(
        &self,
        y: &'y CowArray<f32, IxDyn>,
    ) -> impl Iterator<Item = ArrayView2<'y, f32>> {
        let elements = y.as_slice().unwrap_or_default();
        let linear = matches!(self.op, Op::Linear {});
        let (size, columns) = if linear {
            (elements.len(), self.outputs())
        } else {
            let positions = y.shape()[2..].iter().product::<usize>();
            (self.outputs() * positions, positions)
        };
        elements.chunks_exact(size.max(1)).map(move |elements| {
            let matrix = rows(elements, columns);
            if linear {
                matrix.reversed_axes()
            } else {
                matrix
            }
        })
    }
}

/// Row-major elements as a matrix of so many columns.
fn rows(elements: &[f32], columns: usize) -> ArrayView2<'_, f32> {
    let shape = (elements.len() / columns.max(1), columns);
    // The product of both lengths is that of the slice, or the view is empty.
    ArrayView2::from_shape(shape, elements).unwrap_or_else(|_| {
        ArrayView2::from_shape((0, 0), &[]).unwrap_or_else(|e| unreachable!("{e}"))
    })
}

/// What [`refit`] did.
#[derive(Clone, Debug, Default)]
pub struct Refit {
    /// The layers it fitted, in order.
    pub fitted: Vec<Refitted>,
    /// The layers that have too many features for it.
    pub left_out: Vec<String>,
}

/// What became of a layer.
#[derive(Clone, Debug)]
pub struct Refitted {
    /// Its name.
    pub layer: String,
    /// How far its result was from the original's on the samples, and how far it is now: relative to the original's deviation
    /// from its mean.
    pub error: [f64; 2],
}

/// Solves for the weights and biases of the layers of `changed` that compute what the layer of the same name in `original`
/// does, on other inputs or with another weight. Layers are convolutions with one group, and linear ones; those with more
/// features than 2048 stay. A convolution whose kernels are made of few keeps to as many: both they and their mix are fitted.
///
/// `tie` is given every layer when it is fitted, to make weights equal again that have to be, and says whether it did: how far
/// such a layer is off is then not known.
///
/// # Errors
/// When the samples do not fit the network, or it has an operator that cannot be run.
pub fn refit(
    original: &Graph,
    changed: &mut Graph,
    samples: &ArrayD<f32>,
    tie: &mut dyn FnMut(&mut Graph, NodeId) -> bool,
    progress: &mut dyn FnMut(&str, f64),
) -> Result<Refit> {
    let (fits, left_out) = fits(original, changed);
    let mut fitted = Vec::new();
    let mut before = Frontier::new(original, samples)?;
    let mut after = Frontier::new(changed, samples)?;
    for fit in &fits {
        before.hold(fit.source.into());
        fit.sum
            .iter()
            .for_each(|(sum, _)| before.hold((*sum).into()));
    }
    for (i, fit) in fits.iter().enumerate() {
        let name = changed.node(fit.node).name.to_string();
        progress(&name, i as f64 / fits.len() as f64);
        after.run_to(changed, fit.node)?;
        let layer = Layer::of(changed, fit.node)?;
        let features = after.arrays(changed, layer.x)?;
        let beside = fit
            .sum
            .and_then(|(sum, other)| Some((sum, after.arrays(changed, other).ok()?)));
        let aim = beside.as_ref().map_or(fit.source, |(sum, _)| *sum);
        before.run_past(original, aim)?;
        let wanted = before.arrays(original, aim.into())?;
        let sums = match beside {
            None => Sums::over(&layer, &features, &wanted)?,
            Some((_, others)) => {
                let pairs = wanted.par_iter().zip(others);
                let left: Vec<_> = pairs
                    .map(|(sum, other)| (sum.view().to_owned() - other).into_shared())
                    .collect();
                Sums::over(&layer, &features, &left.iter().collect::<Vec<_>>())?
            }
        };
        if let Some((solution, error)) = sums.solve(&layer) {
            let Solution { weight, bias } = solution;
            changed.set_operand_elements(fit.node, 1, elements(&weight));
            changed.set_bias(fit.node, bias);
            if !tie(changed, fit.node) {
                fitted.push(Refitted { layer: name, error });
            }
        }
        before.release(fit.source.into());
        fit.sum
            .iter()
            .for_each(|(sum, _)| before.release((*sum).into()));
    }
    Ok(Refit { fitted, left_out })
}

/// A layer to fit.
struct Fit {
    /// The layer in the original network, whose result is wanted.
    source: NodeId,
    /// The layer to fit.
    node: NodeId,
    /// The sum in the original network that its result goes into and nowhere else, and what else the changed network adds
    /// there: where both are known, the sum is what is wanted, and the layer makes up for what the other operand lacks.
    sum: Option<(NodeId, Value)>,
}

/// The layers to fit, in the order of `changed`, and the names of those with too many features.
fn fits(original: &Graph, changed: &Graph) -> (Vec<Fit>, Vec<String>) {
    let names: FxHashMap<&str, NodeId> = original
        .nodes()
        .map(|node| (&*original.node(node).name, node))
        .collect();
    let mut moved: FxHashSet<NodeId> = FxHashSet::default();
    let mut found = (Vec::new(), Vec::new());
    for node in changed.topological_order().unwrap_or_default() {
        let source = names.get(&*changed.node(node).name).copied();
        let operands = changed.operands(node);
        let same = match (
            source.and_then(|s| original.constant(s)),
            changed.constant(node),
        ) {
            (Some(a), Some(b)) => a.tensor == b.tensor,
            (None, None) => source.is_some_and(|source| original.op(source) == changed.op(node)),
            _ => false,
        };
        if same && !operands.iter().any(|value| moved.contains(&value.node)) {
            continue;
        }
        moved.insert(node);
        let fits = |source: &NodeId| {
            original.op(*source).is_some()
                && original.ty((*source).into()) == changed.ty(node.into())
        };
        let dense = matches!(
            changed.op(node),
            Some(Op::Conv { groups: 1, .. } | Op::Linear {})
        );
        let Some(source) = source.filter(fits).filter(|_| dense) else {
            continue;
        };
        let features = Layer::of(changed, node).map(|layer| layer.features());
        if features.as_ref().is_ok_and(|n| *n > MOST_FEATURES) {
            found.1.push(changed.node(node).name.to_string());
        } else if features.is_ok() {
            let sum = sum_of(changed, node).and_then(|(sum, other)| {
                let sum = names.get(&*changed.node(sum).name).copied()?;
                let added = original.op(sum) == Some(&Op::Add {});
                let read = original.operands(sum).contains(&source.into());
                (added && read).then_some((sum, other))
            });
            found.0.push(Fit { source, node, sum });
        }
    }
    found
}

/// The addition that alone reads a node, and its other operand of the same type.
fn sum_of(graph: &Graph, node: NodeId) -> Option<(NodeId, Value)> {
    let [(sum, operand)] = graph.readers(node.into())[..] else {
        return None;
    };
    let output = graph.outputs.iter().any(|o| o.value == node.into());
    let other = *graph.operands(sum).get(1 - operand.min(1))?;
    let alike = graph.ty(other) == graph.ty(node.into()) && graph.constant(other.node).is_none();
    (graph.op(sum) == Some(&Op::Add {}) && alike && !output).then_some((sum, other))
}

/// The elements of a matrix, row by row.
fn elements(matrix: &Mat<f64>) -> Vec<f64> {
    let at = (0..matrix.nrows()).flat_map(|i| (0..matrix.ncols()).map(move |j| (i, j)));
    at.map(|at| matrix[at]).collect()
}

/// Sums over positions, of features and of what they should give.
struct Sums {
    count: f64,
    feature: Vec<f64>,
    target: Vec<f64>,
    /// The square of each target's sum.
    target_squares: f64,
    /// `[features, features]`.
    gram: Array2<f64>,
    /// `[outputs, features]`.
    cross: Array2<f64>,
}

impl Sums {
    fn over(
        layer: &Layer,
        features: &[&ArcArray<f32, IxDyn>],
        target: &[&ArcArray<f32, IxDyn>],
    ) -> Result<Sums> {
        let (n, m) = (layer.features(), layer.outputs());
        let empty = || Sums {
            count: 0.0,
            feature: vec![0.0; n],
            target: vec![0.0; m],
            target_squares: 0.0,
            gram: Array2::zeros((n, n)),
            cross: Array2::zeros((m, n)),
        };
        let pairs: Vec<_> = features.iter().zip(target).collect();
        in_parts(&pairs, empty, |sums, (x, y)| {
            let y = y.as_standard_layout();
            let mut targets = layer.results(&y);
            let mut gram = Array2::<f32>::zeros((n, n));
            let mut cross = Array2::<f32>::zeros((m, n));
            layer.each_image(x, |x| {
                let Some(y) = targets.next() else { return };
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

    /// The weight and the bias of `layer` that give the targets best, near the present ones where the features do not say; and
    /// the relative errors before, with the best bias, and after. `None` if there is no unique solution.
    fn solve(&self, layer: &Layer) -> Option<(Solution, [f64; 2])> {
        let weight = layer.matrix();
        let (m, n) = (weight.nrows(), weight.ncols());
        let mean = |sums: &[f64]| -> Vec<f64> { sums.iter().map(|s| s / self.count).collect() };
        let (x, y) = (mean(&self.feature), mean(&self.target));
        let covariance = Mat::from_fn(n, n, |i, j| self.gram[(i, j)] / self.count - x[i] * x[j]);
        let cross = Mat::from_fn(m, n, |o, i| self.cross[(o, i)] / self.count - y[o] * x[i]);
        let variance = self.target_squares / self.count - y.iter().map(|y| y * y).sum::<f64>();
        let diagonal: f64 = (0..n).map(|i| covariance[(i, i)]).sum();
        // The ridge draws towards the present weight.
        let ridge = RIDGE * diagonal / n as f64 + f64::from(f32::MIN_POSITIVE);
        let mut regular = covariance.clone();
        (0..n).for_each(|i| regular[(i, i)] += ridge);
        let wanted = &cross + &weight * faer::Scale(ridge);
        let solution = match layer.separation() {
            Some((layout, separation)) => refine(&layout, &separation, &regular, &wanted)?,
            None => {
                let solved = regular.llt(Side::Lower).ok()?.solve(wanted.transpose());
                solved.transpose().to_owned()
            }
        };
        let error = |w: &Mat<f64>| {
            let through = w * &covariance;
            let dot = |a: &Mat<f64>| {
                let elements = (0..m).flat_map(|o| (0..n).map(move |i| (o, i)));
                elements.map(|at| a[at] * w[at]).sum::<f64>()
            };
            let residual = variance - 2.0 * dot(&cross) + dot(&through);
            (residual.max(0.0) / variance.max(f64::MIN_POSITIVE)).sqrt()
        };
        let bias = (0..m).map(|o| y[o] - (0..n).map(|i| solution[(o, i)] * x[i]).sum::<f64>());
        let bias: Vec<f64> = bias.collect();
        let errors = [error(&weight), error(&solution)];
        let finite = bias.iter().all(|b| b.is_finite()) && errors[1].is_finite();
        finite.then_some((
            Solution {
                weight: solution,
                bias,
            },
            errors,
        ))
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        self.count += other.count;
        self.target_squares += other.target_squares;
        add_all(&mut self.feature, &other.feature);
        add_all(&mut self.target, &other.target);
        self.gram += &other.gram;
        self.cross += &other.cross;
    }
}

struct Solution {
    /// `[outputs, features]`.
    weight: Mat<f64>,
    bias: Vec<f64>,
}
