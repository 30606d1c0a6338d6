//! What crosses the border as pointers: texts, places for results, and bytes of either side.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;

use library::ir::Bytes;

use crate::outcome::Failure;

/// That an argument is missing.
pub fn null(name: &str) -> Failure {
    Failure::argument(&format!("`{name}` is NULL"))
}

/// A place for a result, which gets null until there is one.
///
/// # Safety
/// The pointer is null or points to what may be written for as long as the result is used.
pub unsafe fn out<'p, T>(place: *mut *mut T, name: &str) -> Result<&'p mut *mut T, Failure> {
    // SAFETY: as the caller promises.
    let place = unsafe { optional_out(place) }.ok_or_else(|| null(name))?;
    *place = ptr::null_mut();
    Ok(place)
}

/// A place for a result that the caller may do without.
///
/// # Safety
/// As [`out`].
pub unsafe fn optional_out<'p, T>(place: *mut T) -> Option<&'p mut T> {
    // SAFETY: as the caller promises. What is there is a pointer or a number, for which all bits mean something.
    unsafe { place.as_mut() }
}

/// A text, if there is one.
///
/// # Safety
/// The pointer is null or points to a text that ends in a zero.
pub unsafe fn text<'p>(text: *const c_char, name: &str) -> Result<Option<&'p str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(text) }.to_str();
    text.map(Some)
        .map_err(|_| Failure::argument(&format!("`{name}` is not UTF-8")))
}

/// A text for the caller, who frees it.
pub fn owned_text(text: String) -> *mut c_char {
    // A zero would end it.
    let text = CString::new(text.replace('\0', "\u{fffd}"));
    text.map_or(ptr::null_mut(), CString::into_raw)
}

/// Frees what [`owned_text`] gave.
///
/// # Safety
/// It is null or from there, and was not freed before.
pub unsafe fn free_text(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: as the caller promises.
        drop(unsafe { CString::from_raw(text) });
    }
}

/// Bytes for the caller, who frees them.
pub fn handed_over(bytes: Vec<u8>) -> (*mut u8, usize) {
    let bytes = Box::leak(bytes.into_boxed_slice());
    (bytes.as_mut_ptr(), bytes.len())
}

/// Frees what [`handed_over`] gave.
///
/// # Safety
/// They are null or from there, and were not freed before.
pub unsafe fn free_bytes(bytes: *mut u8, length: usize) {
    if !bytes.is_null() {
        // SAFETY: as the caller promises.
        drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(bytes, length)) });
    }
}

/// Called when bytes of the caller's are no longer read.
pub type OptcRelease = Option<unsafe extern "C" fn(context: *mut c_void)>;

/// Bytes of the caller's, which are given back when this is dropped.
pub struct Borrowed {
    bytes: *const u8,
    length: usize,
    release: OptcRelease,
    context: *mut c_void,
}

// SAFETY: the bytes do not change, and the caller was told that `release` may be called on any thread.
unsafe impl Send for Borrowed {}
// SAFETY: as above; no thread writes.
unsafe impl Sync for Borrowed {}

impl Borrowed {
    /// Takes bytes over.
    ///
    /// # Safety
    /// There are `length` bytes at `bytes`, unless that is null; with `release` they stay as they are until it is called.
    pub unsafe fn new(
        bytes: *const u8,
        length: usize,
        release: OptcRelease,
        context: *mut c_void,
    ) -> Result<Borrowed, Failure> {
        let borrowed = Borrowed {
            bytes,
            length,
            release,
            context,
        };
        // A slice has an address even if nothing is in it.
        if bytes.is_null() {
            return Err(null("bytes"));
        }
        if length > isize::MAX as usize {
            return Err(Failure::argument("`length` is more than any memory has"));
        }
        Ok(borrowed)
    }

    /// The bytes, to be shared; copied unless somebody waits for them to be released.
    pub fn shared(self) -> Bytes {
        match self.release {
            Some(_) => Bytes::new(Arc::new(self)),
            None => Bytes::new(Arc::new(self.as_ref().to_vec())),
        }
    }
}

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the caller promised it of what `new` took.
        unsafe { std::slice::from_raw_parts(self.bytes, self.length) }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the caller gave both for this.
            unsafe { release(self.context) }
        }
    }
}
