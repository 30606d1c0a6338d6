//! Bytes and arrays of Python's, read where they lie.
//!
//! The buffer protocol is not part of the stable interface before Python 3.11, so arrays come by `__array_interface__`.

#![allow(unsafe_code, reason = "Python's memory is known by its address")]

use std::sync::Arc;

use optc::ir::{Bytes, DType, Tensor};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::errors::{DataError, UsageError};

/// Memory of a Python object, which lives as long as this.
struct Held {
    start: *const u8,
    length: usize,
    _owner: Py<PyAny>,
}

// SAFETY: the memory is only read, and its owner is released as Python asks for it, on whatever thread.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: who made this knows that there are so many bytes for as long as the owner lives.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

/// The bytes of an object, which never change.
pub fn bytes(object: &Bound<'_, PyBytes>) -> Bytes {
    let content = object.as_bytes();
    Bytes::new(Arc::new(Held {
        start: content.as_ptr(),
        length: content.len(),
        _owner: object.clone().into_any().unbind(),
    }))
}

/// An array of NumPy's, without a copy of its elements. Nobody may write to it until the run has ended, which the caller is told.
pub fn array(name: &str, object: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    let wrong = |what: &str| DataError::new_err(format!("the array `{name}` {what}"));
    let interface = object.getattr("__array_interface__");
    let interface = interface.map_err(|_| wrong("is no array of NumPy's"))?;
    let interface = interface.cast::<PyDict>()?;
    let get = |key: &str| {
        let found = interface.get_item(key)?;
        found.ok_or_else(|| wrong(&format!("has no `{key}`")))
    };
    let shape: Vec<usize> = get("shape")?.extract()?;
    let kind: String = get("typestr")?.extract()?;
    let dtype = dtype(&kind).ok_or_else(|| {
        wrong(&format!(
            "is of the type {kind}\n  floats, whole numbers with a sign, u8 and bool are taken, in this machine's order of bytes"
        ))
    })?;
    let strides = interface.get_item("strides")?;
    if strides.is_some_and(|strides| !strides.is_none()) {
        return Err(UsageError::new_err(format!(
            "the array `{name}` does not lie in one piece\n  give numpy.ascontiguousarray of it"
        )));
    }
    let (address, _): (usize, bool) = get("data")?.extract()?;
    let count = shape
        .iter()
        .try_fold(dtype.size(), |n, size| n.checked_mul(*size));
    let length = count.ok_or_else(|| wrong("is larger than any memory"))?;
    if length == 0 || address == 0 {
        return Err(wrong(&format!("of shape {shape:?} is empty")));
    }
    let held = Held {
        start: std::ptr::with_exposed_provenance(address),
        length,
        _owner: object.clone().unbind(),
    };
    let bytes = Bytes::new(Arc::new(held));
    Tensor::new(dtype, &shape, bytes)
        .map_err(|what| wrong(&format!("does not hold together: {what}")))
}

/// An element type by NumPy's name.
fn dtype(kind: &str) -> Option<DType> {
    Some(match kind {
        "<f8" => DType::F64,
        "<f4" => DType::F32,
        "<f2" => DType::F16,
        "<i8" => DType::I64,
        "<i4" => DType::I32,
        "<i2" => DType::I16,
        "|i1" => DType::I8,
        "|u1" => DType::U8,
        "|b1" => DType::Bool,
        _ => return None,
    })
}
