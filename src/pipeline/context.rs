//! What a pass is told, and what it tells.

use std::sync::Arc;

use super::cancellation::Cancellation;
use super::statistics_file::StatisticsFile;
use super::training::TrainingContext;
use crate::Result;
use crate::analysis::Cost;
use crate::analysis::prior::PriorMoments;
use crate::data::Samples;
use crate::exec::{Foreign, Sampled};
use crate::ir::Graph;
use crate::report::{Remark, RemarkKind};

/// Called with the layer that a pass works on and the fraction of its work that is done.
type Progress<'a> = &'a mut dyn FnMut(&str, f64);

/// What a pass is told besides its options, and where it leaves remarks.
///
/// Data-parallel work runs on the current rayon pool, which has as many threads as the user asked for; results must not
/// depend on how many that is.
pub struct PassContext<'a> {
    /// The start of every sequence of random numbers.
    pub seed: u64,
    /// What to make smaller.
    pub cost: Cost,
    /// Inputs to calibrate on, where the user gave some: what fits a network's weights to data fits them to these.
    #[doc(hidden)]
    pub samples: Option<Arc<Samples>>,
    /// Inputs that nothing is fitted to, to measure on how much of the answers is kept.
    #[doc(hidden)]
    pub held_out: Option<Arc<Samples>>,
    /// What runs operators that optc does not know, where there is such a thing.
    #[doc(hidden)]
    pub foreign: Option<Arc<dyn Foreign>>,
    /// How many bytes of activations are held in memory at most.
    in_memory: usize,
    /// What only passes that train ask for.
    #[doc(hidden)]
    pub training: TrainingContext<'a>,
    /// Why an iterative pass stopped, such as "saturated" or "node limit"; the pass sets it.
    pub stop_reason: Option<String>,
    /// The prior moments of batch norms that are folded by now.
    pub(crate) prior: PriorMoments,
    /// The file of what was measured, until the network is measured or may have changed.
    statistics: Option<&'a mut StatisticsFile>,
    /// Whether samples told the pass something.
    samples_used: bool,
    /// Where samples could not be used.
    samples_missed: Vec<String>,
    original: Option<&'a Graph>,
    remarks: Vec<Remark>,
    progress: Option<Progress<'a>>,
}

impl Default for PassContext<'_> {
    fn default() -> Self {
        PassContext::new(0, Cost::default())
    }
}

