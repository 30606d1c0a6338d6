//! Training a network, epoch by epoch.
//!
//! A [`Trainer`] holds a tenth of the training data out, trains on the rest and keeps the best epoch as judged on what it held
//! out, the network as it came being epoch 0. After each epoch its [state](Trainer::state) can be saved; a trainer made of the
//! same arguments that is [restored](Trainer::restore) to it ends with the same bytes as one that was never interrupted.
//!
//! *What depends on what.* The order of samples, how they are varied, and dropout depend on the seed, the epoch and the step
//! alone. On the processor the result depends on the number of threads too, since libtorch then sums gradients in another
//! order; on a GPU some of its sums have no fixed order at all.

mod answers;
mod objective;
mod optimiser;
mod progress;
mod settings;
mod state;

use std::time::Instant;

use tch::{TchError, Tensor};

pub use optimiser::Sgd;
pub use progress::{Epoch, Judgement, Moment};
pub use settings::{Keep, Schedule, Settings};

use super::{Mode, Network, reason};
use crate::data::TrainingSet;
use crate::exec::Device;
use crate::ir::{DType, Graph, NodeId};
use crate::random::random;
use crate::{Error, Result};
use objective::Objective;

/// The share of the training data that epochs are judged on.
const HELD_OUT: f64 = 0.1;

/// A network in training.
pub struct Trainer {
    graph: Graph,
    student: Network,
    teacher: Option<Network>,
    settings: Settings,
    objective: Objective,
    optimiser: Sgd,
    train: TrainingSet,
    held: TrainingSet,
    /// Samples a step: the settings' number, or the only one that the network takes.
    batch: usize,
    fixed: Option<usize>,
    /// Epoch 0 and those that are done.
    epochs: Vec<Epoch>,
    best: Best,
    stopped: Option<String>,
    /// When this trainer began, and with how many steps done.
    began: Option<(Instant, usize)>,
}

struct Best {
    epoch: usize,
    /// In the order of [`Network::state`].
    state: Vec<Tensor>,
}

impl Trainer {
    /// Makes `graph` ready to be trained on `set`, with `teacher` to learn from where the settings distill. What masks of the
    /// graph hold at zero stays there.
    ///
    /// # Errors
    /// Those of [`Network::new`]; [`Error::Usage`] when there is nothing to train or to learn from, and [`Error::Data`] when the
    /// labels are not classes of the network's first output.
    pub fn new(
        graph: &Graph,
        teacher: &Graph,
        set: &TrainingSet,
        settings: Settings,
        device: Device,
    ) -> Result<Trainer> {
        let objective = Objective {
            labels: settings.labels,
            temperature: settings.distill,
        };
        if !objective.labels && objective.temperature.is_none() {
            return Err(usage(
                "there is nothing to learn from, neither labels nor a teacher",
                "take labels=true, or distill above 0",
            ));
        }
        if graph.inputs().len() != 1 {
            return Err(usage(
                "training is for networks of one input, and of no weights that are inputs too",
                "export it without initializers that callers may override",
            ));
        }
        let threads = rayon::current_num_threads();
        tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
        let student = Network::new(graph, device, DType::F32)?;
        if student.parameters().next().is_none() {
            return Err(usage(
                "the network has no parameters to train",
                "in a frozen module they are constants: export the module without freezing it",
            ));
        }
        let teacher = match settings.distill {
            Some(_) => Some(Network::new(teacher, device, DType::F32)?),
            None => None,
        };
        let optimiser = optimiser(graph, &student, &settings).map_err(failed)?;
        let fixed = graph.inputs().first();
        let fixed = fixed.and_then(|input| graph.ty((*input).into()).len(0));
        let (train, held) = set.hold_out(HELD_OUT, settings.seed);
        let mut trainer = Trainer {
            graph: graph.clone(),
            best: Best {
                epoch: 0,
                state: copies(&student)?,
            },
            student,
            teacher,
            objective,
            optimiser,
            train,
            held,
            batch: fixed.unwrap_or(settings.batch).max(1),
            fixed,
            settings,
            epochs: Vec::new(),
            stopped: None,
            began: None,
        };
        trainer.check_answers(set)?;
        if trainer.steps() == 0 {
            return Err(usage(
                &format!(
                    "{} samples are too few to train on in batches of {}",
                    trainer.train.len(),
                    trainer.batch
                ),
                "give more data with --data, or take a smaller batch",
            ));
        }
        let held_out = trainer.judge()?;
        trainer.epochs.push(Epoch {
            number: 0,
            loss: None,
            held_out,
        });
        Ok(trainer)
    }

    /// Steps an epoch. Batches that the network cannot be trained on are left out: one sample has no variance, and another
    /// number than a fixed one does not fit.
    fn steps(&self) -> usize {
        let (whole, rest) = (self.train.len() / self.batch, self.train.len() % self.batch);
        match self.fixed {
            Some(_) => whole,
            None => whole + usize::from(rest > 1 || rest == 1 && whole == 0),
        }
    }

    /// Whether all epochs are done, or training had to stop.
    pub fn is_done(&self) -> bool {
        self.stopped.is_some() || self.done() >= self.settings.epochs
    }

