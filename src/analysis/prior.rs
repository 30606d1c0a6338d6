//! Prior moments: what layers read where no samples say it, by what batch norms promise.

use std::sync::Arc;

use faer::Mat;
use rustc_hash::FxHashMap;

use super::calibration::PatchMoments;
use super::kernels::{KernelLayout, PatchMoment};
use super::moments::{Moments, moments, propagate};
use crate::ir::{Graph, NodeId, Op, Value};

/// How alike neighbouring positions of a channel are where nothing was measured: the correlation of two taps falls by this
/// factor with each step between them. Chosen on training images of CIFAR-10; 0 and 0.6 are clearly worse.
const CORRELATION: f64 = 0.25;

/// The moments that batch norms promise, by the names that values keep when these are folded.
#[derive(Clone, Debug, Default)]
pub struct PriorMoments(FxHashMap<Arc<str>, Moments>);

impl PriorMoments {
    /// What the batch norms of a graph promise that are not folded yet.
    pub fn of(graph: &Graph) -> PriorMoments {
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
        PriorMoments(named)
    }

    /// What these batch norms promise, and what others did before they were folded.
    pub fn and(self, graph: &Graph) -> PriorMoments {
        let mut known = self.0;
        known.extend(PriorMoments::of(graph).0);
        PriorMoments(known)
    }

    /// The moments of a value that has so many channels.
    pub fn get(&self, graph: &Graph, value: Value, channels: usize) -> Option<&Moments> {
        let known = self.0.get(&graph.node(value.node).name);
        known.filter(|moments| moments.mean.len() == channels)
    }

    /// Forgets all but these channels of a layer's result, in this order.
    pub fn keep(&mut self, graph: &Graph, layer: NodeId, channels: &[usize]) {
        if let Some(moments) = self.0.get_mut(&graph.node(layer).name) {
            let kept = |of: &[f64]| {
                channels
                    .iter()
                    .filter_map(|c| of.get(*c).copied())
                    .collect()
            };
            moments.mean = kept(&moments.mean);
            moments.variance = kept(&moments.variance);
        }
    }

    /// Makes the promises those of a graph in which layers have lost channels.
    pub fn carry(&mut self, graph: &Graph) {
        let mut known = FxHashMap::default();
        for node in graph.nodes() {
            let channels = graph.ty(node.into()).len(1);
            if let Some(moments) = channels.and_then(|n| self.get(graph, node.into(), n)) {
                known.insert(node.into(), moments.clone());
            }
        }
        let propagated = propagate(graph, known, |node, x| mixed(graph, node, x));
        self.0 = propagated
            .into_iter()
            .map(|(value, moments)| (graph.node(value.node).name.clone(), moments))
            .collect();
    }
}

/// The moments of what a layer makes of channels of these, as if they were independent of each other.
fn mixed(graph: &Graph, node: NodeId, x: &Moments) -> Option<Moments> {
    let shape = graph
        .constant(graph.operands(node).get(1)?.node)?
        .tensor
        .shape();
    let layout = KernelLayout::dense(graph.op(node)?, shape)?;
    if layout.groups != 1 || x.mean.len() != layout.inputs {
        return None;
    }
    let weight = graph.operand_elements(node, 1);
    let read = Activations::expected(Some(x), layout.inputs, &kernel_size(graph, node));
    let mut mean = layout.apply(&weight, &read.mean);
    let bias = graph.operand_elements(node, 2);
    mean.iter_mut().zip(&bias).for_each(|(m, b)| *m += b);
    let mut variance = vec![0.0; layout.outputs];
    for (channel, PatchMoment(moment)) in read.patches.iter().enumerate() {
        let kernels = layout.matrix(&weight, channel);
        let through = &kernels * moment;
        for (o, variance) in variance.iter_mut().enumerate() {
            *variance += (0..layout.taps)
                .map(|t| through[(o, t)] * kernels[(o, t)])
                .sum::<f64>();
        }
    }
    Some(Moments { mean, variance })
}

/// What is known of the activations that a layer reads.
#[derive(Clone)]
pub struct Activations {
    /// The mean of each tap, `[inputs * taps]`.
    pub mean: Vec<f64>,
    /// The moment about the mean of each input channel's patches: the bias takes what the mean loses.
    pub patches: Vec<PatchMoment>,
    /// The covariance of all patches, `[inputs * taps, inputs * taps]`, where it is known.
    pub joint: Option<Mat<f64>>,
    /// How many patches were looked at; `None` where nothing was measured.
    pub count: Option<f64>,
}

impl Activations {
    /// Of a layer that reads so many channels by kernels of this size: as their moments say, or the same for all of them.
    pub fn expected(moments: Option<&Moments>, inputs: usize, kernel: &[usize]) -> Activations {
        let taps = kernel.iter().product();
        let patch = |variance: &f64| PatchMoment::correlated(*variance, CORRELATION, kernel);
        let (mean, patches) = match moments {
            Some(Moments { mean, variance }) => {
                let of_taps = |mean: &f64| std::iter::repeat_n(*mean, taps);
                let mean = mean.iter().flat_map(of_taps).collect();
                (mean, variance.iter().map(patch).collect())
            }
            None => (vec![0.0; inputs * taps], vec![patch(&1.0); inputs]),
        };
        Activations {
            mean,
            patches,
            joint: None,
            count: None,
        }
    }
}

impl From<PatchMoments> for Activations {
    fn from(measured: PatchMoments) -> Activations {
        Activations {
            mean: measured.mean,
            patches: measured.covariance.into_iter().map(PatchMoment).collect(),
            joint: measured.joint,
            count: Some(measured.count),
        }
    }
}

/// The lengths of a convolution's kernels; none for a linear layer.
pub fn kernel_size(graph: &Graph, layer: NodeId) -> Vec<usize> {
    let weight = graph.operands(layer).get(1).map(|weight| graph.ty(*weight));
    let shape = weight.and_then(|ty| ty.shape()).unwrap_or_default();
    shape.iter().skip(2).filter_map(|n| n.as_len()).collect()
}
