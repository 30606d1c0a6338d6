//! Relaxed merging: neurons near each other become equal, up to a positive factor where the activation lets one pass, and
//! the exact rules then compute them once.
//!
//! Which neurons are near each other, [`neurons`](super::neurons) says, by the moments of what their layer computes: measured on
//! samples, else by the batch norms behind it. A neuron counts as much as the weights that read it. The average of a cluster's rows
//! replaces all of them, and what the mean of each neuron loses goes into the biases of the layers that read it. With samples these
//! are refitted. Layers coupled to others, to outputs or to constants of single channels are left alone.

use faer::Mat;

use super::merging::{Layer, layers};
use super::neurons::{Cluster, Neurons};
use crate::Result;
use crate::analysis::calibration::{self, ResultMoments};
use crate::analysis::dependencies::{Reader, reach};
use crate::analysis::kernels::{KernelLayout, PatchMoment};
use crate::ir::channels::dense_axis;
use crate::ir::{DType, Graph, NodeId, Op};
use crate::passes::activations::{
    Activations, PriorMoments, in_order, kernel_size, measured_or_missed, say_unknown,
};
use crate::passes::repair::{refit, say_left_out};
use crate::pipeline::{Changed, PassContext};

/// The most neurons of a layer that are compared with each other.
const MOST_NEURONS: usize = 2048;

/// `red{alpha=...}`.
pub struct Relaxed {
    /// The most that the result of a layer may change, relative to its deviation.
    pub alpha: f64,
    /// Whether samples, if there are any, repair the network.
    pub refit: bool,
}

/// A layer whose neurons only dense layers read.
struct Candidate {
    layer: Layer,
    layout: KernelLayout,
    readers: Vec<Reader>,
    activation: Vec<Op>,
    scales: bool,
}

impl Relaxed {
    /// Makes neurons equal that are near each other. Of the promises on their layers, those are kept that will be true when
    /// they are merged.
    ///
    /// # Errors
    /// When the samples do not fit the network.
    pub fn run(
        &self,
        graph: &mut Graph,
        prior: &mut PriorMoments,
        context: &mut PassContext<'_>,
    ) -> Result<Changed> {
        let candidates = candidates(graph, context);
        let moments = result_moments(graph, &candidates, prior, context)?;
        let mut merged = graph.clone();
        let mut plans = Vec::new();
        for (candidate, moments) in candidates.iter().zip(moments) {
            let name = graph.node(candidate.layer.node).name.clone();
            let neurons = candidate.neurons(graph, moments);
            let (clusters, error) = neurons.within(self.alpha);
            if clusters.is_empty() {
                context.missed(
                    &name,
                    format!(
                        "no neurons are near enough to each other for alpha={}",
                        self.alpha
                    ),
                );
                continue;
            }
            let gone: usize = clusters.iter().map(|c| c.members.len() - 1).sum();
            let text = format!(
                "{gone} of {} neurons merged into others: by their moments the result changes by {:.1} %",
                neurons.mean.len(),
                100.0 * error
            );
            context.applied(&name, text);
            // Before rows are averaged, so that those of readers which merge too have their share.
            candidate.keep_means(&mut merged, &clusters);
            plans.push((candidate, clusters));
        }
        if plans.is_empty() {
            return Ok(Changed::No);
        }
        for (candidate, clusters) in &plans {
            candidate.average_rows(&mut merged, clusters);
            let merged_away = |c: &usize| clusters.iter().any(|k| k.members[1..].contains(c));
            let kept: Vec<usize> = (0..candidate.layout.outputs)
                .filter(|c| !merged_away(c))
                .collect();
            prior.keep(&merged, candidate.layer.node, &kept);
        }
        if self.refit {
            // What is fitted for each neuron by itself fits the average of their results when it is averaged.
            let mut tie = |graph: &mut Graph, node: NodeId| {
                let plan = plans.iter().find(|(c, _)| c.layer.node == node);
                if let Some((candidate, clusters)) = plan {
                    candidate.average_rows(graph, clusters);
                }
                plan.is_some()
            };
            say_left_out(&refit(graph, &mut merged, &mut tie, context)?, context);
        }
        *graph = merged;
        Ok(Changed::Yes)
    }
}

