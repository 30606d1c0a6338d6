//! LRF: linearly replaceable filters (Joo, Yi, Baek, Kim, AAAI 2021).
//!
//! A filter that is nearly a combination of the layer's others can go, if a 1x1 convolution behind the layer makes up for it;
//! so can an input channel, with a 1x1 convolution before the layer. A layer of k x k kernels so becomes 1x1, k x k, 1x1, all
//! three narrow. With `ratio` the pass does to the letter what the authors do: all layers but the first lose the same share,
//! the filters first and then the channels; but in closed form, where they fit anew for every candidate.
//!
//! Beyond the paper (ours): the ratio is spread unevenly over the layers (`flops`, `error`), results count by the batch norm that
//! follows and channels by what they carry (`weigh`), samples refit the network, and what is linear anyway takes the 1x1
//! convolutions in (`compose-linear`).

mod choose;
pub mod factor;
mod layer;

use rayon::prelude::*;

use crate::analysis::elimination::Criterion;
use crate::analysis::moments::scales;
use crate::analysis::tradeoff::Budget;
use crate::egraph::{Bounds, Rule, saturate};
use crate::ir::Graph;
use crate::passes::activations::{Activations, Promised, activations};
use crate::passes::repair::{refit, say_left_out};
use crate::passes::rules;
use crate::pipeline::{
    Changed, Kind, OptionSpec, Options, Pass, PassContext, PassInfo, Values, refuse_non_finite,
    refuse_unknown_sizes,
};
use crate::{Error, Result};
use choose::Amount;
use factor::{Choice, Kept, Pieces, Reads, Weighed};
use layer::{Layer, layers};

/// `lrf`.
pub static LRF: PassInfo = PassInfo {
    name: "lrf",
    summary: "remove filters and input channels that the others replace, with 1x1 convolutions that make up for them",
    kind: Kind::Lossy,
    options: &[
        OptionSpec {
            name: "ratio",
            values: Values::Number { min: 0.0, max: 1.0 },
            default: "0.5",
            help: "the share of its filters and of its input channels that each layer loses; less than 1",
        },
        OptionSpec {
            name: "flops",
            values: Values::Number { min: 0.0, max: 1.0 },
            default: "1",
            help: "instead of `ratio`: the fraction of the network's multiply-adds to keep, spread over the layers by what each loses; 1 for none",
        },
        OptionSpec {
            name: "error",
            values: Values::Number { min: 0.0, max: 1.0 },
            default: "0",
            help: "instead of `ratio`: the most that the result of a layer may change, relative to its norm; 0 for none",
        },
        OptionSpec {
            name: "scope",
            values: Values::Words(&["kernels", "all"]),
            default: "kernels",
            help: "which layers: convolutions with kernels of several elements, but the first; or 1x1 convolutions and linear layers too",
        },
        OptionSpec {
            name: "sides",
            values: Values::Words(&["both", "output", "input"]),
            default: "both",
            help: "what goes: filters and input channels, filters only, or input channels only",
        },
        OptionSpec {
            name: "weigh",
            values: Values::Words(&["auto", "none", "norm", "moments"]),
            default: "auto",
            help: "what counts: all alike, results by the batch norm that follows, or also channels by their moments; auto for moments with `flops`, `error` or samples, else none, as the authors do",
        },
        OptionSpec {
            name: "select",
            values: Values::Words(&["backward", "forward", "pivot", "norm"]),
            default: "backward",
            help: "by what is chosen: least loss of what goes, largest gain of what stays, most left of what stays, or size",
        },
        OptionSpec {
            name: "compensate",
            values: Values::Flag,
            default: "true",
            help: "what stays makes up for what goes",
        },
        OptionSpec {
            name: "refit",
            values: Values::Flag,
            default: "true",
            help: "with samples: solve for weights and biases on the samples",
        },
        OptionSpec {
            name: "align",
            values: Values::Count {
                min: 0,
                max: 1 << 10,
            },
            default: "0",
            help: "filters and channels kept are a multiple of this; 0 for 8 where cost is time, else 1",
        },
    ],
    build,
};

