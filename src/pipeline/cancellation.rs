//! Cancellation: breaking off a long run from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request that a running pipeline end. Copies are the same request.
///
/// Only what takes long and can go on later watches it: training, between two steps.
#[derive(Clone, Debug, Default)]
pub struct Cancellation(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    raised: AtomicBool,
    watched: AtomicBool,
}

impl Cancellation {
    /// Asks; whether somebody who is at work now watches it. If not, or if it was asked before, whoever asks may as well
    /// end the process.
    pub fn raise(&self) -> bool {
        let before = self.0.raised.swap(true, Ordering::SeqCst);
        !before && self.0.watched.load(Ordering::SeqCst)
    }

    /// Whether it was asked.
    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::SeqCst)
    }

    /// Says that somebody watches it, until the result is dropped.
    pub fn watch(&self) -> Watch {
        self.0.watched.store(true, Ordering::SeqCst);
        Watch(self.clone())
    }
}

/// While this lives, somebody watches a [`Cancellation`].
#[derive(Debug)]
pub struct Watch(Cancellation);

impl Drop for Watch {
    fn drop(&mut self) {
        (self.0.0).watched.store(false, Ordering::SeqCst);
    }
}
