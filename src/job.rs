//! A run as a program asks for it that is not written in Rust: settings as JSON, the command's own under the same names, and the
//! [`RunOptions`] that they come to. The interfaces for C and for Python are made of this.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use crate::analysis::latency::{Latency, Measured};
use crate::data::{Data, DataSpec, Samples, Split};
use crate::exec::{self, Foreign};
use crate::ir::Graph;
use crate::pipeline::{Cancellation, Cost, Observer, PassInfo, RunOptions, Verify};
use crate::report::PassReport;
use crate::{Error, Model, Pipeline, Result, dream, judge};

/// What runs where nothing else is said.
const PASSES: &str = "red";
/// What runs where a goal is given: all that can share it.
pub const PASSES_FOR_GOAL: &str = "red,lrf,lowrank,cut";
/// What runs where there are samples and nothing else is said: what is exact, then as far as nearly all answers stay.
const PASSES_FOR_DATA: &str = "red{hash=none},within{agreement=0.99}(red,lrf,lowrank,cut)";
/// What runs before these, and what does where the result is timed in ONNX Runtime too.
const FIRST: &str = "canonicalize";
const FIRST_WHERE_TIMED: &str = "canonicalize,respell";

/// How a run is to be. Each is what the command's option of this name is.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How much is to be left, such as `macs=0.5`.
    pub target: Option<String>,
    /// How much of the answers is to stay, such as `agreement=0.99`.
    pub keep: Option<String>,
    /// Samples to calibrate on, such as `npz:FILE`.
    pub data: Option<String>,
    /// How many of them at most.
    pub samples: usize,
    /// Where what is measured on them is kept, and read from where it is.
    pub statistics: Option<PathBuf>,
    /// Data to compare answers on.
    pub eval: Option<String>,
    /// What to make smaller; what is [usual](usual_cost) if not given.
    pub cost: Option<CostName>,
    /// The start of all random numbers.
    pub seed: u64,
    /// The number of threads; 0 for one a core.
    pub threads: u16,
    /// Which outputs are compared.
    pub verify: VerifyName,
    /// The largest error that exact passes may cause.
    pub tolerance: Option<f64>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            target: None,
            keep: None,
            data: None,
            samples: 256,
            statistics: None,
            eval: None,
            cost: None,
            seed: 0,
            threads: 0,
            verify: VerifyName::Whole,
            tolerance: None,
        }
    }
}

/// A [`Cost`] by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum CostName {
    /// Multiply-adds.
    Macs,
    /// Stored weights.
    Params,
    /// Time as ONNX Runtime takes it, measured as far as passes ask and kept in the user's cache.
    Time,
}

/// A [`Verify`] by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifyName {
    /// None.
    #[serde(rename = "none")]
    Nothing,
    /// Those after the last pass with the original's.
    Whole,
    /// Those around every pass.
    Each,
}

/// What a program has in memory instead of naming it in [`Settings`].
#[derive(Debug, Default)]
pub struct Given {
    /// Instead of `data`.
    pub data: Option<Data>,
    /// Instead of `eval`.
    pub eval: Option<Data>,
    /// Whether it names passes; those that are not weighed against each other go by multiply-adds.
    pub names_passes: bool,
}

impl Settings {
    /// Reads settings; an empty text is the defaults.
    ///
    /// # Errors
    /// [`Error::Text`] for what is no JSON, or has a setting that there is not.
    pub fn parse(json: &str) -> Result<Settings> {
        if json.trim().is_empty() {
            return Ok(Settings::default());
        }
        parse(json)
    }

    /// The passes, under the goal if there is one. `has_data` says whether samples are given beside these settings.
    ///
    /// # Errors
    /// Those of [`Pipeline::parse`]; [`Error::Usage`] for two goals.
    pub fn pipeline(&self, passes: Option<&str>, has_data: bool) -> Result<Pipeline> {
        let goal = self.goal()?;
        pipeline(passes, goal, has_data || self.data.is_some(), false)
    }

    fn goal(&self) -> Result<Option<&str>> {
        match (&self.target, &self.keep) {
            (Some(_), Some(_)) => Err(Error::Usage {
                what: "there is a target, and something to keep".to_string(),
                help: "give one of both".to_string(),
            }),
            (goal, None) | (None, goal) => Ok(goal.as_deref()),
        }
    }

