//! How training goes: what is shown after a step, and kept of an epoch.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How an epoch went. Losses and shares are means over samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1; 0 is the network as it came.
    pub number: usize,
    /// The loss while it was trained; `None` for epoch 0.
    pub loss: Option<f64>,
    /// On the data held out, if there is any.
    pub held_out: Option<Judgement>,
}

/// How good a network is on some samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The loss.
    pub loss: f64,
    /// The share of right answers, 0 to 1, where training uses labels.
    pub right: Option<f64>,
}

impl Judgement {
    /// Right answers first, then the loss.
    pub(super) fn is_better(&self, other: &Judgement) -> bool {
        let rank = |j: &Judgement| (j.right.unwrap_or_default(), -j.loss);
        rank(self) > rank(other)
    }
}

/// `epoch 3: loss 0.4121; held out: loss 0.4400, 88.10 % right`
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}:", self.number)?;
        // No loss is below 0, but by rounding.
        if let Some(loss) = self.loss {
            write!(f, " loss {:.4}", loss.max(0.0))?;
        }
        let Some(Judgement { loss, right }) = self.held_out else {
            return Ok(());
        };
        let separator = if self.loss.is_some() { ";" } else { "" };
        write!(f, "{separator} held out: loss {:.4}", loss.max(0.0))?;
        match right {
            Some(right) => write!(f, ", {:.2} % right", 100.0 * right),
            None => Ok(()),
        }
    }
}

/// Where training is, after a step.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The running epoch, from 1, and how many there are.
    pub epoch: usize,
    /// All epochs.
    pub epochs: usize,
    /// The share of all steps that is done, 0 to 1.
    pub fraction: f64,
    /// The mean loss of the epoch so far.
    pub loss: f64,
    /// The share of right answers of the last epoch that was judged.
    pub right: Option<f64>,
    /// How long the rest will take, if it goes on as before.
    pub left: Duration,
}

/// `epoch 3 of 10, loss 0.412, 88.1 % right, 2 min left`
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "epoch {} of {}, loss {:.3}, ",
            self.epoch, self.epochs, self.loss
        )?;
        if let Some(right) = self.right {
            write!(f, "{:.1} % right, ", 100.0 * right)?;
        }
        match self.left.as_secs() {
            seconds @ 0..120 => write!(f, "{seconds} s left"),
            seconds @ 120..7200 => write!(f, "{} min left", seconds / 60),
            seconds => write!(f, "{} h left", seconds / 3600),
        }
    }
}
