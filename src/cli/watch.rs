//! What is shown while a pipeline runs: a progress line, and graphs between passes.

use std::io::IsTerminal;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use optc::ir::Graph;
use optc::pipeline::{Observer, PassInfo, Registry};
use optc::report::PassReport;

/// One line on standard error while work goes on; nothing unless that is a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn new(quiet: bool) -> Progress {
        if quiet || !std::io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(bar)
    }

    pub fn say(&self, what: impl Into<std::borrow::Cow<'static, str>>) {
        self.0.set_message(what);
    }

    /// Prints to standard error without a clash with the line.
    fn print(&self, text: &str) {
        self.0.suspend(|| eprintln!("{text}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// After which passes the graph is printed.
#[derive(Clone, Debug)]
pub struct PrintAfter(pub Vec<String>);

const CHANGED: &str = "changed";
const ALL: &str = "all";

impl PrintAfter {
    /// The values of `--print-ir-after`.
    pub fn words() -> impl TypedValueParser<Value = String> {
        let passes = Registry::standard();
        let names = passes.passes().iter().map(|pass| pass.name);
        PossibleValuesParser::new(names.chain([CHANGED, ALL]).collect::<Vec<_>>())
    }

    fn wants(&self, pass: &PassReport) -> bool {
        self.0.iter().any(|word| match word.as_str() {
            ALL => true,
            CHANGED => pass.changed,
            name => name == pass.name,
        })
    }
}

/// Shows what the pass manager does.
pub struct Watch<'a> {
    pub progress: &'a Progress,
    pub print_after: PrintAfter,
}

impl Observer for Watch<'_> {
    fn pass_started(&mut self, pass: &PassInfo) {
        self.progress.say(pass.name);
    }

    fn progress(&mut self, pass: &PassInfo, layer: &str, fraction: f64) {
        let percent = 100.0 * fraction;
        self.progress
            .say(format!("{} {layer} {percent:.0} %", pass.name));
    }

    fn pass_finished(&mut self, pass: &PassReport, graph: &Graph) {
        if self.print_after.wants(pass) {
            self.progress
                .print(&format!("// after {}\n{graph}", pass.name));
        }
    }

    fn evaluating(&mut self, fraction: f64) {
        let percent = 100.0 * fraction;
        self.progress.say(format!(
            "evaluating the original and the result {percent:.0} %"
        ));
    }

    fn verifying(&mut self, stage: &str) {
        self.progress
            .say(format!("comparing outputs before and after {stage}"));
    }
}
