//! The search: how far to go until the goal is reached, with what is taken in place and refitted.

use super::count::count;
use super::goal::{Goal, network_price};
use super::planner::{Plan, Planner};
use super::quality::Quality;
use crate::ir::Graph;
use crate::passes::red::exact_rules;
use crate::passes::repair::{refit, say_left_out};
use crate::pipeline::{Cost, PassContext, Unit};
use crate::{Error, Result};

/// How often a target is aimed at again after what was taken has shown what it saves.
const ROUNDS: usize = 8;

/// By how much more than it was off the aim moves: what is taken is cheaper alone than beside others.
const STRIDE: f64 = 1.3;

/// By how much less than the plan just tried costs the next one has to, as a fraction of the network: an aim within what it costs gives
/// the same plan again.
const NEXT: f64 = 1e-6;

/// How far below a target it may end, as a fraction of the network.
const SLACK: f64 = 0.005;

/// A search for the smallest network, or the best of a size.
pub struct Search<'a> {
    graph: &'a Graph,
    pub(super) planner: Planner,
    /// What the network cost when it was read.
    whole: f64,
    /// By what the exact rules choose: unread channels are worth removing whatever is counted.
    rules_cost: Cost,
    /// What measures how much is kept, where anybody asks.
    pub(super) quality: Option<Quality>,
}

