//! Drop Pruning: single weights leave the network at random and come back at random, while it is trained (Jia et al.,
//! "DropPruning for Model Compression", arXiv 1812.02035).
//!
//! A step is a drop-out and a drop-in ([`flow`]) and some epochs of training with what is pruned held at zero by masks; a weight
//! that is brought back has the value with which it left. After the last step the network is trimmed to exactly the target and
//! trained once more, and its best epoch is kept, as judged on training data that is held out.
//!
//! From the paper: pruning and retraining by turns, random deletion among unimportant weights, random return with the old value,
//! and the flow to a target. Ours, where its text was not at hand: importance as magnitude in standard deviations of the layer as
//! it came, ranked over the network; the arithmetic of the flow; the trim; the choice of the best epoch.
//!
//! *Other methods are settings of it.* `p_in=0` is drop-out alone; `p_out=1,ramp` drop-in alone, with a target that rises;
//! `p_out=1,p_in=0,ramp` gradual magnitude pruning (Zhu and Gupta, arXiv 1710.01878); `p_out=1,p_in=0,steps=1` pruning in one
//! shot.

#[cfg(any(feature = "torch", test))]
mod flow;
#[cfg(any(feature = "torch", test))]
mod layers;
#[cfg(test)]
mod tests;
#[cfg(feature = "torch")]
mod training;

use super::training::RATES;
use crate::pipeline::{Kind, PassInfo, Values};
use crate::{options, words};

/// Prune single weights while training.
pub static DROP: PassInfo = PassInfo {
    name: "drop",
    summary: "prune single weights, at random among the unimportant, and bring some back, while training",
    kind: Kind::Trained,
    options: DropOptions::SPECS,
    build,
};

words! {
    /// Among which weights the unimportant are.
    enum Ranked {
        Global = "global",
        Layer = "layer",
    }
}

options! {
    /// The options of `drop`.
    struct DropOptions {
        sparsity: f64 = "0.93", Values::Number { min: 0.0, max: 1.0 },
            "the share of the weights of convolutions and linear layers that is zero in the end; biases and norms are not pruned";
        // As good as none would take as good as forever.
        p_out: f64 = "0.5", Values::Number { min: 0.01, max: 1.0 },
            "the probability that an unimportant weight is dropped in a step";
        p_in: Option<f64> = "auto", Values::NumberOrAuto { min: 0.0, max: 1.0 },
            "the probability that a dropped weight returns in a step; auto for a quarter of the largest that lets the sparsity be reached";
        scope: Ranked = "global", Values::Words(Ranked::WORDS),
            "rank weights over the network, or those of each layer by themselves: all layers then get the same sparsity";
        ramp: bool = "false", Values::Flag,
            "let the target rise step by step, rather than go for all of it from the first";
        steps: usize = "10", Values::Count { min: 1, max: 100_000 },
            "how often weights are dropped and return";
        epochs: usize = "1", Values::Count { min: 1, max: 100_000 },
            "passes over the data after each step";
        last: usize = "10", Values::Count { min: 1, max: 100_000 },
            "passes over the data after the last trim; the best is kept, as judged on a tenth of the data that is held out";
        lr: Option<f64> = "auto", RATES,
            "the first learning rate of each training, which falls along half a cosine to 0; auto for 0.01, and 0.001 where more than eight layers have no batch norm of their own";
        distill: f64 = "0", Values::Number { min: 0.0, max: 1e3 },
            "learn also from the answers of the network as it was read, at this temperature; 0 for not at all";
        decay: f64 = "0.0001", Values::Number { min: 0.0, max: 1.0 },
            "weight decay";
    }
}

#[cfg(feature = "torch")]
use training::build;

#[cfg(not(feature = "torch"))]
fn build(_: &crate::pipeline::Options) -> crate::Result<Box<dyn crate::pipeline::Pass>> {
    Err(super::training::not_built_in("drop"))
}
