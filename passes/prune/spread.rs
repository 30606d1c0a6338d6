//! How many zeros each layer gets.

use std::sync::Arc;

use super::PRUNE;
use super::layer::Layer;
use crate::Result;
use crate::analysis::pruning::Zeros;
use crate::ir::Graph;
use crate::passes::market::{Planner, Stall, count};
use crate::pipeline::{Offer, PassContext, Unit};

/// The shares of zeros that are weighed for each layer.
const SHARES: [f64; 22] = [
    0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85,
    0.9, 0.925, 0.95, 0.975, 0.99,
];

/// The same share for every layer, but none is emptied.
pub fn even(layers: &[Arc<Layer>], share: f64, context: &mut PassContext<'_>) -> Vec<f64> {
    let shares: Vec<f64> = layers.iter().map(|layer| share.min(most(layer))).collect();
    say_capped(layers, &shares, share, context);
    shares
}

/// The largest share of zeros with which a layer has a weight left for each output, on average.
fn most(layer: &Layer) -> f64 {
    1.0 - 1.0 / layer.row() as f64
}

/// Says so where fewer zeros are made than asked for.
fn say_capped(layers: &[Arc<Layer>], shares: &[f64], asked: f64, context: &mut PassContext<'_>) {
    let all: f64 = layers.iter().map(|layer| layer.len() as f64).sum();
    let zeros = layers.iter().zip(shares);
    let zeros: f64 = zeros.map(|(layer, share)| share * layer.len() as f64).sum();
    let reached = zeros / all;
    if reached < asked - 1e-3 {
        context.missed("", format!("a sparsity of {asked} would empty layers: {reached:.3} is reached, with a weight left for each output of every layer"));
    }
}

/// Shares of zeros, in whole blocks, such that `share` of all weights is zero and the network's outputs lose least.
pub fn by_outputs(
    graph: &Graph,
    layers: &[Arc<Layer>],
    share: f64,
    block: [usize; 2],
    context: &mut PassContext<'_>,
) -> Result<Vec<f64>> {
    let mut stalls = Vec::with_capacity(layers.len());
    for (i, layer) in layers.iter().enumerate() {
        let name = &graph.node(layer.node).name;
        context.progress(name, 0.35 + 0.05 * i as f64 / layers.len() as f64)?;
        stalls.push(Stall {
            of: Unit::Layer(layer.node),
            offers: offers(layer, block),
        });
    }
    let prices = layers.iter().map(|layer| (layer.node, layer.len() as f64));
    let mut planner = Planner::new(stalls, prices.collect());
    count(graph, &mut planner, context)?;
    let all: usize = layers.iter().map(|layer| layer.len()).sum();
    let target = (share * all as f64).round();
    let mut plan = planner.plan(all as f64 - target);
    let zeros = |stall: usize, offer: Option<usize>| {
        let kept = offer.map_or(1.0, |o| planner.stalls[stall].offers[o].1.costs[0].1);
        (1.0 - kept) * layers[stall].len() as f64
    };
    let mut found: Vec<f64> = (0..layers.len()).map(|i| zeros(i, plan[i])).collect();
    // The last step may have gone too far: what costs the outputs most is given back.
    let mut excess = found.iter().sum::<f64>() - target;
    while excess >= 0.5 {
        let lost = |stall: usize, offer: Option<usize>| {
            offer.map_or(0.0, |o| planner.loss(&planner.stalls[stall].offers[o].1))
        };
        let fewer = |offer: Option<usize>| offer.and_then(|o| o.checked_sub(1));
        let slope = |i: &usize| {
            let more = lost(*i, plan[*i]) - lost(*i, fewer(plan[*i]));
            more / (zeros(*i, plan[*i]) - zeros(*i, fewer(plan[*i]))).max(f64::MIN_POSITIVE)
        };
        let taken = (0..plan.len()).filter(|i| plan[*i].is_some());
        let Some(worst) = taken.max_by(|a, b| slope(a).total_cmp(&slope(b))) else {
            break;
        };
        let least = zeros(worst, fewer(plan[worst]));
        let back = excess.min(found[worst] - least);
        found[worst] -= back;
        excess -= back;
        plan[worst] = fewer(plan[worst]);
    }
    let shares = found.iter().zip(layers);
    let shares: Vec<f64> = shares
        .map(|(zeros, layer)| zeros / layer.len() as f64)
        .collect();
    say_capped(layers, &shares, share, context);
    Ok(shares)
}

/// What a layer could be, from few zeros to many.
fn offers(layer: &Arc<Layer>, block: [usize; 2]) -> Vec<(&'static str, Offer)> {
    let most = most(layer);
    let shares = SHARES
        .into_iter()
        .filter(|share| *share < most)
        .chain([most]);
    let offer = |share: f64| {
        let zeros = Zeros::Share { share, block };
        let (kept, loss) = layer.weigh(zeros);
        let layer = layer.clone();
        let offer = Offer {
            what: format!("{:.1} % zeros", 100.0 * share),
            losses: vec![(layer.node, loss)],
            costs: vec![(layer.node, kept as f64 / layer.len() as f64)],
            apply: Box::new(move |graph| {
                layer.put(graph, &layer.prune(zeros));
                Ok(())
            }),
        };
        (PRUNE.name, offer)
    };
    shares.map(offer).collect()
}
