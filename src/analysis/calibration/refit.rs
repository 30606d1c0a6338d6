//! Repairing: weights and biases by least squares, layer after layer.

use rustc_hash::{FxHashMap, FxHashSet};

use super::least_squares::{Form, Solution, Sums, elements, unread};
use super::ridge::ridge;
use super::{Layer, total};
use crate::Result;
use crate::analysis::kernels::KernelLayout;
use crate::analysis::moments::scales;
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
    /// The layers that are better as they are: what fits some samples is worse on the others.
    pub kept: Vec<String>,
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
    progress: &mut dyn FnMut(&str, f64) -> Result<()>,
) -> Result<Refit> {
    let (fits, left_out) = fits(original, changed);
    let (mut fitted, mut kept) = (Vec::new(), Vec::new());
    let half = Sampled {
        in_memory: sampled.in_memory / 2,
        ..sampled.clone()
    };
    let mut before = Frontier::new(original, &half)?;
    let mut after = Frontier::new(changed, &half)?;
    for fit in &fits {
        before.hold(fit.source.into());
        fit.sum
            .iter()
            .for_each(|(sum, _)| before.hold((*sum).into()));
    }
    for (i, fit) in fits.iter().enumerate() {
        let name = changed.node(fit.node).name.to_string();
        progress(&name, i as f64 / fits.len() as f64)?;
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
        let beside = beside.as_ref().map(|(_, others)| others.as_slice());
        let parts = Sums::over(&layer, &features, &wanted, beside)?;
        match fit.solve(changed, &layer, &parts)? {
            None => kept.push(name),
            Some((solution, error)) => {
                fit.put(changed, solution);
                if !tie(changed, fit.node) {
                    fitted.push(Refitted { layer: name, error });
                }
            }
        }
        before.release(fit.source.into());
        fit.sum
            .iter()
            .for_each(|(sum, _)| before.release((*sum).into()));
    }
    Ok(Refit {
        fitted,
        left_out,
        kept,
    })
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

impl Fit {
    /// What fits best, given the sums over parts of the samples, and the relative errors before and after; `None` where nothing is
    /// better than what is there.
    fn solve(
        &self,
        graph: &Graph,
        layer: &Layer,
        parts: &[Sums],
    ) -> Result<Option<(Solution, [f64; 2])>> {
        let mask = mask_of(graph, self.inner.unwrap_or(self.node));
        let masked = mask.and_then(|mask| unread_features(mask, layer.features()));
        let form = match (self.inner, mask) {
            (Some(inner), _) => Form::Product {
                rank: Layer::of(graph, inner)?.outputs(),
                scales: scales(graph, self.node),
            },
            (None, Some(mask)) if masked.is_none() => Form::Masked(mask.clone()),
            (None, _) => Form::Any,
        };
        let weight = layer.matrix();
        let bias = bias_of(graph, self.node, layer.outputs());
        let mut without = unread(layer, &weight);
        without.extend(masked.unwrap_or_default());
        let all = total(parts);
        let ridge = ridge(parts, &all, &weight, &bias, &without);
        Ok(ridge.and_then(|ridge| all.moments().solve(layer, &form, ridge, &without)))
    }

    /// Puts a solution in place.
    fn put(&self, graph: &mut Graph, solution: Solution) {
        if let (Some(node), Some(inner)) = (self.inner, solution.inner) {
            graph.set_operand_elements(node, 1, elements(&inner));
        }
        graph.set_operand_elements(self.node, 1, elements(&solution.weight));
        graph.set_bias(self.node, solution.bias);
    }
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
    let features = |mask: &Mask| mask.len() / layout_rows(graph, inner);
    let masked = mask_of(graph, node).is_some()
        || mask_of(graph, inner).is_some_and(|m| unread_features(m, features(m)).is_none());
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

/// The bias of a layer; zeros where it has none, or where that is computed.
fn bias_of(graph: &Graph, node: NodeId, outputs: usize) -> Vec<f64> {
    let bias = graph.operands(node).get(2).map(|bias| bias.node);
    match bias.and_then(|bias| graph.constant(bias)) {
        Some(constant) if constant.tensor.len() == outputs => {
            constant.tensor.elements().into_owned()
        }
        _ => vec![0.0; outputs],
    }
}

/// The mask of a layer's weight.
fn mask_of(graph: &Graph, node: NodeId) -> Option<&Mask> {
    graph.mask(graph.operands(node).get(1)?.node)
}

/// The rows of a layer's weight.
fn layout_rows(graph: &Graph, node: NodeId) -> usize {
    let weight = graph.operands(node).get(1).map(|w| graph.ty(*w));
    weight.and_then(|ty| ty.len(0)).unwrap_or(1).max(1)
}

/// The features that no row of a mask keeps; `None` where rows differ, of which each is then a system of its own.
fn unread_features(mask: &Mask, features: usize) -> Option<Vec<usize>> {
    let kept = |row: usize, i: usize| mask.keeps(row * features + i);
    let rows = mask.len() / features.max(1);
    let alike = (1..rows).all(|row| (0..features).all(|i| kept(row, i) == kept(0, i)));
    alike.then(|| (0..features).filter(|i| !kept(0, *i)).collect())
}

/// Whether the rows of a masked weight with `n` features, each of which is a system of its own, are not too much work.
fn is_solvable(mask: Option<&Mask>, n: usize) -> bool {
    let work = |row: &[bool]| row.iter().filter(|kept| **kept).count().pow(3);
    let kept = |mask: &Mask| mask.iter().collect::<Vec<bool>>();
    mask.is_none_or(|mask| {
        unread_features(mask, n).is_some()
            || kept(mask).chunks(n.max(1)).map(work).sum::<usize>() <= MOST_WORK
    })
}
