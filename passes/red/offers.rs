//! What RED offers: convolutions as depthwise and pointwise ones, by how many kernels are kept.

use std::sync::Arc;

use super::RED;
use super::projection::{Projection, separable};
use crate::Result;
use crate::analysis::{CostModel, Statistics};
use crate::ir::Graph;
use crate::pipeline::{Lot, Method, Offer, PassContext, Unit};

/// Numbers of kernels that are offered for a layer, about.
const OFFERS: usize = 32;

/// Few kernels for every layer.
pub(super) struct Kernels;

impl Method for Kernels {
    fn name(&self) -> &'static str {
        RED.name
    }

    fn offers(
        &self,
        graph: &Graph,
        statistics: &Statistics,
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Lot>> {
        let mut quiet = PassContext::new(context.seed, context.cost.clone());
        let model = CostModel::new(&context.cost, &graph.bindings);
        let most = model.alternatives(OFFERS);
        let layers = separable(graph, model.alignment(0), &mut quiet);
        let (mut known, mut reads) = (Vec::new(), Vec::new());
        for layer in layers {
            if let Some(activations) = statistics.reads(layer.node) {
                reads.push(activations.clone());
                known.push(layer);
            }
        }
        let projection = Arc::new(Projection::new(graph, known, reads, &mut quiet)?);
        let lot = |i: usize| {
            let node = projection.layers()[i].node;
            let points: Vec<_> = projection.points(i).collect();
            let every = (points.len() / most).max(1);
            let offer = |(kernels, loss): (usize, f64)| {
                let share = projection.share(graph, i, kernels, &context.cost)?;
                let projection = projection.clone();
                Some(Offer {
                    what: format!("{kernels} kernels"),
                    losses: vec![(node, loss)],
                    costs: vec![(node, share)],
                    apply: Box::new(move |graph| {
                        projection.project(graph, i, kernels);
                        Ok(())
                    }),
                })
            };
            Lot {
                of: Unit::Layer(node),
                offers: points
                    .into_iter()
                    .step_by(every)
                    .filter_map(offer)
                    .collect(),
            }
        };
        Ok((0..projection.layers().len()).map(lot).collect())
    }
}
