//! Times that are measured in the runtime when they are first asked for, and kept.
//!
//! What is timed is a [chain](chain) of operators in the sizes that a decision is about, as a network of its own; `time` is how
//! turns become a time, and `set` the file that times are kept in. A [`Meter`] runs the networks.

mod chain;
mod set;
mod time;

pub use set::Setting;
pub use time::Time;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::{FxHashMap, FxHashSet};

use super::table::nearness;
use super::{Kind, LEAST_SHARE, Machine, Roofline, Runtime, Shape};
use crate::analysis::candidate::CandidateOp;
use crate::ir::{Dim, Graph, Op, Type};
use crate::{Error, Result};
use chain::Chain;
use set::{Measurement, Measurements};

/// A runtime that times networks.
pub trait Meter: fmt::Debug + Send + Sync {
    /// The runtime.
    fn runtime(&self) -> Runtime;

    /// The threads that it has.
    fn threads(&self) -> usize;

    /// How long a network takes whose sizes are all numbers.
    ///
    /// # Errors
    /// Why the runtime refuses it.
    fn time(&self, network: &Graph) -> Result<Time, String>;
}

/// How much is measured in one run at most; what is beyond is estimated.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Single operators.
    pub operators: usize,
    /// Chains of candidates.
    pub chains: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            operators: 400,
            chains: 1000,
        }
    }
}

/// After how many new measurements the file is written.
const SAVED_EVERY: usize = 32;

/// Times of operators and chains of them, measured when they are first asked for. The same measurements give the same answers,
/// as long as questions come in the same order; ask from one thread while nothing else computes, or times are of little worth.
#[derive(Debug)]
pub struct Measured {
    meter: Box<dyn Meter>,
    setting: Setting,
    limits: Limits,
    roofline: Roofline,
    /// Where measurements are kept, if they are.
    file: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    measurements: Measurements,
    /// Those that were of use.
    used: FxHashSet<String>,
    /// How many are not from the file, and how many of these are not in it.
    new: usize,
    unsaved: usize,
    answers: FxHashMap<String, Answer>,
    /// How many single operators were asked for, and how many chains of candidates.
    operators: usize,
    chains: usize,
    /// What was measured, by kinds of operators.
    known: FxHashMap<Vec<Kind>, Vec<Known>>,
}

/// How far a chain that was measured is from the roofline: its operators, and the logarithm of the ratio.
#[derive(Debug)]
struct Known {
    shapes: Vec<Shape>,
    off: f64,
}

/// What is said of a chain.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Nanoseconds.
    Measured(f64),
    /// Nanoseconds, from the roofline and how far that is off.
    Estimated(f64),
    /// The runtime refuses it.
    Refused(f64),
}

/// Who asks.
#[derive(Clone, Copy)]
enum Question {
    Operator,
    Candidate,
}

impl Measured {
    /// What this meter measures, kept nowhere.
    pub fn new(meter: Box<dyn Meter>) -> Measured {
        let setting = Setting {
            runtime: meter.runtime(),
            machine: Machine::this(),
            threads: meter.threads(),
        };
        Measured {
            roofline: Roofline::new(setting.threads, setting.machine.lanes),
            meter,
            setting,
            limits: Limits::default(),
            file: None,
            state: Mutex::default(),
        }
    }

    /// The same, kept in this user's cache; and a warning where that is of no use.
    pub fn cached(meter: Box<dyn Meter>) -> (Measured, Option<String>) {
        match set::cache_folder() {
            Some(folder) => Measured::cached_in(&folder, meter),
            None => {
                let warning =
                    "measured times are not kept: neither XDG_CACHE_HOME nor HOME names a folder";
                (Measured::new(meter), Some(warning.to_string()))
            }
        }
    }

