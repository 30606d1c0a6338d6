//! Measuring how long a runtime takes for operators on this machine, into a [`LatencyTable`].
//!
//! Operators are timed in small networks, a few of the same kind in a row, and what a network of four takes longer than one of
//! one is the time of three: what a run costs by itself, and the way into the runtime's own layout of memory and back, cancel
//! out. A [`Runner`] runs such a network in a runtime.

mod cases;
mod grid;
#[cfg(feature = "onnxruntime")]
pub mod onnxruntime;
#[cfg(feature = "torch")]
pub mod torch;

pub use cases::{Case, Layer};
pub use grid::{grid, separated};

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustc_hash::FxHashMap;

use crate::analysis::latency::{
    Entry, FORMAT, LEAST_SHARE, LatencyTable, Machine, Roofline, Runtime, Shape,
};
use crate::ir::{Dim, Graph, NodeId, Type};
use crate::{Error, Result};

/// A network that is ready; each call runs it once.
pub type Prepared<'a> = Box<dyn FnMut() -> Result<()> + 'a>;

/// Runs networks in a runtime.
pub trait Runner {
    /// The runtime.
    fn runtime(&self) -> Runtime;

    /// The threads that it has.
    fn threads(&self) -> usize;

    /// Loads a network with all sizes known, and makes it an input.
    ///
    /// # Errors
    /// When the runtime refuses it.
    fn prepare<'a>(&'a mut self, graph: &Graph) -> Result<Prepared<'a>>;
}

/// How carefully is measured.
#[derive(Clone, Copy, Debug)]
pub struct Care {
    /// How often the whole grid is gone over, so that what else goes on for a while does not meet one network alone.
    pub rounds: usize,
    /// How often those cases are gone over that the others predict otherwise.
    pub again: usize,
    /// How long a network is run in a round.
    pub time: Duration,
}

impl Default for Care {
    fn default() -> Care {
        Care {
            rounds: 2,
            again: 3,
            time: Duration::from_millis(30),
        }
    }
}

/// Runs of a network in a round, at least.
const LEAST_RUNS: usize = 5;

/// Times every case. `progress` is told what is being timed, and the share of the work that is done.
///
/// # Errors
/// When the runtime refuses a network.
pub fn measure(
    runner: &mut dyn Runner,
    cases: &[Case],
    care: Care,
    progress: &mut dyn FnMut(&str, f64),
) -> Result<LatencyTable> {
    let all: Vec<usize> = (0..cases.len()).collect();
    let mut times = vec![Time::default(); cases.len()];
    // The last quarter of the work is for what has to be measured again.
    for round in 0..care.rounds {
        let mut progress = |what: &str, done: f64| {
            progress(what, 0.75 * (round as f64 + done) / care.rounds as f64);
        };
        time(runner, cases, &all, care, &mut times, &mut progress)?;
    }
    for again in 0..care.again {
        let doubtful = doubtful(&table(runner, cases, &times)?, cases)?;
        let mut progress = |what: &str, done: f64| {
            progress(
                what,
                0.75 + 0.25 * (again as f64 + done) / care.again as f64,
            );
        };
        time(runner, cases, &doubtful, care, &mut times, &mut progress)?;
    }
    table(runner, cases, &times)
}

/// The least times of a case's two networks, in nanoseconds.
#[derive(Clone, Copy)]
struct Time {
    one: f64,
    many: f64,
}

impl Default for Time {
    fn default() -> Time {
        Time {
            one: f64::INFINITY,
            many: f64::INFINITY,
        }
    }
}

impl Time {
    /// Nanoseconds of one of the operators that the case is about, with what is beside it.
    fn operator(&self, case: &Case) -> f64 {
        let longer = (self.many - self.one) / (case.layers() - 1) as f64;
        // Noise can make the longer network the faster one.
        let layer = if longer > 0.0 {
            longer
        } else {
            self.many / case.layers() as f64
        };
        layer / case.operators() as f64
    }
}

/// Times the cases at these positions.
fn time(
    runner: &mut dyn Runner,
    cases: &[Case],
    positions: &[usize],
    care: Care,
    times: &mut [Time],
    progress: &mut dyn FnMut(&str, f64),
) -> Result<()> {
    for (done, i) in positions.iter().enumerate() {
        let case = &cases[*i];
        progress(&case.to_string(), done as f64 / positions.len() as f64);
        let Time { one, many } = &mut times[*i];
        for (layers, least) in [(1, one), (case.layers(), many)] {
            let graph = case.graph(layers).map_err(internal)?;
            let mut run = runner.prepare(&graph)?;
            *least = least.min(fastest(&mut run, care.time)?);
        }
    }
    Ok(())
}

/// The table of what these times say.
fn table(runner: &dyn Runner, cases: &[Case], times: &[Time]) -> Result<LatencyTable> {
    let threads = runner.threads();
    let machine = Machine::this();
    let roofline = Roofline::new(threads, machine.lanes);
    let operators = cases.iter().zip(times).map(|(c, time)| time.operator(c));
    let known: FxHashMap<Case, f64> = cases.iter().copied().zip(operators).collect();
    let time = |case: &Case| known.get(case).copied().unwrap_or_default();
    let mut entries: Vec<Entry> = Vec::new();
    for case in cases {
        let beside = case.beside();
        let own = time(case) - beside.iter().map(time).sum::<f64>() / beside.len().max(1) as f64;
        for shape in shapes(case)? {
            entries.push(Entry {
                shape,
                ns: own.max(LEAST_SHARE * roofline.nanoseconds(&shape)),
            });
        }
    }
    Ok(LatencyTable {
        format: FORMAT,
        optc: env!("CARGO_PKG_VERSION").to_string(),
        runtime: runner.runtime(),
        machine,
        threads,
        date: today(),
        entries,
    })
}

