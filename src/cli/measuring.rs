//! That what is written is never slower than what was read, nor than without one of the passes: files are timed, and passes that
//! cost time are taken back.

use std::path::{Path, PathBuf};

use optc::files::Staged;
use optc::formats;
use optc::ir::Graph;
use optc::judge::{self, Choice, LARGEST, Options, Time, Timing};
use optc::pipeline::Kind;
use optc::report::{Measured, Report, TakenBack};
use optc::{Error, Model, Pipeline};

use super::args::{Args, Cost, JudgeChoice};
use super::judging::Judging;
use super::profile;
use super::warnings::complain;
use super::watch::Progress;

/// How much longer a network may take, as times of the same file scatter by as much.
const SLOWER: f64 = 1.03;
/// A spread of the ratio over which it is measured again.
const SCATTERS: f64 = 0.1;
/// How often.
const AGAIN: usize = 2;
/// How often a target of time is aimed at, how near is near enough, and what is not aimed below.
const AIMS: usize = 4;
const NEAR: f64 = 0.03;
const LEAST_AIM: f64 = 0.05;
/// The least share of what layers save that the network is taken to save.
const LEAST_GAIN: f64 = 0.2;

/// What a pipeline made of a model, as files that are pending.
pub struct Made {
    pub model: Model,
    pub report: Report,
    pub staged: Staged,
}

/// What times are asked for, and of what.
pub struct Measuring<'a> {
    pub args: &'a Args,
    pub judging: &'a Judging<'a>,
    /// The file that was read, and its graph.
    pub path: &'a Path,
    pub original: &'a Graph,
    pub progress: &'a Progress,
}

