//! The library's errors as Python's classes.

use optc::job::Fault;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    optc,
    Error,
    PyException,
    "What is wrong, where, and what to do about it."
);
create_exception!(
    optc,
    UsageError,
    Error,
    "Settings, a pipeline or a shape that cannot be read, or do not fit the model."
);
create_exception!(
    optc,
    ModelError,
    Error,
    "A model that cannot be read, or not be written in this format."
);
create_exception!(optc, DataError, Error, "Samples that cannot be taken.");
create_exception!(optc, PassError, Error, "A pass failed.");
create_exception!(
    optc,
    VerificationError,
    Error,
    "The result was refused, as it computes something else."
);

/// The library's error as one of Python's.
pub fn raised(error: &optc::Error) -> PyErr {
    let text = error.to_string();
    match Fault::of(error) {
        // Of the kind's own class, such as FileNotFoundError.
        Fault::System(kind) => std::io::Error::new(kind, text).into(),
        Fault::Usage => UsageError::new_err(text),
        Fault::Model => ModelError::new_err(text),
        Fault::Data => DataError::new_err(text),
        Fault::Pass => PassError::new_err(text),
        Fault::Verification => VerificationError::new_err(text),
        Fault::Interrupted | Fault::Other => Error::new_err(text),
    }
}
