//! Equality saturation over the IR.
//!
//! [`saturate`] lowers a graph to terms, lets rules add equal terms until nothing is new or a bound is reached, and extracts
//! the cheapest graph. Constants that rules make are recipes ([`constants`]) whose numbers are computed only when needed.
//! How the pieces fit: `lower` -> egg's runner with [`Rule`]s -> [`extract`] -> `raise`.

pub mod channel_map;
pub mod constants;
pub mod extract;
mod gather;
pub mod instance;
mod lower;
mod raise;
mod rule;
pub mod term;

use std::time::{Duration, Instant};

use egg::{Id, Runner, SimpleScheduler, StopReason};
use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use smallvec::smallvec;

use crate::analysis::Cost;
use crate::analysis::CostModel;
use crate::analysis::cost::Stats;
use crate::ir::infer::infer;
use crate::ir::{Graph, NodeId, Op, Type, verify};
use crate::{Error, Result};
use channel_map::ChannelMap;
use extract::{Choice, Problem};
use gather::{Step, steps};
pub use lower::{Lowered, lower};
pub use raise::{Raised, raise};
pub use rule::{Alternatives, Rewriter, Rule};
use term::{EGraph, Head, Term};

/// Bounds of a saturation. Reaching one is no error: the best graph found so far is extracted.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Rounds in which every rule looks at every class.
    pub iterations: usize,
    /// Terms over all classes, as a multiple of the terms at the start.
    pub growth: usize,
    /// Time for rules. Only a guard against a rule gone wild: a result that depends on the clock is not reproducible.
    pub time: Duration,
    /// Whether the result may store more than there was, though the cost is not time.
    pub may_store_more: bool,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            iterations: 200,
            growth: 40,
            time: Duration::from_secs(600),
            may_store_more: false,
        }
    }
}

/// What a saturation did.
#[derive(Clone, Debug)]
pub struct Saturated {
    /// The cheaper graph; `None` if none is cheaper than what there was.
    pub graph: Option<Graph>,
    /// [`Raised::origins`] of the cheaper graph.
    pub origins: FxHashMap<NodeId, NodeId>,
    /// Why the cheaper graph that was found cannot be had: a mistake of a rule or of inference, which leaves what there was.
    pub refused: Option<String>,
    /// Why the rules stopped: "saturated", or the bound that was reached.
    pub stop_reason: String,
    /// Rounds run.
    pub iterations: usize,
    /// Terms at the end, and classes.
    pub terms: usize,
    /// Classes at the end.
    pub classes: usize,
    /// How often each rule found something new, in the order of the rules.
    pub applied: IndexMap<&'static str, usize>,
    /// Time spent lowering, saturating, extracting (numbers of chosen constants included).
    pub seconds: [f64; 3],
}

