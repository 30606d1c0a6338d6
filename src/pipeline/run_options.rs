//! How a pipeline is run: what the caller chooses beside its passes.

use std::path::PathBuf;
use std::sync::Arc;

use super::Cost;
use super::cancellation::Cancellation;
use crate::data::{Data, Samples};
use crate::exec::{Device, Foreign, Sampled};

/// How a pipeline is run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The start of every sequence of random numbers: those of passes, and the inputs of verification.
    pub seed: u64,
    /// The number of threads; 0 for the rayon pool that the caller runs in.
    pub threads: usize,
    /// What passes make smaller where they have a choice.
    pub cost: Cost,
    /// Which outputs are compared.
    pub verify: Verify,
    /// The largest error that exact passes may cause, relative to the largest output; `None` for what
    /// [`rounding`](super::rounding) says.
    pub tolerance: Option<f64>,
    /// How many random inputs verification uses.
    pub inputs: usize,
    /// Inputs that passes calibrate on, opened for the model's graph; labels are not used. Sizes of the network's inputs that
    /// have no number in [`Graph::bindings`](crate::ir::Graph::bindings) get the first sample's, with a batch of one.
    pub samples: Option<Arc<Samples>>,
    /// Inputs that nothing is fitted to, opened likewise: what is measured on the way is measured on these.
    #[doc(hidden)]
    pub held_out: Option<Arc<Samples>>,
    /// What runs operators that optc does not know, on samples and on data to evaluate on; see [`judge::operators`](crate::judge::operators).
    #[doc(hidden)]
    pub foreign: Option<Arc<dyn Foreign>>,
    /// How many bytes of the samples' activations are held in memory at most, while layers are measured and repaired; more are
    /// in a temporary file. The result does not depend on it.
    #[doc(hidden)]
    pub in_memory: usize,
    /// Where what layers read is kept, as it was measured on the samples before any lossy pass: read where the file is there, else
    /// written. One of another model or of other samples is refused.
    pub statistics: Option<PathBuf>,
    /// Data that passes train on, opened for the model's graph; read only if one asks for it.
    #[doc(hidden)]
    pub data: Option<Arc<Data>>,
    /// Labelled data, opened for the model's graph, on which top-1 is measured before the first pass and after the last.
    pub eval: Option<Arc<Data>>,
    /// Where passes that train compute.
    #[doc(hidden)]
    pub device: Device,
    /// Where passes that train save what they have done, to go on from it in the next run if this one is broken off. Whoever
    /// has written the result [removes](super::Checkpoint::remove) the file.
    #[doc(hidden)]
    pub checkpoint: Option<PathBuf>,
    /// Asks the run to end before it is done.
    pub cancellation: Cancellation,
    /// Stop after so many runs of passes, to find the one that breaks something by bisection.
    #[doc(hidden)]
    pub stop_after: Option<usize>,
}

impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions {
            seed: 0,
            threads: 0,
            cost: Cost::default(),
            verify: Verify::default(),
            tolerance: None,
            inputs: 4,
            samples: None,
            held_out: None,
            foreign: None,
            in_memory: Sampled::IN_MEMORY,
            statistics: None,
            data: None,
            eval: None,
            device: Device::default(),
            checkpoint: None,
            cancellation: Cancellation::default(),
            stop_after: None,
        }
    }
}

/// Which outputs are compared on random inputs, in the reference interpreter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// None.
    Nothing,
    /// Those after the last pass with the original's.
    #[default]
    Whole,
    /// Those after every pass with those before it, and those after the last with the original's.
    Each,
}
