//! What layers read and what comes out of them: measured on samples where there are any, else by what batch norms promise.

use rustc_hash::FxHashMap;

use crate::analysis::calibration;
use crate::analysis::kernels::KernelLayout;
pub use crate::analysis::prior::{Activations, PriorMoments, kernel_size};
use crate::ir::{Graph, NodeId};
use crate::pipeline::PassContext;
use crate::{Error, Result};

/// What each layer, a node and how its weight lies, reads: measured where there are samples, else the prior's, else the same for all channels.
///
/// # Errors
/// When the samples do not fit the network.
pub fn activations(
    graph: &Graph,
    layers: &[(NodeId, KernelLayout)],
    prior: &PriorMoments,
    context: &mut PassContext<'_>,
) -> Result<Vec<Activations>> {
    activations_of(graph, layers, calibration::MOST_JOINT, prior, context)
}

/// The same, with the joint covariance of up to so many features.
///
/// # Errors
/// As [`activations`].
pub fn activations_of(
    graph: &Graph,
    layers: &[(NodeId, KernelLayout)],
    most_joint: usize,
    prior: &PriorMoments,
    context: &mut PassContext<'_>,
) -> Result<Vec<Activations>> {
    let mut measured = FxHashMap::default();
    let file = context.take_statistics();
    if let Some(sampled) = context.sampled() {
        // The patches of a transposed convolution are those of its result.
        let plain = layers.iter().filter(|(_, layout)| !layout.transposed);
        let mut places: Vec<_> = plain.copied().collect();
        in_order(graph, &mut places, |(node, _)| *node);
        let known = match &file {
            Some(file) => file.read(graph, &places, most_joint)?,
            None => None,
        };
        if let (Some(file), Some(found)) = (&file, known.filter(|found| !found.is_empty())) {
            measured = found;
            let path = file.path().display();
            context.analysis("", format!("what layers read is taken from {path}"));
        } else {
            let mut progress = |layer: &str, fraction: f64| context.progress(layer, 0.5 * fraction);
            let found =
                calibration::patch_moments(graph, &places, most_joint, &sampled, &mut progress);
            measured = measured_or_missed(found, context)?.unwrap_or_default();
            if let Some(file) = file.filter(|_| !measured.is_empty()) {
                file.keep(graph, &measured)?;
            }
        }
        if !measured.is_empty() {
            context.used_samples();
        }
    }
    let mut unknown = Vec::new();
    let of = |(node, layout): &(NodeId, KernelLayout)| {
        if let Some(measured) = measured.remove(node) {
            return measured.into();
        }
        let known = prior.get(graph, graph.operands(*node)[0], layout.inputs);
        if known.is_none() {
            unknown.push(graph.node(*node).name.to_string());
        }
        Activations::expected(known, layout.inputs, &kernel_size(graph, *node))
    };
    let activations = layers.iter().map(of).collect();
    say_unknown(&unknown, layers.len(), context);
    Ok(activations)
}

/// Sorts places in the graph as they are run.
pub fn in_order<T>(graph: &Graph, places: &mut [T], node: impl Fn(&T) -> NodeId) {
    let order = graph.topological_order().unwrap_or_default();
    places.sort_by_key(|place| order.iter().position(|n| *n == node(place)));
}

/// What was measured; nothing, and a remark, where the network cannot be run.
///
/// # Errors
/// Any other error.
pub fn measured_or_missed<T>(
    measured: Result<T>,
    context: &mut PassContext<'_>,
) -> Result<Option<T>> {
    match measured {
        Ok(measured) => Ok(Some(measured)),
        Err(error @ Error::Run { .. }) => {
            context.missed_samples(
                "",
                format!("the samples say nothing: the network cannot be run on them: {error}"),
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Remarks on layers, of so many, that read what no batch norm says anything about.
pub fn say_unknown(unknown: &[String], layers: usize, context: &mut PassContext<'_>) {
    if !unknown.is_empty() {
        context.analysis(
            "",
            format!(
                "no batch norm says what {} of {layers} layers read, so all their input channels count the same: {}",
                unknown.len(),
                unknown.join(", ")
            ),
        );
    }
}