/// The layers whose neurons may be merged, in the order of the graph, and remarks on the others.
fn candidates(graph: &Graph, context: &mut PassContext<'_>) -> Vec<Candidate> {
    let mut found = Vec::new();
    for layer in layers(graph) {
        let name = graph.node(layer.node).name.clone();
        match Candidate::of(graph, layer) {
            Ok(candidate) => found.push(candidate),
            Err(why) => context.missed(&name, format!("its neurons stay apart: {why}")),
        }
    }
    in_order(graph, &mut found, |candidate| candidate.layer.node);
    found
}

impl Candidate {
    /// Why not, where the layer is none.
    fn of(graph: &Graph, layer: Layer) -> std::result::Result<Candidate, String> {
        let unknown = || "its type is unknown".to_string();
        let op = graph.op(layer.node).ok_or_else(unknown)?;
        if graph.mask(layer.weight).is_some() {
            return Err("its weight is masked, and averages of its rows would not be".into());
        }
        let weight = &graph.constant(layer.weight).ok_or_else(unknown)?.tensor;
        let outputs = weight.shape()[layer.output];
        if !weight.dtype().is_float() {
            return Err("its weights are not floating-point numbers".into());
        }
        if outputs > MOST_NEURONS {
            return Err(format!("{outputs} are too many to compare"));
        }
        if graph.only_reader(layer.weight.into()).is_none() {
            return Err("another layer has the same weights".into());
        }
        if layer
            .bias
            .is_some_and(|bias| graph.constant(bias).is_none())
        {
            return Err("its bias is computed".into());
        }
        let rank = graph.ty(layer.node.into()).rank().ok_or_else(unknown)?;
        let reach = reach(graph, layer.node.into(), dense_axis(op, rank));
        if let Some(first) = reach.obstacles.into_iter().next() {
            return Err(first.text);
        }
        if let Some(node) = reach.uneven.first() {
            let name = &graph.node(*node).name;
            return Err(format!("`{name}` treats each in its own way"));
        }
        if reach.readers.iter().any(|r| r.columns.len() != outputs) {
            return Err("who reads them is unknown".into());
        }
        if let Some(reader) = reach.readers.iter().find(|r| columns(graph, r).is_none()) {
            let name = &graph.node(reader.node).name;
            return Err(format!(
                "`{name}` reads them, and its weight is not a layer's constant"
            ));
        }
        let layout = KernelLayout::dense(op, weight.shape()).ok_or_else(unknown)?;
        Ok(Candidate {
            activation: activation(graph, layer.node),
            layout,
            readers: reach.readers,
            // A factor is found again only in weights as precise as what is computed with them.
            scales: !reach.fixed_scale && matches!(weight.dtype(), DType::F32 | DType::F64),
            layer,
        })
    }

    fn neurons(&self, graph: &Graph, moments: ResultMoments) -> Neurons {
        let mut energy = vec![0.0; self.layout.outputs];
        for reader in &self.readers {
            let columns = columns(graph, reader).unwrap_or_default();
            for (energy, column) in energy.iter_mut().zip(columns) {
                *energy += column.squared_norm_l2();
            }
        }
        Neurons {
            mean: moments.mean,
            covariance: moments.covariance,
            activation: self.activation.clone(),
            weight: energy,
            scales: self.scales,
        }
    }

    /// Adds to the biases of the layers that read the neurons what the means of these lose.
    fn keep_means(&self, graph: &mut Graph, clusters: &[Cluster]) {
        for reader in &self.readers {
            let Some(columns) = columns(graph, reader) else {
                continue;
            };
            let mut shift = vec![0.0; columns.first().map_or(0, Mat::nrows)];
            for cluster in clusters {
                for (member, lost) in cluster.members.iter().zip(&cluster.lost) {
                    let column = &columns[*member];
                    for (output, shift) in shift.iter_mut().enumerate() {
                        *shift += lost * column.row(output).iter().sum::<f64>();
                    }
                }
            }
            graph.shift_bias(reader.node, &shift);
        }
    }

