//! The runtime as the judge: what was written is compared with what was read, as files, by the runtimes that users run them in.
//!
//! The reader of optc has no say in it: a model that was read wrongly, or written wrongly, computes something else here, while
//! the [reference interpreter](crate::exec) would find both sides equal. ONNX Runtime opens `.onnx`, and libtorch, in a build
//! with it, TorchScript.

mod difference;
mod inputs;
#[cfg(feature = "onnxruntime")]
mod meter;
#[cfg(feature = "onnxruntime")]
mod onnxruntime;
#[cfg(feature = "onnxruntime")]
mod operators;
mod runtime;
mod timing;
#[cfg(feature = "torch")]
mod torch;

pub use difference::OutputChange;
pub use runtime::{Choice, Optimisations};
pub use timing::{Time, Timing, time};

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use crate::analysis::latency::Meter;
use crate::data::Samples;
use crate::exec::{Foreign, Small};
use crate::formats;
use crate::ir::{Dialect, Graph, Tensor};
use crate::{Error, Model, Result};
use difference::Differences;
use inputs::Feeds;
use runtime::{Absent, Judge, Output};

/// How to judge.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who judges.
    pub by: Choice,
    /// Inputs; random ones without them.
    pub samples: Option<Arc<Samples>>,
    /// Whether nothing was fitted to the samples.
    pub held_out: bool,
    /// How many random inputs.
    pub inputs: usize,
    /// The start of their random numbers.
    pub seed: u64,
    /// What sizes without a number are, if the network takes that; else others are tried.
    pub length: i64,
    /// Threads of the runtime; 0 for as many as it likes.
    pub threads: usize,
    /// What the runtime makes of a network before it runs it.
    pub optimisations: Optimisations,
    /// The largest error that is allowed, relative to the largest element of an output, where the passes are exact. An output
    /// that the original itself computes less well may move by several times as much as that.
    pub tolerance: Option<f64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            by: Choice::Auto,
            samples: None,
            held_out: false,
            inputs: 4,
            seed: 0,
            // Few networks make something of an image of 32 x 32.
            length: 224,
            threads: 0,
            optimisations: Optimisations::All,
            tolerance: None,
        }
    }
}

/// What runs the operators of `model` that optc does not know: ONNX Runtime for ONNX's, and optc itself for some of an
/// ExportedProgram's. `None` for other formats.
///
/// # Errors
/// [`Error::Usage`] when ONNX Runtime is not here; it says how to get it.
pub fn operators(model: &Model) -> Result<Option<Arc<dyn Foreign>>> {
    #[cfg(feature = "onnxruntime")]
    if let Some(operators) = operators::Operators::of(model)? {
        return Ok(Some(Arc::new(operators)));
    }
    Ok(model.dialect().and_then(operators_of))
}

/// What runs operators of a format that optc does not know, without any file of theirs.
pub fn operators_of(dialect: Dialect) -> Option<Arc<dyn Foreign>> {
    match dialect {
        Dialect::ExportedProgram => Some(Arc::new(formats::exported_program::evaluate::Operators)),
        _ => None,
    }
}

/// What times networks for [`Cost::Latency`](crate::pipeline::Cost): ONNX Runtime, with so many threads.
///
/// # Errors
/// [`Error::Usage`] when it is not here; it says how to get it.
pub fn meter(threads: usize) -> Result<Box<dyn Meter>> {
    #[cfg(feature = "onnxruntime")]
    return Ok(Box::new(meter::OrtMeter::load(threads)?));
    #[cfg(not(feature = "onnxruntime"))]
    Err(Error::Usage {
        what: format!(
            "times are measured in ONNX Runtime with {threads} threads, and this optc was built without onnxruntime"
        ),
        help: "build one with it: cargo install --path . in a checkout".to_string(),
    })
}

/// The largest weights, in bytes, that [`Choice::Auto`] judges: a runtime takes several times as much memory.
pub const LARGEST: u64 = 1 << 30;
/// Bytes of outputs that are kept to be compared.
const MOST_KEPT: usize = 256 << 20;
/// How much further an exact result may be from the original than that is from itself.
const OWN_ROUNDING: f64 = 4.0;

/// What the judge says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Verdict {
    /// Both files ran.
    Judged(Judgement),
    /// Nobody could judge.
    NotJudged {
        /// Why, and what would help.
        not_judged: String,
    },
}

/// How far what a written file computes is from what the original computes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Who judged, and its version.
    pub by: String,
    /// On what, such as `4 random inputs of 1x3x32x32, 2x3x32x32`.
    pub on: String,
    /// Whether those are samples that nothing was fitted to.
    pub held_out: bool,
    /// How far two runs of the original on one input are from each other; 0 for all but a few.
    pub unsteady: f64,
    /// How far the original's outputs move by its own rounding, relative to the largest element; null where nobody had to ask.
    pub own_rounding: Option<f64>,
    /// Each output.
    pub outputs: Vec<OutputChange>,
    /// Outputs that are no arrays of numbers, and were not compared.
    pub not_compared: Vec<String>,
}

