//! The library's errors as Python's classes.

use optc::job::refused_by_system;
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
    if let Some(kind) = refused_by_system(error) {
        // Of the kind's own class, such as FileNotFoundError.
        return std::io::Error::new(kind, text).into();
    }
    match error {
        optc::Error::Usage { .. } | optc::Error::Text { .. } => UsageError::new_err(text),
        optc::Error::Model { .. } | optc::Error::Format { .. } => ModelError::new_err(text),
        optc::Error::Data { .. } => DataError::new_err(text),
        optc::Error::Verification { .. }
        | optc::Error::Refused { .. }
        | optc::Error::Moved { .. } => VerificationError::new_err(text),
        // What the caller asked of a pass is the caller's mistake there, too.
        optc::Error::Pass { source, .. } => match **source {
            optc::Error::Usage { .. } => UsageError::new_err(text),
            _ => PassError::new_err(text),
        },
        optc::Error::Invalid { .. } | optc::Error::Run { .. } => PassError::new_err(text),
        _ => Error::new_err(text),
    }
}
