//! What passes that train are told besides, and where they save what it takes to go on.

use std::sync::Arc;

use super::cancellation::Cancellation;
use super::checkpoint::Checkpoint;
use crate::data::{Data, TrainingSet};
use crate::exec::{Device, State};
use crate::{Error, Result};

/// What only passes that train need: data, a device, somebody who may end the run, and a place to save.
#[derive(Default)]
pub struct TrainingContext<'a> {
    /// Where libtorch computes.
    pub device: Device,
    /// Asks the run to end; a pass that takes long checks it.
    pub cancellation: Cancellation,
    /// What to train on.
    pub data: Option<Arc<Data>>,
    /// Where to save, and the number of the pass that does.
    pub(super) checkpoint: Option<(&'a mut Checkpoint, usize)>,
}

impl TrainingContext<'_> {
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
}

/// That a pass is to train, on nothing.
pub(super) fn no_training_data() -> Error {
    Error::Usage {
        what: "there is no data to train on".to_string(),
        help: "give it with --data, such as --data cifar10:DIR".to_string(),
    }
}
