//! `hash=kernel`: kernels become combinations of few, convolutions become depthwise and pointwise ones.
//!
//! What a layer may lose is judged by what it reads: by samples where there are any, else by the moments that batch norms
//! promise, about their means, since the bias makes up for what the mean loses. After the projection the exact rules do the
//! rest; what they leave dense gets its own weights back, and the multiply-adds that are then left go to the others.

use std::sync::Arc;

use faer::Mat;
use rustc_hash::FxHashMap;

use super::merging;
use super::projection::{Activations, Budget, Layer, Projection, flops, separable};
use crate::analysis::calibration::{self, PatchMoments};
use crate::analysis::kernels::{KernelLayout, PatchMoment};
use crate::analysis::moments::{Moments, moments};
use crate::egraph::{Bounds, Rule, saturate};
use crate::ir::{Graph, Op};
use crate::passes::{fold_batch_norm, rules};
use crate::pipeline::{Changed, Cost, PassContext};
use crate::{Error, Result};

/// How alike neighbouring positions of a channel are where nothing was measured: the correlation of two taps falls by this
/// factor with each step between them. Chosen on training images of CIFAR-10; 0 and 0.6 are clearly worse.
const CORRELATION: f64 = 0.25;

/// What makes the separated form of a layer.
static SEPARATE: &[&dyn Rule] = &[&rules::SeparateDepthwise];

/// How often the budget is spent anew after saturation has shown what it buys.
const ROUNDS: usize = 6;

/// How much less than the target may be kept before another round is worth it, as a fraction of the network.
const SLACK: f64 = 0.002;

/// `red{hash=kernel}`.
pub struct ByKernel {
    /// How far to go.
    pub budget: Budget,
    /// Kernels of a layer are a multiple of this; 0 to go by the cost.
    pub align: usize,
    /// Whether samples, if there are any, repair the network.
    pub refit: bool,
}

