//! Cancellation: breaking off a long run from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to end a running pipeline. Copies are the same request.
///
/// Only what takes long and can go on later watches it: training, between two steps.
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    requested: AtomicBool,
    watched: AtomicBool,
}

impl Cancellation {
    /// Makes the request, and says whether somebody watches for it. If not, or if it was made before, whoever asks may as well
    /// end the process.
    pub fn request(&self) -> bool {
        let before = self.0.requested.swap(true, Ordering::SeqCst);
        !before && self.0.watched.load(Ordering::SeqCst)
    }

    /// Whether the request was made.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
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
