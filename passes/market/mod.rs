//! `within`: one budget for several lossy passes, which compete for every layer.
//!
//! Each pass offers what it could make of a layer, or of channels that go together ([`Method`]). The planner takes those offers
//! that together cost as little as asked and lose least at the network's outputs; how much a layer's error counts there is tried
//! out, layer by layer. What is taken is put in place, then the network is refitted on the samples, and the exact rules remove
//! what nobody reads any more.

mod alone;
mod answers;
mod count;
mod explore;
mod goal;
mod least;
mod planner;
mod quality;
mod search;

use rustc_hash::FxHashMap;

use crate::analysis::Statistics;
use crate::analysis::kernels::KernelLayout;
use crate::analysis::price::{price, whole};
use crate::ir::{Graph, NodeId, Op};
use crate::passes::activations::{activations, measured_or_missed};
use crate::passes::{fold_batch_norm, quantised};
use crate::pipeline::{
    Changed, Group, Kind, Method, Methods, Options, Pass, PassContext, PassInfo, Values,
    refuse_non_finite, refuse_unknown_sizes,
};
use crate::{Error, Result, options};
pub use alone::{AloneOptions, alone};
pub use count::count;
pub use explore::{Explore, Point, Taken};
pub use goal::{Answers, Goal, Measure};
pub use planner::{Planner, Stall};
pub use quality::Alike;
use quality::Quality;
use search::Search;

/// `within`.
pub static WITHIN: Group = Group {
    info: &PassInfo {
        name: "within",
        summary: "let the passes in parentheses compete for every layer, under one budget or down to a quality",
        kind: Kind::Lossy,
        options: WithinOptions::SPECS,
        build: |_| {
            Err(Error::Usage {
                what: "`within` needs passes".into(),
                help: "write `within{macs=0.7}(red,lrf,lowrank,cut)`".into(),
            })
        },
    },
    build,
};

options! {
    /// The options of `within`.
    struct WithinOptions {
        time: Option<f64> = "auto", Values::NumberOrAuto { min: 0.0, max: 1.0 },
            "the fraction of the network's time to keep, under --cost time or latency; auto for another goal";
        macs: Option<f64> = "auto", Values::NumberOrAuto { min: 0.0, max: 1.0 },
            "the fraction of its multiply-adds to keep; auto for another goal";
        params: Option<f64> = "auto", Values::NumberOrAuto { min: 0.0, max: 1.0 },
            "the fraction of its stored weights to keep; auto for another goal";
        agreement: Option<f64> = "auto", Values::NumberOrAuto { min: 0.0, max: 1.0 },
            "as small as keeps this share of its answers, on samples held out; auto for another goal";
        cosine: Option<f64> = "auto", Values::NumberOrAuto { min: 0.0, max: 1.0 },
            "as small as keeps its outputs this near, on samples held out; auto for another goal";
    }
}

fn build(options: &Options, methods: Methods) -> Result<Box<dyn Pass>> {
    let options = WithinOptions::of(options)?;
    let target = |of, fraction: Option<f64>| {
        Some(Goal::Target {
            of,
            fraction: fraction?,
        })
    };
    let keep = |what, least: Option<f64>| {
        Some(Goal::Keep {
            what,
            least: least?,
        })
    };
    let goals = [
        target(Measure::Time, options.time),
        target(Measure::Macs, options.macs),
        target(Measure::Params, options.params),
        keep(Answers::Agreement, options.agreement),
        keep(Answers::Cosine, options.cosine),
    ];
    let goals: Vec<Goal> = goals.into_iter().flatten().collect();
    match goals[..] {
        [goal] => Ok(Box::new(Within { goal, methods })),
        _ => Err(Error::Usage {
            what: format!("`within` has {} goals", goals.len()),
            help: "give one: a fraction of time, macs or params to keep, or agreement or cosine"
                .into(),
        }),
    }
}

struct Within {
    goal: Goal,
    methods: Methods,
}

impl Pass for Within {
    fn info(&self) -> &'static PassInfo {
        WITHIN.info
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        let methods: Vec<&dyn Method> = self.methods.iter().map(|method| &**method).collect();
        compete(self.info().name, &methods, self.goal, graph, context)
    }
}

