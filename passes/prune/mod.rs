//! Pruning: single weights become zero in one shot, and those that stay in their row make up for them.
//!
//! What a layer loses is measured by the covariance of what it reads, from samples or by the moments that batch norms promise; no
//! labels and no training are needed ([`pruning`](crate::analysis::pruning) has the method). The bias takes the mean of what is
//! lost. How many zeros each layer gets goes by what the network's outputs lose ([`spread`]); with samples, the weights that stay are
//! then refitted, layer after layer, to the original's results. Masks hold the zeros, so that no later pass fills them.
//!
//! Rows are those of the matrix that a kernel multiplies by: `[outputs, inputs]` of a linear layer, `[outputs, inputs * taps]` of a
//! convolution, as PyTorch's `weight.reshape(outputs, -1)` has it. A pattern `2:4` holds for each four weights beside each other in
//! such a row, a block `1x16` lies within it.

mod layer;
mod layers;
mod spread;

use std::sync::Arc;

use crate::analysis::pruning::Zeros;
use crate::ir::Graph;
use crate::passes::repair::{refit, say_left_out};
use crate::passes::{fold_batch_norm, quantised};
use crate::pipeline::{
    Changed, Kind, Options, Pass, PassContext, PassInfo, Values, refuse_non_finite,
};
use crate::{Error, Result, options, words};
use layer::Layer;
use layers::By;

/// `prune`.
pub static PRUNE: PassInfo = PassInfo {
    name: "prune",
    summary: "make single weights zero in one shot, with the others in their row making up for them",
    kind: Kind::Lossy,
    options: PruneOptions::SPECS,
    build,
};

words! {
    /// How zeros are spread over the layers.
    enum Spread {
        Outputs = "outputs",
        Even = "even",
    }
}

options! {
    /// The options of `prune`.
    struct PruneOptions {
        sparsity: f64 = "0.5", Values::Number { min: 0.0, max: 1.0 },
            "the fraction of the weights of all layers that can be pruned which becomes zero";
        pattern: Option<[usize; 2]> = "none", Values::PairOrNone { sign: ':', max: 64 },
            "instead of `sparsity`: how many weights stay of how many beside each other in a row, such as 2:4";
        block: Option<[usize; 2]> = "none", Values::PairOrNone { sign: 'x', max: 64 },
            "rows by columns of weights that become zero together, such as 1x16";
        spread: Spread = "outputs", Values::Words(Spread::WORDS),
            "which layers get how many zeros: as many as costs the outputs least, or all the same share";
        by: By = "covariance", Values::Words(By::WORDS),
            "which weights go: those without which the result changes least, when others make up for them, or the smallest, and the others stay as they are";
        refit: bool = "true", Values::Flag,
            "with samples: solve for weights and biases on the samples";
        damping: f64 = "0.01", Values::Number { min: 1e-6, max: 1e3 },
            "what is added to the variance of each feature, relative to their mean";
    }
}

fn build(options: &Options) -> Result<Box<dyn Pass>> {
    let options = PruneOptions::of(options)?;
    let usage = |what: &str, help: &str| {
        Err(Error::Usage {
            what: what.into(),
            help: help.into(),
        })
    };
    let zeros = match (options.pattern, options.block) {
        (Some(_), Some(_)) => {
            return usage(
                "`prune` has a pattern and a block",
                "give one of them: a pattern says itself what is zero together",
            );
        }
        (Some([kept, of]), _) if kept >= of => {
            return usage(
                &format!("the pattern {kept}:{of} keeps all weights"),
                &format!("of {of} weights keep fewer, such as {}:{of}", of / 2),
            );
        }
        (Some([kept, of]), _) => Zeros::Pattern { kept, of },
        (None, block) => Zeros::Share {
            share: options.sparsity,
            block: block.unwrap_or([1, 1]),
        },
    };
    Ok(Box::new(Prune { zeros, options }))
}

struct Prune {
    zeros: Zeros,
    options: PruneOptions,
}

impl Pass for Prune {
    fn info(&self) -> &'static PassInfo {
        &PRUNE
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        refuse_non_finite(PRUNE.name, graph)?;
        quantised::explain(graph, context);
        context.progress("batch norms", 0.0)?;
        let mut prior = std::mem::take(&mut context.prior).and(graph);
        let mut changed = fold_batch_norm::fold(graph, context)?;
        let (by, damping) = (self.options.by, self.options.damping);
        let layers = layers::layers(graph, &self.zeros, by, damping, &prior, context)?;
        if layers.is_empty() {
            context.missed("", "no layer can be pruned");
        } else {
            let zeros = self.spread(graph, &layers, context)?;
            changed |= self.prune(graph, &layers, &zeros, context)?;
        }
        prior.carry(graph);
        context.prior = prior;
        Ok(changed)
    }
}

impl Prune {
    /// The zeros of each layer.
    fn spread(
        &self,
        graph: &Graph,
        layers: &[Arc<Layer>],
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Zeros>> {
        let Zeros::Share { share, block } = self.zeros else {
            return Ok(vec![self.zeros; layers.len()]);
        };
        let shares = match self.options.spread {
            Spread::Even => spread::even(layers, share, context),
            Spread::Outputs => spread::by_outputs(graph, layers, share, block, context)?,
        };
        let zeros = |share| Zeros::Share { share, block };
        Ok(shares.into_iter().map(zeros).collect())
    }

    fn prune(
        &self,
        graph: &mut Graph,
        layers: &[Arc<Layer>],
        zeros: &[Zeros],
        context: &mut PassContext<'_>,
    ) -> Result<Changed> {
        let before = graph.clone();
        let (mut gone, mut all) = (0, 0);
        for (i, (layer, zeros)) in layers.iter().zip(zeros).enumerate() {
            let name = graph.node(layer.node).name.clone();
            context.progress(&name, 0.4 + 0.1 * i as f64 / layers.len() as f64)?;
            all += layer.len();
            let pruned = layer.prune(*zeros);
            let zero = pruned.kept.iter().filter(|kept| !**kept).count();
            if zero == 0 {
                context.missed(&name, "left dense: its zeros would cost the outputs most");
                continue;
            }
            gone += zero;
            let share = 100.0 * zero as f64 / layer.len() as f64;
            let off = layer.off(&pruned).map_or_else(String::new, |off| {
                format!(
                    "; by what it reads its result is off by {:.1} %",
                    100.0 * off
                )
            });
            let of = layer.len();
            context.applied(
                &name,
                format!("{zero} of {of} weights are zero ({share:.1} %){off}"),
            );
            layer.put(graph, &pruned);
        }
        if gone == 0 {
            return Ok(Changed::No);
        }
        let share = 100.0 * gone as f64 / all as f64;
        context.analysis(
            "",
            format!(
                "{gone} of the {all} weights of layers that can be pruned are zero ({share:.2} %)"
            ),
        );
        if self.options.refit {
            let untied = &mut |_: &mut Graph, _| false;
            say_left_out(&refit(&before, graph, untied, context)?, context);
        }
        Ok(Changed::Yes)
    }
}
