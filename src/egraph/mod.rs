//! Equality saturation over the IR.
//!
//! [`saturate`] lowers a graph to terms, lets rules add equal terms until nothing is new or a bound is reached, and extracts
//! the cheapest graph. Constants that rules make are recipes ([`constants`]) whose numbers are computed only when needed.
//! How the pieces fit: [`lower`] -> egg's runner with [`Rule`]s -> [`extract`] -> [`raise`].

pub mod constants;
pub mod extract;
pub mod instance;
mod lower;
pub mod picks;
mod raise;
mod rule;
pub mod term;

use std::time::{Duration, Instant};

use egg::{Id, Runner, SimpleScheduler, StopReason};
use indexmap::IndexMap;
use rustc_hash::FxHashMap;

use crate::analysis::cost::op_flops;
use crate::ir::{Bindings, Dim, Graph, Symbol, Type};
use crate::pipeline::Cost;
use crate::{Error, Result};
use extract::{Candidate, Problem};
pub use lower::{Lowered, lower};
pub use raise::raise;
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
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            iterations: 60,
            growth: 40,
            time: Duration::from_secs(600),
        }
    }
}

/// What a saturation did.
#[derive(Clone, Debug)]
pub struct Saturated {
    /// The cheaper graph; `None` if none is cheaper than what there was.
    pub graph: Option<Graph>,
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
/// When a rule made terms that do not fit: a mistake of the rule, which the error names as far as it can.
pub fn saturate(
    graph: &Graph,
    rules: &[&'static dyn Rule],
    cost: Cost,
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
    let better = explored.cheapest(graph, cost).map_err(internal)?;
    let after_extraction = start.elapsed();
    let seconds = [
        after_lowering,
        after_rules - after_lowering,
        after_extraction - after_rules,
    ];
    Ok(Saturated {
        graph: better,
        terms: explored.egraph.total_size(),
        classes: explored.egraph.number_of_classes(),
        stop_reason: explored.stop_reason,
        iterations: explored.iterations,
        applied: explored.applied,
        seconds: seconds.map(|d| d.as_secs_f64()),
    })
}

/// A graph's terms and all that rules found equal to them.
pub struct Explored {
    egraph: EGraph,
    roots: Vec<Id>,
    terms: Vec<(Id, Term)>,
    stop_reason: String,
    iterations: usize,
    applied: IndexMap<&'static str, usize>,
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
    }
}

impl Explored {
    /// The cheapest graph, if it is cheaper than `graph`, which the terms were made from.
    ///
    /// # Errors
    /// When a rule made terms that do not fit.
    pub fn cheapest(&self, graph: &Graph, cost: Cost) -> Result<Option<Graph>, String> {
        cheapest(&self.egraph, graph, &self.roots, &self.terms, cost)
    }
}

/// The cheapest graph of the e-graph, if it is cheaper than the one of the original `terms`.
fn cheapest(
    egraph: &EGraph,
    graph: &Graph,
    roots: &[Id],
    terms: &[(Id, Term)],
    cost: Cost,
) -> Result<Option<Graph>, String> {
    let mut ids: Vec<Id> = egraph.classes().map(|class| class.id).collect();
    ids.sort();
    let position: FxHashMap<Id, usize> = ids.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let at = |id: Id| position[&egraph.find(id)];
    let weigh = Weigh {
        egraph,
        bindings: &graph.bindings,
        cost,
    };
    let candidates = |id: &Id| -> Vec<Candidate> {
        let candidate = |term: &Term| Candidate {
            cost: weigh.term(*id, term),
            children: term.children.iter().map(|c| at(*c)).collect(),
        };
        egraph[*id].nodes.iter().map(candidate).collect()
    };
    let problem = Problem {
        classes: ids.iter().map(candidates).collect(),
        roots: roots.iter().map(|id| at(*id)).collect(),
    };
    // The terms of the graph as it was; where two of them turned out equal, the first.
    let mut known = vec![None; ids.len()];
    for (id, term) in terms.iter().rev() {
        let mut term = term.clone();
        term.children.iter_mut().for_each(|c| *c = egraph.find(*c));
        known[at(*id)] = egraph[*id].nodes.iter().position(|t| *t == term);
    }
    let best = problem
        .extract(&known)
        .ok_or("no acyclic choice of terms")?;
    let original: Vec<usize> = known.iter().map(|term| term.unwrap_or(0)).collect();
    if problem
        .cost(&original)
        .is_some_and(|before| best.cost >= before)
    {
        return Ok(None);
    }
    let choose = |id: Id| egraph[id].nodes.get(best.term[at(id)]);
    raise(egraph, graph, roots, choose).map(Some)
}

/// What sizes without a number count as, where two alternatives are weighed against each other.
const UNKNOWN_SIZE: i64 = 16;

/// Multiply-adds that an element written costs: a core does that many while it waits for memory.
const WRITE: u128 = 16;

/// The costs of single terms.
struct Weigh<'a> {
    egraph: &'a EGraph,
    bindings: &'a Bindings,
    cost: Cost,
}

impl Weigh<'_> {
    /// The aim in the upper half, the other measure in the lower; every term that runs costs at least 1.
    fn term(&self, id: Id, term: &Term) -> extract::Cost {
        let (work, stored) = match &term.head {
            Head::Input(_) | Head::Port(_) => (0, 0),
            Head::Constant(constant) => (0, self.egraph.analysis.constants.len(*constant) as u128),
            head => (self.work(id, term, matches!(head, Head::Gather { .. })), 0),
        };
        match self.cost {
            Cost::Flops => work << 64 | stored,
            Cost::Params => stored << 64 | work,
        }
    }

    /// Multiply-adds, and [`WRITE`] for each element written: moving data is not free, and fewer operators are better.
    fn work(&self, id: Id, term: &Term, gather: bool) -> u128 {
        let class = &self.egraph[id].data;
        let size = |dim: &Dim| self.number(dim);
        let written: u128 = class
            .types
            .iter()
            .filter_map(Type::shape)
            .map(|shape| shape.iter().map(size).product::<u128>())
            .sum();
        let operands: Vec<&Type> = term
            .children
            .iter()
            .map(|c| &self.egraph[*c].data.types[0])
            .collect();
        let flops = match &term.head {
            Head::Op(op) => op_flops(op, &operands, &class.types).map_or(0, |n| self.number(&n)),
            _ => 0,
        };
        // A gather may become more than one operator; where a slice or a pad of the graph does the same, that stays.
        flops + WRITE * written + 1 + u128::from(gather)
    }

    fn number(&self, dim: &Dim) -> u128 {
        let replace =
            |name: &Symbol| Some(Dim::from(*self.bindings.get(name).unwrap_or(&UNKNOWN_SIZE)));
        dim.substitute(&replace)
            .as_number()
            .map_or(0, |n| n.max(0) as u128)
            .min(u128::from(u32::MAX) << 20)
    }
}
