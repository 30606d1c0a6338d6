//! What a run did, and what is in a model, for programs (JSON) and, with the feature `cli`, for people (a table).

mod inspection;
#[cfg(feature = "cli")]
mod inspection_table;
mod remark;
#[cfg(feature = "cli")]
mod table;

pub use inspection::{Inspection, Layer, Tied, Typed};
#[cfg(feature = "cli")]
pub use inspection_table::inspection_table;
pub use remark::{Kind, Remark, RemarkKind};
#[cfg(feature = "cli")]
pub use table::{grouped, numbers, table};

use serde::Serialize;

pub use crate::analysis::{Masked, Sparsity, Stats};
use crate::data::Samples;
pub use crate::exec::{Behind, Moved, Verification};
pub use crate::formats::FileFacts;
use crate::judge::{Timing, Verdict};

/// What a pipeline did to a model. As JSON it is the file that `optc --report` writes, with all that was measured and compared.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The version of optc.
    pub optc: &'static str,
    /// The model's file; empty for a model that did not come from one.
    pub model: String,
    /// The pipeline's canonical text.
    pub pipeline: String,
    /// The start of all random numbers.
    pub seed: u64,
    /// What was made smaller, such as "macs"; for time also what it was predicted from, or where and how often it was measured.
    pub cost: String,
    /// What one run takes, as that predicts; null unless it is time.
    #[doc(hidden)]
    pub predicted_seconds: Option<Change>,
    /// The graph's size and cost before the first pass.
    pub before: Stats,
    /// The same after the last.
    pub after: Stats,
    /// What masks hold at zero after the last pass; null where no constant is masked.
    #[doc(hidden)]
    pub sparsity: Option<Sparsity>,
    /// Every run of a pass, in order.
    pub passes: Vec<PassReport>,
    /// Whether every pass that changed something is exact.
    pub exact: bool,
    /// How far the outputs moved as optc itself computes it, a forecast; null when verification was switched off.
    #[doc(hidden)]
    pub verify: Option<Verification>,
    /// How far the outputs moved as a runtime finds it in the files; null where none was asked.
    #[doc(hidden)]
    pub judge: Option<Verdict>,
    /// How long the file that was read and the one that was written take, and what was taken back since it made the network slower;
    /// null when it was not asked for.
    #[doc(hidden)]
    pub time: Option<Measured>,
    /// The inputs that passes could calibrate on; null when there were none.
    #[doc(hidden)]
    pub calibration: Option<Calibration>,
    /// The share of right answers before and after; null when it was not asked for.
    #[doc(hidden)]
    pub eval: Option<Evaluation>,
}

/// How long files take in a runtime.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// The file that was read, and the one that was written: with one thread, and with as many as were asked for.
    pub timings: Vec<Timing>,
    /// The passes that were left out in the end, since with them the network took longer.
    pub taken_back: Vec<TakenBack>,
    /// Why nothing was measured, if that is so.
    pub not_measured: Option<String>,
}

/// A pass that was left out.
#[derive(Clone, Debug, Serialize)]
pub struct TakenBack {
    /// The pass.
    pub pass: String,
    /// What was measured with it.
    pub why: String,
}

/// The inputs that passes could calibrate on.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// The data's specification, such as `npz:data.npz`.
    pub data: String,
    /// How many of its samples.
    pub samples: usize,
    /// Whether any pass learnt something from them.
    pub used: bool,
    /// What ran the network on them: optc's interpreter, and for the operators that it does not know a runtime.
    pub run_by: String,
    /// What could not use them, pass by pass, and why.
    pub missed: Vec<String>,
    /// Damaged samples that were left out, and why.
    pub left_out: Vec<String>,
}

impl Calibration {
    pub(crate) fn of(
        samples: &Samples,
        used: bool,
        missed: Vec<String>,
        foreign: Option<String>,
    ) -> Calibration {
        let own = "the reference interpreter";
        Calibration {
            used,
            missed,
            run_by: match foreign {
                Some(foreign) => format!("{own} and {foreign}"),
                None => own.to_string(),
            },
            data: samples.name.clone(),
            samples: samples.len(),
            left_out: samples.left_out.clone(),
        }
    }
}

/// How the original and the result do on data.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// The data's specification, such as `npz:data.npz`.
    pub data: String,
    /// How many samples were tried.
    pub samples: usize,
    /// Damaged samples that were left out, and why.
    pub left_out: Vec<String>,
    /// The share of them that was right before the first pass, 0 to 1; null where the data has no labels.
    pub top1_before: Option<f64>,
    /// The same after the last.
    pub top1_after: Option<f64>,
    /// The share whose largest class is the original's; null where the first output has no classes.
    pub agreement: Option<f64>,
    /// The mean over samples of the cosine of the angle to the original's output.
    pub cosine: f64,
}

/// A number before the first pass and after the last; null where it depends on a size without a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Before.
    pub before: Option<f64>,
    /// After.
    pub after: Option<f64>,
}

/// What one run of one pass did.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PassReport {
    /// The pass.
    pub name: String,
    /// What it promised.
    pub kind: Kind,
    /// Whether it changed the graph.
    pub changed: bool,
    /// How long it took, checks not counted.
    pub seconds: f64,
    /// [`Stats::params`] after it.
    pub params: u64,
    /// [`Stats::macs`] after it.
    pub macs: Option<u64>,
    /// [`Stats::nodes`] after it.
    pub nodes: usize,
    /// Why an iterative pass ended, such as "saturated".
    pub stop_reason: Option<String>,
    /// What it did and did not do, in order.
    pub remarks: Vec<Remark>,
}

impl Report {
    /// The report as indented JSON, ending in a newline.
    pub fn to_json(&self) -> String {
        // Nothing in a report fails to serialise: its keys are texts, and serde writes a number that is not finite as null.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}
