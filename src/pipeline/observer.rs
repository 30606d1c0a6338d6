//! Watching a pipeline run.

use super::pass::PassInfo;
use crate::ir::Graph;
use crate::report::PassReport;

/// Gets told what a running pipeline does. Every method does nothing unless it is written.
pub trait Observer: Send {
    /// A pass starts.
    fn pass_started(&mut self, pass: &PassInfo) {
        let _ = pass;
    }

    /// The running pass works on `layer`; `fraction` (0 to 1) of its work is done.
    fn progress(&mut self, pass: &PassInfo, layer: &str, fraction: f64) {
        let _ = (pass, layer, fraction);
    }

    /// A pass ended, and the graph it left is valid.
    fn pass_finished(&mut self, report: &PassReport, graph: &Graph) {
        let _ = (report, graph);
    }

    /// The original and the result run on the data to evaluate them on; `fraction` (0 to 1) of it is done.
    fn evaluating(&mut self, fraction: f64) {
        let _ = fraction;
    }

    /// The outputs are going to be compared with those before `stage`.
    fn verifying(&mut self, stage: &str) {
        let _ = stage;
    }
}

/// Watches nothing.
impl Observer for () {}