impl<'a> PassContext<'a> {
    /// A context that reports progress to nobody.
    pub fn new(seed: u64, cost: Cost) -> PassContext<'a> {
        PassContext {
            seed,
            cost,
            samples: None,
            held_out: None,
            foreign: None,
            in_memory: Sampled::IN_MEMORY,
            training: TrainingContext::default(),
            stop_reason: None,
            prior: PriorMoments::default(),
            statistics: None,
            samples_used: false,
            samples_missed: Vec::new(),
            original: None,
            remarks: Vec::new(),
            progress: None,
        }
    }

    /// This context, with `progress` called as [`PassContext::progress`] is.
    #[doc(hidden)]
    pub fn with_progress(self, progress: Progress<'a>) -> PassContext<'a> {
        PassContext {
            progress: Some(progress),
            ..self
        }
    }

    /// This context, with inputs to calibrate on.
    #[doc(hidden)]
    pub fn with_samples(self, samples: Option<Arc<Samples>>) -> PassContext<'a> {
        PassContext { samples, ..self }
    }

    /// This context, with inputs that nothing is fitted to.
    #[doc(hidden)]
    pub fn with_held_out(self, held_out: Option<Arc<Samples>>) -> PassContext<'a> {
        PassContext { held_out, ..self }
    }

    /// This context, with what runs operators that optc does not know.
    #[doc(hidden)]
    pub fn with_foreign(self, foreign: Option<Arc<dyn Foreign>>) -> PassContext<'a> {
        PassContext { foreign, ..self }
    }

    /// This context, with so many bytes of activations in memory at most.
    pub(super) fn with_in_memory(self, in_memory: usize) -> PassContext<'a> {
        PassContext { in_memory, ..self }
    }

    /// This context, with the file of what was measured.
    pub(super) fn with_statistics(
        self,
        statistics: Option<&'a mut StatisticsFile>,
    ) -> PassContext<'a> {
        PassContext { statistics, ..self }
    }

    /// The file of what was measured, for who measures first in this pass: later the network may have changed.
    pub(crate) fn take_statistics(&mut self) -> Option<&'a mut StatisticsFile> {
        self.statistics.take()
    }

    /// The samples, and what it takes to run a network on them.
    #[doc(hidden)]
    pub fn sampled(&self) -> Option<Sampled> {
        Some(Sampled {
            samples: self.samples.clone()?,
            foreign: self.foreign.clone(),
            in_memory: self.in_memory,
        })
    }

    /// This context, with the graph as it was before the first pass.
    #[doc(hidden)]
    pub fn with_original(self, original: &'a Graph) -> PassContext<'a> {
        PassContext {
            original: Some(original),
            ..self
        }
    }

    /// This context, with what training needs.
    #[doc(hidden)]
    pub fn with_training(self, training: TrainingContext<'a>) -> PassContext<'a> {
        PassContext { training, ..self }
    }

    /// This context, whose pass ends when it is asked to.
    #[doc(hidden)]
    pub fn with_cancellation(mut self, cancellation: Cancellation) -> PassContext<'a> {
        self.training.cancellation = cancellation;
        self
    }

    /// The graph as it was before the first pass; `None` where a pass is run by itself.
    #[doc(hidden)]
    pub fn original(&self) -> Option<&'a Graph> {
        self.original
    }

    /// Says that the samples were of use.
    #[doc(hidden)]
    pub fn used_samples(&mut self) {
        self.samples_used = true;
    }

    /// Says that the samples could not be used at `node`, and why: a remark, and a warning for who gave them.
    #[doc(hidden)]
    pub fn missed_samples(&mut self, node: &str, text: impl Into<String>) {
        let text = text.into();
        self.samples_missed.push(match node {
            "" => text.clone(),
            node => format!("{node}: {text}"),
        });
        self.missed(node, text);
    }

    /// Where they could not be used.
    pub(super) fn take_missed_samples(&mut self) -> Vec<String> {
        std::mem::take(&mut self.samples_missed)
    }

    /// Whether they were.
    pub(super) fn has_used_samples(&self) -> bool {
        self.samples_used
    }

    /// Says that a change was made at `node`.
    pub fn applied(&mut self, node: &str, text: impl Into<String>) {
        self.remark(RemarkKind::Applied, node, text.into());
    }

    /// Says that a change was not made at `node`, and why.
    pub fn missed(&mut self, node: &str, text: impl Into<String>) {
        self.remark(RemarkKind::Missed, node, text.into());
    }

    /// Says what was found out about `node`.
    pub fn analysis(&mut self, node: &str, text: impl Into<String>) {
        self.remark(RemarkKind::Analysis, node, text.into());
    }

    fn remark(&mut self, kind: RemarkKind, node: &str, text: String) {
        self.remarks.push(Remark {
            kind,
            node: node.to_string(),
            text,
        });
    }

    /// The remarks so far, in order.
    pub fn remarks(&self) -> &[Remark] {
        &self.remarks
    }

    pub(super) fn into_remarks(self) -> Vec<Remark> {
        self.remarks
    }

    /// Says that the pass now works on `layer`, with `fraction` (0 to 1) of its work done.
    ///
    /// # Errors
    /// [`Error::Interrupted`](crate::Error::Interrupted) when the run was asked to end, which the pass hands on.
    pub fn progress(&mut self, layer: &str, fraction: f64) -> Result<()> {
        if let Some(progress) = &mut self.progress {
            progress(layer, fraction);
        }
        self.training.cancellation.check()
    }
}