/// Lets methods compete for every layer of a network; `pass` is the pass that asks.
///
/// # Errors
/// [`Error::Usage`] for a goal that cannot be reached; it names what can be.
pub fn compete(
    pass: &str,
    methods: &[&dyn Method],
    goal: Goal,
    graph: &mut Graph,
    context: &mut PassContext<'_>,
) -> Result<Changed> {
    let quality = match goal {
        Goal::Target { .. } => None,
        Goal::Keep { .. } => match quality(graph, context)? {
            None => return Ok(Changed::No),
            quality => quality,
        },
    };
    let cost = goal.cost(&context.cost)?;
    let asked = std::mem::replace(&mut context.cost, cost);
    let changed = search(pass, methods, quality, graph, context, |search, context| {
        search.run(goal, context)
    });
    context.cost = asked;
    changed
}

/// What measures how much of the original network's answers is kept; `None`, and a remark, where it cannot be run.
fn quality(graph: &Graph, context: &mut PassContext<'_>) -> Result<Option<Quality>> {
    let original = context.original().unwrap_or(graph);
    measured_or_missed(Quality::new(original, context), context)
}

/// Weighs what methods offer under the cost in force. `run` is given the search over it, and says what the network becomes, if anything.
fn search(
    pass: &str,
    methods: &[&dyn Method],
    quality: Option<Quality>,
    graph: &mut Graph,
    context: &mut PassContext<'_>,
    run: impl FnOnce(&Search<'_>, &mut PassContext<'_>) -> Result<Option<Graph>>,
) -> Result<Changed> {
    refuse_non_finite(pass, graph)?;
    quantised::explain(graph, context);
    refuse_unknown_sizes("what is weighed by its cost", graph)?;
    context.progress("batch norms", 0.0)?;
    let mut prior = std::mem::take(&mut context.prior).and(graph);
    let mut changed = fold_batch_norm::fold(graph, context)?;
    let statistics = measure(graph, &prior, context)?;
    let planner = offers(methods, graph, &statistics, context)?;
    if planner.stalls.is_empty() {
        context.missed("", "nothing is offered for any layer");
    } else {
        let search = Search::new(graph, planner, quality, context)?;
        if let Some(found) = run(&search, context)? {
            *graph = found;
            changed = Changed::Yes;
        }
    }
    prior.carry(graph);
    context.prior = prior;
    Ok(changed)
}

/// What every layer with a dense weight reads.
fn measure(
    graph: &Graph,
    prior: &crate::analysis::prior::PriorMoments,
    context: &mut PassContext<'_>,
) -> Result<Statistics> {
    let layers: Vec<(NodeId, KernelLayout)> = graph
        .topological_order()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|node| Some((node, dense(graph, node)?)))
        .collect();
    let reads = activations(graph, &layers, prior, context)?;
    Ok(Statistics::new(
        layers.iter().map(|(node, _)| *node).zip(reads),
    ))
}

/// How the weight of a convolution of one group, or of a linear layer, lies.
fn dense(graph: &Graph, node: NodeId) -> Option<KernelLayout> {
    let op = graph.op(node)?;
    let constant = graph.constant(graph.operands(node).get(1)?.node)?;
    let is_dense = matches!(op, Op::Conv { groups: 1, .. } | Op::Linear {});
    let floats = constant.tensor.dtype().is_float();
    (is_dense && floats).then(|| KernelLayout::dense(op, constant.tensor.shape()))?
}

/// All offers of all methods, by unit.
fn offers(
    methods: &[&dyn Method],
    graph: &Graph,
    statistics: &Statistics,
    context: &mut PassContext<'_>,
) -> Result<Planner> {
    let mut stalls: Vec<Stall> = Vec::new();
    for (i, method) in methods.iter().enumerate() {
        context.progress(method.name(), i as f64 / methods.len() as f64)?;
        for lot in method.offers(graph, statistics, context)? {
            let named = lot.offers.into_iter().map(|offer| (method.name(), offer));
            match stalls.iter_mut().find(|stall| stall.of == lot.of) {
                Some(stall) => stall.offers.extend(named),
                None => stalls.push(Stall {
                    of: lot.of,
                    offers: named.collect(),
                }),
            }
        }
    }
    stalls.retain(|stall| !stall.offers.is_empty());
    let nodes = stalls.iter().flat_map(|stall| &stall.offers);
    let nodes = nodes.flat_map(|(_, offer)| offer.costs.iter().map(|(node, _)| *node));
    let price = |node: NodeId| {
        let price = price(&[whole(graph, node)?], &graph.bindings, &context.cost)?;
        Some((node, price as f64))
    };
    let prices: FxHashMap<NodeId, f64> = nodes.filter_map(price).collect();
    Ok(Planner::new(stalls, prices))
}
