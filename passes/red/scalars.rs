//! `hash=kde`: the weights of a layer become the modes of their density, where that makes neurons equal or dead.

use rustc_hash::FxHashMap;

use super::hashing::{Outcome, hash_weights};
use super::merging::{Layer, layers};
use crate::egraph::constants::Rows;
use crate::egraph::picks::Partition;
use crate::ir::{Graph, NodeId, Tensor};
use crate::pipeline::{Changed, PassContext};

/// Replaces the weights of layers where that makes neurons equal.
pub(super) fn hash(graph: &mut Graph, error: f64, context: &mut PassContext<'_>) -> Changed {
    let layers = layers(graph);
    let mut hashed: FxHashMap<NodeId, bool> = FxHashMap::default();
    let total = layers.len().max(1) as f64;
    for (i, layer) in layers.iter().enumerate() {
        let name = graph.node(layer.weight).name.clone();
        context.progress(&name, 0.5 * i as f64 / total);
        if hashed.contains_key(&layer.weight) {
            continue;
        }
        let Some(constant) = graph.constant(layer.weight) else {
            continue;
        };
        let outcome = hash_weights(&constant.tensor, error);
        let done = match outcome {
            Outcome::Unchanged { reason } => {
                context.missed(&name, format!("not hashed: {reason}"));
                None
            }
            Outcome::Hashed {
                tensor,
                modes,
                relative_error,
                bandwidth,
            } => {
                let tensor = match &constant.mask {
                    Some(mask) => mask.apply(&tensor),
                    None => tensor,
                };
                let bias = layer.bias.and_then(|bias| graph.constant(bias));
                let bias = bias.map(|bias| bias.tensor.elements::<f64>());
                let kept = |weight: &Tensor| kept_channels(weight, bias.as_deref(), layer);
                if kept(&tensor) < kept(&constant.tensor) {
                    let text = format!(
                        "hashed to {modes} values, {:.2} % error, bandwidth {bandwidth:.2e}",
                        100.0 * relative_error
                    );
                    context.applied(&name, text);
                    Some(tensor)
                } else {
                    context.missed(
                        &name,
                        format!(
                            "not hashed: with {modes} values no more neurons would be equal or dead"
                        ),
                    );
                    None
                }
            }
        };
        hashed.insert(layer.weight, done.is_some());
        if let Some(tensor) = done {
            graph.set_tensor(layer.weight, tensor);
        }
    }
    hashed.values().any(|done| *done).into()
}

/// Output channels that are neither constant nor equal to another, bias included, and input channels that are read.
fn kept_channels(weight: &Tensor, bias: Option<&[f64]>, layer: &Layer) -> usize {
    let (outputs, inputs) = (
        Rows::of(weight, layer.output),
        Rows::of(weight, layer.input),
    );
    let alive = (0..outputs.zero.len()).filter(|c| !outputs.zero[*c]);
    let key = |c: usize| (outputs.equal.class[c], bias.map(|bias| bias[c].to_bits()));
    let distinct = Partition::by_key(alive.map(key)).first.len();
    distinct + inputs.zero.iter().filter(|zero| !**zero).count()
}