fn build(options: &Options) -> Result<Box<dyn Pass>> {
    let [ratio, flops, error] = ["ratio", "flops", "error"].map(|name| options.number(name));
    let (ratio, flops, error) = (ratio?, flops?, error?);
    let amount = match (flops < 1.0, error > 0.0) {
        (true, true) => {
            return Err(Error::Usage {
                what: "`flops` and `error` are both given".into(),
                help: "say how much to keep, or how much may be lost".into(),
            });
        }
        (true, false) => Amount::Budget(Budget::Flops(flops)),
        (false, true) => Amount::Budget(Budget::Error(error)),
        (false, false) if ratio >= 1.0 => {
            return Err(Error::Usage {
                what: format!("ratio={ratio} would leave nothing"),
                help: "the ratio is the share that goes: 0 or more, and less than 1".into(),
            });
        }
        (false, false) => Amount::Ratio(ratio),
    };
    let criterion = match options.word("select")? {
        "forward" => Criterion::Forward,
        "pivot" => Criterion::Pivot,
        "norm" => Criterion::Norm,
        _ => Criterion::Backward,
    };
    Ok(Box::new(Lrf {
        amount,
        all: options.word("scope")? == "all",
        sides: match options.word("sides")? {
            "output" => [true, false],
            "input" => [false, true],
            _ => [true, true],
        },
        weigh: match options.word("weigh")? {
            "auto" => None,
            "none" => Some(Weigh::Alike),
            "norm" => Some(Weigh::Norms),
            _ => Some(Weigh::Moments),
        },
        choice: Choice {
            criterion,
            compensate: options.flag("compensate")?,
        },
        refit: options.flag("refit")?,
        align: options.count("align")?,
    }))
}

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
}

/// What counts how much.
#[derive(Clone, Copy, PartialEq)]
enum Weigh {
    Alike,
    Norms,
    Moments,
}

impl Pass for Lrf {
    fn info(&self) -> &'static PassInfo {
        &LRF
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        refuse_non_finite("lrf", graph)?;
        if let Amount::Budget(Budget::Flops(_)) = self.amount {
            refuse_unknown_sizes("the target `flops`", graph)?;
        }
        let layers = layers(graph, self.all, context);
        if layers.is_empty() {
            let more = match self.all {
                true => "",
                false => ": scope=all takes 1x1 convolutions and linear layers too",
            };
            context.missed("", format!("no layer has filters to remove{more}"));
            return Ok(Changed::No);
        }
        let weighed = self.weighed(graph, &layers, context)?;
        let kept = self.kept(graph, &layers, &weighed, context)?;
        let pieces = self.pieces(graph, &layers, &weighed, &kept, context)?;
        let original = graph.clone();
        let mut changed = Changed::No;
        for (i, pieces) in pieces.into_iter().enumerate() {
            let (Some(kept), Some(pieces)) = (kept[i], pieces) else {
                continue;
            };
            changed = Changed::Yes;
            self.replace(graph, &layers[i], &weighed[i], kept, pieces, context)?;
        }
        if changed == Changed::No {
            return Ok(changed);
        }
        if self.refit {
            let untied = &mut |_: &mut Graph, _| false;
            say_left_out(&refit(&original, graph, untied, context)?, context);
        }
        absorb(graph, context)?;
        Ok(changed)
    }
}

