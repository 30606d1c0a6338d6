//! Repairing: weights and biases by least squares, layer after layer.

use std::ops::AddAssign;

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArcArray, Array2, IxDyn};
use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Layer, RIDGE, add_all, in_parts};
use crate::Result;
use crate::analysis::kernels::KernelLayout;
use crate::analysis::moments::scales;
use crate::analysis::refinement::refine;
use crate::exec::{Frontier, Sampled};
use crate::ir::{DType, Graph, Mask, NodeId, Op, Tensor, Value};

/// The most features that a layer is refitted for: its Gram matrix has the square of that.
const MOST_FEATURES: usize = 2048;
/// The most work that the systems of a masked weight's rows may take together, as the sum of the cubes of their sizes: about a
/// minute.
const MOST_WORK: usize = 1 << 40;

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
/// features than 2048 stay. A convolution whose kernels are made of few keeps to as many: both they and their mix are fitted. So
/// are a layer that the original does not have and the pointwise one that alone reads it, as the best of their rank.
///
/// `tie` is given every layer when it is fitted, to make weights equal again that have to be, and says whether it did: how far
/// such a layer is off is then not known.
///
/// # Errors
/// When the samples do not fit the network, or it has an operator that cannot be run.
pub fn refit(
    original: &Graph,
    changed: &mut Graph,
    sampled: &Sampled,
    tie: &mut dyn FnMut(&mut Graph, NodeId) -> bool,
    progress: &mut dyn FnMut(&str, f64),
) -> Result<Refit> {
    let (fits, left_out) = fits(original, changed);
    let mut fitted = Vec::new();
    let mut before = Frontier::new(original, sampled)?;
    let mut after = Frontier::new(changed, sampled)?;
    for fit in &fits {
        before.hold(fit.source.into());
        fit.sum
            .iter()
            .for_each(|(sum, _)| before.hold((*sum).into()));
    }
    for (i, fit) in fits.iter().enumerate() {
        let name = changed.node(fit.node).name.to_string();
        progress(&name, i as f64 / fits.len() as f64);
        after.run_to(changed, fit.inner.unwrap_or(fit.node))?;
        let composite;
        let layer = match &fit.inner {
            None => Layer::of(changed, fit.node)?,
            Some(inner) => {
                composite = compose(changed, fit.node, *inner)?;
                Layer {
                    weight: &composite,
                    ..Layer::of(changed, *inner)?
                }
            }
        };
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
        let form = match (fit.inner, mask_of(changed, fit.node)) {
            (Some(inner), _) => Form::Product {
                rank: Layer::of(changed, inner)?.outputs(),
                scales: scales(changed, fit.node),
            },
            (None, Some(mask)) => Form::Masked(mask.clone()),
            (None, None) => Form::Any,
        };
        if let Some((solution, error)) = sums.solve(&layer, &form) {
            let Solution {
                weight,
                inner,
                bias,
            } = solution;
            if let (Some(node), Some(inner)) = (fit.inner, inner) {
                changed.set_operand_elements(node, 1, elements(&inner));
            }
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
    /// The layer before it that the original does not have, fitted with it.
    inner: Option<NodeId>,
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
        let inner = inner_of(changed, node)
            .filter(|inner| !names.contains_key(&*changed.node(*inner).name));
        let layer = Layer::of(changed, inner.unwrap_or(node));
        let features = layer.map(|layer| layer.features());
        let too_many = |n: &usize| *n > MOST_FEATURES || !is_solvable(mask_of(changed, node), *n);
        if features.as_ref().is_ok_and(too_many) {
            found.1.push(changed.node(node).name.to_string());
        } else if features.is_ok() {
            let sum = sum_of(changed, node).and_then(|(sum, other)| {
                let sum = names.get(&*changed.node(sum).name).copied()?;
                let added = original.op(sum) == Some(&Op::Add {});
                let read = original.operands(sum).contains(&source.into());
                (added && read).then_some((sum, other))
            });
            found.0.push(Fit {
                source,
                node,
                inner,
                sum,
            });
        }
    }
    found
}

/// The layer of one group and without bias that a pointwise one reads, if nobody else does.
fn inner_of(graph: &Graph, node: NodeId) -> Option<NodeId> {
    let op = graph.op(node)?;
    let operands = graph.operands(node);
    let layout = KernelLayout::dense(op, graph.constant(operands.get(1)?.node)?.tensor.shape())?;
    let pointwise = *op == Op::Linear {} || *op == Op::pointwise(op.convolution()?.0.len(), 1);
    let inner = operands[0].node;
    let linear = matches!(
        (op, graph.op(inner)?),
        (Op::Linear {}, Op::Linear {}) | (Op::Conv { .. }, Op::Conv { groups: 1, .. })
    );
    let bare = graph.operands(inner).len() == 2;
    let masked = [node, inner]
        .iter()
        .any(|layer| mask_of(graph, *layer).is_some());
    let alone = graph.only_reader(inner.into()).is_some();
    (layout.taps == 1 && pointwise && linear && bare && alone && !masked).then_some(inner)
}

/// The weight of a pointwise layer after another, as one.
fn compose(graph: &Graph, outer: NodeId, inner: NodeId) -> Result<Tensor> {
    let (outer, inner) = (Layer::of(graph, outer)?, Layer::of(graph, inner)?);
    let product = outer.matrix() * inner.matrix();
    let mut shape = inner.weight.shape().to_vec();
    shape[0] = outer.outputs();
    Ok(Tensor::from_f64(DType::F64, &shape, elements(&product)))
}

/// The addition that alone reads a node, and its other operand of the same type.
fn sum_of(graph: &Graph, node: NodeId) -> Option<(NodeId, Value)> {
    let (sum, operand) = graph.only_reader(node.into())?;
    let other = *graph.operands(sum).get(1 - operand.min(1))?;
    let alike = graph.ty(other) == graph.ty(node.into()) && graph.constant(other.node).is_none();
    (graph.op(sum) == Some(&Op::Add {}) && alike).then_some((sum, other))
}

/// The mask of a layer's weight.
fn mask_of(graph: &Graph, node: NodeId) -> Option<&Mask> {
    graph.mask(graph.operands(node).get(1)?.node)
}

/// Whether the rows of a masked weight with `n` features, each of which is a system of its own, are not too much work.
fn is_solvable(mask: Option<&Mask>, n: usize) -> bool {
    let work = |row: &[bool]| row.iter().filter(|kept| **kept).count().pow(3);
    let kept = |mask: &Mask| mask.iter().collect::<Vec<bool>>();
    mask.is_none_or(|mask| kept(mask).chunks(n.max(1)).map(work).sum::<usize>() <= MOST_WORK)
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
    fn solve(&self, layer: &Layer, form: &Form) -> Option<(Solution, [f64; 2])> {
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
        let free = || -> Option<Mat<f64>> {
            let solved = regular.llt(Side::Lower).ok()?.solve(wanted.transpose());
            Some(solved.transpose().to_owned())
        };
        let (solution, pair) = match (form, layer.separation()) {
            (Form::Product { rank, scales }, _) => {
                let [outer, inner] = truncate(&free()?, &covariance, *rank, scales.as_deref())?;
                (&outer * &inner, Some([outer, inner]))
            }
            (Form::Masked(mask), _) => (solve_masked(&regular, &wanted, mask)?, None),
            (Form::Any, Some((layout, separation))) => {
                (refine(&layout, &separation, &regular, &wanted)?, None)
            }
            (Form::Any, None) => (free()?, None),
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
        let (weight, inner) = match pair {
            Some([outer, inner]) => (outer, Some(inner)),
            None => (solution, None),
        };
        finite.then_some((
            Solution {
                weight,
                inner,
                bias,
            },
            errors,
        ))
    }
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
    /// `[outputs, features]`, or `[outputs, rank]` if there is an inner weight.
    weight: Mat<f64>,
    /// `[rank, features]`.
    inner: Option<Mat<f64>>,
    bias: Vec<f64>,
}

/// What a weight has to be.
enum Form {
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
