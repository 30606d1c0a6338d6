//! The goal: how small a network is to become, or how much of its answers it has to keep.

use std::fmt;

use super::quality::Alike;
use crate::analysis::Stats;
use crate::analysis::cost::known_macs;
use crate::ir::Graph;
use crate::pipeline::Cost;
use crate::{Error, Result};

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The fraction of something that is kept.
    Target {
        /// Of what.
        of: Measure,
        /// The fraction, 0 to 1.
        fraction: f64,
    },
    /// As far as this much of the answers is kept.
    Keep {
        /// What is the same.
        what: Answers,
        /// The least share, or cosine.
        least: f64,
    },
}

/// What there is less of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Time.
    Time,
    /// Multiply-adds.
    Macs,
    /// Stored weights.
    Params,
}

/// What answers have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// The share of the same ones.
    Agreement,
    /// The cosine of the angle between outputs.
    Cosine,
}

impl Measure {
    const NAMES: [(Measure, &str); 3] = [
        (Measure::Time, "time"),
        (Measure::Macs, "macs"),
        (Measure::Params, "params"),
    ];

    /// What it is called in pipelines.
    pub fn name(self) -> &'static str {
        let found = Self::NAMES.iter().find(|(measure, _)| *measure == self);
        found.map_or("", |(_, name)| name)
    }

    /// The cost that counts it, given the run's.
    ///
    /// # Errors
    /// [`Error::Usage`] where it is time and the run's cost is not.
    pub fn cost(self, run: &Cost) -> Result<Cost> {
        match (self, run) {
            (Measure::Macs, _) => Ok(Cost::Macs),
            (Measure::Params, _) => Ok(Cost::Params),
            (Measure::Time, Cost::Latency(_)) => Ok(run.clone()),
            (Measure::Time, _) => Err(Error::Usage {
                what: "a target of time needs a cost that is time".into(),
                help: "add --cost time, or ask for multiply-adds: macs=0.7".into(),
            }),
        }
    }
}

impl Goal {
    /// The cost that is to be less, given the run's.
    ///
    /// # Errors
    /// As [`Measure::cost`].
    pub fn cost(&self, run: &Cost) -> Result<Cost> {
        match self {
            Goal::Target { of, .. } => of.cost(run),
            Goal::Keep { .. } => Ok(run.clone()),
        }
    }

    /// How much is kept of what is asked for.
    pub fn kept(&self, alike: &Alike) -> f64 {
        match self {
            Goal::Keep {
                what: Answers::Cosine,
                ..
            } => alike.cosine,
            _ => alike.agreement,
        }
    }

    /// Whether such answers are alike enough.
    pub fn allows(&self, alike: &Alike) -> bool {
        match self {
            Goal::Target { .. } => true,
            Goal::Keep { least, .. } => self.kept(alike) >= *least,
        }
    }
}

/// What the whole network costs, in multiply-adds or in stored weights.
pub fn network_price(graph: &Graph, cost: &Cost) -> f64 {
    match cost {
        Cost::Params => Stats::of(graph).params as f64,
        Cost::Macs | Cost::Latency(_) => known_macs(graph) as f64,
    }
}

/// `macs=0.7`, `agreement=0.99`.
impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::Target { of, fraction } => write!(f, "{}={fraction}", of.name()),
            Goal::Keep { what, least } => match what {
                Answers::Agreement => write!(f, "agreement={least}"),
                Answers::Cosine => write!(f, "cosine={least}"),
            },
        }
    }
}
