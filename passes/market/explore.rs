//! Explore: what several budgets would leave of one network, from one search.

use std::sync::{Mutex, PoisonError};

use super::goal::{Answers, Goal};
use super::planner::Plan;
use super::quality::Alike;
use super::search::Search;
use super::{quality, search};
use crate::ir::Graph;
use crate::pipeline::{Changed, Kind, Method, Methods, Offer, Pass, PassContext, PassInfo, Unit};
use crate::{Error, Result};

/// The pass that explores, which pipelines do not have: it changes nothing.
static EXPLORE: PassInfo = PassInfo {
    name: "explore",
    summary: "make what several budgets would leave, and change nothing",
    kind: Kind::Exact,
    options: &[],
    build: |_| {
        Err(Error::Usage {
            what: "`explore` is a command, no pass".into(),
            help: "write `optc explore MODEL`".into(),
        })
    },
};

/// What is worth a refit: any answer that is not the same.
const SAME: Goal = Goal::Keep {
    what: Answers::Agreement,
    least: 1.0,
};

/// A network that costs less, on the curve of what can be had.
#[derive(Debug)]
pub struct Point {
    /// The fraction of the layers' cost that was aimed at.
    pub aim: f64,
    /// The network.
    pub graph: Graph,
    /// How alike its answers are, where there are samples.
    pub alike: Option<Alike>,
    /// By how much the outputs change by forecast, relative to their deviation.
    pub forecast: f64,
    /// What the layers became that are not as they were, in order.
    pub taken: Vec<Taken>,
}

/// What a layer became, or the channels that it writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// The layer.
    pub layer: String,
    /// Whether it is about its channels, and not about its form.
    pub is_channels: bool,
    /// The method.
    pub method: &'static str,
    /// What it made of it, such as `48 of 64 channels`.
    pub what: String,
}

/// Takes points as they are found.
type Sink = Box<dyn FnMut(Point) -> Result<()> + Send>;

/// A pass that makes a [`Point`] for each of some fractions of the layers' cost, and leaves the network as it is.
pub struct Explore {
    methods: Methods,
    aims: Vec<f64>,
    sink: Mutex<Sink>,
}

impl Explore {
    /// Over what `methods` offer, at `aims`, from large to small. `sink` is given each point that is smaller than the last.
    pub fn new(
        methods: Methods,
        aims: Vec<f64>,
        sink: impl FnMut(Point) -> Result<()> + Send + 'static,
    ) -> Explore {
        let sink = Mutex::new(Box::new(sink) as Sink);
        Explore {
            methods,
            aims,
            sink,
        }
    }

    /// Gives the sink every point.
    fn points(&self, search: &Search<'_>, context: &mut PassContext<'_>) -> Result<()> {
        let mut last: Plan = vec![None; search.planner.stalls.len()];
        for (i, aim) in self.aims.iter().enumerate() {
            context.progress("points", i as f64 / self.aims.len() as f64)?;
            let plan = search.planner.plan(aim * search.planner.price());
            if plan == last {
                continue;
            }
            last.clone_from(&plan);
            let point = point(search, *aim, plan, context)?;
            let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
            sink(point)?;
        }
        Ok(())
    }
}

impl Pass for Explore {
    fn info(&self) -> &'static PassInfo {
        &EXPLORE
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        let quality = match context.samples {
            Some(_) => quality(graph, context)?,
            None => None,
        };
        let methods: Vec<&dyn Method> = self.methods.iter().map(|method| &**method).collect();
        let mut explored = graph.clone();
        let name = self.info().name;
        let run = |search: &Search<'_>, context: &mut PassContext<'_>| {
            self.points(search, context)?;
            Ok(None)
        };
        // Batch norms are folded in it.
        let _ = search(name, &methods, quality, &mut explored, context, run)?;
        Ok(Changed::No)
    }
}

/// The network under a plan, refitted where that keeps more of the answers.
fn point(
    search: &Search<'_>,
    aim: f64,
    plan: Plan,
    context: &mut PassContext<'_>,
) -> Result<Point> {
    let planner = &search.planner;
    let forecast: f64 = planner
        .taken(&plan)
        .map(|(.., offer)| planner.loss(offer))
        .sum();
    let became = |(unit, method, offer): (Unit, &'static str, &Offer)| Taken {
        layer: search.name(unit).to_string(),
        is_channels: matches!(unit, Unit::Channels(_)),
        method,
        what: offer.what.clone(),
    };
    let taken: Vec<Taken> = planner.taken(&plan).map(became).collect();
    let (graph, alike) = match &search.quality {
        Some(quality) => {
            let tried = search.tried(plan, SAME, quality, context)?;
            context.used_samples();
            (tried.graph, Some(tried.alike))
        }
        None => {
            let changed = search.changed(&plan)?;
            (search.refitted(changed, &mut search.quiet(context))?, None)
        }
    };
    Ok(Point {
        aim,
        graph: search.cleaned(graph, &mut search.quiet(context))?,
        alike,
        forecast: forecast.sqrt(),
        taken,
    })
}