impl Measuring<'_> {
    /// What the pipeline makes, without the passes that make it slower than the model was. `make` runs a pipeline; only so many runs
    /// of its passes where a number is given.
    pub fn never_slower(
        &self,
        pipeline: Pipeline,
        mut make: impl FnMut(&Pipeline, Option<usize>) -> Result<Made, Error>,
    ) -> Result<Made, Error> {
        let mut taken_back = Vec::new();
        let (mut pipeline, reached) = self.without_slow(pipeline, &mut make, &mut taken_back)?;
        loop {
            let mut made = make(&pipeline, None)?;
            if self.is_off() {
                return Ok(made);
            }
            let mut measured = self.measured(&made)?;
            let slow = slower_than(reached, &measured.timings);
            let culprit = match slow {
                Some(time) if !pipeline.trains() => {
                    self.culprit(&made.report, time.ratio, |runs| make(&pipeline, Some(runs)))?
                }
                _ => None,
            };
            let (Some(time), Some(pass)) = (slow, culprit) else {
                measured.taken_back = taken_back;
                made.report.time = Some(measured);
                return Ok(made);
            };
            pipeline = pipeline.without(&pass);
            taken_back.push(slow_with(pass, &time));
        }
    }

    /// The pipeline without those of the exact passes at its beginning that cost time: what comes after them builds on it, and may
    /// take long. Also how long the network then takes, to what it took, at most 1.
    fn without_slow(
        &self,
        mut pipeline: Pipeline,
        make: &mut impl FnMut(&Pipeline, Option<usize>) -> Result<Made, Error>,
        taken_back: &mut Vec<TakenBack>,
    ) -> Result<(Pipeline, f64), Error> {
        let (mut runs, mut reached) = (1, 1.0);
        while !self.is_off() && pipeline.steps() > 1 {
            let made = make(&pipeline, Some(runs))?;
            let pass = match made.report.passes.get(runs - 1) {
                Some(pass) if pass.kind == Kind::Exact => pass,
                _ => break,
            };
            let timings = if pass.changed {
                self.measured(&made)?.timings
            } else {
                Vec::new()
            };
            match slower_than(reached, &timings) {
                Some(time) => {
                    taken_back.push(slow_with(pass.name.clone(), &time));
                    pipeline = pipeline.without(&pass.name);
                }
                None => {
                    reached = slowest_of(&timings).map_or(reached, |time| time.ratio.min(reached));
                    runs += 1;
                }
            }
        }
        Ok((pipeline, reached))
    }

    /// What a pipeline makes that leaves about `fraction` of the time, as the runtime says: `pipeline` makes one that aims at a
    /// fraction of the layers' time, and is asked again where the whole network is off.
    pub fn in_time(
        &self,
        fraction: f64,
        pipeline: impl Fn(f64) -> Result<Pipeline, Error>,
        mut make: impl FnMut(&Pipeline, Option<usize>) -> Result<Made, Error>,
    ) -> Result<Made, Error> {
        let mut aim = fraction;
        let mut best: Option<(f64, Made)> = None;
        for _ in 0..AIMS {
            let mut made = make(&pipeline(aim)?, None)?;
            if self.is_off() {
                return Ok(made);
            }
            let measured = self.measured(&made)?;
            let ratio = slowest_of(&measured.timings).map(|time| time.ratio);
            made.report.time = Some(measured);
            let Some(ratio) = ratio else { return Ok(made) };
            let off = (ratio - fraction).abs();
            if best.as_ref().is_none_or(|(least, _)| off < *least) {
                best = Some((off, made));
            }
            if off <= NEAR {
                break;
            }
            // What is not in layers takes its time all the same.
            let gained = ((1.0 - ratio) / (1.0 - aim)).max(LEAST_GAIN);
            aim = (1.0 - (1.0 - fraction) / gained).clamp(LEAST_AIM, 1.0);
        }
        let Some((_, made)) = best else {
            return make(&pipeline(fraction)?, None);
        };
        let timings = made.report.time.as_ref().map(|time| &*time.timings);
        match timings.and_then(slowest_of) {
            Some(time) if (time.ratio - fraction).abs() > NEAR => {
                let missed = format!(
                    "time={fraction} was missed: the network takes {time} as long, the nearest of {AIMS} tries"
                );
                let help = "what cannot be made faster takes its time all the same; `--remarks` says what each layer became";
                complain("warning", &format!("{missed}\n  help: {help}"));
            }
            _ => {}
        }
        Ok(made)
    }

    /// Whether nobody asked for times: where parameters are to be few they may cost time.
    fn is_off(&self) -> bool {
        let args = self.args;
        args.no_measure
            || args.judge == JudgeChoice::None
            || args.stop_after.is_some()
            || matches!(args.cost, Some(Cost::Params))
    }

    fn measured(&self, made: &Made) -> Result<Measured, Error> {
        let mut measured = Measured::default();
        if !made.report.passes.iter().any(|pass| pass.changed) {
            measured.not_measured = Some("no pass changed anything".to_string());
            return Ok(measured);
        }
        if self.args.judge == JudgeChoice::Auto && made.report.before.bytes > LARGEST {
            measured.not_measured = Some(format!("the model takes over {} GB", LARGEST >> 30));
            return Ok(measured);
        }
        let written = made.staged.view()?;
        if formats::dialect_of(&written.path) != formats::dialect_of(self.path) {
            let why = "the files are of different formats, which different runtimes open";
            measured.not_measured = Some(why.to_string());
            return Ok(measured);
        }
        let asked = self.args.threads.map_or(1, usize::from);
        for threads in [1, asked] {
            if measured
                .timings
                .iter()
                .any(|t: &Timing| t.threads == threads)
            {
                continue;
            }
            match self.time(&written.path, threads) {
                Ok(timing) => measured.timings.push(timing),
                // The judge has said what a user can do about it.
                Err(error) => measured.not_measured = Some(error.to_string()),
            }
        }
        Ok(measured)
    }

    /// The times of the model and of a file; again where they scatter too much to tell which is less.
    fn time(&self, written: &Path, threads: usize) -> Result<Timing, Error> {
        self.progress
            .say("timing the written file against the original");
        let options = Options {
            by: match self.args.judge {
                JudgeChoice::OnnxRuntime => Choice::OnnxRuntime,
                JudgeChoice::Torch => Choice::Torch,
                JudgeChoice::Auto | JudgeChoice::None => Choice::Auto,
            },
            samples: self.judging.samples.clone(),
            seed: self.args.seed,
            threads,
            ..Options::default()
        };
        let mut timing = judge::time(&[self.path, written], self.original, &options)?;
        for _ in 0..AGAIN {
            if !timing.files.iter().any(is_undecided) {
                break;
            }
            timing = judge::time(&[self.path, written], self.original, &options)?;
        }
        Ok(timing)
    }

    /// The pass that adds most to the time; with all of them the network takes `whole` times as long as it did.
    fn culprit(
        &self,
        report: &Report,
        whole: f64,
        mut make_up_to: impl FnMut(usize) -> Result<Made, Error>,
    ) -> Result<Option<String>, Error> {
        let runs = report.passes.iter().enumerate();
        let changed: Vec<_> = runs.filter(|(_, pass)| pass.changed).collect();
        let mut reached = 1.0;
        let mut worst = None;
        let mut most = f64::NEG_INFINITY;
        for (position, (run, pass)) in changed.iter().enumerate() {
            let time = if position + 1 == changed.len() {
                whole
            } else {
                let timings = self.measured(&make_up_to(run + 1)?)?.timings;
                slowest_of(&timings).map_or(reached, |time| time.ratio)
            };
            if time / reached > most {
                most = time / reached;
                worst = Some(pass.name.clone());
            }
            reached = time;
        }
        Ok(worst)
    }
}

