//! Cancellation: breaking off a long run from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, Result};

/// A request to end a running pipeline. Copies are the same request.
///
/// Passes look at it between layers, training between steps, and the run between passes: it then ends by
/// [`Error::Interrupted`], and the model is as it was.
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    requested: AtomicBool,
    watched: AtomicBool,
}

impl Cancellation {
    /// Makes the request, and says whether somebody watches for it who can go on later. If not, or if it was made before, whoever
    /// asks may as well end the process.
    pub fn request(&self) -> bool {
        let before = self.0.requested.swap(true, Ordering::SeqCst);
        !before && self.0.watched.load(Ordering::SeqCst)
    }

    /// Whether the request was made.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// That the run was asked to end, if it was.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_requested() {
            return Err(Error::Interrupted(
                "interrupted; the model is as it was".to_string(),
            ));
        }
        Ok(())
    }

    /// Declares that somebody watches for it, until the result is dropped.
    #[doc(hidden)]
    pub fn watch(&self) -> Watch {
        self.0.watched.store(true, Ordering::SeqCst);
        Watch(self.clone())
    }
}

/// A watch for a [`Cancellation`], which ends when this is dropped.
#[derive(Debug)]
pub struct Watch(Cancellation);

impl Drop for Watch {
    fn drop(&mut self) {
        (self.0.0).watched.store(false, Ordering::SeqCst);
    }
}
