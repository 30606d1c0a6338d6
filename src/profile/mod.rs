//! Measuring how long a runtime takes for operators on this machine, into a [`LatencyTable`].
//!
//! Operators are timed in small networks, a few of the same kind in a row, and what a network of four takes longer than one of
//! one is the time of three: what a run costs by itself, and the way into the runtime's own layout of memory and back, cancel
//! out. A [`Runner`] runs such a network in a runtime.

mod cases;
#[cfg(feature = "onnxruntime")]
pub mod onnxruntime;
#[cfg(feature = "torch")]
pub mod torch;

pub use cases::{Case, Layer, grid, separated};

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustc_hash::FxHashMap;

use crate::analysis::latency::{Entry, FORMAT, LatencyTable, Machine, Roofline, Runtime, Shape};
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
    /// How long a network is run in a round.
    pub time: Duration,
}

impl Default for Care {
    fn default() -> Care {
        Care {
            rounds: 3,
            time: Duration::from_millis(30),
        }
    }
}

/// Runs of a network in a round, at least.
const LEAST_RUNS: usize = 5;

/// The least that an operator is taken to cost, as a share of what a roofline says: next to nothing, where the runtime does it
/// together with another.
const LEAST_SHARE: f64 = 0.02;

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
    let threads = runner.threads();
    let roofline = Roofline::new(threads, 8);
    let times = times(runner, cases, care, progress)?;
    let known: FxHashMap<Case, f64> = cases.iter().copied().zip(times.iter().copied()).collect();
    let mut entries: Vec<Entry> = Vec::new();
    for (case, ns) in cases.iter().zip(times) {
        let beside = case.beside();
        let share = |other: &Case| known.get(other).copied().unwrap_or_default();
        let own = ns - beside.iter().map(share).sum::<f64>() / beside.len().max(1) as f64;
        for shape in shapes(case)? {
            entries.push(Entry {
                shape,
                ns: own.max(LEAST_SHARE * roofline.nanoseconds(&shape)),
            });
        }
    }
    entries.dedup_by(|a, b| a.shape == b.shape);
    Ok(LatencyTable {
        format: FORMAT,
        optc: env!("CARGO_PKG_VERSION").to_string(),
        runtime: runner.runtime(),
        machine: Machine::this(),
        threads,
        date: today(),
        entries,
    })
}

/// Nanoseconds of one layer of each case.
fn times(
    runner: &mut dyn Runner,
    cases: &[Case],
    care: Care,
    progress: &mut dyn FnMut(&str, f64),
) -> Result<Vec<f64>> {
    let mut least = vec![[f64::INFINITY; 2]; cases.len()];
    let total = (care.rounds * cases.len()).max(1) as f64;
    for round in 0..care.rounds {
        for (i, case) in cases.iter().enumerate() {
            let done = (round * cases.len() + i) as f64 / total;
            progress(&case.to_string(), done);
            for (layers, least) in [1, case.layers()].into_iter().zip(&mut least[i]) {
                let graph = case.graph(layers).map_err(internal)?;
                let mut run = runner.prepare(&graph)?;
                *least = least.min(fastest(&mut run, care.time)?);
            }
        }
    }
    let layer = |(case, [one, many]): (&Case, [f64; 2])| {
        let longer = (many - one) / (case.layers() - 1) as f64;
        // Noise can make the longer network the faster one.
        let layer = if longer > 0.0 {
            longer
        } else {
            many / case.layers() as f64
        };
        layer / case.operators() as f64
    };
    Ok(cases.iter().zip(least).map(layer).collect())
}

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
    let measured = times(runner, cases, care, progress)?;
    let mut checked = Vec::new();
    for (case, measured) in cases.iter().zip(measured) {
        checked.push(Checked {
            case: *case,
            predicted: shapes(case)?
                .iter()
                .map(|shape| table.nanoseconds(shape))
                .sum(),
            measured,
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
