//! What a user has to be told beside the result, on standard error.

use std::fmt::Display;
use std::io::{self, Write};

use optc::Model;
use optc::data::Data;
use optc::pipeline::RunOptions;
use optc::report::Report;

use super::judging;

/// Every warning about a run: what was lost, what was of no use, and what moved far. `masks` is how many `--masks` wrote.
pub fn all(model: &Model, report: &Report, left_out: &[String], masks: Option<usize>) {
    if masks == Some(0) {
        complain("warning", &"no weight is masked, so --masks wrote none");
    }
    for input in model.written_inputs() {
        let lost = "the network writes into its input `";
        let now = "`; what was made of it leaves its inputs as they are, and returns the same";
        complain("warning", &format!("{lost}{input}{now}"));
    }
    complain_of_unread(left_out);
    if let Some(unseen) = judging::not_compared(report) {
        complain("warning", &unseen);
    }
    of_samples(report);
    if let Some(eval) = &report.eval {
        complain_of_damage(&eval.data, &eval.left_out);
    }
    if let Some(far) = judging::far(report) {
        complain("warning", &far);
    }
}

/// What the samples were not good for.
pub fn of_samples(report: &Report) {
    if let Some(calibration) = &report.calibration {
        if !calibration.used {
            complain(
                "warning",
                &format!(
                    "no pass learnt anything from {}; --remarks says why, where a pass could have",
                    calibration.data
                ),
            );
        }
        complain_of_some(
            &format!("{} is of no use here", calibration.data),
            &calibration.missed,
        );
        complain_of_damage(&calibration.data, &calibration.left_out);
    }
}

pub fn complain(how: &str, what: &dyn Display) {
    // Nowhere is left to say that standard error is closed.
    let _ = writeln!(io::stderr(), "{how}: {what}");
}

/// How many things of a kind are named.
pub const NAMED: usize = 3;

/// Names the first few parameters that are gone.
fn complain_of_unread(left_out: &[String]) {
    if !left_out.is_empty() {
        let few = left_out[..left_out.len().min(NAMED)].join(", ");
        let names = match left_out.len() - left_out.len().min(NAMED) {
            0 => few,
            more => format!("{few} and {more} more"),
        };
        complain(
            "warning",
            &format!("left out, as nothing reads their modules: {names}"),
        );
    }
}

/// Names the first few samples that were left out; the report has them all.
fn complain_of_damage(data: &str, left_out: &[String]) {
    complain_of_some(&format!("left out of {data}"), left_out);
}

/// Says what there is to say of the first few; the report has them all.
fn complain_of_some(what: &str, all: &[String]) {
    for one in all.iter().take(NAMED) {
        complain("warning", &format!("{what}: {one}"));
    }
    if all.len() > NAMED {
        let more = all.len() - NAMED;
        complain("warning", &format!("{what}: {more} more"));
    }
}

/// Says that there is a file of what was measured before.
pub fn note_known(run: &RunOptions, quiet: bool) {
    let known = run.statistics.as_deref().filter(|path| path.exists());
    if let Some(path) = known.filter(|_| !quiet) {
        let path = path.display();
        complain(
            "note",
            &format!("what layers read is taken from {path}, as far as it is there"),
        );
    }
}

/// Says which inputs the data has nothing for, and what they get.
pub fn note_filled(data: &Data) {
    let filled = data.filled().iter();
    let inputs: Vec<String> = filled
        .map(|input| format!("`{}` gets {}", input.name, input.with))
        .collect();
    if !inputs.is_empty() {
        let name = data.name();
        complain(
            "note",
            &format!("{name} has no array for some inputs: {}", inputs.join(", ")),
        );
    }
}
