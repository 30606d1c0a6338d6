//! How a call ends: a status, and a text of what went wrong.

use std::any::Any;
use std::ffi::c_char;
use std::panic::{AssertUnwindSafe, catch_unwind};

use library::Error;
use library::job::Fault;

use crate::pointers;

/// How a call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptcStatus {
    /// It did what it was asked to.
    Ok = 0,
    /// An argument is no such thing: a null pointer, a text that is not UTF-8, a model that was freed.
    Argument = 1,
    /// Settings, a pipeline or a shape that cannot be read, or do not fit the model.
    Usage = 2,
    /// A file that the system refused.
    Io = 3,
    /// A model that cannot be read, or not be written in this format.
    Format = 4,
    /// Samples that cannot be taken.
    Data = 5,
    /// A pass failed.
    Pass = 6,
    /// The result was refused, as it computes something else.
    Verification = 7,
    /// The progress function asked for the end.
    Cancelled = 8,
    /// A mistake in optc.
    Internal = 9,
}

/// Why a call failed.
pub struct Failure {
    status: OptcStatus,
    text: String,
}

impl Failure {
    /// An argument that is no such thing.
    pub fn argument(text: &str) -> Failure {
        Failure {
            status: OptcStatus::Argument,
            text: text.to_string(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure {
            status: status(&error),
            text: error.to_string(),
        }
    }
}

fn status(error: &Error) -> OptcStatus {
    match Fault::of(error) {
        Fault::System(_) => OptcStatus::Io,
        Fault::Usage => OptcStatus::Usage,
        Fault::Model => OptcStatus::Format,
        Fault::Data => OptcStatus::Data,
        Fault::Verification => OptcStatus::Verification,
        Fault::Interrupted => OptcStatus::Cancelled,
        Fault::Pass | Fault::Other => OptcStatus::Pass,
    }
}

/// Does the work of a call. Nothing unwinds out of it; `error` gets the text of a failure.
///
/// # Safety
/// `error` is null or points to what may be written.
pub unsafe fn call(
    error: *mut *mut c_char,
    work: impl FnOnce() -> Result<(), Failure>,
) -> OptcStatus {
    // What a panic leaves behind is dropped with the call: models are never changed in place.
    let done = catch_unwind(AssertUnwindSafe(work));
    let failure = match done {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(panic) => Some(Failure {
            status: OptcStatus::Internal,
            text: format!(
                "internal error: {}\n  this is a mistake in optc; please report it with the model if you can",
                said(&*panic)
            ),
        }),
    };
    // SAFETY: as the caller promises.
    if let Some(error) = unsafe { pointers::optional_out(error) } {
        let text = failure.as_ref().map(|failure| failure.text.clone());
        *error = text.map_or(std::ptr::null_mut(), pointers::owned_text);
    }
    failure.map_or(OptcStatus::Ok, |failure| failure.status)
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_status_and_a_text() {
        let mut error = std::ptr::null_mut();
        // SAFETY: the error is a variable of this function.
        let status = unsafe { call(&raw mut error, || panic!("at the disco")) };
        assert_eq!(status, OptcStatus::Internal);
        // SAFETY: the text is the one that was just given.
        unsafe {
            let text = std::ffi::CStr::from_ptr(error).to_str().unwrap();
            assert!(text.contains("at the disco"), "{text}");
            pointers::free_text(error);
        }
    }
}
