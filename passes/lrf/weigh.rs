//! What counts how much in a layer.

use super::Lrf;
use super::choose::Amount;
use super::factor::{Around, Reads, Weighed};
use super::layer::{Layer, Placed};
use crate::Result;
use crate::analysis::kernels::KernelLayout;
use crate::analysis::moments::scales;
use crate::ir::{Graph, NodeId};
use crate::passes::activations::{Activations, activations};
use crate::pipeline::PassContext;

/// What counts how much.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Weigh {
    /// All alike.
    Alike,
    /// Results by the batch norm that follows.
    Norms,
    /// Channels by their moments, too.
    Moments,
}

impl Lrf {
    /// By what layers are weighed that have lost nothing yet.
    pub(super) fn weigh(&self, context: &PassContext<'_>) -> Weigh {
        let letter = matches!(self.amount, Amount::Ratio(_)) && context.samples.is_none();
        match self.weigh {
            Some(weigh) => weigh,
            None if letter => Weigh::Alike,
            None => Weigh::Moments,
        }
    }

    /// The layers' weights, and what counts in them.
    pub(super) fn weighed(
        &self,
        graph: &Graph,
        layers: &[Layer],
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Weighed>> {
        let places: Vec<_> = layers
            .iter()
            .map(|layer| (Placed::whole(layer.node), layer.layout))
            .collect();
        weighed(graph, &places, self.weigh(context), context)
    }
}

/// The weights of layers, each of which lies as its layout says, and what counts in them.
pub(super) fn weighed(
    graph: &Graph,
    places: &[(Placed, KernelLayout)],
    weigh: Weigh,
    context: &mut PassContext<'_>,
) -> Result<Vec<Weighed>> {
    let cores: Vec<_> = places
        .iter()
        .map(|(placed, layout)| (placed.core, *layout))
        .collect();
    let reads = match weigh {
        Weigh::Moments => {
            let prior = context.prior.clone().and(graph);
            activations(graph, &cores, &prior, context)?
        }
        Weigh::Alike | Weigh::Norms => Vec::new(),
    };
    let mut reads = reads.into_iter();
    let of = |(placed, layout): &(Placed, KernelLayout)| {
        Weighed::of(graph, placed, *layout, weigh, reads.next())
    };
    Ok(places.iter().map(of).collect())
}

impl Weighed {
    /// A layer's weight, and what counts in it; `reads` is what the layer reads, where that counts.
    pub(super) fn of(
        graph: &Graph,
        placed: &Placed,
        layout: KernelLayout,
        weigh: Weigh,
        reads: Option<Activations>,
    ) -> Weighed {
        let weight = |node: NodeId| graph.operand_elements(node, 1);
        let around = Around {
            squeeze: placed.squeeze.map(weight),
            expand: placed.expand.map(weight),
        };
        let results = match &around.expand {
            Some(expand) => expand.len() / layout.outputs,
            None => layout.outputs * layout.groups,
        };
        let rows = match weigh {
            Weigh::Alike => None,
            Weigh::Norms | Weigh::Moments => scales(graph, placed.last()),
        };
        let (mean, reads) = match reads {
            Some(Activations {
                mean,
                joint,
                patches,
                ..
            }) => {
                let reads = joint.map_or(Reads::Channels(patches), Reads::Joint);
                (Some(mean), reads)
            }
            None => (None, Reads::Alike),
        };
        Weighed {
            layout,
            weight: weight(placed.core),
            around,
            rows: rows.unwrap_or_else(|| vec![1.0; results]),
            mean,
            reads,
            through: weigh != Weigh::Alike,
        }
    }

    /// Lets the bias of the layer, or of the 1x1 convolution behind it, take the mean of what the result loses.
    pub(super) fn shift_bias(&self, graph: &mut Graph, last: NodeId, lost: &[f64]) {
        let Some(mean) = &self.mean else { return };
        let shift = self.layout_with_expand().apply(lost, mean);
        if shift.iter().any(|s| *s != 0.0) {
            graph.shift_bias(last, &shift);
        }
    }
}
