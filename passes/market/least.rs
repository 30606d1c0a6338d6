//! The least network that keeps as much of the answers as asked, found by trying.

use super::goal::Goal;
use super::planner::Plan;
use super::quality::{Alike, Quality};
use super::search::Search;
use crate::Result;
use crate::ir::Graph;
use crate::pipeline::PassContext;

/// How often the range of costs in which the least is looked for is halved, and where it starts, as a fraction of the layers' cost.
const HALVINGS: usize = 5;
const LEAST_AIM: f64 = 0.2;

/// What has to be left of the layers' cost at most, for any loss to be worth it.
const MOST_LEFT: f64 = 0.97;

/// A network that was tried.
pub(super) struct Tried {
    plan: Plan,
    pub(super) graph: Graph,
    pub(super) alike: Alike,
    is_refitted: bool,
}

impl Search<'_> {
    /// The network that costs least and keeps as much of the answers as asked, and its plan.
    ///
    /// # Errors
    /// That a network cannot be run.
    pub(super) fn least(
        &self,
        goal: Goal,
        context: &mut PassContext<'_>,
    ) -> Result<Option<(Plan, Graph)>> {
        let Some(quality) = &self.quality else {
            return Ok(None);
        };
        let mut found: Option<Tried> = None;
        let mut refused: Option<Tried> = None;
        let price = self.planner.price();
        let (mut low, mut high) = (LEAST_AIM * price, price);
        for round in 0..HALVINGS {
            context.progress("how far", round as f64 / HALVINGS as f64)?;
            let aim = (low + high) / 2.0;
            let plan = self.planner.plan(aim);
            if refused.as_ref().is_some_and(|tried| tried.plan == plan) {
                low = aim;
                continue;
            }
            let tried = self.tried(plan, goal, quality, context)?;
            if goal.allows(&tried.alike) {
                // It may have gone further than it had to.
                high = aim.min(self.planner.left(&tried.plan) * price);
                found = Some(tried);
            } else {
                low = aim;
                refused = Some(tried);
            }
            if high <= low {
                break;
            }
        }
        context.used_samples();
        self.say(goal, quality, found.as_ref(), refused.as_ref(), context);
        let enough = |tried: &Tried| self.planner.left(&tried.plan) <= MOST_LEFT;
        Ok(found.filter(enough).map(|tried| (tried.plan, tried.graph)))
    }

    /// The network under a plan. One that keeps enough has no refit, which takes long; of others the refitted one, unless that keeps
    /// less: to fit every layer's own result mends most networks, and harms some, such as one that tells by a threshold where text is.
    pub(super) fn tried(
        &self,
        plan: Plan,
        goal: Goal,
        quality: &Quality,
        context: &PassContext<'_>,
    ) -> Result<Tried> {
        let of = |graph: Graph, is_refitted| -> Result<Tried> {
            let alike = quality.of(&graph)?;
            Ok(Tried {
                plan: plan.clone(),
                graph,
                alike,
                is_refitted,
            })
        };
        let changed = of(self.changed(&plan)?, false)?;
        if goal.allows(&changed.alike) {
            return Ok(changed);
        }
        let refitted = self.refitted(changed.graph.clone(), &mut self.quiet(context))?;
        let refitted = of(refitted, true)?;
        let [before, after] = [&changed, &refitted].map(|tried| goal.kept(&tried.alike));
        Ok(if after >= before { refitted } else { changed })
    }

    fn say(
        &self,
        goal: Goal,
        quality: &Quality,
        found: Option<&Tried>,
        refused: Option<&Tried>,
        context: &mut PassContext<'_>,
    ) {
        let on = quality.samples();
        match (found, refused) {
            (Some(Tried { plan, .. }), _) if self.planner.left(plan) > MOST_LEFT => {
                context.missed("", format!("left: what keeps {goal} saves too little"));
            }
            (Some(Tried { alike, is_refitted, .. }), _) => {
                let refit = if *is_refitted { "refitted" } else { "without a refit" };
                context.analysis("", format!("{refit}, on {on} samples: {alike}"));
            }
            (None, Some(Tried { alike, .. })) => context.missed(
                "",
                format!("nothing that saves anything keeps {goal}: on {on} samples the least that was tried has {alike}"),
            ),
            (None, None) => {}
        }
    }
}
