//! Low rank: a layer as two, the first with few outputs, the second with one point, such that the result changes least.
//!
//! With C the covariance of what the layer reads and U the leading eigenvectors of W C W^T, the best layer of rank r is
//! `U_r (U_r^T W)`; what it loses is the sum of the other eigenvalues. That this is optimal for the layer's result is known as
//! whitening (SVD-LLM, Wang et al. 2024, and others). On samples both parts are refitted.

use faer::{Mat, Side};

use super::lrf::factor::{Kept, Pieces};
use super::lrf::layer::{Layer, layers};
use super::market::{AloneOptions, alone};
use crate::analysis::kernels::KernelLayout;
use crate::analysis::prior::Activations;
use crate::analysis::{CostModel, Statistics};
use crate::ir::{Graph, NodeId};
use crate::pipeline::{Kind, Lot, Method, Offer, PassContext, PassInfo, Unit};
use crate::{Error, Result};

/// `lowrank`.
pub static LOWRANK: PassInfo = PassInfo {
    name: "lowrank",
    summary: "make layers two of low rank, so that their results change least",
    kind: Kind::Lossy,
    options: AloneOptions::SPECS,
    build: |options| alone(&LOWRANK, Ranks, options),
};

/// Ranks that are offered for a layer, about.
const OFFERS: usize = 24;

/// Ranks of every layer.
struct Ranks;

impl Method for Ranks {
    fn name(&self) -> &'static str {
        LOWRANK.name
    }

    fn offers(
        &self,
        graph: &Graph,
        statistics: &Statistics,
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Lot>> {
        let mut quiet = PassContext::new(context.seed, context.cost.clone());
        let layers = layers(graph, true, &mut quiet);
        let dense = layers
            .iter()
            .filter(|layer| layer.layout.groups == 1 && !layer.layout.transposed);
        let lot = |layer: &Layer| {
            let reads = statistics.reads(layer.node)?;
            Some(Lot {
                of: Unit::Layer(layer.node),
                offers: offers(graph, layer, reads, context),
            })
        };
        Ok(dense.filter_map(lot).collect())
    }
}

fn offers(
    graph: &Graph,
    layer: &Layer,
    reads: &Activations,
    context: &PassContext<'_>,
) -> Vec<Offer> {
    let weight = matrix(graph, layer.node, &layer.layout);
    let covariance = result_covariance(&weight, &layer.layout, reads);
    let Ok(eigen) = covariance.self_adjoint_eigen(Side::Lower) else {
        return Vec::new();
    };
    let values: Vec<f64> = eigen
        .S()
        .column_vector()
        .iter()
        .map(|v| v.max(0.0))
        .collect();
    let energy = values.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let all = layer.all();
    let model = CostModel::new(&context.cost, &graph.bindings);
    let (align, most) = (model.alignment(0), model.alternatives(OFFERS));
    let every = align * (all.outputs / align / most).max(1);
    let offer = |rank: usize| {
        let kept = Kept {
            outputs: rank,
            inputs: all.inputs,
        };
        let share = layer.share(graph, kept, &context.cost)?;
        // Eigenvalues come smallest first.
        let lost: f64 = values[..values.len() - rank].iter().sum();
        let directions = eigen.U().subcols(values.len() - rank, rank).to_owned();
        let (layer, mean) = (*layer, reads.mean.clone());
        Some(Offer {
            what: format!("rank {rank} of {}", all.outputs.min(weight.ncols())),
            losses: vec![(layer.node, lost / energy)],
            costs: vec![(layer.node, share)],
            apply: Box::new(move |graph| split(graph, &layer, &directions, &mean)),
        })
    };
    let ranks = (1..all.outputs.min(weight.ncols())).filter(|rank| rank % every == 0);
    ranks
        .filter_map(offer)
        .filter(|o| o.costs[0].1 < 1.0)
        .collect()
}

/// The weight of a layer of one group, `[outputs, inputs * taps]`.
fn matrix(graph: &Graph, node: NodeId, layout: &KernelLayout) -> Mat<f64> {
    let elements = graph.operand_elements(node, 1);
    let features = layout.inputs * layout.taps;
    Mat::from_fn(layout.outputs, features, |o, f| elements[o * features + f])
}

/// How the results of a layer vary together.
fn result_covariance(weight: &Mat<f64>, layout: &KernelLayout, reads: &Activations) -> Mat<f64> {
    if let Some(joint) = &reads.joint {
        return weight * joint * weight.transpose();
    }
    let mut through = Mat::zeros(weight.nrows(), weight.ncols());
    for (c, patch) in reads.patches.iter().enumerate() {
        let at = c * layout.taps;
        let product = weight.subcols(at, layout.taps) * &patch.0;
        through.subcols_mut(at, layout.taps).copy_from(product);
    }
    through * weight.transpose()
}

/// Puts the layer of these directions of its results, and one that makes the results of them, in its place.
fn split(graph: &mut Graph, layer: &Layer, directions: &Mat<f64>, mean: &[f64]) -> Result<()> {
    let weight = matrix(graph, layer.node, &layer.layout);
    let inner = directions.transpose() * &weight;
    let rank = directions.ncols();
    let lost = &weight - directions * &inner;
    let lost = |o: usize| (0..mean.len()).map(|f| lost[(o, f)] * mean[f]).sum();
    let lost: Vec<f64> = (0..weight.nrows()).map(lost).collect();
    let rows = |m: &Mat<f64>| -> Vec<f64> {
        let at = (0..m.nrows()).flat_map(|i| (0..m.ncols()).map(move |j| (i, j)));
        at.map(|at| m[at]).collect()
    };
    let pieces = Pieces {
        squeeze: None,
        core: rows(&inner),
        expand: Some(rows(directions)),
        filters: (0..rank).collect(),
        channels: (0..layer.layout.inputs).collect(),
    };
    let kept = Kept {
        outputs: rank,
        inputs: layer.all().inputs,
    };
    let placed = layer.replace(graph, kept, pieces);
    placed.map_err(|what| Error::Invalid {
        stage: LOWRANK.name.into(),
        violations: vec![what],
    })?;
    // The bias takes the mean of what is lost.
    if lost.iter().any(|lost| *lost != 0.0) {
        graph.shift_bias(layer.node, &lost);
    }
    Ok(())
}