/// Compares the file `written` with the file `original`, which was read as `graph`. `None` where nobody could: the text form is
/// what no runtime opens.
///
/// # Errors
/// [`Error::Refused`] when a runtime runs the original and not what was written, if that has other outputs, or such as are over
/// the tolerance; and
/// [`Error::Usage`] when [`Options::by`] names a judge that is not here or cannot open such files.
pub fn judge(
    original: &Path,
    written: &Path,
    graph: &Graph,
    options: &Options,
) -> Result<Option<Verdict>> {
    let not_judged = |why: String| Ok(Some(Verdict::NotJudged { not_judged: why }));
    let is_text = |path| formats::dialect_of(path).is_none();
    if options.by == Choice::Auto && (is_text(original) || is_text(written)) {
        return Ok(None);
    }
    let constants = graph.nodes().filter_map(|node| graph.constant(node));
    let bytes = constants
        .map(|constant| constant.tensor.byte_len() as u64)
        .sum();
    let judge_of = |path| Judge::of(path, bytes, options);
    let (before, after) = match judge_of(original).and_then(|a| Ok((a, judge_of(written)?))) {
        Ok(judges) => judges,
        Err(Absent { what, help }) if options.by == Choice::Auto => {
            let help = if help.is_empty() {
                help
            } else {
                format!("; {help}")
            };
            return not_judged(format!("{what}{help}"));
        }
        Err(Absent { what, help }) => return Err(Error::Usage { what, help }),
    };
    let kept = match originals(&before, original, graph, options) {
        Ok(kept) => kept,
        Err(what) => return not_judged(format!("{} and the original: {what}", before.title())),
    };
    let refused = |what: String| Error::Refused {
        by: after.title(),
        what,
    };
    let differences = differences(&after, written, &kept, before.title() == after.title());
    let differences = match differences {
        Err(_)
            if options.optimisations == Optimisations::All
                && changes_original(&before, original, &kept) =>
        {
            // Then what the file says is what it computes without them.
            let options = Options {
                optimisations: Optimisations::Off,
                ..options.clone()
            };
            return judge(original, written, graph, &options);
        }
        differences => differences.map_err(refused)?,
    };
    let not_compared = differences.not_compared();
    let outputs = differences.changes();
    let is_over = |output: &OutputChange| options.tolerance.is_some_and(|t| output.max_rel > t);
    let own = if outputs.iter().any(is_over) {
        Some(own_rounding(&before, original, &kept).map_err(refused)?)
    } else {
        None
    };
    if let (Some(own), Some(tolerance)) = (&own, options.tolerance) {
        let on = kept.feeds.about(kept.outputs.len());
        refuse_moved(&outputs, own, tolerance, &on).map_err(refused)?;
    }
    Ok(Some(Verdict::Judged(Judgement {
        by: if before.title() == after.title() {
            after.title()
        } else {
            format!("{} and {}", before.title(), after.title())
        },
        on: kept.feeds.about(kept.outputs.len()),
        held_out: kept.feeds.held_out,
        unsteady: kept.unsteady,
        own_rounding: own.map(|own| own.iter().map(|own| own.max_rel).fold(0.0, f64::max)),
        not_compared,
        outputs,
    })))
}

/// Runs the written file on what the original ran on. `names` says whether outputs must have the original's.
fn differences(
    judge: &Judge,
    written: &Path,
    kept: &Kept,
    names: bool,
) -> Result<Differences, String> {
    let mut session = judge
        .open(written)
        .map_err(|what| format!("it cannot open it: {what}"))?;
    let mut differences = Differences::new(&kept.outputs[0]);
    for (feed, outputs) in kept.feeds.all.iter().zip(&kept.outputs) {
        let mut found = session
            .run(feed)
            .map_err(|what| format!("it cannot run it on {}: {what}", printed(feed)))?;
        if !names {
            // Each runtime has its own.
            let names = outputs.iter().map(|output| &output.name);
            found
                .iter_mut()
                .zip(names)
                .for_each(|(f, name)| f.name.clone_from(name));
        }
        differences.add(outputs, &found)?;
    }
    Ok(differences)
}

/// Refuses an output that moved by more than `tolerance`, and by more than the `own` rounding of the original explains.
fn refuse_moved(
    outputs: &[OutputChange],
    own: &[OutputChange],
    tolerance: f64,
    on: &str,
) -> Result<(), String> {
    for output in outputs {
        let own = own.iter().find(|own| own.name == output.name);
        let most = tolerance.max(OWN_ROUNDING * own.map_or(0.0, |own| own.max_rel));
        if output.max_rel > most {
            return Err(format!(
                "the passes are exact, and the output `{}` moved: {output}, on {on}; the tolerance is {}",
                output.name,
                Small(most)
            ));
        }
    }
    Ok(())
}

