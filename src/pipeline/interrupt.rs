//! Breaking off a long run from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks a running pipeline to end. Copies are the same request.
///
/// Only what takes long and can go on later heeds it: training, between two steps.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<Flags>);

#[derive(Debug, Default)]
struct Flags {
    raised: AtomicBool,
    heeded: AtomicBool,
}

impl Interrupt {
    /// Asks; whether somebody who is at work now will heed it. If not, or if it was asked before, whoever asks may as well
    /// end the process.
    pub fn raise(&self) -> bool {
        let before = self.0.raised.swap(true, Ordering::SeqCst);
        !before && self.0.heeded.load(Ordering::SeqCst)
    }

    /// Whether it was asked.
    pub fn is_raised(&self) -> bool {
        self.0.raised.load(Ordering::SeqCst)
    }

    /// Says that it will be heeded until the result is dropped.
    pub fn heed(&self) -> Heeding {
        self.0.heeded.store(true, Ordering::SeqCst);
        Heeding(self.clone())
    }
}

/// While this lives, an [`Interrupt`] is heeded.
#[derive(Debug)]
pub struct Heeding(Interrupt);

impl Drop for Heeding {
    fn drop(&mut self) {
        (self.0.0).heeded.store(false, Ordering::SeqCst);
    }
}
