//! How far a lossy pass may go where the user does not say: until the network's outputs would change too much.

use crate::analysis::Stats;
use crate::analysis::cost::known_macs;
use crate::analysis::forecast::Forecast;
use crate::ir::Graph;
use crate::pipeline::{Cost, PassContext};
use crate::{Error, Result};

/// The most by which all passes together may change an output by default, relative to its deviation, as forecast. It was chosen for
/// ResNets of CIFAR-10 to lose 12 % of their multiply-adds, by what images of their training set said, and is not derived.
const MOST: f64 = 0.15;

/// The largest change for the share of the network's cost that it saves. More than 1, since a forecast on noise is one to three times
/// what data would say.
const MOST_FOR_SHARE: f64 = 1.5;

/// The least share of the network's cost that is worth any loss.
const LEAST: f64 = 0.02;

/// The multiply-adds of all forecasts of a pass that may take long, about.
const MOST_WORK: u64 = 300_000_000_000;

/// By how much each budget tried is smaller than the one before, and how many are.
const STEP: f64 = 0.7;
const STEPS: i32 = 14;

/// A change so small, for the share that it saves, that no smaller one is looked for.
const SMALL_FOR_SHARE: f64 = 0.4;

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
        let sampled = context.sampled();
        let original = context.original().unwrap_or(graph);
        match Forecast::new(original, sampled.as_ref(), context.seed) {
            Ok(forecast) => {
                if sampled.is_some() {
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

    /// Whether the outputs may change so much in a network that costs `left`: by no more than [`MOST`], and not by too much for the
    /// share that all passes save.
    pub fn allows(&self, change: f64, left: u64) -> bool {
        change <= MOST.min(MOST_FOR_SHARE * self.share(self.size, left))
    }

    /// Whether that much may change, and this pass saves enough for it.
    pub fn is_worth(&self, change: f64, left: u64) -> bool {
        self.allows(change, left) && self.share(self.found, left) >= LEAST
    }

    /// The share of the network's cost that is saved between two costs.
    fn share(&self, before: u64, after: u64) -> f64 {
        before.saturating_sub(after) as f64 / self.size.max(1) as f64
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

    /// How many forecasts are not too much work.
    pub fn forecasts(&self) -> usize {
        (MOST_WORK / self.forecast.work().max(1)) as usize
    }

    /// Tries smaller and smaller budgets, from `largest` on, and finds the one that saves most beyond what it changes.
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
        let (mut found, mut most_gained) = (Found::Nothing, f64::NEG_INFINITY);
        let mut last = Vec::new();
        for budget in (0..STEPS).map(|step| largest * STEP.powi(step)) {
            let Some((changed, chosen)) = of(budget) else {
                break;
            };
            if chosen == last {
                continue;
            }
            last = chosen;
            let change = self.forecast.change(&changed)?;
            let left = if change <= MOST {
                left(&changed)?
            } else {
                u64::MAX
            };
            let share = self.share(self.size, left);
            if !self.is_worth(change, left) {
                found = match found {
                    Found::Within { .. } => found,
                    _ if self.allows(change, left) => Found::TooLittle,
                    _ => Found::TooMuch { change },
                };
            } else if share - change > most_gained {
                found = Found::Within { budget, change };
                most_gained = share - change;
            }
            if change < SMALL_FOR_SHARE * share {
                break;
            }
        }
        Ok(found)
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
    /// What changes the outputs little enough saves too little.
    TooLittle,
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
            Found::TooLittle => {
                context.missed("", too_little());
                None
            }
            Found::Nothing => None,
        }
    }
}

fn size(graph: &Graph, cost: &Cost) -> u64 {
    match cost {
        Cost::Params => Stats::of(graph).params,
        Cost::Macs | Cost::Latency(_) => known_macs(graph),
    }
}

/// Why nothing is given up.
pub fn too_much(change: f64) -> String {
    let percent = 100.0 * change;
    format!(
        "nothing is given up: by forecast the outputs would change by {percent:.1} % of their deviation, more than it is worth"
    )
}

/// Why nothing is given up where that would change little.
pub fn too_little() -> String {
    let percent = 100.0 * LEAST;
    format!("nothing is given up: what changes the outputs little saves less than {percent} %")
}

/// `by forecast the outputs change by 1.2 % of their deviation`
pub fn changes_by(change: f64) -> String {
    let percent = 100.0 * change;
    format!("by forecast the outputs change by {percent:.1} % of their deviation")
}
