//! What a few unlabelled samples say about a network: the moments of what its convolutions read, and how to repair a network
//! that a pass has changed.
//!
//! `patch_moments` measures. `refit` is the one solver for every lossy pass: layer after layer, in order, it solves for the
//! weights and the bias by least squares, so that the layer's result *on the changed network's own input* is what the original
//! network computes there. Errors made upstream are so corrected downstream, and no labels and no training are needed.
//! Only Gram matrices are accumulated, and of the activations only those that layers to come will read are kept, for both
//! networks, in memory or, where these are too many, in a temporary file. The idea of fitting to the changed network's own input is
//! asymmetric reconstruction (Zhang et al. 2016).

mod least_squares;
mod moments;
mod refit;
mod ridge;
mod shrinkage;

use std::ops::AddAssign;

use faer::Mat;
use ndarray::{ArcArray, ArrayView2, CowArray, Ix2, IxDyn, s};
use rayon::prelude::*;

use super::kernels::{KernelLayout, Separation};
use crate::exec::{Stored, patches};
use crate::ir::{Graph, NodeId, Op, Tensor, Value};
use crate::{Error, Result};
pub use moments::{MOST_JOINT, PatchMoments, ResultMoments, patch_moments, result_moments};
pub use refit::{Refit, Refitted, refit};

/// In how many parts sums over samples are made. Fixed, so that results do not depend on the number of threads.
const PARTS: usize = 4;

/// What is added to the diagonal of a covariance before it is inverted, relative to the diagonal's mean.
const RIDGE: f64 = 1e-4;

/// With more features than this, what parts say of each other is tried out on one part only.
const MANY: usize = 512;

/// How many positions are looked at for each feature, about, and how many at least where there are as many: those beside each other
/// say nearly the same.
const POSITIONS: usize = 50;
const LEAST_POSITIONS: usize = 20_000;

/// Of which positions one is looked at, so that there are enough for the features of a layer over all arrays that it reads.
fn every(layer: &Layer, arrays: &[&Stored]) -> usize {
    let channels = match layer.op {
        Op::Linear {} => layer.features(),
        _ => layer.weight.shape()[1],
    };
    let elements: usize = arrays.iter().map(|x| x.elements()).sum();
    let wanted = (POSITIONS * layer.features()).max(LEAST_POSITIONS);
    (elements / channels.max(1) / wanted).max(1)
}

/// One of so many columns. An odd step meets all places in a row of an image in turn, where those are even in number.
fn sampled(rows: ArrayView2<'_, f32>, every: usize) -> CowArray<'_, f32, Ix2> {
    match every {
        0 | 1 => rows.into(),
        every => {
            let step = every - usize::from(every.is_multiple_of(2));
            rows.slice(s![.., ..;step]).to_owned().into()
        }
    }
}

fn add_all(sums: &mut [f64], others: &[f64]) {
    sums.iter_mut().zip(others).for_each(|(sum, x)| *sum += x);
}

/// Sums over arrays in parts, which say by how much sums over other samples would differ; at least one.
fn in_parts<A: Sync, S: Send>(
    arrays: &[A],
    empty: impl Fn() -> S + Sync,
    add: impl Fn(&mut S, &A) -> Result<()> + Sync,
) -> Result<Vec<S>> {
    let part = arrays.len().div_ceil(PARTS).max(1);
    let parts: Result<Vec<S>> = arrays
        .par_chunks(part)
        .map(|arrays| {
            let mut sums = empty();
            arrays.iter().try_for_each(|x| add(&mut sums, x))?;
            Ok(sums)
        })
        .collect();
    let mut parts = parts?;
    if parts.is_empty() {
        parts.push(empty());
    }
    Ok(parts)
}

/// The sum of all parts, added in order.
fn total<S: Clone + for<'s> AddAssign<&'s S>>(parts: &[S]) -> S {
    let mut sum = parts[0].clone();
    parts[1..].iter().for_each(|part| sum += part);
    sum
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
        y: &'y ArcArray<f32, IxDyn>,
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
    // The lengths' product is at most that of the slice; where columns are none, so are rows.
    ArrayView2::from_shape(shape, &elements[..shape.0 * shape.1])
        .unwrap_or_else(|_| ndarray::aview2(&[[0.0; 0]; 0]))
}