impl ByKernel {
    /// Runs the pass.
    pub fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        let whole = flops(graph);
        let promised = promised(graph);
        context.progress("batch norms", 0.0);
        let folded = fold_batch_norm::fold(graph, context)?;
        let align = match (self.align, &context.cost) {
            // Runtimes compute whole vectors of channels.
            (0, Cost::Latency(_)) => 8,
            (0, _) => 1,
            (align, _) => align,
        };
        let layers = separable(graph, align, context);
        if layers.is_empty() {
            context.missed("", "no convolution would be cheaper with fewer kernels");
            return Ok(folded | merging::merge(graph, context)?);
        }
        self.check_reachable(graph, &layers, whole)?;
        let activations = activations(graph, &layers, &promised, context)?;
        let projection = Projection::new(graph, layers, activations, context)?;
        let mut projected = self.project(graph, &projection, whole, context)?;
        if self.refit && !refit(graph, &mut projected, context)?.is_empty() {
            // Layers too large for their patches to be weighed together: once they are separated, their few kernels are not.
            let separated = saturate(&projected, SEPARATE, &context.cost, Bounds::default())?;
            projected = separated.graph.unwrap_or(projected);
            for layer in refit(graph, &mut projected, context)? {
                context.missed(
                    &layer,
                    "not refitted: too many features for their Gram matrix",
                );
            }
        }
        *graph = projected;
        let _ = merging::merge(graph, context)?;
        Ok(Changed::Yes)
    }

    fn check_reachable(&self, graph: &Graph, layers: &[Layer], whole: u64) -> Result<()> {
        let saved = |layer: &Layer| layer.dense - layer.separated[0].1;
        let least = flops(graph) - layers.iter().map(saved).sum::<u64>();
        match self.budget {
            Budget::Flops(target) if least as f64 > target * whole as f64 => Err(Error::Usage {
                what: format!("flops={target} cannot be reached"),
                help: format!(
                    "the fewest kernels that a layer can have leave {:.3} of the multiply-adds: ask for no less",
                    least as f64 / whole as f64
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Projects, and does so again until the budget is spent on layers that stay separated.
    fn project(
        &self,
        graph: &Graph,
        projection: &Projection,
        whole: u64,
        context: &mut PassContext<'_>,
    ) -> Result<Graph> {
        let target = match self.budget {
            Budget::Flops(target) => (target * whole as f64) as u64,
            Budget::Error(_) => u64::MAX,
        };
        let others = flops(graph) - projection.layers().iter().map(|l| l.dense).sum::<u64>();
        let mut dense = vec![false; projection.layers().len()];
        let mut room = target.saturating_sub(others) as i64;
        let mut best: Option<Round> = None;
        for round in 0..ROUNDS {
            context.progress("saturation", round as f64 / ROUNDS as f64);
            let chosen = projection.choose(self.budget, &dense, room.max(0) as u64);
            let mut projected = graph.clone();
            projection.apply(&mut projected, &chosen);
            let saturated = merging::saturated(&projected, context)?;
            let merged = saturated.graph.as_ref().unwrap_or(&projected);
            let kept = flops(merged);
            let mut settled = true;
            for (i, layer) in projection.layers().iter().enumerate() {
                let name = &graph.node(layer.node).name;
                if !dense[i] && !projection.is_dense(i, chosen[i]) && is_dense(merged, name) {
                    dense[i] = true;
                    settled = false;
                }
            }
            let spare = target as i64 - kept as i64;
            let close = spare >= 0 && (spare as f64) < SLACK * whole as f64;
            let round = Round {
                chosen,
                projected,
                settled,
                spare,
            };
            let done = settled && (close || matches!(self.budget, Budget::Error(_)));
            if best.as_ref().is_none_or(|best| round.rank() >= best.rank()) {
                best = Some(round);
            }
            if done {
                break;
            }
            if let Budget::Flops(_) = self.budget {
                room += spare;
            }
        }
        let Some(best) = best else {
            return Ok(graph.clone());
        };
        projection.explain(graph, &best.chosen, context);
        Ok(best.projected)
    }
}

/// One attempt to spend the budget.
struct Round {
    chosen: Vec<usize>,
    /// The graph with the chosen layers' kernels projected.
    projected: Graph,
    /// Whether every layer that lost kernels is separated.
    settled: bool,
    /// Multiply-adds under the target, or over it where negative.
    spare: i64,
}

impl Round {
    /// Larger is better: within the target, settled, and near it.
    fn rank(&self) -> (bool, bool, i64) {
        (self.spare >= 0, self.settled, -self.spare.abs())
    }
}

/// Whether the layer of this name is there and has kernels still.
fn is_dense(graph: &Graph, name: &str) -> bool {
    let layer = || {
        let node = graph.find(name)?;
        let weight = graph.constant(graph.operands(node).get(1)?.node)?;
        KernelLayout::of(graph.op(node)?, weight.tensor.shape())
    };
    layer().is_some()
}

/// The moments that batch norms promise, by the names that values keep when these are folded.
fn promised(graph: &Graph) -> FxHashMap<Arc<str>, Moments> {
    let mut named = FxHashMap::default();
    let known = moments(graph);
    for node in graph.nodes() {
        let Some(moments) = known.get(&node.into()) else {
            continue;
        };
        named.insert(graph.node(node).name.clone(), moments.clone());
        if let Some(Op::BatchNorm { .. }) = graph.op(node) {
            // The layer before it takes it in, and its place.
            let layer = graph.operands(node)[0].node;
            named.insert(graph.node(layer).name.clone(), moments.clone());
        }
    }
    named
}

/// What each layer reads: measured where there are samples, else as promised, else the same for all channels.
fn activations(
    graph: &Graph,
    layers: &[Layer],
    promised: &FxHashMap<Arc<str>, Moments>,
    context: &mut PassContext<'_>,
) -> Result<Vec<Activations>> {
    if let Some(samples) = context.samples.clone() {
        let mut places: Vec<_> = layers.iter().map(|l| (l.node, l.layout)).collect();
        let order = graph.topological_order().unwrap_or_default();
        let position = |node| order.iter().position(|n| *n == node);
        places.sort_by_key(|(node, _)| position(*node));
        let mut progress = |layer: &str, fraction: f64| context.progress(layer, 0.5 * fraction);
        match calibration::patch_moments(graph, &places, &samples.images, &mut progress) {
            Ok(mut measured) => {
                let of = |layer: &Layer| measured.remove(&layer.node).map(Activations::from);
                let all: Option<Vec<Activations>> = layers.iter().map(of).collect();
                if let Some(all) = all {
                    return Ok(all);
                }
            }
            Err(error @ Error::Run { .. }) => context.missed(
                "",
                format!("the samples say nothing: the network cannot be run on them: {error}"),
            ),
            Err(error) => return Err(error),
        }
    }
    let mut unknown = Vec::new();
    let of = |layer: &Layer| {
        let KernelLayout { taps, inputs, .. } = layer.layout;
        let operands = graph.operands(layer.node);
        let input = &graph.node(operands[0].node).name;
        let known = promised.get(input).filter(|m| m.mean.len() == inputs);
        let kernel = graph
            .ty(operands[1])
            .shape()
            .map_or(&[][..], |shape| &shape[2..]);
        let kernel: Vec<usize> = kernel.iter().filter_map(|n| n.as_len()).collect();
        let patch = |variance: &f64| PatchMoment::correlated(*variance, CORRELATION, &kernel);
        match known {
            Some(Moments { mean, variance }) => Activations {
                mean: mean
                    .iter()
                    .flat_map(|m| std::iter::repeat_n(*m, taps))
                    .collect(),
                patches: variance.iter().map(patch).collect(),
                joint: None,
            },
            None => {
                unknown.push(graph.node(layer.node).name.to_string());
                Activations {
                    mean: vec![0.0; inputs * taps],
                    patches: vec![patch(&1.0); inputs],
                    joint: None,
                }
            }
        }
    };
    let activations = layers.iter().map(of).collect();
    if !unknown.is_empty() {
        context.analysis(
            "",
            format!(
                "no batch norm says what {} of {} layers read, so all their input channels count the same: {}",
                unknown.len(),
                layers.len(),
                unknown.join(", ")
            ),
        );
    }
    Ok(activations)
}

impl From<PatchMoments> for Activations {
    fn from(measured: PatchMoments) -> Activations {
        let measure = |covariance: Mat<f64>| PatchMoment(covariance);
        Activations {
            mean: measured.mean,
            patches: measured.covariance.into_iter().map(measure).collect(),
            joint: measured.joint,
        }
    }
}

/// Repairs the network on the samples, if there are any; the names of layers that are too large for it.
fn refit(
    original: &Graph,
    graph: &mut Graph,
    context: &mut PassContext<'_>,
) -> Result<Vec<String>> {
    let Some(samples) = context.samples.clone() else {
        return Ok(Vec::new());
    };
    let mut progress = |layer: &str, fraction: f64| context.progress(layer, 0.5 + 0.5 * fraction);
    match calibration::refit(original, graph, &samples.images, &mut progress) {
        Ok(calibration::Refit { fitted, left_out }) => {
            for layer in fitted {
                let [before, after] = layer.error.map(|error| 100.0 * error);
                context.applied(
                    &layer.layer,
                    format!("refitted: on the samples its result is off by {after:.1} %, was {before:.1} %"),
                );
            }
            Ok(left_out)
        }
        Err(error @ Error::Run { .. }) => {
            context.missed("", format!("not refitted: {error}"));
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}
