//! The errors of code that cannot be evaluated.

use super::{Eval, Evaluator, Stop};
use crate::error::FormatError;

impl Evaluator<'_> {
    pub fn fail<T>(&self, what: impl Into<String>, help: impl Into<String>) -> Eval<T> {
        Err(Stop::Error(FormatError::Code {
            what: what.into(),
            at: self.location(),
            help: help.into(),
        }))
    }

    /// What the archive holds does not fit together.
    pub fn damaged<T>(&self, what: impl Into<String>) -> Eval<T> {
        self.fail(what, "save the model again")
    }

    /// The code is fine, but more than is evaluated here.
    pub fn beyond<T>(&self, what: impl Into<String>) -> Eval<T> {
        let help = "trace the model (torch.jit.trace) instead of scripting it";
        self.fail(what, help)
    }

    /// The code uses Python that TorchScript does not write.
    pub(super) fn unknown_python<T>(&self, what: &str) -> Eval<T> {
        self.beyond(format!("{what} is not supported"))
    }

    /// Which way the code goes is known only when the model runs.
    pub fn depends_on_data<T>(&self, what: impl Into<String>) -> Eval<T> {
        Err(Stop::Error(FormatError::DataBranch {
            what: what.into(),
            at: self.location(),
        }))
    }

    /// The code takes more than is reasonable.
    pub fn limit<T>(&self, what: impl std::fmt::Display, help: &str) -> Eval<T> {
        Err(Stop::Error(FormatError::Limit {
            what: format!("{what}\n  at {}", self.location()),
            help: help.to_owned(),
        }))
    }
}