/// What the original makes of the inputs.
struct Kept {
    feeds: Feeds,
    /// For each input; there is one at least.
    outputs: Vec<Vec<Output>>,
    unsteady: f64,
}

/// Runs the original on as many inputs as their outputs are few enough to keep.
fn originals(judge: &Judge, path: &Path, graph: &Graph, options: &Options) -> Result<Kept, String> {
    let mut session = judge
        .open(path)
        .map_err(|what| format!("it cannot open it: {what}"))?;
    let (feeds, first) = Feeds::that_run(graph, options, &mut *session)?;
    let again = session.run(&feeds.all[0])?;
    let mut difference = Differences::new(&first);
    difference.add(&first, &again)?;
    let unsteady = difference
        .changes()
        .iter()
        .map(|c| c.max_rel)
        .fold(0.0, f64::max);
    let size = |outputs: &[Output]| -> usize { outputs.iter().map(Output::byte_len).sum() };
    let mut bytes = size(&first);
    let mut outputs = vec![first];
    for feed in &feeds.all[1..] {
        if bytes > MOST_KEPT {
            break;
        }
        let found = session.run(feed)?;
        bytes += size(&found);
        outputs.push(found);
    }
    Ok(Kept {
        feeds,
        outputs,
        unsteady,
    })
}

/// Whether the runtime's optimisations make other outputs of the original than it has without: they believe, for one, a shape that
/// the file declares for a value and that the value has not.
fn changes_original(judge: &Judge, path: &Path, kept: &Kept) -> bool {
    let Ok(mut other) = judge.open_otherwise(path) else {
        return false;
    };
    let mut feeds = kept.feeds.all.iter().zip(&kept.outputs);
    feeds.any(|(feed, outputs)| {
        let found = other.run(feed);
        found.is_ok_and(|found| Differences::new(outputs).add(outputs, &found).is_err())
    })
}

/// How far the original's outputs are from themselves: in a second run, without the runtime's optimisations (or with them), and
/// on inputs that differ in the last place. What rounding does to a network, it does to the result of exact passes too.
fn own_rounding(judge: &Judge, path: &Path, kept: &Kept) -> Result<Vec<OutputChange>, String> {
    let mut differences = Differences::new(&kept.outputs[0]);
    let feeds = || kept.feeds.all.iter().zip(&kept.outputs);
    if let Ok(mut other) = judge.open_otherwise(path) {
        for (feed, outputs) in feeds() {
            differences.add(outputs, &other.run(feed)?)?;
        }
    }
    let mut same = judge.open(path)?;
    for (feed, outputs) in feeds() {
        differences.add(outputs, &same.run(feed)?)?;
        differences.add(outputs, &same.run(&inputs::nudged(feed))?)?;
    }
    Ok(differences.changes())
}

/// The shapes of an input's arrays: `1x3x32x32`.
fn printed(feed: &[(String, Tensor)]) -> String {
    let shape = |(_, tensor): &(String, Tensor)| match tensor.shape() {
        [] => "a scalar".to_string(),
        shape => {
            let sizes: Vec<String> = shape.iter().map(usize::to_string).collect();
            sizes.join("x")
        }
    };
    let shapes: Vec<String> = feed.iter().map(shape).collect();
    shapes.join(" and ")
}

impl Judgement {
    /// The output that moved furthest.
    pub fn furthest(&self) -> Option<&OutputChange> {
        let outputs = self.outputs.iter();
        outputs.max_by(|a, b| a.change.total_cmp(&b.change))
    }

    /// The largest difference of all outputs, relative to the largest element of the same output.
    pub fn max_rel(&self) -> f64 {
        self.outputs.iter().map(|o| o.max_rel).fold(0.0, f64::max)
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cosine = self.outputs.iter().map(|o| o.cosine).fold(1.0, f64::min);
        let agreements = self.outputs.iter().filter_map(|o| o.agreement);
        write!(
            f,
            "{}: max_rel {}, cosine {cosine:.6}",
            self.by,
            Small(self.max_rel())
        )?;
        if let Some(agreement) = agreements.min_by(f64::total_cmp) {
            write!(f, ", same argmax {:.1} %", 100.0 * agreement)?;
        }
        if self.outputs.len() > 1 {
            write!(f, ", at the worst of {} outputs", self.outputs.len())?;
        }
        write!(f, ", on {}", self.on)?;
        if !self.not_compared.is_empty() {
            write!(f, "; not compared: {}", self.not_compared.join(", "))?;
        }
        if let Some(own) = self.own_rounding {
            write!(f, "; rounding alone moves the original by {}", Small(own))?;
        }
        if self.unsteady > 0.0 {
            write!(
                f,
                "; two runs of the original differ by {}",
                Small(self.unsteady)
            )?;
        }
        Ok(())
    }
}