impl<'a> Search<'a> {
    /// Tries out how much each layer counts.
    ///
    /// # Errors
    /// When an offer cannot be put in place.
    pub fn new(
        graph: &'a Graph,
        mut planner: Planner,
        quality: Option<Quality>,
        context: &mut PassContext<'_>,
    ) -> Result<Search<'a>> {
        let original = context.original().unwrap_or(graph);
        let rules_cost = match &context.cost {
            Cost::Latency(_) => Cost::Macs,
            cost => cost.clone(),
        };
        count(graph, &mut planner, context)?;
        Ok(Search {
            whole: network_price(original, &rules_cost),
            rules_cost,
            graph,
            planner,
            quality,
        })
    }

    /// The network that reaches the goal; `None`, and a remark, where that is the network as it is.
    ///
    /// # Errors
    /// [`Error::Usage`] when the goal cannot be reached; it names what can be.
    pub fn run(&self, goal: Goal, context: &mut PassContext<'_>) -> Result<Option<Graph>> {
        let found = match goal {
            Goal::Target { fraction, .. } => {
                let plan = self.at_target(goal, fraction, context)?;
                if plan.iter().all(Option::is_none) {
                    None
                } else {
                    let refitted = self.refitted(self.changed(&plan)?, context)?;
                    Some((plan, refitted))
                }
            }
            Goal::Keep { .. } => self.least(goal, context)?,
        };
        let Some((plan, changed)) = found else {
            return Ok(None);
        };
        let changed = self.cleaned(changed, context)?;
        self.explain(&plan, context);
        Ok(Some(changed))
    }

    /// A changed network without what nobody reads any more.
    pub(super) fn cleaned(&self, changed: Graph, context: &mut PassContext<'_>) -> Result<Graph> {
        let counted = std::mem::replace(&mut context.cost, self.rules_cost.clone());
        let smaller = exact_rules(&changed, context);
        context.cost = counted;
        Ok(smaller?.unwrap_or(changed))
    }

    /// The plan under which the network costs the fraction that the goal asks for of what it did.
    fn at_target(&self, goal: Goal, fraction: f64, context: &mut PassContext<'_>) -> Result<Plan> {
        if let Cost::Latency(_) = context.cost {
            // Of what the layers take; whoever times the whole network aims again.
            return Ok(self.planner.plan(fraction * self.planner.price()));
        }
        let target = fraction * self.whole;
        let others = network_price(self.graph, &context.cost) - self.planner.price();
        let mut aim = target - others;
        let mut best: Option<(f64, Plan)> = None;
        // The nearest aims that end above the target, and at or below it, with where they end.
        let [mut above, mut below]: [Option<(f64, f64)>; 2] = [None, None];
        for round in 0..ROUNDS {
            context.progress("plan", round as f64 / ROUNDS as f64)?;
            let plan = self.planner.plan(aim);
            let own = self.planner.left(&plan) * self.planner.price();
            let price = self.price(&plan, context)?;
            if price > target {
                above = Some((aim, price));
            } else {
                below = Some((aim, price));
                if best.as_ref().is_none_or(|(most, _)| price > *most) {
                    best = Some((price, plan));
                }
                if price >= target - SLACK * self.whole {
                    break;
                }
            }
            let middle = (1.0 - SLACK / 2.0) * target;
            aim = match (above, below) {
                (Some((high, over)), Some((low, under))) => {
                    let share = (middle - under) / (over - under).max(f64::MIN_POSITIVE);
                    low + (high - low) * share.clamp(0.1, 0.9)
                }
                (Some(_), None) => (aim + STRIDE * (middle - price)).min(own - NEXT * self.whole),
                (None, _) => aim + STRIDE * (middle - price),
            };
        }
        match best {
            Some((_, plan)) => Ok(plan),
            None => {
                let least = self.price(&self.planner.plan(0.0), context)? / self.whole;
                let help = format!("what is offered leaves {least:.3}: ask for no less");
                let what = format!("{goal} cannot be reached");
                Err(Error::Usage { what, help })
            }
        }
    }

    /// What the network costs under a plan.
    fn price(&self, plan: &Plan, context: &mut PassContext<'_>) -> Result<f64> {
        let changed = self.changed(plan)?;
        let smaller = exact_rules(&changed, &mut self.quiet(context))?;
        Ok(network_price(
            smaller.as_ref().unwrap_or(&changed),
            &context.cost,
        ))
    }

    /// The network under a plan.
    pub(super) fn changed(&self, plan: &Plan) -> Result<Graph> {
        let mut changed = self.graph.clone();
        self.apply(plan, &mut changed)?;
        Ok(changed)
    }

    /// A changed network, refitted where there are samples.
    pub(super) fn refitted(
        &self,
        mut changed: Graph,
        context: &mut PassContext<'_>,
    ) -> Result<Graph> {
        let untied = &mut |_: &mut Graph, _| false;
        say_left_out(&refit(self.graph, &mut changed, untied, context)?, context);
        Ok(changed)
    }

    /// A context for what is only tried.
    pub(super) fn quiet(&self, context: &PassContext<'_>) -> PassContext<'static> {
        PassContext::new(context.seed, self.rules_cost.clone())
            .with_samples(context.samples.clone())
            .with_foreign(context.foreign.clone())
            .with_cancellation(context.training.cancellation.clone())
    }

    /// Puts what a plan takes in place: channels first, since a layer's new form is made of what is left of it.
    fn apply(&self, plan: &Plan, graph: &mut Graph) -> Result<()> {
        for channels in [true, false] {
            for (unit, _, offer) in self.planner.taken(plan) {
                if matches!(unit, Unit::Channels(_)) == channels {
                    (offer.apply)(graph)?;
                }
            }
        }
        Ok(())
    }

    /// What a unit is called.
    pub(super) fn name(&self, unit: Unit) -> &str {
        &self.graph.node(unit.node()).name
    }

    /// Says of each unit what was offered, and what won.
    fn explain(&self, plan: &Plan, context: &mut PassContext<'_>) {
        for (stall, taken) in self.planner.stalls.iter().zip(plan) {
            let name = self.name(stall.of);
            let mut methods: Vec<&str> = stall.offers.iter().map(|(method, _)| *method).collect();
            methods.dedup();
            let offered = format!("{} offers by {}", stall.offers.len(), methods.join(", "));
            let kind = match stall.of {
                Unit::Layer(_) => "",
                Unit::Channels(_) => "channels: ",
            };
            match taken {
                Some(taken) => {
                    let (method, offer) = &stall.offers[*taken];
                    let change = 100.0 * self.planner.loss(offer).sqrt();
                    context.applied(name, format!("{kind}{method}: {}, of {offered}; by forecast the outputs change by {change:.1} % for it", offer.what));
                }
                None => context.missed(
                    name,
                    format!("{kind}left: each of {offered} loses more than it saves"),
                ),
            }
        }
    }
}