    /// The options of a run on `model`, with data opened for it. `cancellation` ends what takes long here, too.
    ///
    /// # Errors
    /// Those of opening data, and [`Error::Usage`] for what the model or this machine cannot do.
    pub fn options(
        &self,
        model: &Model,
        given: Given,
        cancellation: Cancellation,
    ) -> Result<RunOptions> {
        let mut run = RunOptions {
            seed: self.seed,
            threads: self.threads.into(),
            cost: self.cost(&given)?,
            verify: match self.verify {
                VerifyName::Nothing => Verify::Nothing,
                VerifyName::Whole => Verify::Whole,
                VerifyName::Each => Verify::Each,
            },
            tolerance: self.tolerance,
            statistics: self.statistics.clone(),
            cancellation,
            ..RunOptions::default()
        };
        let mut wanted = self.samples;
        let data = match (given.data, &self.data) {
            (Some(data), _) => Some(data),
            (None, None) => None,
            (None, Some(text)) => {
                let spec: DataSpec = text.parse()?;
                // Samples that are made are all wanted.
                if let Some(dreams) = spec.dreams(&model.graph)? {
                    wanted = dreams.count;
                }
                Some(self.open(&spec, model, &run.cancellation)?)
            }
        };
        let eval = match (given.eval, &self.eval) {
            (Some(data), _) => Some(data),
            (None, None) => None,
            (None, Some(text)) => {
                let spec = text.parse::<DataSpec>()?.prefer(Split::Test);
                Some(self.open(&spec, model, &run.cancellation)?)
            }
        };
        if data.is_some() || eval.is_some() {
            // Without a runtime what is behind such operators is not measured, which the report says.
            run.foreign = foreign(model).unwrap_or_default();
        }
        run.eval = eval.map(Arc::new);
        match data {
            Some(data) => calibrated(run, data, wanted, true),
            None => Ok(run),
        }
    }

    fn open(&self, spec: &DataSpec, model: &Model, cancellation: &Cancellation) -> Result<Data> {
        let threads = self.threads.into();
        dream::open(spec, &model.graph, self.seed, threads, &mut |_| {
            cancellation.check()
        })
    }

    fn cost(&self, given: &Given) -> Result<Cost> {
        let has_data = given.data.is_some() || self.data.is_some();
        let competing = has_data && (self.keep.is_some() || !given.names_passes);
        match self.cost {
            Some(CostName::Macs) => Ok(Cost::Macs),
            Some(CostName::Params) => Ok(Cost::Params),
            Some(CostName::Time) => time(self.threads, &mut |_| {}),
            // What can be warned of is in the report, too: what was measured, and where.
            None => usual_cost(self.goal()?, competing, self.threads, &mut |_| {}),
        }
    }
}

/// The passes, those that are usual without any, under a goal if there is one. `is_timed` says whether what passes for ONNX Runtime
/// cost is found out.
///
/// # Errors
/// Those of [`Pipeline::parse`] and [`Pipeline::within`].
pub fn pipeline(
    passes: Option<&str>,
    goal: Option<&str>,
    has_data: bool,
    is_timed: bool,
) -> Result<Pipeline> {
    let default = match goal {
        Some(_) => PASSES_FOR_GOAL,
        None if has_data => PASSES_FOR_DATA,
        None => PASSES,
    };
    let first = if is_timed { FIRST_WHERE_TIMED } else { FIRST };
    let pipeline = match passes {
        Some(passes) => Pipeline::parse(passes)?,
        None => Pipeline::parse(&format!("{first},{default}"))?,
    };
    match goal {
        Some(goal) => pipeline.within(goal),
        None => Ok(pipeline),
    }
}

/// What is made smaller where nobody says: time for a target of time, and for `competing` passes that go as far as answers stay, if
/// there is a runtime to measure it in; else multiply-adds. `warn` is told what is not as it might be.
///
/// # Errors
/// That there is no runtime for a target of time.
pub fn usual_cost(
    goal: Option<&str>,
    competing: bool,
    threads: u16,
    warn: &mut dyn FnMut(&str),
) -> Result<Cost> {
    match goal.and_then(|goal| goal.split_once('=')) {
        Some(("time", _)) => time(threads, warn),
        Some(("macs" | "params", _)) => Ok(Cost::Macs),
        _ if !competing => Ok(Cost::Macs),
        _ => Ok(time(threads, warn).unwrap_or_else(|error| {
            warn(&format!(
                "multiply-adds are counted, as times cannot be measured: {error}"
            ));
            Cost::Macs
        })),
    }
}

