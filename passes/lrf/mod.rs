//! LRF: linearly replaceable filters (Joo, Yi, Baek, Kim, AAAI 2021).
//!
//! A filter that is nearly a combination of the layer's others can go, if a 1x1 convolution behind the layer makes up for it;
//! so can an input channel, with a 1x1 convolution before the layer. A layer of k x k kernels so becomes 1x1, k x k, 1x1, all
//! three narrow. With `ratio` the pass does to the letter what the authors do: all layers but the first lose the same share,
//! the filters first and then the channels; but in closed form, where they fit anew for every candidate.
//!
//! With `finetune` that is interleaved with training, as theirs is (`training.rs`).
//!
//! Beyond the paper (ours): the ratio is spread unevenly over the layers (`flops`, `error`), results count by the batch norm that
//! follows and channels by what they carry (`weigh`), samples refit the network, and what is linear anyway takes the 1x1
//! convolutions in (`compose-linear`).

mod choose;
pub mod factor;
mod forecast;
#[cfg(any(feature = "torch", test))]
mod interleaved;
pub mod layer;
mod offers;
mod training;
mod weigh;

use rayon::prelude::*;

use crate::analysis::elimination::Criterion;
use crate::analysis::tradeoff::Budget;
use crate::egraph::{Bounds, Rule, saturate};
use crate::ir::Graph;
use crate::passes::repair::{refit, say_left_out};
use crate::passes::{quantised, rules};
use crate::pipeline::{
    Changed, Kind, Method, Options, Pass, PassContext, PassInfo, Values, refuse_non_finite,
    refuse_unknown_sizes,
};
use crate::{Error, Result, options, words};
use choose::Amount;
use factor::{Choice, Kept, Pieces, Weighed};
use layer::{Layer, layers};
use training::Training;
use weigh::Weigh;

/// `lrf`.
pub static LRF: PassInfo = PassInfo {
    name: "lrf",
    summary: "remove filters and input channels that the others replace, with 1x1 convolutions that make up for them",
    kind: Kind::Lossy,
    options: LrfOptions::SPECS,
    build,
};

words! {
    /// Which layers.
    enum Scope {
        Kernels = "kernels",
        All = "all",
    }
}

words! {
    /// What goes: filters, input channels, or both.
    enum Sides {
        Both = "both",
        Output = "output",
        Input = "input",
    }
}

words! {
    /// What counts.
    enum Counts {
        Auto = "auto",
        None = "none",
        Norm = "norm",
        Moments = "moments",
    }
}

words! {
    /// By what is chosen.
    enum Select {
        Backward = "backward",
        Forward = "forward",
        Pivot = "pivot",
        Norm = "norm",
    }
}

options! {
    /// The options of `lrf`.
    struct LrfOptions {
        ratio: f64 = "0", Values::Number { min: 0.0, max: 1.0 },
            "the share of its filters and of its input channels that each layer loses, less than 1; 0.5 is the authors' method, which wrecks a network that is not trained afterwards; 0 to go by `flops` or `error`";
        flops: f64 = "1", Values::Number { min: 0.0, max: 1.0 },
            "instead of `ratio`: the fraction of the network's multiply-adds to keep, spread over the layers by what each loses; 1 for none";
        error: Option<f64> = "auto", Values::NumberOrAuto { min: 0.0, max: 1.0 },
            "instead of `ratio`: the most that the result of a layer may change, relative to its deviation; auto for what changes the network's outputs by 15 % of their deviation at most, and by no more than it is worth, as forecast by running it";
        scope: Scope = "kernels", Values::Words(Scope::WORDS),
            "which layers: convolutions with kernels of several elements, but the first; or 1x1 convolutions and linear layers too";
        sides: Sides = "both", Values::Words(Sides::WORDS),
            "what goes: filters and input channels, filters only, or input channels only";
        weigh: Counts = "auto", Values::Words(Counts::WORDS),
            "what counts: all alike, results by the batch norm that follows, or also channels by their moments; auto for none with `ratio` and no samples, as the authors do, else moments";
        select: Select = "backward", Values::Words(Select::WORDS),
            "by what is chosen: least loss of what goes, largest gain of what stays, most left of what stays, or size";
        compensate: bool = "true", Values::Flag,
            "what stays makes up for what goes";
        refit: bool = "true", Values::Flag,
            "with samples, and without `finetune`: solve for weights and biases on the samples";
        align: usize = "0", Values::Count { min: 0, max: 1 << 10 },
            "filters and channels kept are a multiple of this; 0 for 8 where cost is time, else 1";
        finetune: usize = "0", Values::Count { min: 0, max: 100_000 },
            "epochs of training on the data after the filters, and again after the channels, of each layer went, from the last layer to the first; 0 for none";
        warmup: usize = "1", Values::Count { min: 0, max: 100_000 },
            "with `finetune`: epochs before that, with 1x1 convolutions around the layers that do nothing yet";
        lr: f64 = "0.001", Values::Number { min: 0.0, max: 1e3 },
            "with `finetune`: the learning rate";
    }
}

