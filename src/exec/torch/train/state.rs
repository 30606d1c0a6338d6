//! What it takes to go on with a training, and what it gives in the end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::super::convert;
use super::{Epoch, Trainer, failed};
use crate::exec::State;
use crate::ir::{DType, Graph, NodeId};
use crate::{Error, Result};

impl Trainer {
    /// All that it takes to go on from here.
    ///
    /// # Errors
    /// [`Error::Usage`] when libtorch cannot hand a tensor over.
    pub fn state(&self) -> Result<State> {
        let notes = Notes {
            epochs: self.epochs.clone(),
            best: self.best.epoch,
            stopped: self.stopped.clone(),
        };
        let notes = serde_json::to_string(&notes).map_err(|error| broken(&error.to_string()))?;
        let tensors = self.places().map(|(name, tensor)| {
            let constant = convert::constant(tensor, DType::F32);
            Ok((name, constant.map_err(|what| broken(&what))?))
        });
        Ok(State {
            tensors: tensors.collect::<Result<_>>()?,
            notes: BTreeMap::from([(NOTES.to_string(), notes)]),
        })
    }

    /// Goes back to where [`Trainer::state`] was asked for, of a trainer made of the same arguments.
    ///
    /// # Errors
    /// [`Error::Usage`] when it is the state of another training.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let notes = state.notes.get(NOTES);
        let notes = notes.and_then(|notes| serde_json::from_str(notes).ok());
        let notes: Notes = notes.ok_or_else(|| broken("it does not say which epochs are done"))?;
        let _guard = tch::no_grad_guard();
        for (name, tensor) in self.places() {
            let saved = state.tensors.get(&name);
            let saved = saved.filter(|saved| saved.shape() == convert::shape(tensor));
            let saved = saved.ok_or_else(|| broken(&format!("it has no tensor `{name}`")))?;
            let mut place = tensor.shallow_clone();
            convert::weight(saved, Kind::Float, self.student.device())
                .and_then(|saved| place.f_copy_(&saved))
                .map_err(failed)?;
        }
        self.epochs = notes.epochs;
        self.best.epoch = notes.best;
        self.stopped = notes.stopped;
        Ok(())
    }

    /// Every tensor that changes, with a name of its own.
    fn places(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let name = |node: NodeId| &self.graph.node(node).name;
        let now = self
            .student
            .state()
            .map(move |(node, tensor)| (format!("now/{}", name(node)), tensor));
        let best = self
            .student
            .state()
            .zip(&self.best.state)
            .map(move |((node, _), tensor)| (format!("best/{}", name(node)), tensor));
        let velocities = self
            .student
            .parameters()
            .zip(self.optimiser.velocities())
            .map(move |((node, _), tensor)| (format!("velocity/{}", name(node)), tensor));
        now.chain(best).chain(velocities)
    }

    /// Puts the weights and statistics of the best epoch into `graph`, the one this trainer was made of.
    ///
    /// # Errors
    /// Those of [`Network::write_back`].
    pub fn finish(self, graph: &mut Graph) -> Result<()> {
        let guard = tch::no_grad_guard();
        for ((_, tensor), best) in self.student.state().zip(&self.best.state) {
            let mut place = tensor.shallow_clone();
            place.f_copy_(best).map_err(failed)?;
        }
        drop(guard);
        self.student.write_back(graph)
    }
}

/// What a state says beside its tensors.
#[derive(Serialize, Deserialize)]
struct Notes {
    epochs: Vec<Epoch>,
    best: usize,
    stopped: Option<String>,
}

const NOTES: &str = "training";

fn broken(what: &str) -> Error {
    Error::Usage {
        what: format!("the state of another training: {what}"),
        help: String::new(),
    }
}
