//! `hash=kernel`: kernels become combinations of few, convolutions become depthwise and pointwise ones.
//!
//! What a layer may lose is judged by what it reads: by samples where there are any, else by the moments that batch norms
//! promise, about their means, since the bias makes up for what the mean loses. After the projection the exact rules do the
//! rest; what they leave dense gets its own weights back, and the multiply-adds that are then left go to the others.

use std::sync::Arc;

use super::merging::{self, Origins};
use super::projection::{Layer, Projection, separable};
use crate::Result;
use crate::analysis::CostModel;
use crate::analysis::cost::known_macs;
use crate::analysis::kernels::KernelLayout;
use crate::analysis::tradeoff::{Budget, refuse_unreachable};
use crate::egraph::{Bounds, Rule, saturate};
use crate::ir::{Graph, NodeId};
use crate::passes::activations::{PriorMoments, activations};
use crate::passes::forecast::Limit;
use crate::passes::repair::{refit, say_left_out};
use crate::passes::rules;
use crate::pipeline::{Changed, PassContext};

/// What makes the separated form of a layer.
static SEPARATE: &[&dyn Rule] = &[&rules::SeparateDepthwise];

/// How often the budget is spent anew after saturation has shown what it buys.
const ROUNDS: usize = 6;

/// How much less than the target may be kept before another round is worth it, as a fraction of the network.
const SLACK: f64 = 0.002;

/// The most that a layer may lose where a forecast says whether that is too much.
const LARGEST: f64 = 0.1;

/// `red{hash=kernel}`.
pub struct ByKernel {
    /// How far to go; `None` for a forecast.
    pub budget: Option<Budget>,
    /// Kernels of a layer are a multiple of this; 0 to go by the cost.
    pub align: usize,
    /// Whether samples, if there are any, repair the network.
    pub refit: bool,
}

impl ByKernel {
    /// Projects and separates a graph whose batch norms are folded, of `whole` multiply-adds before the pass.
    pub fn run(
        &self,
        graph: &mut Graph,
        origins: &mut Origins,
        whole: u64,
        prior: &PriorMoments,
        context: &mut PassContext<'_>,
    ) -> Result<Changed> {
        let align = CostModel::new(&context.cost, &graph.bindings).alignment(self.align);
        let layers = separable(graph, align, context);
        if let Some(Budget::Macs(target)) = self.budget {
            check_reachable(graph, &layers, whole, target)?;
        }
        if layers.is_empty() {
            context.missed("", "no convolution would be cheaper with fewer kernels");
            return Ok(Changed::No);
        }
        let places: Vec<_> = layers.iter().map(|l| (l.node, l.layout)).collect();
        let activations = activations(graph, &places, prior, context)?;
        let activations = activations.into_iter().map(Arc::new).collect();
        let projection = Projection::new(graph, layers, activations, context)?;
        let budget = match self.budget {
            Some(budget) => budget,
            None => match by_forecast(graph, &projection, context)? {
                Some(error) => Budget::Error(error),
                None => return Ok(Changed::No),
            },
        };
        let mut projected = project(graph, &projection, budget, whole, context)?;
        let untied = &mut |_: &mut Graph, _| false;
        if self.refit && !refit(graph, &mut projected, untied, context)?.is_empty() {
            // Layers too large for their patches to be weighed together: once they are separated, their few kernels are not.
            let separated = saturate(&projected, SEPARATE, &context.cost, Bounds::default())?;
            origins.follow(&separated);
            projected = separated.graph.unwrap_or(projected);
            say_left_out(&refit(graph, &mut projected, untied, context)?, context);
        }
        *graph = projected;
        Ok(Changed::Yes)
    }
}

/// Refuses a target that the fewest kernels miss.
fn check_reachable(graph: &Graph, layers: &[Layer], whole: u64, target: f64) -> Result<()> {
    let saved = |layer: &Layer| layer.dense - layer.separated[0].1;
    let least = known_macs(graph) - layers.iter().map(saved).sum::<u64>();
    refuse_unreachable(
        target,
        least as f64 / whole.max(1) as f64,
        "the fewest kernels that a layer can have",
    )
}

/// The most that a layer may lose, so that by forecast the outputs change little.
fn by_forecast(
    graph: &Graph,
    projection: &Projection,
    context: &mut PassContext<'_>,
) -> Result<Option<f64>> {
    let Some(limit) = Limit::new(graph, context)? else {
        return Ok(None);
    };
    let dense = vec![false; projection.layers().len()];
    let choose = |error: f64| projection.choose(Budget::Error(error), &dense, 0);
    let found = limit.within(
        LARGEST,
        |error| {
            let chosen = choose(error);
            if (0..chosen.len()).all(|layer| projection.is_dense(layer, chosen[layer])) {
                return None;
            }
            let mut projected = graph.clone();
            projection.apply(&mut projected, &chosen);
            Some((projected, chosen))
        },
        |projected| {
            let merged = merging::saturated(projected, context)?.graph;
            Ok(limit.size(merged.as_ref().unwrap_or(projected)))
        },
    )?;
    Ok(found.told(context))
}