/// The cases that the others predict otherwise, with those that they stand beside. Some are what they are; the rest was
/// disturbed, and times only fall when measured again.
fn doubtful(table: &LatencyTable, cases: &[Case]) -> Result<Vec<usize>> {
    let mut doubtful = Vec::new();
    for case in cases {
        let shapes = shapes(case)?;
        let (own, others): (Vec<Entry>, Vec<Entry>) = table
            .entries
            .iter()
            .partition(|entry| shapes.contains(&entry.shape));
        let kind = |e: &Entry| shapes.iter().any(|shape| shape.op == e.shape.op);
        if !others.iter().any(kind) {
            continue;
        }
        let others = LatencyTable {
            entries: others,
            ..table.clone()
        };
        let off = |e: &Entry| (e.ns / others.nanoseconds(&e.shape)).ln().abs();
        if own.iter().any(|entry| off(entry) > DOUBT.ln()) {
            doubtful.push(*case);
            doubtful.extend(case.beside());
        }
    }
    let is_doubtful = |i: &usize| doubtful.contains(&cases[*i]);
    Ok((0..cases.len()).filter(is_doubtful).collect())
}

/// How far an operator may be from what the others predict before it is measured again, as a factor.
const DOUBT: f64 = 1.3;

/// The fastest of a network's runs, in nanoseconds: other programs only add to it.
fn fastest(run: &mut Prepared<'_>, time: Duration) -> Result<f64> {
    for _ in 0..2 {
        run()?;
    }
    let (mut runs, mut least) = (0, Duration::MAX);
    let start = Instant::now();
    while runs < LEAST_RUNS || start.elapsed() < time {
        let before = Instant::now();
        run()?;
        least = least.min(before.elapsed());
        runs += 1;
    }
    Ok(least.as_nanos() as f64)
}

/// The shapes that a case's time is the time of.
fn shapes(case: &Case) -> Result<Vec<Shape>> {
    let graph = case.graph(1).map_err(internal)?;
    let number = |dim: &Dim| dim.as_number().map_or(0, |n| n.max(0) as u64);
    let shape = |node: NodeId| {
        let op = graph.op(node).filter(|op| case.is_timed(op))?;
        let operands = graph.operands(node);
        let operands: Vec<&Type> = operands.iter().map(|value| graph.ty(*value)).collect();
        Some(Shape::of(op, &operands, &graph.node(node).outputs, &number))
    };
    let mut shapes: Vec<Shape> = Vec::new();
    // What comes first only leads up to the layers.
    for shape in graph
        .nodes()
        .filter(|n| graph.node(*n).name.starts_with("layer"))
        .filter_map(shape)
    {
        if !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    Ok(shapes)
}

/// A layer as a table predicts it, and as it was measured.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The layer.
    pub case: Case,
    /// Nanoseconds, predicted.
    pub predicted: f64,
    /// Nanoseconds, measured.
    pub measured: f64,
}

/// Measures whole layers, of several operators, and predicts them from a table.
///
/// # Errors
/// When the runtime refuses a network.
pub fn check(
    runner: &mut dyn Runner,
    table: &LatencyTable,
    cases: &[Case],
    care: Care,
    progress: &mut dyn FnMut(&str, f64),
) -> Result<Vec<Checked>> {
    let all: Vec<usize> = (0..cases.len()).collect();
    let mut times = vec![Time::default(); cases.len()];
    for round in 0..care.rounds {
        let mut progress =
            |what: &str, done: f64| progress(what, (round as f64 + done) / care.rounds as f64);
        time(runner, cases, &all, care, &mut times, &mut progress)?;
    }
    let mut checked = Vec::new();
    for (case, time) in cases.iter().zip(times) {
        checked.push(Checked {
            case: *case,
            predicted: shapes(case)?.iter().map(|s| table.nanoseconds(s)).sum(),
            measured: time.operator(case),
        });
    }
    Ok(checked)
}

/// An input of a network to time: its shape, and numbers that are neither equal nor extreme.
#[cfg_attr(
    not(any(feature = "onnxruntime", feature = "torch")),
    expect(dead_code, reason = "only runtimes have inputs")
)]
fn input(graph: &Graph, node: NodeId) -> (Vec<usize>, Vec<f32>) {
    let dims = graph.ty(node.into()).shape().unwrap_or_default();
    let shape: Vec<usize> = dims.iter().filter_map(Dim::as_len).collect();
    let n = shape.iter().product();
    (shape, cases::numbers(n, 1.0))
}

/// A network to time that does not fit together: a mistake here.
fn internal(what: String) -> Error {
    Error::Invalid {
        stage: "profiling".into(),
        violations: vec![what],
    }
}

/// The day in Greenwich, such as 2026-01-31.
fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut days = since.map_or(0, |since| since.as_secs() / 86400);
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}
