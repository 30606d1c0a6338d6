//! Repairing a network that a lossy pass has changed, on the samples that the run was given.

use crate::analysis::calibration;
use crate::ir::{Graph, NodeId};
use crate::pipeline::PassContext;
use crate::{Error, Result};

/// Repairs the network on the samples, if there are any, with `tie` as in [`calibration::refit`]; the names of layers that are too
/// large for it.
pub fn refit(
    original: &Graph,
    graph: &mut Graph,
    tie: &mut dyn FnMut(&mut Graph, NodeId) -> bool,
    context: &mut PassContext<'_>,
) -> Result<Vec<String>> {
    let Some(sampled) = context.sampled() else {
        return Ok(Vec::new());
    };
    let mut progress = |layer: &str, fraction: f64| context.progress(layer, 0.5 + 0.5 * fraction);
    // Of a network that cannot be run to its end nothing is kept.
    let mut repaired = graph.clone();
    match calibration::refit(original, &mut repaired, &sampled, tie, &mut progress) {
        Ok(calibration::Refit {
            fitted,
            left_out,
            kept,
        }) => {
            *graph = repaired;
            if !fitted.is_empty() {
                context.used_samples();
            }
            for layer in fitted {
                let [before, after] = layer.error.map(|error| 100.0 * error);
                context.applied(
                    &layer.layer,
                    format!("refitted: on the samples its result is off by {after:.1} %, was {before:.1} %"),
                );
            }
            for layer in kept {
                let why = "not refitted: what fits some of the samples is worse on the others";
                context.missed(&layer, why);
            }
            Ok(left_out)
        }
        Err(error @ Error::Run { .. }) => {
            context.missed_samples("", format!("not refitted: {error}"));
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// A remark on each layer that was too large to be refitted.
pub fn say_left_out(layers: &[String], context: &mut PassContext<'_>) {
    for layer in layers {
        context.missed_samples(
            layer,
            "not refitted: too many features for their Gram matrix",
        );
    }
}
