//! The caller's function that is told how a run goes on, and may end it.

use std::ffi::{CString, c_char, c_int, c_void};

use library::pipeline::Cancellation;

/// Told that `pass` works on `layer`, with `fraction` (0 to 1) of its work done; returns 0 to go on. The texts are for the call only.
pub type OptcProgress = Option<
    unsafe extern "C" fn(
        pass: *const c_char,
        layer: *const c_char,
        fraction: f64,
        context: *mut c_void,
    ) -> c_int,
>;

/// Tells the caller's function.
pub struct Watch {
    progress: OptcProgress,
    context: *mut c_void,
    cancellation: Cancellation,
}

// SAFETY: the caller was told that the function may be called on another thread, while its own waits.
unsafe impl Send for Watch {}

impl Watch {
    pub fn new(progress: OptcProgress, context: *mut c_void, cancellation: Cancellation) -> Watch {
        Watch {
            progress,
            context,
            cancellation,
        }
    }

    /// Calls it.
    pub fn tell(&self, pass: &str, layer: &str, fraction: f64) {
        let Some(progress) = self.progress else {
            return;
        };
        // Who asked for the end is not asked again.
        if self.cancellation.is_requested() {
            return;
        }
        // Names have no zeros; one that had is not worth an error.
        let [pass, layer] = [pass, layer].map(|text| CString::new(text).unwrap_or_default());
        // SAFETY: the caller of the run promised that it can be called so.
        let asked = unsafe { progress(pass.as_ptr(), layer.as_ptr(), fraction, self.context) };
        if asked != 0 {
            self.cancellation.request();
        }
    }
}