impl Lrf {
    /// The layers' weights, and what counts in them.
    fn weighed(
        &self,
        graph: &Graph,
        layers: &[Layer],
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Weighed>> {
        let letter = matches!(self.amount, Amount::Ratio(_)) && context.samples.is_none();
        let weigh = match self.weigh {
            Some(weigh) => weigh,
            None if letter => Weigh::Alike,
            None => Weigh::Moments,
        };
        let places: Vec<_> = layers.iter().map(|l| (l.node, l.layout)).collect();
        let reads = match weigh {
            Weigh::Moments => activations(graph, &places, &Promised::of(graph), context)?,
            Weigh::Alike | Weigh::Norms => Vec::new(),
        };
        let mut reads = reads.into_iter();
        let of = |layer: &Layer| {
            let outputs = layer.layout.outputs * layer.layout.groups;
            let rows = match weigh {
                Weigh::Alike => None,
                Weigh::Norms | Weigh::Moments => scales(graph, layer.node),
            };
            let (mean, reads) = match reads.next() {
                Some(Activations {
                    mean,
                    joint,
                    patches,
                }) => (
                    Some(mean),
                    match joint {
                        Some(joint) => Reads::Joint(joint),
                        None => Reads::Channels(patches),
                    },
                ),
                None => (None, Reads::Alike),
            };
            Weighed {
                layout: layer.layout,
                weight: graph.operand_elements(layer.node, 1),
                rows: rows.unwrap_or_else(|| vec![1.0; outputs]),
                mean,
                reads,
                through: weigh != Weigh::Alike,
            }
        };
        Ok(layers.iter().map(of).collect())
    }

    fn pieces(
        &self,
        graph: &Graph,
        layers: &[Layer],
        weighed: &[Weighed],
        kept: &[Option<Kept>],
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Option<Pieces>>> {
        context.progress("elimination", 0.2);
        let split = |i: usize| {
            let Some(kept) = kept[i] else { return Ok(None) };
            let pieces = weighed[i].split(kept, self.choice);
            let pieces = pieces.ok_or_else(|| Error::Run {
                node: graph.node(layers[i].node).name.to_string(),
                what: "what it reads has moments that are not finite".into(),
            })?;
            Ok(Some(pieces))
        };
        (0..layers.len()).into_par_iter().map(split).collect()
    }

    /// Puts a layer's pieces into the graph, with a remark; the bias takes what the mean of the result loses.
    fn replace(
        &self,
        graph: &mut Graph,
        layer: &Layer,
        weighed: &Weighed,
        kept: Kept,
        pieces: Pieces,
        context: &mut PassContext<'_>,
    ) -> Result<()> {
        let name = graph.node(layer.node).name.to_string();
        let composite = pieces.composite(&layer.layout);
        let lost: Vec<f64> = weighed
            .weight
            .iter()
            .zip(&composite)
            .map(|(a, b)| a - b)
            .collect();
        let norm = |weight: &[f64]| weight.iter().map(|x| x * x).sum::<f64>().sqrt();
        let change = 100.0 * norm(&lost) / norm(&weighed.weight).max(f64::MIN_POSITIVE);
        let groups = layer.layout.groups;
        let all = layer.all();
        let mut what = Vec::new();
        if kept.outputs < all.outputs {
            what.push(format!(
                "{} of {} filters",
                kept.outputs * groups,
                all.outputs * groups
            ));
        }
        if kept.inputs < all.inputs {
            what.push(format!(
                "{} of {} input channels",
                kept.inputs * groups,
                all.inputs * groups
            ));
        }
        context.applied(
            &name,
            format!("{}: the weight changes by {change:.1} %", what.join(", ")),
        );
        let fits = layer.replace(graph, kept, pieces);
        fits.map_err(|what| Error::Invalid {
            stage: "lrf".into(),
            violations: vec![what],
        })?;
        if let Some(mean) = &weighed.mean {
            let shift = layer.layout.apply(&lost, mean);
            if shift.iter().any(|s| *s != 0.0) {
                graph.shift_bias(layer.node, &shift);
            }
        }
        Ok(())
    }
}

/// Lets what is linear anyway take the 1x1 convolutions in, where that is cheaper.
fn absorb(graph: &mut Graph, context: &mut PassContext<'_>) -> Result<()> {
    static RULES: &[&dyn Rule] = &[&rules::ComposeLinear];
    context.progress("absorption", 0.9);
    let saturated = saturate(graph, RULES, &context.cost, Bounds::default())?;
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
