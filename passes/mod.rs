//! The passes, one file or folder each, and their registry.

pub(crate) mod activations;
mod canonicalize;
mod cut;
mod drop;
#[cfg(feature = "torch")]
mod equalization;
mod finetune;
mod fold_batch_norm;
mod forecast;
mod lowrank;
pub mod lrf;
mod market;
mod prune;
mod quantised;
pub mod red;
mod repair;
mod respell;
pub mod rules;
mod training;

pub use market::{Alike, Explore, Point, Taken};

use crate::Result;
use crate::pipeline::{PassInfo, Pipeline, Registry};

/// Every pass, in the order in which `optc --list-passes` shows them.
pub static ALL: &[&PassInfo] = &[
    &canonicalize::CANONICALIZE,
    &respell::RESPELL,
    &red::RED,
    &lrf::LRF,
    &lowrank::LOWRANK,
    &cut::CUT,
    &prune::PRUNE,
    &fold_batch_norm::FOLD_BATCH_NORM,
    &finetune::FINETUNE,
    &drop::DROP,
];

impl Registry {
    /// The passes of this crate.
    pub fn standard() -> Registry {
        ALL.iter()
            .fold(Registry::empty(), |all, pass| all.with(pass))
            .with_group(&market::WITHIN)
    }
}

impl Default for Registry {
    fn default() -> Registry {
        Registry::standard()
    }
}

impl Pipeline {
    /// Reads a pipeline of the standard passes; printing it gives its canonical text.
    ///
    /// # Errors
    /// [`Error::Text`](crate::Error::Text), pointing at the mistake and listing what would be right there.
    pub fn parse(text: &str) -> Result<Pipeline> {
        Registry::standard().parse(text)
    }

    /// This pipeline with adjacent lossy passes that have no budget of their own under one: `macs=0.7`, `agreement=0.99`.
    ///
    /// # Errors
    /// As [`Registry::under`].
    pub fn within(self, goal: &str) -> Result<Pipeline> {
        Registry::standard().under(self, &format!("{}{{{goal}}}", market::WITHIN.info.name))
    }
}