/// Time as ONNX Runtime takes it on so many threads, or on one, kept in this user's cache; `warn` is told where that is of no use.
///
/// # Errors
/// That there is no runtime.
pub fn time(threads: u16, warn: &mut dyn FnMut(&str)) -> Result<Cost> {
    let (measured, warning) = Measured::cached(judge::meter(threads.max(1).into())?);
    if let Some(warning) = warning {
        warn(&warning);
    }
    Ok(Cost::Latency(Arc::new(Latency::Measured(measured))))
}

/// Reads what a program gives as JSON; a mistake is pointed at.
///
/// # Errors
/// [`Error::Text`].
pub fn parse<'t, T: Deserialize<'t>>(json: &'t str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| {
        let lines = json
            .split_inclusive('\n')
            .take(error.line().saturating_sub(1));
        let at = lines.map(str::len).sum::<usize>() + error.column().saturating_sub(1);
        Error::Text {
            what: error.to_string(),
            text: json.to_string(),
            at,
            help: "settings are a JSON object, such as {\"seed\": 1}".to_string(),
        }
    })
}

/// A run that calibrates on `wanted` samples of `data`; where there are enough, more are held out for what is measured on the way.
///
/// # Errors
/// As [`Data::sample`].
pub fn calibrated(
    run: RunOptions,
    data: Data,
    wanted: usize,
    hold_out: bool,
) -> Result<RunOptions> {
    let (samples, held_out) = if hold_out {
        // Those that are held out come on top.
        let all = data.sample(Samples::with_held_out(wanted), run.seed)?;
        all.hold_out()
    } else {
        (data.sample(wanted, run.seed)?, None)
    };
    Ok(RunOptions {
        samples: Some(Arc::new(samples)),
        held_out: held_out.map(Arc::new),
        data: Some(Arc::new(data)),
        ..run
    })
}

/// What runs the operators of a model that optc does not know, if there are any.
///
/// # Errors
/// [`Error::Usage`] when it takes a runtime that is not here.
pub fn foreign(model: &Model) -> Result<Option<Arc<dyn Foreign>>> {
    if exec::unknown_operators(&model.graph, None).is_empty() {
        return Ok(None);
    }
    judge::operators(model)
}

/// The kinds of mistakes, for languages that tell errors by a few kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The system refused a file.
    System(io::ErrorKind),
    /// Settings, a pipeline or a shape that cannot be read, or do not fit the model.
    Usage,
    /// A model that cannot be read, or not be written in this format.
    Model,
    /// Samples that cannot be taken.
    Data,
    /// A pass failed.
    Pass,
    /// The result was refused, as it computes something else.
    Verification,
    /// The run was asked to end.
    Interrupted,
    /// Anything else.
    Other,
}

impl Fault {
    /// The kind of an error.
    pub fn of(error: &Error) -> Fault {
        if let Some(kind) = refused_by_system(error) {
            return Fault::System(kind);
        }
        match error {
            Error::Usage { .. } | Error::Text { .. } => Fault::Usage,
            Error::Model { .. } | Error::Format { .. } => Fault::Model,
            Error::Data { .. } => Fault::Data,
            Error::Verification { .. } | Error::Refused { .. } | Error::Moved { .. } => {
                Fault::Verification
            }
            Error::Interrupted(_) => Fault::Interrupted,
            // What the caller asked of a pass is the caller's mistake there, too.
            Error::Pass { source, .. } => match Fault::of(source) {
                Fault::Usage => Fault::Usage,
                _ => Fault::Pass,
            },
            Error::Invalid { .. } | Error::Run { .. } => Fault::Pass,
            _ => Fault::Other,
        }
    }
}

/// What the system found wrong.
fn refused_by_system(error: &Error) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found.kind());
        }
        cause = error.source();
    }
    None
}

/// Tells a function where a run is: the pass or what else is done, the layer, and the fraction that is done.
pub struct Told<F>(pub F);

impl<F: FnMut(&str, &str, f64) + Send> Observer for Told<F> {
    fn pass_started(&mut self, pass: &PassInfo) {
        (self.0)(pass.name, "", 0.0);
    }

    fn progress(&mut self, pass: &PassInfo, layer: &str, fraction: f64) {
        (self.0)(pass.name, layer, fraction);
    }

    fn pass_finished(&mut self, report: &PassReport, _: &Graph) {
        (self.0)(&report.name, "", 1.0);
    }

    fn evaluating(&mut self, fraction: f64) {
        (self.0)("evaluation", "", fraction);
    }

    fn verifying(&mut self, _: &str) {
        (self.0)("verification", "", 0.0);
    }
}
