//! What the command asks the judge, and what it says of changes that are large.

use std::path::Path;
use std::sync::Arc;

use optc::data::Samples;
use optc::files::Staged;
use optc::ir::Graph;
use optc::judge::{self, Choice, Judgement, Options, Verdict};
use optc::report::{Report, Verification};
use optc::{Error, pipeline};

use super::args::{Args, JudgeChoice};
use super::watch::Progress;

/// A change of the outputs that a user has to be told of: a tenth of their root mean square.
const FAR: f64 = 0.1;
/// The same by the share of samples whose class stays.
const FEW_AGREE: f64 = 0.9;
/// What can be done about it.
const REMEDIES: &str = "train what is left (finetune, or lrf{finetune=1}), give samples to calibrate on (--data), or ask for less (a smaller error=…, a larger flops=…, or exact passes: red{hash=none})";

/// What the judge is asked.
pub struct Judging<'a> {
    pub args: &'a Args,
    /// Samples to run on; random inputs without any.
    pub samples: Option<Arc<Samples>>,
    /// Whether no pass has seen them: they were kept from calibration, and nothing was trained on the data that they are of.
    pub held_out: bool,
}

impl Judging<'_> {
    /// Compares what is going to be written with what was read.
    pub fn verdict(
        &self,
        original: &Graph,
        staged: &Staged,
        report: &Report,
        progress: &Progress,
    ) -> Result<Option<Verdict>, Error> {
        let by = match self.args.judge {
            JudgeChoice::None => return Ok(None),
            JudgeChoice::Auto => Choice::Auto,
            JudgeChoice::OnnxRuntime => Choice::OnnxRuntime,
            JudgeChoice::Torch => Choice::Torch,
        };
        progress.say("running the written file against the original");
        let tolerance = self.args.tolerance;
        let tolerance = tolerance.unwrap_or_else(|| pipeline::rounding(original));
        let options = Options {
            by,
            samples: self.samples.clone(),
            held_out: self.held_out,
            seed: self.args.seed,
            threads: self.args.threads.unwrap_or(0).into(),
            tolerance: report.exact.then_some(tolerance),
            ..Options::default()
        };
        let viewed = staged.view()?;
        judge::judge(Path::new(&report.model), &viewed.path, original, &options)
    }

    /// Refuses a change over `--max-change`.
    pub fn refuse_far(&self, report: &Report) -> Result<(), Error> {
        let Some(most) = self.args.max_change else {
            return Ok(());
        };
        match change(report) {
            // A change that is not a number is over every limit.
            Some(change) if change <= most => Ok(()),
            Some(change) => Err(Error::Moved {
                what: format!(
                    "the outputs changed by {:.1} %, and --max-change allows {:.1} %: nothing was written",
                    100.0 * change,
                    100.0 * most
                ),
                help: REMEDIES.to_string(),
            }),
            None => Err(Error::Moved {
                what: "how far the outputs changed is not known, so --max-change cannot be kept: nothing was written".to_string(),
                help: "let a runtime compare the files (pip install onnxruntime, or a build with libtorch), or leave out --no-verify or --max-change".to_string(),
            }),
        }
    }
}

fn judged(report: &Report) -> Option<&Judgement> {
    match &report.judge {
        Some(Verdict::Judged(judgement)) => Some(judgement),
        _ => None,
    }
}

/// How far the outputs moved, as the judge found it, or else as optc forecasts it.
fn change(report: &Report) -> Option<f64> {
    if let Some(judgement) = judged(report) {
        return Some(judgement.furthest().map_or(0.0, |output| output.change));
    }
    match &report.verify {
        Some(Verification::Measured { moved, .. }) => Some(moved.change),
        _ => None,
    }
}

/// That nobody has compared the outputs, why, and what would help.
pub fn not_compared(report: &Report) -> Option<String> {
    match (&report.verify, &report.judge) {
        (_, Some(Verdict::Judged(_))) => None,
        (Some(Verification::Skipped { skipped }), Some(Verdict::NotJudged { not_judged })) => {
            Some(format!(
                "the outputs were not compared: {skipped}\n  help: a runtime could: {not_judged}"
            ))
        }
        (Some(Verification::Skipped { skipped }), None) => {
            Some(format!("the outputs were not compared: {skipped}"))
        }
        _ => None,
    }
}

/// One line for a result that moved far.
pub fn far(report: &Report) -> Option<String> {
    if report.exact {
        return None;
    }
    let (by, on, agreement) = match judged(report) {
        Some(judgement) => {
            // Which class of noise is largest says little.
            let outputs = judgement.outputs.iter().filter(|_| judgement.held_out);
            let agreements = outputs.filter_map(|output| output.agreement);
            (
                judgement.by.as_str(),
                judgement.on.as_str(),
                agreements.min_by(f64::total_cmp),
            )
        }
        None => ("a forecast", "random inputs", None),
    };
    let change = change(report)?;
    let few = agreement.is_some_and(|share| share < FEW_AGREE);
    if change <= FAR && !few {
        return None;
    }
    let agreement = agreement.map_or_else(String::new, |share| {
        format!(", and the largest class stays in {:.0} %", 100.0 * share)
    });
    Some(format!(
        "THE OUTPUTS MOVED FAR: by {:.0} % of their size{agreement} (by {by}, on {on})\n  help: {REMEDIES}",
        100.0 * change
    ))
}
