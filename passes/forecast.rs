//! How far a lossy pass may go where the user does not say: until the network's outputs would change too much.

use crate::analysis::Stats;
use crate::analysis::cost::known_flops;
use crate::analysis::forecast::Forecast;
use crate::ir::Graph;
use crate::pipeline::{Cost, PassContext};
use crate::{Error, Result};

/// The most by which all passes together may change an output by default, relative to its deviation, as forecast. It was chosen for
/// a ResNet-20 to lose about 12 % of its multiply-adds, by what images of its training set said, and is not derived.
const MOST: f64 = 0.12;

/// The least share of the network's cost that is worth any loss.
const LEAST: f64 = 0.02;

/// The multiply-adds of all forecasts of a pass that may take long, about.
const MOST_WORK: u64 = 300_000_000_000;

/// By how much each budget tried is smaller than the one before, and how many are.
const STEP: f64 = 0.7;
const STEPS: i32 = 14;

/// The network as it was read, to compare with what passes make of it.
pub struct Limit {
    forecast: Forecast,
    /// What it costs, in the unit of the run's cost.
    size: u64,
    /// The same of the network as the pass has it, with what is exact done.
    found: u64,
    cost: Cost,
}

impl Limit {
    /// Runs the network as it was read. Nothing, and a remark, where it cannot be run: what a loss would do there, nobody knows.
    ///
    /// # Errors
    /// When the samples do not fit the network.
    pub fn new(graph: &Graph, context: &mut PassContext<'_>) -> Result<Option<Limit>> {
        let samples = context.samples.clone();
        let original = context.original().unwrap_or(graph);
        match Forecast::new(original, samples.as_deref(), context.seed) {
            Ok(forecast) => {
                if samples.is_some() {
                    context.used_samples();
                }
                let cost = context.cost.clone();
                Ok(Some(Limit {
                    forecast,
                    size: size(original, &cost),
                    found: size(graph, &cost),
                    cost,
                }))
            }
            Err(error @ Error::Run { .. }) => {
                context.missed(
                    "",
                    format!(
                        "nothing is given up, for what that would do to the outputs cannot be forecast: {error}; `error` says how much may be lost all the same"
                    ),
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a network that costs `left` is worth a `change` of the outputs. The change must be no more than [`MOST`], and no
    /// larger than the share of the cost that all passes save; and this pass must save at least [`LEAST`].
    pub fn is_worth(&self, change: f64, left: u64) -> bool {
        let share = |before: u64| before.saturating_sub(left) as f64 / self.size.max(1) as f64;
        share(self.found) >= LEAST && change <= MOST.min(share(self.size))
    }

    /// What a graph costs, in the unit of the run's cost.
    pub fn size(&self, graph: &Graph) -> u64 {
        size(graph, &self.cost)
    }

    /// How much the outputs change.
    ///
    /// # Errors
    /// That `changed` cannot be run.
    pub fn change(&self, changed: &Graph) -> Result<f64> {
        self.forecast.change(changed)
    }

    /// Whether so many forecasts are too much work.
    pub fn is_slow(&self, forecasts: usize) -> bool {
        self.forecast.work().saturating_mul(forecasts as u64) > MOST_WORK
    }

    /// Tries smaller and smaller budgets, from `largest` on, until one is worth what it changes.
    ///
    /// `of` makes the network for a budget, and says what was chosen for each layer, or `None` where that changes nothing. `left`
    /// says what such a network costs once the exact rules have run.
    ///
    /// # Errors
    /// Those of `left`.
    pub fn within(
        &self,
        largest: f64,
        of: impl Fn(f64) -> Option<(Graph, Vec<usize>)>,
        left: impl Fn(&Graph) -> Result<u64>,
    ) -> Result<Found> {
        let (mut least, mut last) = (None, Vec::new());
        for budget in (0..STEPS).map(|step| largest * STEP.powi(step)) {
            let Some((changed, chosen)) = of(budget) else {
                break;
            };
            if chosen == last {
                continue;
            }
            let change = self.forecast.change(&changed)?;
            if change <= MOST && self.is_worth(change, left(&changed)?) {
                return Ok(Found::Within { budget, change });
            }
            (least, last) = (Some(change), chosen);
        }
        Ok(least.map_or(Found::Nothing, |change| Found::TooMuch { change }))
    }
}

/// What was found within a limit.
pub enum Found {
    /// Nothing that changes anything.
    Nothing,
    /// Even the smallest budget changes the outputs too much.
    TooMuch {
        /// By so much.
        change: f64,
    },
    /// A budget with which the outputs change little.
    Within {
        /// The budget.
        budget: f64,
        /// By how much they change.
        change: f64,
    },
}

impl Found {
    /// The budget, if there is one; a remark says what it changes, or why there is none.
    pub fn told(self, context: &mut PassContext<'_>) -> Option<f64> {
        match self {
            Found::Within { budget, change } => {
                context.analysis("", changes_by(change));
                Some(budget)
            }
            Found::TooMuch { change } => {
                context.missed("", too_much(change));
                None
            }
            Found::Nothing => None,
        }
    }
}

fn size(graph: &Graph, cost: &Cost) -> u64 {
    match cost {
        Cost::Params => Stats::of(graph).params,
        Cost::Flops | Cost::Latency(_) => known_flops(graph),
    }
}

/// Why nothing is given up.
pub fn too_much(change: f64) -> String {
    let percent = 100.0 * change;
    format!(
        "nothing is given up: by forecast the outputs would change by {percent:.1} % of their deviation, more than it is worth"
    )
}

/// `by forecast the outputs change by 1.2 % of their deviation`
pub fn changes_by(change: f64) -> String {
    let percent = 100.0 * change;
    format!("by forecast the outputs change by {percent:.1} % of their deviation")
}
