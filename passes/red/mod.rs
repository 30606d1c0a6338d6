//! RED: redundancies removed without data (Yvinec, Dapogny, Cord, Bailly, NeurIPS 2021).
//!
//! Batch norms are folded first, since two neurons are the same only if what normalises them is. Then *hashing* makes weights
//! equal that nearly are ([`hashing`]), and *merging* computes equal neurons once: an equality saturation over
//! [`rules`](crate::passes::rules), which also removes neurons that are constant or that nobody reads.
//!
//! Between the two, *relaxed merging* averages neurons that are near each other, where `alpha` allows it (`relaxed.rs`).
//!
//! Hashing alone only adds error, so a neuron that it makes neither equal to another nor dead keeps its weights (ours).
//!
//! By default as much is given up as changes the network's outputs little, by forecast, and no more than it is worth.

pub mod hashing;
mod joint;
mod kernels;
mod merging;
mod neurons;
mod offers;
mod projection;
mod relaxed;
mod scalars;

use crate::analysis::cost::known_macs;
use crate::analysis::tradeoff::Budget;
use crate::ir::Graph;
use crate::passes::activations::PriorMoments;
use crate::passes::forecast::Limit;
use crate::passes::{fold_batch_norm, quantised};
use crate::pipeline::{
    Changed, Kind, Method, Options, Pass, PassContext, PassInfo, Values, refuse_non_finite,
    refuse_unknown_sizes,
};
use crate::{Error, Result, options, words};
use kernels::ByKernel;
use merging::Origins;
pub(super) use merging::exact_rules;
use offers::Kernels;
use relaxed::Relaxed;
use scalars::Hashing;

/// The most that a layer may lose where a forecast says whether that is too much.
const LARGEST: f64 = 0.2;

/// `red`.
pub static RED: PassInfo = PassInfo {
    name: "red",
    summary: "hash weights, then merge neurons that are equal and drop those that are constant or unread",
    kind: Kind::Lossy,
    options: RedOptions::SPECS,
    build,
};

words! {
    /// What becomes equal.
    enum Hashed {
        None = "none",
        Kde = "kde",
        Kernel = "kernel",
    }
}

options! {
    /// The options of `red`.
    struct RedOptions {
        hash: Hashed = "kde", Values::Words(Hashed::WORDS),
            "what becomes equal: nothing (the pass is then exact if alpha is 0), weights that are near a mode of their density, or kernels, which become combinations of few for each input channel";
        flops: f64 = "1", Values::Number { min: 0.0, max: 1.0 },
            "with hash=kernel: the fraction of the network's multiply-adds to keep; 1 to go by `error` instead";
        error: Option<f64> = "auto", Values::NumberOrAuto { min: 0.0, max: 1.0 },
            "the most that hashing may change the result of a layer, relative to its deviation; auto for what changes the network's outputs by 15 % of their deviation at most, and by no more than it is worth, as forecast by running it";
        alpha: f64 = "0", Values::Number { min: 0.0, max: 1.0 },
            "merge neurons that are near each other too, before kernels are projected: the most that the result of a layer may change, relative to its deviation";
        align: usize = "0", Values::Count { min: 0, max: 1 << 10 },
            "with hash=kernel: kernels of a layer are a multiple of this; 0 for 8 where cost is time, else 1";
        refit: bool = "true", Values::Flag,
            "with hash=kernel or alpha, and samples: solve for weights and biases on the samples";
    }
}

fn build(options: &Options) -> Result<Box<dyn Pass>> {
    let RedOptions {
        hash,
        flops,
        error,
        alpha,
        align,
        refit,
    } = RedOptions::of(options)?;
    let hash = match hash {
        Hashed::None => Hash::None,
        Hashed::Kde => Hash::Scalars { error },
        Hashed::Kernel => Hash::Kernels(ByKernel {
            budget: match error {
                _ if flops < 1.0 => Some(Budget::Macs(flops)),
                error => error.map(Budget::Error),
            },
            align,
            refit,
        }),
    };
    if flops < 1.0 && !matches!(hash, Hash::Kernels(_)) {
        return Err(Error::Usage {
            what: "`flops` is only for hash=kernel".into(),
            help: format!("write red{{hash=kernel,flops={flops}}}"),
        });
    }
    let relaxed = (alpha > 0.0).then_some(Relaxed { alpha, refit });
    Ok(Box::new(Red { relaxed, hash }))
}