/// Finds the cheapest graph that the rules show equal to `graph`.
///
/// # Errors
/// When the graph is not valid.
pub fn saturate(
    graph: &Graph,
    rules: &[&'static dyn Rule],
    cost: &Cost,
    bounds: Bounds,
) -> Result<Saturated> {
    let internal = |what: String| Error::Invalid {
        stage: "equality saturation".into(),
        violations: vec![what],
    };
    let start = Instant::now();
    let lowered = lower(graph).map_err(internal)?;
    let after_lowering = start.elapsed();
    let explored = explore(lowered, rules, bounds);
    let after_rules = start.elapsed();
    let (better, refused) = match explored.cheapest(graph, cost).and_then(valid) {
        Ok(better) => (better, None),
        Err(why) => (None, Some(why)),
    };
    let after_extraction = start.elapsed();
    let seconds = [
        after_lowering,
        after_rules - after_lowering,
        after_extraction - after_rules,
    ];
    let (better, origins) = better.map_or_else(Default::default, |better| {
        (Some(better.graph), better.origins)
    });
    Ok(Saturated {
        graph: better,
        origins,
        refused,
        terms: explored.egraph.total_size(),
        classes: explored.egraph.number_of_classes(),
        stop_reason: explored.stop_reason,
        iterations: explored.iterations,
        applied: explored.applied,
        seconds: seconds.map(|d| d.as_secs_f64()),
    })
}

/// The graph, if the verifier has nothing against it.
fn valid(raised: Option<Raised>) -> Result<Option<Raised>, String> {
    match raised.as_ref().map(|raised| verify(&raised.graph)) {
        Some(Err(violations)) => {
            let all: Vec<String> = violations.iter().map(ToString::to_string).collect();
            Err(all.join("; "))
        }
        _ => Ok(raised),
    }
}

/// A graph's terms and all that rules found equal to them.
pub struct Explored {
    egraph: EGraph,
    roots: Vec<Id>,
    terms: Vec<(Id, Term)>,
    stop_reason: String,
    iterations: usize,
    applied: IndexMap<&'static str, usize>,
    may_store_more: bool,
}

/// Lets rules add terms until nothing is new or a bound is reached.
pub fn explore(lowered: Lowered, rules: &[&'static dyn Rule], bounds: Bounds) -> Explored {
    let Lowered {
        egraph,
        roots,
        terms,
    } = lowered;
    let limit = (egraph.total_size() + 100) * bounds.growth;
    let rewrites: Vec<_> = rules.iter().map(|rule| rule::rewrite(*rule)).collect();
    let mut runner = Runner::<Term, term::Facts>::new(term::Facts::default())
        .with_egraph(egraph)
        .with_scheduler(SimpleScheduler)
        .with_iter_limit(bounds.iterations)
        .with_node_limit(limit)
        .with_time_limit(bounds.time)
        .run(&rewrites);
    // A limit can stop the runner between a union and its repair.
    runner.egraph.rebuild();
    let mut applied: IndexMap<&'static str, usize> =
        rules.iter().map(|rule| (rule.name(), 0)).collect();
    for (name, n) in runner
        .iterations
        .iter()
        .flat_map(|iteration| &iteration.applied)
    {
        if let Some(total) = applied.get_mut(name.as_str()) {
            *total += n;
        }
    }
    let stop_reason = match &runner.stop_reason {
        Some(StopReason::Saturated) => "saturated".to_string(),
        Some(StopReason::IterationLimit(n)) => format!("iteration limit ({n})"),
        Some(StopReason::NodeLimit(n)) => format!("node limit ({n})"),
        Some(StopReason::TimeLimit(seconds)) => format!("time limit ({seconds:.1} s)"),
        Some(StopReason::Other(why)) => why.clone(),
        None => "not run".to_string(),
    };
    Explored {
        iterations: runner.iterations.len(),
        egraph: runner.egraph,
        roots,
        terms,
        stop_reason,
        applied,
        may_store_more: bounds.may_store_more,
    }
}

impl Saturated {
    /// The operation of what there is now that this one of the graph before became: the first that was made from it.
    pub fn now(&self, node: NodeId) -> Option<NodeId> {
        match &self.graph {
            Some(graph) => graph.nodes().find(|n| self.origins.get(n) == Some(&node)),
            None => Some(node),
        }
    }

    /// The remark that a cheaper graph was found and cannot be had, if so: whoever uses the result says it.
    pub fn refusal(&self) -> Option<String> {
        let why = self.refused.as_ref()?;
        Some(format!("{REFUSED}, and stays as it was: {why}"))
    }
}

/// What a [`Saturated::refusal`] begins with.
pub const REFUSED: &str = "the cheaper network that saturation found is not valid";

/// Bytes that an operation itself takes in a file, about, and weights of as many.
const OPERATION: [u64; 2] = [64, 16];

/// Whether more is stored, in bytes or in weights, than operations went.
fn grows(before: &Stats, after: &Stats) -> bool {
    let gone = before.nodes.saturating_sub(after.nodes) as u64;
    let [bytes, params] = OPERATION.map(|one| one * gone);
    after.bytes > before.bytes + bytes || after.params > before.params + params
}

/// What a stored weight costs in multiply-adds, from one try to the next, while the cheapest graph stores more than there was.
const PRICES: [u64; 9] = [0, 1, 8, 64, 1 << 9, 1 << 12, 1 << 15, 1 << 18, 1 << 21];

impl Explored {
    /// The cheapest graph, if it is cheaper than `graph`, which the terms were made from. It stores no more than that did, unless
    /// the cost is time: fewer multiply-adds are not worth a larger file.
    ///
    /// # Errors
    /// When a rule made terms that do not fit.
    pub fn cheapest(&self, graph: &Graph, cost: &Cost) -> Result<Option<Raised>, String> {
        let before = Stats::of(graph);
        let (base, _) = self.problem(graph, cost, 0);
        for price in PRICES {
            let (problem, known) = self.problem(graph, cost, price);
            let best = problem
                .extract(&known)
                .ok_or("no acyclic choice of terms")?;
            let original: Vec<usize> = known.iter().map(|term| term.unwrap_or(0)).collect();
            let saves = |problem: &Problem| problem.cost(&best.term) < problem.cost(&original);
            if problem.cost(&original).is_some() && !(saves(&problem) && saves(&base)) {
                return Ok(None);
            }
            let raised = self.raised(graph, &best)?;
            let counts = *cost == Cost::Macs && !self.may_store_more;
            if !(counts && grows(&before, &Stats::of(&raised.graph))) {
                return Ok(Some(raised));
            }
        }
        Ok(None)
    }

    /// The graph of these terms.
    fn raised(&self, graph: &Graph, best: &Choice) -> Result<Raised, String> {
        let (egraph, classes) = (&self.egraph, self.classes());
        let choose = |id: Id| {
            let class = classes.get_index_of(&egraph.find(id))?;
            egraph[id].nodes.get(best.term[class])
        };
        raise(egraph, graph, &self.roots, choose)
    }
}

/// The costs of single terms.
struct Weigh<'a> {
    egraph: &'a EGraph,
    model: CostModel<'a>,
    /// What a stored weight costs in the unit of the model.
    price: u64,
}

impl Weigh<'_> {
    /// What a term costs; every term that runs costs something.
    fn term(&self, id: Id, term: &Term) -> extract::Cost {
        let types = &self.egraph[id].data.types;
        let operands: Vec<&Type> = term
            .children
            .iter()
            .map(|c| &self.egraph[*c].data.types[0])
            .collect();
        let (running, stored) = match &term.head {
            Head::Input(_) | Head::Port(_) => (0, 0),
            Head::Constant(id) => (0, self.egraph.analysis.constants.len(*id) as u64),
            Head::Op(op) => (self.model.op(op, &operands, types), 0),
            Head::Opaque(_, opaque) => {
                let op = Op::Opaque(opaque.clone());
                (self.model.op(&op, &operands, types), 0)
            }
            Head::Gather { axis, map } => (self.gather(operands[0], *axis, map, types), 0),
        };
        let running = running.saturating_add(stored.saturating_mul(self.price));
        self.model.total(running, stored)
    }

    /// What the operators cost that the gather becomes.
    fn gather(&self, x: &Type, axis: usize, map: &ChannelMap, results: &[Type]) -> u64 {
        let Ok(steps) = steps(x, axis, map) else {
            return self.model.op(&Op::Identity {}, &[x], results);
        };
        let moves = steps
            .iter()
            .any(|step| matches!(step.op, Op::Gather { .. }));
        let mut ty = x.clone();
        let cost = steps.into_iter().map(|Step { op, factors }| {
            // A product has the type of what it scales; its factors are too few to matter.
            let results = match factors {
                None => infer(&op, &[&ty]).unwrap_or_default(),
                Some(_) => smallvec![ty.clone()],
            };
            let cost = self.model.op(&op, &[&ty], &results);
            ty = results.into_iter().next().unwrap_or(ty.clone());
            cost
        });
        // Where a slice, a pad or a shuffle of the graph does the same, that stays.
        self.model.steps(cost) + if moves { 3 } else { 1 }
    }
}