fn build(options: &Options) -> Result<Box<dyn Pass>> {
    let options = LrfOptions::of(options)?;
    Ok(Box::new(Lrf {
        amount: amount(&options)?,
        all: options.scope == Scope::All,
        sides: match options.sides {
            Sides::Both => [true, true],
            Sides::Output => [true, false],
            Sides::Input => [false, true],
        },
        weigh: match options.weigh {
            Counts::Auto => None,
            Counts::None => Some(Weigh::Alike),
            Counts::Norm => Some(Weigh::Norms),
            Counts::Moments => Some(Weigh::Moments),
        },
        choice: Choice {
            criterion: match options.select {
                Select::Backward => Criterion::Backward,
                Select::Forward => Criterion::Forward,
                Select::Pivot => Criterion::Pivot,
                Select::Norm => Criterion::Norm,
            },
            compensate: options.compensate,
        },
        refit: options.refit,
        align: options.align,
        training: Training::of(&options)?,
    }))
}

/// How much goes.
fn amount(options: &LrfOptions) -> Result<Amount> {
    let ratio = options.ratio;
    match (options.flops < 1.0, options.error) {
        (true, Some(_)) => Err(Error::Usage {
            what: "`flops` and `error` are both given".into(),
            help: "say how much to keep, or how much may be lost".into(),
        }),
        (true, None) => Ok(Amount::Budget(Budget::Macs(options.flops))),
        (false, Some(error)) => Ok(Amount::Budget(Budget::Error(error))),
        (false, None) if ratio >= 1.0 => Err(Error::Usage {
            what: format!("ratio={ratio} would leave nothing"),
            help: "the ratio is the share that goes: 0 or more, and less than 1".into(),
        }),
        (false, None) if ratio > 0.0 => Ok(Amount::Ratio(ratio)),
        (false, None) => Ok(Amount::Forecast),
    }
}

#[derive(Clone)]
struct Lrf {
    amount: Amount,
    all: bool,
    /// Whether filters go, and whether channels do.
    sides: [bool; 2],
    /// `None` to go by what is known.
    weigh: Option<Weigh>,
    choice: Choice,
    refit: bool,
    align: usize,
    training: Option<Training>,
}

impl Pass for Lrf {
    fn info(&self) -> &'static PassInfo {
        &LRF
    }

    fn kind(&self) -> Kind {
        match self.training {
            Some(_) => Kind::Trained,
            None => LRF.kind,
        }
    }

    fn method(&self) -> Option<std::sync::Arc<dyn Method>> {
        let free = self.amount == Amount::Forecast && self.training.is_none();
        free.then(|| std::sync::Arc::new(self.clone()) as std::sync::Arc<dyn Method>)
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        refuse_non_finite("lrf", graph)?;
        quantised::explain(graph, context);
        if let Amount::Budget(Budget::Macs(_)) = self.amount {
            refuse_unknown_sizes("the target `flops`", graph)?;
        }
        let layers = layers(graph, self.all, context);
        if let (true, Amount::Budget(Budget::Macs(target))) = (layers.is_empty(), self.amount) {
            self.refuse_unreachable(graph, target, 1.0, context)?;
        }
        if layers.is_empty() {
            let more = if self.all {
                ""
            } else {
                ": scope=all takes 1x1 convolutions and linear layers too"
            };
            context.missed("", format!("no layer has filters to remove{more}"));
            return Ok(Changed::No);
        }
        let weighed = self.weighed(graph, &layers, context)?;
        let kept = self.kept(graph, &layers, &weighed, context)?;
        if kept.iter().all(Option::is_none) {
            return Ok(Changed::No);
        }
        #[cfg(feature = "torch")]
        if let Some(training) = &self.training {
            self.train(graph, &layers, &kept, training, context)?;
            absorb(graph, context)?;
            return Ok(Changed::Yes);
        }
        self.at_once(graph, &layers, &weighed, &kept, context)?;
        absorb(graph, context)?;
        Ok(Changed::Yes)
    }
}

