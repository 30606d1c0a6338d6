//! How a network is trained.

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Along half a cosine, to 0 at the end.
    #[default]
    Cosine,
    /// To a tenth after half of the epochs.
    Step,
    /// Not at all.
    Constant,
}

impl Schedule {
    /// What the rate is multiplied by at `fraction` (0 to 1) of all steps.
    pub fn factor(self, fraction: f64) -> f64 {
        match self {
            Schedule::Cosine => (1.0 + (std::f64::consts::PI * fraction).cos()) / 2.0,
            Schedule::Step if fraction < 0.5 => 1.0,
            Schedule::Step => 0.1,
            Schedule::Constant => 1.0,
        }
    }
}

/// Which epoch's weights training ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Those of the best, as judged on the data held out; the network as it came is one of them.
    #[default]
    Best,
    /// Those of the last, for what is trained further.
    Last,
}

/// How a network is trained: by stochastic gradient descent with momentum.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Passes over the training data.
    pub epochs: usize,
    /// Epochs that others trained before, with the same seed: the order of samples goes on from there.
    pub before: usize,
    /// Which epoch to end with.
    pub keep: Keep,
    /// The first learning rate.
    pub rate: f64,
    /// How it falls.
    pub schedule: Schedule,
    /// Of the gradient, from step to step.
    pub momentum: f64,
    /// Whether the gradient is taken ahead, as Nesterov does.
    pub nesterov: bool,
    /// Weight decay: this times half the sum of squares of all parameters is added to the loss.
    pub decay: f64,
    /// Samples a step.
    pub batch: usize,
    /// Learn from the teacher's answers, at this temperature.
    pub distill: Option<f64>,
    /// Learn from the labels.
    pub labels: bool,
    /// What the order of samples, their variation, dropout and the choice of held-out samples depend on.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            epochs: 10,
            before: 0,
            keep: Keep::Best,
            rate: 0.01,
            schedule: Schedule::Cosine,
            momentum: 0.9,
            nesterov: false,
            decay: 1e-4,
            batch: 128,
            distill: Some(2.0),
            labels: true,
            seed: 0,
        }
    }
}