/// Whether ONNX Runtime is here, and times what is written against what is read.
pub fn is_timed(args: &Args) -> bool {
    let is_onnx = |path: &PathBuf| path.extension().is_some_and(|suffix| suffix == "onnx");
    let are_onnx =
        args.model.as_ref().is_some_and(is_onnx) && args.output.as_ref().is_none_or(is_onnx);
    let asked = !args.no_measure && args.judge != JudgeChoice::None;
    asked && are_onnx && profile::installed("onnxruntime").is_some()
}

/// Whether the times scatter, and which is less depends on the turn.
fn is_undecided(time: &Time) -> bool {
    let [low, high] = time.spread;
    high - low > SCATTERS && low < SLOWER && high > SLOWER
}

/// The time of the written file where it takes longest.
fn slowest_of(timings: &[Timing]) -> Option<Time> {
    let written = timings
        .iter()
        .filter_map(|timing| timing.files.get(1).copied());
    written.max_by(|a, b| a.ratio.total_cmp(&b.ratio))
}

/// The same, if it takes longer than so many times what was read.
fn slower_than(reached: f64, timings: &[Timing]) -> Option<Time> {
    slowest_of(timings).filter(|time| time.ratio > SLOWER * reached)
}

/// That a pass was taken back, with which the network takes so long.
fn slow_with(pass: String, time: &Time) -> TakenBack {
    let scatters = if is_undecided(time) {
        "; the times scatter too much to be sure, as something else was running"
    } else {
        ""
    };
    let why = format!("the network takes {time} as long with it{scatters}");
    TakenBack { pass, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(threads: usize, ratio: f64, spread: [f64; 2]) -> Timing {
        let time = |ratio, spread| Time {
            seconds: ratio,
            ratio,
            spread,
        };
        Timing {
            by: "a runtime".to_string(),
            threads,
            on: "1x3x8x8".to_string(),
            turns: 5,
            files: vec![time(1.0, [1.0, 1.0]), time(ratio, spread)],
        }
    }

    #[test]
    fn a_network_is_slower_where_any_number_of_threads_is() {
        let fast = timing(1, 0.7, [0.69, 0.71]);
        assert!(slower_than(1.0, std::slice::from_ref(&fast)).is_none());
        assert!(slower_than(0.6, std::slice::from_ref(&fast)).is_some());
        let slow = timing(2, 1.2, [1.19, 1.21]);
        assert_eq!(slower_than(1.0, &[fast, slow]).unwrap().ratio, 1.2);
        assert!(slower_than(1.0, &[timing(1, 1.02, [1.0, 1.04])]).is_none());
    }

    #[test]
    fn what_scatters_on_both_sides_is_measured_again() {
        assert!(is_undecided(&timing(1, 1.0, [0.9, 1.1]).files[1]));
        assert!(!is_undecided(&timing(1, 0.8, [0.7, 0.9]).files[1]));
        assert!(!is_undecided(&timing(1, 1.02, [1.0, 1.05]).files[1]));
    }
}
