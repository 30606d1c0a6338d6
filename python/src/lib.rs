//! optc for Python: the extension module under the package `optc`.
//!
//! What is said in Python is in `optc/`; here is what takes the library: a run on a thread of its own, which leaves the interpreter free
//! (`run`), bytes and arrays that are read where Python has them (`memory`), and the library's errors as classes (`errors`).

mod errors;
mod memory;
mod run;

use std::ffi::OsString;

use pyo3::prelude::*;

/// The extension module.
#[pymodule]
mod _optc {
    #[pymodule_export]
    use super::errors::{DataError, Error, ModelError, PassError, UsageError, VerificationError};
    #[pymodule_export]
    use super::main;
    #[pymodule_export]
    use super::run::{inspect, optimize};
    #[pymodule_export]
    use super::with_held_out;

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}

/// How many samples it takes to calibrate on `samples` of them and hold some out.
#[pyfunction]
fn with_held_out(samples: usize) -> usize {
    optc::Samples::with_held_out(samples)
}

/// Runs the command with these arguments, the first of which is its name; its exit status.
#[pyfunction]
fn main(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| optc::cli::run_with(args))
}