    /// The same, kept in a folder, in a file for the processor, the runtime and its threads.
    pub fn cached_in(folder: &Path, meter: Box<dyn Meter>) -> (Measured, Option<String>) {
        let new = Measured::new(meter);
        let path = folder.join(new.setting.file_name());
        let (measurements, warning) = match set::read(&path, &new.setting) {
            Ok(measurements) => (measurements, None),
            Err(why) => {
                let warning = format!("measuring anew, without {}: {why}", path.display());
                (Measurements::new(), Some(warning))
            }
        };
        (new.kept(path, measurements), warning)
    }

    /// The same, kept in this file: what is in it is taken, and what is missing is added.
    ///
    /// # Errors
    /// [`Error::Latency`] for a file that is no set of measurements, or one of another processor or runtime.
    pub fn pinned(path: &Path, meter: Box<dyn Meter>) -> Result<Measured> {
        let new = Measured::new(meter);
        let measurements = set::read(path, &new.setting).map_err(|what| Error::Latency {
            path: path.to_path_buf(),
            what,
            help: "name a file that is not there yet, and it is made".to_string(),
        })?;
        Ok(new.kept(path.to_path_buf(), measurements))
    }

    /// The same with other limits.
    pub fn with_limits(mut self, limits: Limits) -> Measured {
        self.limits = limits;
        self
    }

    fn kept(mut self, path: PathBuf, measurements: Measurements) -> Measured {
        self.file = Some(path);
        self.state
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .measurements = measurements;
        self
    }

    /// Writes what is new into the file.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Latency`] where it cannot be written.
    pub fn save(&self) -> Result<()> {
        self.save_state(&mut self.state())
    }