    /// Gives all neurons of a cluster the average of their weights and biases, times their factors.
    fn average_rows(&self, graph: &mut Graph, clusters: &[Cluster]) {
        let KernelLayout {
            inputs,
            outputs,
            taps,
            ..
        } = self.layout;
        let node = self.layer.node;
        let mut weight = graph.operand_elements(node, 1);
        for channel in 0..inputs {
            let mut kernels = self.layout.matrix(&weight, channel);
            for tap in 0..taps {
                let mut rows: Vec<f64> = (0..outputs).map(|o| kernels[(o, tap)]).collect();
                clusters
                    .iter()
                    .for_each(|cluster| cluster.average(&mut rows));
                (0..outputs).for_each(|o| kernels[(o, tap)] = rows[o]);
            }
            self.layout.set_matrix(&mut weight, channel, &kernels);
        }
        graph.set_operand_elements(node, 1, weight);
        let mut bias = graph.operand_elements(node, 2);
        if !bias.is_empty() {
            clusters
                .iter()
                .for_each(|cluster| cluster.average(&mut bias));
            graph.set_operand_elements(node, 2, bias);
        }
    }

    /// What is known of the layer's results without samples, and whether anything is.
    fn expected(&self, graph: &Graph, prior: &PriorMoments) -> (ResultMoments, bool) {
        let KernelLayout {
            inputs,
            outputs,
            taps,
            ..
        } = self.layout;
        let node = self.layer.node;
        let known = prior.get(graph, graph.operands(node)[0], inputs);
        let read = Activations::expected(known, inputs, &kernel_size(graph, node));
        let weight = graph.operand_elements(node, 1);
        let mut kernels = Mat::zeros(outputs, inputs * taps);
        let mut weighed = Mat::zeros(outputs, inputs * taps);
        for (channel, PatchMoment(moment)) in read.patches.iter().enumerate() {
            let matrix = self.layout.matrix(&weight, channel);
            let at = channel * taps;
            weighed.subcols_mut(at, taps).copy_from(&matrix * moment);
            kernels.subcols_mut(at, taps).copy_from(matrix);
        }
        let mut covariance = weighed * kernels.transpose();
        let bias = graph.operand_elements(node, 2);
        let mean = |o: usize| -> f64 {
            let products = read.mean.iter().enumerate();
            let sum: f64 = products.map(|(i, mean)| mean * kernels[(o, i)]).sum();
            sum + bias.get(o).copied().unwrap_or(0.0)
        };
        let mut mean: Vec<f64> = (0..outputs).map(mean).collect();
        // A batch norm knew the moments of each result; only how these go together is left to the weights.
        let own = prior.get(graph, node.into(), outputs);
        if let Some(own) = own {
            mean.clone_from(&own.mean);
            let factor = |o: usize| {
                let variance: f64 = covariance[(o, o)];
                (own.variance[o] / variance.max(f64::MIN_POSITIVE)).sqrt()
            };
            let factors: Vec<f64> = (0..outputs).map(factor).collect();
            covariance = Mat::from_fn(outputs, outputs, |i, j| {
                covariance[(i, j)] * factors[i] * factors[j]
            });
        }
        (ResultMoments { mean, covariance }, known.or(own).is_some())
    }
}

/// For each channel that a layer reads, what the layer multiplies it with: `[outputs, taps]`, of all places where it is found.
/// `None` if that is computed.
fn columns(graph: &Graph, reader: &Reader) -> Option<Vec<Mat<f64>>> {
    let weight = graph.operands(reader.node).get(1)?.node;
    let shape = graph.constant(weight)?.tensor.shape();
    let layout = KernelLayout::dense(graph.op(reader.node)?, shape)?;
    let weight = graph.operand_elements(reader.node, 1);
    let of = |places: &Vec<usize>| {
        let mut all = Mat::zeros(layout.outputs, layout.taps * places.len());
        for (i, place) in places.iter().enumerate() {
            let kernels = layout.matrix(&weight, *place);
            all.subcols_mut(i * layout.taps, layout.taps)
                .copy_from(kernels);
        }
        all
    };
    Some(reader.columns.iter().map(of).collect())
}

