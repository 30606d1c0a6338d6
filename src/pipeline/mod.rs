//! Passes, and what composes, runs, checks and measures them.
//!
//! A [`Pass`] changes a graph. Its [`PassInfo`] says everything else about it: name, summary, kind and options; the list of
//! passes, the parser's error messages and the printed form all come from there. [`Registry`] holds the known passes;
//! [`passes::ALL`](crate::passes::ALL) is what this crate brings along. A [`Pipeline`] composes passes, written
//! `canonicalize,red{hash=none},repeat(fold-batch-norm,red)`, and runs them:
//!
//! ```no_run
//! # fn main() -> optc::Result<()> {
//! # let mut model: optc::Model = todo!();
//! let report = optc::Pipeline::parse("red{hash=none}")?.run(&mut model)?;
//! println!("{} -> {} weights", report.before.params, report.after.params);
//! # Ok(())
//! # }
//! ```
//!
//! After every pass the graph is verified; after the last, its outputs are compared with the original's. [`RunOptions`] say
//! how much of that, and an [`Observer`] watches.

mod cancellation;
mod check;
mod checkpoint;
mod context;
mod manager;
mod method;
mod observer;
mod options;
mod pass;
mod registry;
mod remarks;
mod run_options;
mod statistics_file;
mod text;
mod training;

pub use crate::analysis::Cost;
#[doc(hidden)]
pub use crate::exec::State;
pub(crate) use crate::exec::inputs::refuse_unknown_sizes;
pub use crate::report::{Kind, Remark, RemarkKind};
pub use cancellation::Cancellation;
#[doc(hidden)]
pub use cancellation::Watch;
pub(crate) use check::refuse_non_finite;
#[doc(hidden)]
pub use check::rounding;
#[doc(hidden)]
pub use checkpoint::Checkpoint;
pub use context::PassContext;
#[doc(hidden)]
pub use method::{Apply, Lot, Method, Methods, Offer, Unit};
pub use observer::Observer;
#[doc(hidden)]
pub use options::{FromOption, OptionValue};
pub use options::{OptionSpec, Options, Values};
#[doc(hidden)]
pub use pass::Group;
pub use pass::{Changed, Pass, PassInfo};
pub use registry::Registry;
pub use run_options::{RunOptions, Verify};
#[doc(hidden)]
pub use text::{Combinator, REPEAT};
#[doc(hidden)]
pub use training::TrainingContext;

use crate::{Model, Report, Result};

/// A sequence of passes, some of them repeated.
pub struct Pipeline {
    steps: Vec<Step>,
}

enum Step {
    Pass {
        pass: Box<dyn Pass>,
        options: Options,
    },
    Repeat {
        max: usize,
        options: Options,
        steps: Vec<Step>,
    },
    Group {
        group: &'static Group,
        options: Options,
        /// What is in parentheses, to be printed.
        steps: Vec<Step>,
        /// What they are together.
        pass: Box<dyn Pass>,
    },
}

impl Pipeline {
    /// A pipeline of one pass that was made elsewhere.
    ///
    /// # Errors
    /// When a default of its options is no value of theirs.
    #[doc(hidden)]
    pub fn of(pass: Box<dyn Pass>) -> Result<Pipeline> {
        let options = Options::defaults(pass.info().options)?;
        let steps = vec![Step::Pass { pass, options }];
        Ok(Pipeline { steps })
    }

    /// What its passes offer that a budget can be shared by.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for a pass that offers nothing.
    #[doc(hidden)]
    pub fn methods(&self) -> Result<Methods> {
        text::methods(self)
    }

    /// Whether a pass trains: it needs data and libtorch, takes long, and saves what it has done.
    #[doc(hidden)]
    pub fn trains(&self) -> bool {
        fn any(steps: &[Step]) -> bool {
            steps.iter().any(|step| match step {
                Step::Pass { pass, .. } => pass.kind() == Kind::Trained,
                Step::Repeat { steps, .. } => any(steps),
                Step::Group { .. } => false,
            })
        }
        any(&self.steps)
    }

    /// How many passes, groups and repetitions stand one after the other.
    #[doc(hidden)]
    pub fn steps(&self) -> usize {
        self.steps.len()
    }

    /// The pipeline without a pass, wherever it stands.
    #[doc(hidden)]
    pub fn without(self, pass: &str) -> Pipeline {
        fn kept(steps: Vec<Step>, pass: &str) -> Vec<Step> {
            let step = |step| match step {
                Step::Repeat {
                    max,
                    options,
                    steps,
                } => Step::Repeat {
                    max,
                    options,
                    steps: kept(steps, pass),
                },
                step => step,
            };
            let others = steps.into_iter().map(step).filter(|step| match step {
                Step::Pass { pass: own, .. } | Step::Group { pass: own, .. } => {
                    own.info().name != pass
                }
                Step::Repeat { steps, .. } => !steps.is_empty(),
            });
            others.collect()
        }
        Pipeline {
            steps: kept(self.steps, pass),
        }
    }

    /// Runs the passes on the model's graph, with verification.
    ///
    /// # Errors
    /// See [`Pipeline::run_with`].
    pub fn run(&self, model: &mut Model) -> Result<Report> {
        self.run_with(model, &RunOptions::default(), &mut ())
    }

    /// Runs the passes on the model's graph.
    ///
    /// # Errors
    /// [`Error::Pass`](crate::Error::Pass) when a pass fails, [`Error::Invalid`](crate::Error::Invalid) when one breaks the
    /// rules of the IR, [`Error::Verification`](crate::Error::Verification) when an exact one changes the outputs; each
    /// names the pass. The model is then as it was.
    pub fn run_with(
        &self,
        model: &mut Model,
        options: &RunOptions,
        observer: &mut dyn Observer,
    ) -> Result<Report> {
        manager::run(self, model, options, observer)
    }
}
