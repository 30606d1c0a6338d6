//! How much a layer's error counts at the outputs of the network: tried out, layer by layer.

use super::planner::Planner;
use crate::analysis::forecast::Forecast;
use crate::ir::{Graph, NodeId};
use crate::pipeline::{PassContext, Unit};
use crate::{Error, Result};

/// The squared relative error of a layer at which it is tried how much that counts at the outputs, about.
const PROBE: f64 = 0.03;

/// The multiply-adds of all such trials, about.
const MOST_WORK: u64 = 600_000_000_000;

/// How far what was tried is trusted, as a power: a refit repairs much of it, and all layers alike would be 0. Chosen on training
/// images for a ResNet-20 at 30 % of its multiply-adds.
const TRUST: f64 = 0.5;

/// Finds out what the outputs lose for what each layer does, and tells the planner. Where the network cannot be run, or that would
/// take long, all layers count the same, and a remark says so.
///
/// # Errors
/// When an offer cannot be put in place.
pub fn count(graph: &Graph, planner: &mut Planner, context: &mut PassContext<'_>) -> Result<()> {
    let sampled = context.sampled();
    let forecast = match Forecast::new(graph, sampled.as_ref(), context.seed) {
        Ok(forecast) => forecast,
        Err(error @ Error::Run { .. }) => {
            let why = format!("every layer's error counts the same: {error}");
            context.missed_samples("", why);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let probes = probes(planner);
    let most = (MOST_WORK / forecast.work().max(1)) as usize;
    if probes.len() > most {
        let why = "every layer's error counts the same: to try out each would take long";
        context.analysis("", why);
        return Ok(());
    }
    for (i, (stall, offer, layers)) in probes.iter().enumerate() {
        let (_, offer) = &planner.stalls[*stall].offers[*offer];
        let name = graph.node(layers[0]).name.clone();
        context.progress(&name, i as f64 / probes.len() as f64)?;
        let mut changed = graph.clone();
        (offer.apply)(&mut changed)?;
        let change = forecast.change(&changed)?.powi(2);
        let own: f64 = offer.losses.iter().map(|(_, loss)| loss).sum();
        // What is not seen at the outputs is not free, and what breaks them has a price too.
        let count = (change / own.max(f64::MIN_POSITIVE)).clamp(1e-6, 1e6);
        for layer in layers {
            planner.set_count(*layer, count.powf(TRUST));
        }
    }
    Ok(())
}

/// For each layer an offer that changes it about as much as a probe has to: the unit, the offer, and the layers it stands for.
fn probes(planner: &Planner) -> Vec<(usize, usize, Vec<NodeId>)> {
    let mut known: Vec<NodeId> = Vec::new();
    let mut probes = Vec::new();
    let stalls = || planner.stalls.iter().enumerate();
    let forms = stalls().filter(|(_, stall)| matches!(stall.of, Unit::Layer(_)));
    let channels = stalls().filter(|(_, stall)| matches!(stall.of, Unit::Channels(_)));
    for (i, stall) in forms.chain(channels) {
        let off = |o: usize| {
            let loss: f64 = stall.offers[o].1.losses.iter().map(|(_, loss)| loss).sum();
            (loss.max(f64::MIN_POSITIVE) / PROBE).ln().abs()
        };
        let nearest = (0..stall.offers.len()).min_by(|a, b| off(*a).total_cmp(&off(*b)));
        let Some(offer) = nearest else { continue };
        let losses = stall.offers[offer].1.losses.iter();
        let new: Vec<NodeId> = losses
            .map(|(node, _)| *node)
            .filter(|node| !known.contains(node))
            .collect();
        if !new.is_empty() {
            known.extend(&new);
            probes.push((i, offer, new));
        }
    }
    probes
}