struct Red {
    relaxed: Option<Relaxed>,
    hash: Hash,
}

/// How weights become equal.
enum Hash {
    None,
    /// To the modes of their density, within this relative error of a layer's result; `None` to go by a forecast.
    Scalars {
        error: Option<f64>,
    },
    /// To combinations of few kernels.
    Kernels(ByKernel),
}

impl Pass for Red {
    fn info(&self) -> &'static PassInfo {
        &RED
    }

    fn kind(&self) -> Kind {
        match (&self.relaxed, &self.hash) {
            (None, Hash::None) => Kind::Exact,
            _ => Kind::Lossy,
        }
    }

    fn method(&self) -> Option<std::sync::Arc<dyn Method>> {
        let free = match &self.hash {
            Hash::None => false,
            Hash::Scalars { error } => error.is_none(),
            Hash::Kernels(kernels) => kernels.budget.is_none(),
        };
        (free && self.relaxed.is_none())
            .then(|| std::sync::Arc::new(Kernels) as std::sync::Arc<dyn Method>)
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        refuse_non_finite("red", graph)?;
        quantised::explain(graph, context);
        if let Hash::Kernels(ByKernel {
            budget: Some(Budget::Macs(_)),
            ..
        }) = &self.hash
        {
            refuse_unknown_sizes("the target `flops`", graph)?;
        }
        let whole = known_macs(graph);
        let mut prior = std::mem::take(&mut context.prior).and(graph);
        context.progress("batch norms", 0.0)?;
        let mut changed = fold_batch_norm::fold(graph, context)?;
        let folded = graph.clone();
        let mut origins = Origins::of(graph);
        // What is equal or dead goes before anything is averaged with it.
        let mut merged = merging::merge(graph, &mut origins, context)?;
        if merged.is_yes() {
            prior.carry(graph);
        }
        let mut lossy = Changed::No;
        if let Hash::Scalars { error } = self.hash {
            lossy |= hash(graph, error, &mut prior, context)?;
        }
        if let Some(relaxed) = &self.relaxed {
            lossy |= relaxed.run(graph, &mut prior, context)?;
        }
        if let Hash::Kernels(by_kernel) = &self.hash {
            if lossy.is_yes() {
                let _ = merging::merge(graph, &mut origins, context)?;
                prior.carry(graph);
            }
            lossy |= by_kernel.run(graph, &mut origins, whole, &prior, context)?;
        }
        context.progress("saturation", 0.5)?;
        if lossy.is_yes() {
            merged |= merging::merge(graph, &mut origins, context)?;
        }
        changed |= merged | lossy;
        merging::explain(&folded, graph, &origins, context);
        prior.carry(graph);
        context.prior = prior;
        Ok(changed)
    }
}

/// Makes neurons equal or dead that nearly are; what is worth it and within `error`, or else a forecast.
fn hash(
    graph: &mut Graph,
    error: Option<f64>,
    prior: &mut PriorMoments,
    context: &mut PassContext<'_>,
) -> Result<Changed> {
    let hashing = Hashing::new(graph, prior, context)?;
    if hashing.is_empty() {
        return Ok(Changed::No);
    }
    let error = match error {
        Some(error) => Some(error),
        None => by_forecast(graph, &hashing, context)?,
    };
    hashing.explain(graph, error.unwrap_or(0.0), context);
    let Some((error, hashed)) = error.and_then(|e| Some((e, hashing.within(graph, e)?))) else {
        return Ok(Changed::No);
    };
    for (layer, kept) in hashing.kept(error) {
        prior.keep(graph, layer, &kept);
    }
    *graph = hashed;
    Ok(Changed::Yes)
}

/// The most that a layer may lose, so that by forecast the outputs change little, and no more than what is saved is worth.
fn by_forecast(
    graph: &Graph,
    hashing: &Hashing,
    context: &mut PassContext<'_>,
) -> Result<Option<f64>> {
    let Some(limit) = Limit::new(graph, context)? else {
        return Ok(None);
    };
    let found = limit.within(
        LARGEST,
        |error| Some((hashing.within(graph, error)?, hashing.chosen(error))),
        |hashed| {
            let merged = merging::saturated(hashed, context)?.graph;
            Ok(limit.size(merged.as_ref().unwrap_or(hashed)))
        },
    )?;
    Ok(found.told(context))
}