impl Lrf {
    /// Removes all that goes, then repairs the network.
    fn at_once(
        &self,
        graph: &mut Graph,
        layers: &[Layer],
        weighed: &[Weighed],
        kept: &[Option<Kept>],
        context: &mut PassContext<'_>,
    ) -> Result<()> {
        let original = graph.clone();
        context.progress("elimination", 0.2)?;
        let pieces = self.pieces(layers, weighed, kept);
        for (i, pieces) in pieces.into_iter().enumerate() {
            let Some(kept) = kept[i] else { continue };
            let (layer, name) = (&layers[i], graph.node(layers[i].node).name.clone());
            let Some(pieces) = pieces else {
                context.missed(&name, choose::NO_FACTORISATION);
                continue;
            };
            let change = put(graph, layer, &weighed[i], kept, pieces)?;
            context.applied(&name, goes(layer, layer.all(), kept, change));
        }
        if self.refit {
            let untied = &mut |_: &mut Graph, _| false;
            say_left_out(&refit(&original, graph, untied, context)?, context);
        }
        Ok(())
    }

    /// The layers that lose something, in pieces; `None` too where there is no factorisation.
    fn pieces(
        &self,
        layers: &[Layer],
        weighed: &[Weighed],
        kept: &[Option<Kept>],
    ) -> Vec<Option<Pieces>> {
        let split = |i: usize| weighed[i].split(kept[i]?, self.choice);
        (0..layers.len()).into_par_iter().map(split).collect()
    }
}

/// Puts a layer's pieces in its place; how much its weight changes by that.
fn put(
    graph: &mut Graph,
    layer: &Layer,
    weighed: &Weighed,
    kept: Kept,
    pieces: Pieces,
) -> Result<f64> {
    let (lost, change) = weighed.lost(&pieces);
    layer.replace(graph, kept, pieces).map_err(misfit)?;
    weighed.shift_bias(graph, layer.node, &lost);
    Ok(change)
}

/// `4 of 8 filters, 3 of 6 input channels: the weight changes by 12.3 %`
fn goes(layer: &Layer, before: Kept, after: Kept, change: f64) -> String {
    let groups = layer.layout.groups;
    let sides = [
        (before.outputs, after.outputs, "filters"),
        (before.inputs, after.inputs, "input channels"),
    ];
    let what: Vec<String> = sides
        .iter()
        .filter(|(before, after, _)| after < before)
        .map(|(before, after, what)| format!("{} of {} {what}", after * groups, before * groups))
        .collect();
    let change = 100.0 * change;
    format!("{}: the weight changes by {change:.1} %", what.join(", "))
}

fn misfit(what: String) -> Error {
    Error::Invalid {
        stage: "lrf".into(),
        violations: vec![what],
    }
}

/// Lets what is linear anyway take the 1x1 convolutions in, where that is cheaper.
fn absorb(graph: &mut Graph, context: &mut PassContext<'_>) -> Result<()> {
    static RULES: &[&dyn Rule] = &[&rules::ComposeLinear];
    context.progress("absorption", 0.9)?;
    // Of what was taken apart, so that the network as it was stores more all the same.
    let bounds = Bounds {
        may_store_more: true,
        ..Bounds::default()
    };
    let saturated = saturate(graph, RULES, &context.cost, bounds)?;
    if let Some(refusal) = saturated.refusal() {
        context.missed("", refusal);
    }
    if let Some(composed) = saturated.graph {
        let before = graph.len();
        context.analysis(
            "",
            format!(
                "layers with nothing between them composed: {before} nodes became {}",
                composed.len()
            ),
        );
        *graph = composed;
    }
    Ok(())
}
