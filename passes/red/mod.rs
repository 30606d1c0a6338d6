//! RED: redundancies removed without data (Yvinec, Dapogny, Cord, Bailly, NeurIPS 2021).
//!
//! Batch norms are folded first, since two neurons are the same only if what normalises them is. Then *hashing* makes weights
//! equal that nearly are ([`hashing`]), and *merging* computes equal neurons once: an equality saturation over
//! [`rules`](crate::passes::rules), which also removes neurons that are constant or that nobody reads.
//!
//! Between the two, *relaxed merging* averages neurons that are near each other, where `alpha` allows it (`relaxed.rs`).
//!
//! Hashing alone only adds error, so a layer in which it makes no neuron equal to another or dead keeps its weights, and the
//! bin around zero becomes zero; the paper hashes every layer, to modes (ours).

pub mod hashing;
mod kernels;
mod merging;
mod neurons;
mod projection;
mod relaxed;
mod scalars;

use crate::analysis::cost::known_flops;
use crate::analysis::tradeoff::Budget;
use crate::ir::Graph;
use crate::passes::activations::Promised;
use crate::passes::{fold_batch_norm, quantised};
use crate::pipeline::{
    Changed, Kind, OptionSpec, Options, Pass, PassContext, PassInfo, Values, refuse_non_finite,
    refuse_unknown_sizes,
};
use crate::{Error, Result};
use kernels::ByKernel;
use relaxed::Relaxed;

/// `red`.
pub static RED: PassInfo = PassInfo {
    name: "red",
    summary: "hash weights, then merge neurons that are equal and drop those that are constant or unread",
    kind: Kind::Lossy,
    options: &[
        OptionSpec {
            name: "hash",
            values: Values::Words(&["none", "kde", "kernel"]),
            default: "kde",
            help: "what becomes equal: nothing (the pass is then exact if alpha is 0), weights that are near a mode of their density, or kernels, which become combinations of few for each input channel",
        },
        OptionSpec {
            name: "flops",
            values: Values::Number { min: 0.0, max: 1.0 },
            default: "1",
            help: "with hash=kernel: the fraction of the network's multiply-adds to keep; 1 to go by `error` instead",
        },
        OptionSpec {
            name: "error",
            values: Values::Number { min: 0.0, max: 1.0 },
            default: "0.02",
            help: "the most that hashing may change a layer, relative to its norm: its weights (kde) or its result (kernel)",
        },
        OptionSpec {
            name: "alpha",
            values: Values::Number { min: 0.0, max: 1.0 },
            default: "0",
            help: "merge neurons that are near each other too, before kernels are projected: the most that the result of a layer may change, relative to its deviation",
        },
        OptionSpec {
            name: "align",
            values: Values::Count {
                min: 0,
                max: 1 << 10,
            },
            default: "0",
            help: "with hash=kernel: kernels of a layer are a multiple of this; 0 for 8 where cost is time, else 1",
        },
        OptionSpec {
            name: "refit",
            values: Values::Flag,
            default: "true",
            help: "with hash=kernel or alpha, and samples: solve for weights and biases on the samples",
        },
    ],
    build,
};

fn build(options: &Options) -> Result<Box<dyn Pass>> {
    let (error, flops) = (options.number("error")?, options.number("flops")?);
    let hash = match options.word("hash")? {
        "none" => Hash::None,
        "kde" => Hash::Scalars { error },
        _ => Hash::Kernels(ByKernel {
            budget: if flops < 1.0 {
                Budget::Flops(flops)
            } else {
                Budget::Error(error)
            },
            align: options.count("align")?,
            refit: options.flag("refit")?,
        }),
    };
    if flops < 1.0 && !matches!(hash, Hash::Kernels(_)) {
        return Err(Error::Usage {
            what: "`flops` is only for hash=kernel".into(),
            help: format!("write red{{hash=kernel,flops={flops}}}"),
        });
    }
    let alpha = options.number("alpha")?;
    let refit = options.flag("refit")?;
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
    /// To the modes of their density, within this relative error of a layer.
    Scalars {
        error: f64,
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

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        refuse_non_finite("red", graph)?;
        quantised::explain(graph, context);
        if let Hash::Kernels(ByKernel {
            budget: Budget::Flops(_),
            ..
        }) = &self.hash
        {
            refuse_unknown_sizes("the target `flops`", graph)?;
        }
        let whole = known_flops(graph);
        let mut promised = Promised::of(graph);
        context.progress("batch norms", 0.0);
        let mut changed = fold_batch_norm::fold(graph, context)?;
        // First: sums of columns leave the modes, and large ones would hide the rest.
        if let Hash::Scalars { error } = self.hash {
            changed |= scalars::hash(graph, error, context);
            if self.relaxed.is_some() && context.samples.is_some() {
                // What is equal now would be fitted to be different again.
                let _ = merging::merge(graph, context)?;
            }
        }
        if let Some(relaxed) = &self.relaxed {
            let near = relaxed.run(graph, &mut promised, context)?;
            if near == Changed::Yes && matches!(self.hash, Hash::Kernels(_)) {
                let _ = merging::merge(graph, context)?;
                promised.carry(graph);
            }
            changed |= near;
        }
        changed |= match &self.hash {
            Hash::Kernels(by_kernel) => by_kernel.run(graph, whole, &promised, context)?,
            Hash::None | Hash::Scalars { .. } => Changed::No,
        };
        context.progress("saturation", 0.5);
        Ok(changed | merging::merge(graph, context)?)
    }
}