/// Projects, and does so again until the budget is spent on layers that stay separated.
fn project(
    graph: &Graph,
    projection: &Projection,
    budget: Budget,
    whole: u64,
    context: &mut PassContext<'_>,
) -> Result<Graph> {
    let target = match budget {
        Budget::Macs(target) => (target * whole as f64) as u64,
        Budget::Error(_) => i64::MAX as u64,
    };
    let others = known_macs(graph) - projection.layers().iter().map(|l| l.dense).sum::<u64>();
    let mut dense = vec![false; projection.layers().len()];
    let mut room = target.saturating_sub(others) as i64;
    let slack = (SLACK * whole as f64) as i64;
    // Rooms with the multiply-adds that they left to spare.
    let mut tried: Vec<(i64, i64)> = Vec::new();
    let mut best: Option<Round> = None;
    for round in 0..ROUNDS {
        context.progress("saturation", round as f64 / ROUNDS as f64)?;
        let round = Round::new(graph, projection, budget, &dense, room, target, context)?;
        let mut settled = true;
        for layer in &round.reverted {
            (dense[*layer], settled) = (true, false);
        }
        let close = round.spare >= 0 && round.spare < slack;
        if let Budget::Macs(_) = budget {
            tried.push((room, round.spare - slack / 2));
            room = next_room(&tried);
        }
        let done = settled && (close || matches!(budget, Budget::Error(_)));
        if best.as_ref().is_none_or(|best| round.rank() >= best.rank()) {
            best = Some(round);
        }
        if done {
            break;
        }
    }
    // There is at least one round.
    let Some(best) = best else {
        return Ok(graph.clone());
    };
    if let Budget::Macs(asked) = budget
        && best.spare < 0
    {
        let kept = (target as i64 - best.spare) as f64 / whole as f64;
        refuse_unreachable(asked, kept, "the kernels that were found")?;
    }
    projection.explain(graph, &best.chosen, context);
    Ok(best.projected)
}

/// The room that leaves nothing to spare, by what was tried: between the nearest on either side, or else beyond the last.
fn next_room(tried: &[(i64, i64)]) -> i64 {
    let below = tried
        .iter()
        .filter(|(_, spare)| *spare >= 0)
        .max_by_key(|(room, _)| *room);
    let above = tried
        .iter()
        .filter(|(_, spare)| *spare < 0)
        .min_by_key(|(room, _)| *room);
    match (below, above, tried.last()) {
        (Some((low, spare)), Some((high, lack)), _) if low < high => {
            let share = *spare as f64 / (spare - lack) as f64;
            low + ((high - low) as f64 * share) as i64
        }
        (_, _, Some((room, spare))) => room + spare,
        _ => 0,
    }
}

/// One attempt to spend the budget.
struct Round {
    chosen: Vec<usize>,
    /// The graph with the chosen layers' kernels projected.
    projected: Graph,
    /// Layers that lost kernels and were not separated all the same.
    reverted: Vec<usize>,
    /// Multiply-adds under the target, or over it where negative.
    spare: i64,
}

impl Round {
    fn new(
        graph: &Graph,
        projection: &Projection,
        budget: Budget,
        dense: &[bool],
        room: i64,
        target: u64,
        context: &PassContext<'_>,
    ) -> Result<Round> {
        let chosen = projection.choose(budget, dense, room.max(0) as u64);
        let mut projected = graph.clone();
        projection.apply(&mut projected, &chosen);
        let saturated = merging::saturated(&projected, context)?;
        let merged = saturated.graph.as_ref().unwrap_or(&projected);
        let reverted = |layer: &usize| {
            let now = saturated.now(projection.layers()[*layer].node);
            !projection.is_dense(*layer, chosen[*layer]) && now.is_some_and(|n| is_dense(merged, n))
        };
        Ok(Round {
            reverted: (0..chosen.len()).filter(reverted).collect(),
            spare: (target as i64).saturating_sub(known_macs(merged) as i64),
            chosen,
            projected,
        })
    }

    /// Larger is better: within the target, nothing lost for nothing, and near the target.
    fn rank(&self) -> (bool, bool, i64) {
        (self.spare >= 0, self.reverted.is_empty(), -self.spare.abs())
    }
}

/// Whether the layer has kernels still.
fn is_dense(graph: &Graph, layer: NodeId) -> bool {
    let layout = || {
        let weight = graph.constant(graph.operands(layer).get(1)?.node)?;
        KernelLayout::of(graph.op(layer)?, weight.tensor.shape())
    };
    layout().is_some()
}
