//! What the network answers, and what it should.

use tch::Tensor;

use super::super::{Mode, Network, convert, from_array};
use super::objective::right;
use super::{Judgement, Trainer, failed};
use crate::data::{Batch, TrainingSet, padded};
use crate::{Error, Result};

impl Trainer {
    /// Runs one batch to see what answers look like.
    pub(super) fn check_answers(&self, set: &TrainingSet) -> Result<()> {
        let Some(first) = set.in_order(self.fixed.unwrap_or(1)).next() else {
            return Ok(());
        };
        let n = first.images.shape().first().copied().unwrap_or_default();
        let (answers, _) = tch::no_grad(|| self.answers(first, Mode::Evaluation))?;
        let shape = convert::shape(&answers);
        let is_batch = shape.len() > 1 && shape[0] == n;
        if !is_batch || self.objective.labels && shape[2..].iter().any(|n| *n != 1) {
            return Err(Error::Usage {
                what: format!(
                    "training needs a network whose output is [batch, classes]; for a batch of {n} this one gives {shape:?}"
                ),
                help: "without labels=true further dimensions may follow the classes".into(),
            });
        }
        if self.objective.labels {
            set.require_labels("training", shape[1])
        } else {
            Ok(())
        }
    }

    /// The network's first output, and the labels, for a batch; both on the device.
    pub(super) fn answers(&self, batch: Batch, mode: Mode) -> Result<(Tensor, Targets)> {
        let device = self.student.device();
        let n = batch.images.shape().first().copied().unwrap_or_default();
        let labels = batch.labels.filter(|_| self.objective.labels);
        let labels = labels.map(|labels| Tensor::f_from_slice(&labels)?.f_to_device(device));
        let images = match self.fixed {
            Some(fixed) => padded(batch.images, fixed),
            None => batch.images,
        };
        let images = from_array(&images)?.f_to_device(device).map_err(failed)?;
        let first = |network: &Network, mode| -> Result<Tensor> {
            let output = network.run(&[images.shallow_clone()], mode)?;
            let output = output.into_iter().next().ok_or_else(|| Error::Usage {
                what: "the network has no output".into(),
                help: String::new(),
            })?;
            // Without what a batch was padded by.
            match output.size().first() {
                Some(have) if *have > n as i64 => output.f_narrow(0, 0, n as i64).map_err(failed),
                _ => Ok(output),
            }
        };
        let teacher = self.teacher.as_ref();
        let teacher = teacher.map(|teacher| tch::no_grad(|| first(teacher, Mode::Evaluation)));
        let targets = Targets {
            teacher: teacher.transpose()?,
            labels: labels.transpose().map_err(failed)?,
        };
        Ok((first(&self.student, mode)?, targets))
    }

    pub(super) fn loss(&self, answers: &Tensor, targets: &Targets) -> Result<Tensor> {
        let (teacher, labels) = (targets.teacher.as_ref(), targets.labels.as_ref());
        let loss = self.objective.loss(answers, teacher, labels);
        loss.map_err(failed)
    }

    /// The network on the data held out.
    pub(super) fn judge(&self) -> Result<Option<Judgement>> {
        if self.held.is_empty() {
            return Ok(None);
        }
        let _guard = tch::no_grad_guard();
        let (mut loss, mut hits) = (0.0, None);
        for batch in self.held.in_order(self.batch) {
            let n = batch.images.shape().first().copied().unwrap_or_default();
            let (answers, targets) = self.answers(batch, Mode::Evaluation)?;
            let mean = self.loss(&answers, &targets)?.f_double_value(&[]);
            loss += n as f64 * mean.map_err(failed)?;
            if let Some(labels) = &targets.labels {
                *hits.get_or_insert(0) += right(&answers, labels).map_err(failed)?;
            }
        }
        let count = self.held.len() as f64;
        Ok(Some(Judgement {
            loss: loss / count,
            right: hits.map(|hits| hits as f64 / count),
        }))
    }
}

/// What a batch should be answered.
pub(super) struct Targets {
    pub teacher: Option<Tensor>,
    pub labels: Option<Tensor>,
}