    fn done(&self) -> usize {
        self.epochs.len().saturating_sub(1)
    }

    /// Trains one more epoch and judges it; `watch` is called after each step, and ends training by an error. A loss that is
    /// not finite ends it too, and is no error: see [`Trainer::stopped`].
    ///
    /// # Errors
    /// Those of `watch`, and [`Error::Run`] with the node that libtorch cannot compute.
    pub fn epoch(&mut self, watch: &mut dyn FnMut(&Moment) -> Result<()>) -> Result<()> {
        let (epoch, steps) = (self.done() + 1, self.steps());
        let total = steps * self.settings.epochs;
        let (began, before) = *self
            .began
            .get_or_insert_with(|| (Instant::now(), steps * (epoch - 1)));
        let (seed, number) = (self.settings.seed, (self.settings.before + epoch) as u64);
        let batches = self.train.epoch(self.batch, seed, number);
        let (mut sum, mut samples) = (0.0, 0.0);
        for (step, batch) in batches.take(steps).enumerate() {
            let n = batch.images.shape().first().copied().unwrap_or_default() as f64;
            let position = steps * (epoch - 1) + step;
            let seed = random(&[seed, number, step as u64]).u64(..);
            let (answers, targets) = self.answers(batch, Mode::Training { seed })?;
            let loss = self.loss(&answers, &targets)?;
            let value = loss.f_double_value(&[]).map_err(failed)?;
            if !value.is_finite() {
                self.stopped = Some(format!(
                    "the loss was {value} at step {} of epoch {epoch}",
                    step + 1
                ));
                return Ok(());
            }
            let factor = self
                .settings
                .schedule
                .factor(position as f64 / total as f64);
            loss.f_backward()
                .and_then(|()| self.optimiser.step(self.settings.rate * factor))
                .map_err(failed)?;
            sum += n * value;
            samples += n;
            let done = position + 1;
            let each = began.elapsed() / u32::try_from(done - before).unwrap_or(u32::MAX);
            watch(&Moment {
                epoch,
                epochs: self.settings.epochs,
                fraction: done as f64 / total as f64,
                loss: sum / samples,
                right: self
                    .epochs
                    .last()
                    .and_then(|last| last.held_out)
                    .and_then(|judgement| judgement.right),
                left: each.saturating_mul(u32::try_from(total - done).unwrap_or(u32::MAX)),
            })?;
        }
        let held_out = self.judge()?;
        if let Some(Judgement { loss, .. }) = held_out.filter(|j| !j.loss.is_finite()) {
            self.stopped = Some(format!(
                "the loss on held-out data was {loss} after epoch {epoch}"
            ));
            return Ok(());
        }
        self.epochs.push(Epoch {
            number: epoch,
            loss: Some(sum / samples),
            held_out,
        });
        let best = self
            .epochs
            .get(self.best.epoch)
            .and_then(|best| best.held_out);
        // Without a judgement the last is taken for the best.
        let is_better = match (held_out, best) {
            (Some(new), Some(best)) if self.settings.keep == Keep::Best => new.is_better(&best),
            _ => true,
        };
        if is_better {
            self.best = Best {
                epoch,
                state: copies(&self.student)?,
            };
        }
        Ok(())
    }

    /// Epoch 0 and all that are done.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// The best of [`Trainer::epochs`], whose weights [`Trainer::finish`] gives.
    pub fn best(&self) -> Option<&Epoch> {
        self.epochs.get(self.best.epoch)
    }

    /// Why training ended before its last epoch.
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }
}

/// The optimiser of the student's parameters, with what masks of the graph keep.
fn optimiser(graph: &Graph, student: &Network, settings: &Settings) -> Result<Sgd, TchError> {
    let variable = |(node, variable): (NodeId, &Tensor)| {
        let mask = graph.mask(node).map(|mask| {
            let kept: Vec<f32> = mask.iter().map(|kept| f32::from(u8::from(kept))).collect();
            Tensor::f_from_slice(&kept)?
                .f_to_device(student.device())?
                .f_reshape(variable.size())
        });
        Ok((variable.shallow_clone(), mask.transpose()?))
    };
    let variables: Result<Vec<_>, TchError> = student.parameters().map(variable).collect();
    Sgd::new(
        settings.momentum,
        settings.nesterov,
        settings.decay,
        variables?,
    )
}

fn usage(what: &str, help: &str) -> Error {
    Error::Usage {
        what: what.to_string(),
        help: help.to_string(),
    }
}

fn copies(network: &Network) -> Result<Vec<Tensor>> {
    let copy = |(_, tensor): (NodeId, &Tensor)| {
        let tensor = tensor.f_detach()?;
        let mut copy = tensor.f_zeros_like()?;
        copy.f_copy_(&tensor)?;
        Ok(copy)
    };
    let copies: Result<Vec<Tensor>, TchError> = network.state().map(copy).collect();
    copies.map_err(failed)
}

/// libtorch fails at what belongs to no node.
fn failed(error: TchError) -> Error {
    Error::Usage {
        what: format!("cannot train: {}", reason(&error)),
        help: String::new(),
    }
}
