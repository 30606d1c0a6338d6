//! What a pass is told, and what it tells.

use std::sync::Arc;

use super::checkpoint::Checkpoint;
use super::interrupt::Interrupt;
use crate::analysis::Cost;
use crate::analysis::promised::Promised;
use crate::data::{Data, Samples, TrainingSet};
use crate::exec::{Device, State};
use crate::ir::Graph;
use crate::report::{Remark, RemarkKind};
use crate::{Error, Result};

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
    pub samples: Option<Arc<Samples>>,
    /// Where libtorch computes, for passes that train.
    pub device: Device,
    /// Whether somebody wants the run to end; a pass that takes long says that it heeds it.
    pub interrupt: Interrupt,
    /// Why an iterative pass stopped, such as "saturated" or "node limit"; the pass sets it.
    pub stop_reason: Option<String>,
    /// What batch norms promised that are folded by now.
    pub(crate) promised: Promised,
    /// Whether samples told the pass something.
    samples_used: bool,
    data: Option<Arc<Data>>,
    original: Option<&'a Graph>,
    checkpoint: Option<(&'a mut Checkpoint, usize)>,
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
            device: Device::default(),
            interrupt: Interrupt::default(),
            stop_reason: None,
            promised: Promised::default(),
            samples_used: false,
            data: None,
            original: None,
            checkpoint: None,
            remarks: Vec::new(),
            progress: None,
        }
    }

    /// This context, with `progress` called as [`PassContext::progress`] is.
    pub fn with_progress(self, progress: Progress<'a>) -> PassContext<'a> {
        PassContext {
            progress: Some(progress),
            ..self
        }
    }

    /// This context, with inputs to calibrate on.
    pub fn with_samples(self, samples: Option<Arc<Samples>>) -> PassContext<'a> {
        PassContext { samples, ..self }
    }

    /// This context, with data to train on.
    pub fn with_data(self, data: Option<Arc<Data>>) -> PassContext<'a> {
        PassContext { data, ..self }
    }

    /// This context, with the graph as it was before the first pass.
    pub fn with_original(self, original: &'a Graph) -> PassContext<'a> {
        PassContext {
            original: Some(original),
            ..self
        }
    }

    /// This context, with a checkpoint to save the state of the pass of this number in.
    pub fn with_checkpoint(
        self,
        checkpoint: Option<&'a mut Checkpoint>,
        pass: usize,
    ) -> PassContext<'a> {
        PassContext {
            checkpoint: checkpoint.map(|checkpoint| (checkpoint, pass)),
            ..self
        }
    }

    /// The graph as it was before the first pass; `None` where a pass is run by itself.
    pub fn original(&self) -> Option<&'a Graph> {
        self.original
    }

    /// What this pass saved in an earlier run, of the same command, that was broken off.
    pub fn saved(&self) -> Option<&State> {
        let (checkpoint, pass) = self.checkpoint.as_ref()?;
        checkpoint.state(*pass)
    }

    /// Whether there is a checkpoint to save states in.
    pub fn saves(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// Saves what this pass needs to go on from here, instead of what it saved before. Without a checkpoint nothing happens.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Checkpoint`] when it cannot be written.
    pub fn save(&mut self, state: State) -> Result<()> {
        match &mut self.checkpoint {
            Some((checkpoint, pass)) => checkpoint.save(*pass, state),
            None => Ok(()),
        }
    }

    /// That the run was asked to end while the pass was at `place`, and where it can go on.
    pub fn interrupted(&self, place: &str) -> Error {
        let saved = self.checkpoint.as_ref();
        let saved = saved.filter(|(checkpoint, _)| checkpoint.is_saved());
        Error::Interrupted(match saved {
            Some((checkpoint, _)) => format!(
                "interrupted {place}; {} keeps what was done, and the same command goes on from there",
                checkpoint.path().display()
            ),
            None => format!("interrupted {place}; nothing was saved yet"),
        })
    }

    /// What to train on; read when a pass first asks for it. Labels are there where the data has them: see
    /// [`TrainingSet::require_labels`].
    ///
    /// # Errors
    /// [`Error::Usage`] when the user gave no data, and those of [`Data::training_set`].
    pub fn training_set(&self) -> Result<TrainingSet> {
        let data = self.data.as_ref().ok_or_else(no_training_data)?;
        data.training_set()
    }

    /// Says that the samples were of use.
    pub fn used_samples(&mut self) {
        self.samples_used = true;
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
    pub fn progress(&mut self, layer: &str, fraction: f64) {
        if let Some(progress) = &mut self.progress {
            progress(layer, fraction);
        }
    }
}

/// That a pass is to train, on nothing.
pub(super) fn no_training_data() -> Error {
    Error::Usage {
        what: "there is no data to train on".to_string(),
        help: "give it with --data, such as --data cifar10:DIR".to_string(),
    }
}