/// The moments of what each layer computes: measured where there are samples, else the prior's, else what weights alone say.
fn result_moments(
    graph: &Graph,
    candidates: &[Candidate],
    prior: &PriorMoments,
    context: &mut PassContext<'_>,
) -> Result<Vec<ResultMoments>> {
    if let Some(sampled) = context.sampled() {
        let nodes: Vec<NodeId> = candidates.iter().map(|c| c.layer.node).collect();
        let mut progress = |layer: &str, fraction: f64| context.progress(layer, 0.5 * fraction);
        let measured = calibration::result_moments(graph, &nodes, &sampled, &mut progress);
        if let Some(mut measured) = measured_or_missed(measured, context)? {
            let all: Option<Vec<_>> = nodes.iter().map(|node| measured.remove(node)).collect();
            if let Some(all) = all {
                context.used_samples();
                return Ok(all);
            }
        }
    }
    let mut unknown = Vec::new();
    let of = |candidate: &Candidate| {
        let (moments, known) = candidate.expected(graph, prior);
        if !known {
            unknown.push(graph.node(candidate.layer.node).name.to_string());
        }
        moments
    };
    let all = candidates.iter().map(of).collect();
    say_unknown(&unknown, candidates.len(), context);
    Ok(all)
}

/// Functions of a single variable that follow a layer, one after the other.
fn activation(graph: &Graph, layer: NodeId) -> Vec<Op> {
    let mut found = Vec::new();
    let mut node = layer;
    while let Some((reader, _)) = graph.only_reader(node.into()) {
        match graph.op(reader) {
            Some(Op::Identity {} | Op::Dropout { .. }) => {}
            Some(op) if op.apply(&mut [0.0f64]) => found.push(op.clone()),
            _ => break,
        }
        node = reader;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::{ArrayD, IxDyn};

    use super::super::merging::{Origins, merge};
    use super::*;
    use crate::data::Samples;
    use crate::exec::{Array, Interpreter};

    #[test]
    fn samples_repair_what_reads_merged_neurons_and_keep_these_equal() {
        let text = "
            graph net(%x: f32[N,3,6,6]) {
              @a.weight = parameter normal(1) : f32[24,3,1,1]
              @a.bias = parameter normal(2) : f32[24]
              @b.weight = parameter normal(3) : f32[8,24,3,3]
              @c.weight = parameter normal(4) : f32[4,8]
              %a = conv(%x, @a.weight, @a.bias)
              %a.relu = relu(%a)
              %b = conv(%a.relu, @b.weight) {pad=[1,1]}
              %b.relu = relu(%b)
              %pool = mean(%b.relu) {axes=[2,3]}
              %c = linear(%pool, @c.weight)
              return %c
            }";
        let original: Graph = text.parse().unwrap();
        let wave = |i: IxDyn| {
            let phase = (0..4).fold(0.3, |x: f32, axis| 1.7 * x + i[axis] as f32);
            (phase * phase).sin()
        };
        let images = ArrayD::from_shape_fn(vec![40, 3, 6, 6], wave);
        let results = |graph: &Graph| -> Vec<f32> {
            let x = Array::Shared(images.clone().into_shared());
            let results = Interpreter::new(graph).and_then(|net| net.run(vec![x]));
            results.unwrap()[0].view().iter().copied().collect()
        };
        let merged = |refit: bool| -> (Graph, String) {
            let samples = Samples::of_array("waves", &images);
            let mut context = PassContext::default().with_samples(Some(Arc::new(samples)));
            let mut graph = original.clone();
            let relaxed = Relaxed { alpha: 0.3, refit };
            let mut prior = PriorMoments::of(&graph);
            let changed = relaxed.run(&mut graph, &mut prior, &mut context);
            assert_eq!(changed.unwrap(), Changed::Yes);
            let mut origins = Origins::of(&graph);
            let _ = merge(&mut graph, &mut origins, &mut context).unwrap();
            let type_of = |layer: &str| graph.ty(graph.find(layer).unwrap().into()).to_string();
            let types = format!("{} {}", type_of("a"), type_of("b"));
            (graph, types)
        };
        let ((plain, types), (refitted, same)) = (merged(false), merged(true));
        assert_eq!(types, same);
        assert!(!types.contains("[N,24,"), "{types}");
        let wanted = results(&original);
        let error = |graph: &Graph| -> f32 {
            let pairs = results(graph).into_iter().zip(&wanted);
            pairs.map(|(y, wanted)| (y - wanted).powi(2)).sum()
        };
        let (plain, refitted) = (error(&plain), error(&refitted));
        assert!(
            0.0 < refitted && refitted < 0.5 * plain,
            "{refitted} {plain}"
        );
    }
}