    fn save_state(&self, state: &mut State) -> Result<()> {
        if let Some(file) = self.file.as_ref().filter(|_| state.unsaved > 0) {
            set::write(file, &self.setting, &state.measurements)?;
            state.unsaved = 0;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of it is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was measured so far, and where: `onnxruntime 1.22.0 on .., 1 thread: 123 measurements, 4 of them new`.
    pub fn described(&self) -> String {
        let state = self.state();
        let (used, new) = (state.used.len(), state.new);
        let s = if used == 1 { "" } else { "s" };
        format!("{self}: {used} measurement{s}, {new} of them new")
    }

    /// Nanoseconds that an operator takes. What cannot be measured, and what is beyond the limit, is estimated.
    pub(super) fn operator(
        &self,
        op: &Op,
        operands: &[&Type],
        results: &[Type],
        number: &dyn Fn(&Dim) -> u64,
    ) -> f64 {
        let expected = self
            .roofline
            .nanoseconds(&Shape::of(op, operands, results, number));
        // Runtimes only look at the same memory in another way.
        if expected == 0.0 {
            return expected;
        }
        let operands = operands.iter().map(|ty| (*ty).clone()).collect();
        let step = CandidateOp::new(op.clone(), operands);
        let Some(chain) = step.and_then(|step| Chain::of(&[step], number)) else {
            return expected;
        };
        match self.ask(&chain, Question::Operator) {
            Answer::Measured(ns) | Answer::Estimated(ns) | Answer::Refused(ns) => ns,
        }
    }

    /// Nanoseconds that operators take together, each on the result of the one before; `None` where the runtime refuses them.
    pub(crate) fn chain(&self, plan: &[CandidateOp], number: &dyn Fn(&Dim) -> u64) -> Option<f64> {
        match self.ask(&Chain::of(plan, number)?, Question::Candidate) {
            Answer::Measured(ns) | Answer::Estimated(ns) => Some(ns),
            Answer::Refused(_) => None,
        }
    }

    fn ask(&self, chain: &Chain, question: Question) -> Answer {
        let key = chain.key();
        // Held while something is measured: two at a time would disturb each other.
        let state = &mut *self.state();
        let known = state.answers.get(&key).copied();
        if let Some(known @ (Answer::Measured(_) | Answer::Refused(_))) = known {
            return known;
        }
        let (asked, limit) = match question {
            Question::Operator => (&mut state.operators, self.limits.operators),
            Question::Candidate => (&mut state.chains, self.limits.chains),
        };
        if *asked >= limit {
            // An estimate stays what it was, whatever is measured meanwhile.
            let estimate = || Answer::Estimated(state.estimate(chain, &self.roofline));
            let answer = known.unwrap_or_else(estimate);
            state.answers.insert(key, answer);
            return answer;
        }
        *asked += 1;
        let answer = match self.own_time(state, chain, &key) {
            Some(ns) => {
                state.learn(chain, ns, &self.roofline);
                Answer::Measured(ns)
            }
            None => Answer::Refused(state.estimate(chain, &self.roofline)),
        };
        state.answers.insert(key, answer);
        answer
    }

    /// The time of a chain without what stands around it.
    fn own_time(&self, state: &mut State, chain: &Chain, key: &str) -> Option<f64> {
        let whole = self.time(state, key, || chain.network())?;
        let idle = self.time(state, chain::IDLE_KEY, chain::idle)?;
        let mut own = whole - idle;
        for ty in chain.framed() {
            // A frame is two cheap layers, one of which is here.
            let frame = self.time(state, &chain::frame_key(&ty), || chain::frame(&ty))?;
            own -= (frame - idle) / 2.0;
        }
        Some(own.max(LEAST_SHARE * chain.expected(&self.roofline)))
    }

    /// The time of a network, measured now or before.
    fn time(
        &self,
        state: &mut State,
        key: &str,
        network: impl FnOnce() -> Result<Graph, String>,
    ) -> Option<f64> {
        if !state.measurements.contains_key(key) {
            let measurement = match network().and_then(|graph| self.meter.time(&graph)) {
                Ok(time) => Measurement::Timed(time),
                Err(refused) => Measurement::Refused { refused },
            };
            state.measurements.insert(key.to_string(), measurement);
            state.new += 1;
            state.unsaved += 1;
            if state.unsaved.is_multiple_of(SAVED_EVERY) {
                // Whoever asks in the end is told.
                let _ = self.save_state(state);
            }
        }
        state.used.insert(key.to_string());
        match state.measurements.get(key) {
            Some(Measurement::Timed(time)) => Some(time.ns),
            _ => None,
        }
    }
}

impl State {
    /// Learns how far the roofline is off.
    fn learn(&mut self, chain: &Chain, ns: f64, roofline: &Roofline) {
        let expected = chain.expected(roofline);
        if expected > 0.0 {
            self.known.entry(chain.kinds()).or_default().push(Known {
                shapes: chain.shapes().collect(),
                off: (ns / expected).ln(),
            });
        }
    }

    /// What the roofline says, as far off as it is where the same kinds of operators were measured, the nearest counting most; or as
    /// it is for all.
    fn estimate(&self, chain: &Chain, roofline: &Roofline) -> f64 {
        let shapes: Vec<Shape> = chain.shapes().collect();
        let weighed = |known: &Known| {
            let apart = shapes.iter().zip(&known.shapes).map(|(a, b)| a.distance(b));
            (nearness(apart.sum()), known.off)
        };
        let offs: Vec<(f64, f64)> = match self.known.get(&chain.kinds()) {
            Some(alike) => alike.iter().map(weighed).collect(),
            None => self
                .known
                .values()
                .flatten()
                .map(|k| (1.0, k.off))
                .collect(),
        };
        let weights: f64 = offs.iter().map(|(weight, _)| weight).sum();
        let sum: f64 = offs.iter().map(|(weight, off)| weight * off).sum();
        let off = if weights > 0.0 { sum / weights } else { 0.0 };
        chain.expected(roofline) * off.exp()
    }
}

/// Where is measured, without what was.
impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.setting.fmt(f)
    }
}

/// Each has measured for itself.
impl PartialEq for Measured {
    fn eq(&self, other: &Measured) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // Who wants to know whether it worked has saved it before.
        let _ = self.save();
    }
}
