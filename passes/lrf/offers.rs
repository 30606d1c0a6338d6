//! What LRF offers: layers as 1x1, k x k, 1x1, by what is kept of their filters and channels.

use super::Lrf;
use super::factor::{Kept, Weighed};
use super::layer::{Layer, Placed, layers};
use super::put;
use super::weigh::Weigh;
use crate::Result;
use crate::analysis::prior::Activations;
use crate::analysis::{CostModel, Statistics};
use crate::ir::Graph;
use crate::pipeline::{Lot, Method, Offer, PassContext, Unit};

/// Numbers of filters, and of channels, that are offered for a layer, about.
const OFFERS: usize = 12;

impl Method for Lrf {
    fn name(&self) -> &'static str {
        super::LRF.name
    }

    fn offers(
        &self,
        graph: &Graph,
        statistics: &Statistics,
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Lot>> {
        let mut quiet = PassContext::new(context.seed, context.cost.clone());
        let layers = layers(graph, false, &mut quiet);
        let lot = |layer: &Layer| {
            let reads = Activations::clone(statistics.reads(layer.node)?);
            let placed = Placed::whole(layer.node);
            let weighed = Weighed::of(graph, &placed, layer.layout, Weigh::Moments, Some(reads));
            Some(Lot {
                of: Unit::Layer(layer.node),
                offers: self.pieces_of(graph, layer, weighed.into(), context),
            })
        };
        Ok(layers.iter().filter_map(lot).collect())
    }
}

impl Lrf {
    /// The layer in pieces, for numbers of filters and channels of which none is both cheaper and better.
    fn pieces_of(
        &self,
        graph: &Graph,
        layer: &Layer,
        weighed: std::sync::Arc<Weighed>,
        context: &PassContext<'_>,
    ) -> Vec<Offer> {
        let Some(losses) = weighed.losses(self.choice.criterion) else {
            return Vec::new();
        };
        let model = CostModel::new(&context.cost, &graph.bindings);
        let (align, most) = (model.alignment(self.align), model.alternatives(OFFERS));
        let all = layer.all();
        let counts = |n: usize| -> Vec<usize> {
            let every = align * (n / align / most).max(1);
            (1..n).filter(|k| k % every == 0).chain([n]).collect()
        };
        let mut found: Vec<(f64, f64, Kept)> = Vec::new();
        for outputs in counts(all.outputs) {
            for inputs in counts(all.inputs) {
                let kept = Kept { inputs, outputs };
                let Some(share) = layer.share(graph, kept, &context.cost) else {
                    continue;
                };
                let loss =
                    losses.outputs[all.outputs - outputs] + losses.inputs[all.inputs - inputs];
                if kept != all && share < 1.0 {
                    found.push((share, loss, kept));
                }
            }
        }
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut least = f64::INFINITY;
        found.retain(|(_, loss, _)| {
            let better = *loss < least;
            least = least.min(*loss);
            better
        });
        let offer = |(share, loss, kept): (f64, f64, Kept)| {
            let (layer, choice, weighed) = (*layer, self.choice, weighed.clone());
            Offer {
                what: format!(
                    "{} of {} filters, {} of {} input channels",
                    kept.outputs, all.outputs, kept.inputs, all.inputs
                ),
                losses: vec![(layer.node, loss)],
                costs: vec![(layer.node, share)],
                apply: Box::new(move |graph| {
                    // Of what others left of its weight.
                    let weighed = weighed.with_weight(graph.operand_elements(layer.node, 1));
                    if let Some(pieces) = weighed.split(kept, choice) {
                        put(graph, &layer, &weighed, kept, pieces)?;
                    }
                    Ok(())
                }),
            }
        };
        found.into_iter().map(offer).collect()
    }
}
