//! The passes, one file or folder each, and their registry.

pub(crate) mod activations;
#[cfg(feature = "torch")]
mod balance;
mod canonicalize;
mod drop;
mod finetune;
mod fold_batch_norm;
mod forecast;
pub mod lrf;
mod quantised;
pub mod red;
mod repair;
pub mod rules;
mod training;

use crate::pipeline::PassInfo;

/// Every pass, in the order in which `optc --list-passes` shows them.
pub static ALL: &[&PassInfo] = &[
    &canonicalize::CANONICALIZE,
    &red::RED,
    &lrf::LRF,
    &fold_batch_norm::FOLD_BATCH_NORM,
    &finetune::FINETUNE,
    &drop::DROP,
];
