//! Tensors as stretches of storages, each an entry of an archive: a shape, strides and an offset, all counted in elements.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::dtypes::called;
use super::pickle::PickledTensor;
use crate::error::FormatError;
use crate::files::archive::Archive;
use crate::ir::{Bytes, DType, Tensor};

/// What strided tensors may take in memory beside four times the file.
const MAX_COPIED: u64 = 256 << 20;

/// Where the elements of a tensor are in its storage.
#[derive(Clone, Copy)]
pub(in crate::formats) struct Geometry<'g> {
    pub offset: u64,
    pub shape: &'g [u64],
    pub strides: &'g [u64],
}

impl Geometry<'_> {
    /// How many bytes of the storage are needed for elements of this size.
    fn end(&self, size: u64) -> u64 {
        if self.shape.contains(&0) {
            return 0;
        }
        // The last element that is read.
        let mut axes = self.shape.iter().zip(self.strides);
        let last = axes.try_fold(self.offset, |last, (&n, &stride)| {
            last.checked_add(n.saturating_sub(1).checked_mul(stride)?)
        });
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(size));
        end.unwrap_or(u64::MAX)
    }
}

/// The storages of an archive.
pub(in crate::formats) struct Storages<'a> {
    archive: &'a Archive,
    loaded: RefCell<FxHashMap<String, Bytes>>,
    /// Bytes copied out of strided tensors so far.
    copied: Cell<u64>,
}

impl<'a> Storages<'a> {
    pub fn new(archive: &'a Archive) -> Self {
        Storages {
            archive,
            loaded: RefCell::default(),
            copied: Cell::new(0),
        }
    }

    /// The elements of a tensor of a pickle whose storages are in `folder`.
    pub fn pickled(
        &self,
        tensor: &PickledTensor,
        folder: &str,
        name: &str,
    ) -> Result<Tensor, FormatError> {
        let dtype = dtype_of(&tensor.storage.class, name)?;
        let entry = format!("{folder}/{}", tensor.storage.key);
        let geometry = Geometry {
            offset: tensor.offset,
            shape: &tensor.shape,
            strides: &tensor.strides,
        };
        self.tensor(&entry, dtype, geometry, name)
    }

    /// The elements of a tensor: a slice of the map where they lie there in order.
    pub fn tensor(
        &self,
        entry: &str,
        dtype: DType,
        geometry: Geometry<'_>,
        name: &str,
    ) -> Result<Tensor, FormatError> {
        let (offset, sizes, strides) = (geometry.offset, geometry.shape, geometry.strides);
        let storage = self.storage(entry)?;
        let storage_len = storage.as_ref().len() as u64;
        let short = |needed: u64| FormatError::ShortStorage {
            name: name.to_owned(),
            shape: sizes.to_vec(),
            storage: entry.to_owned(),
            needed,
            available: storage_len,
        };
        let size = dtype.size() as u64;
        let empty = sizes.contains(&0);
        let needed = geometry.end(size);
        if needed > storage_len {
            return Err(short(needed));
        }
        let shape: Option<Vec<usize>> = sizes.iter().map(|&n| usize::try_from(n).ok()).collect();
        let shape = shape.ok_or_else(|| short(u64::MAX))?;
        let mut lengths = shape.iter();
        let count = lengths.try_fold(1usize, |product, &n| product.checked_mul(n));
        // A stride of 0 repeats elements: what it expands to must stay near what the file holds.
        let most = (storage_len / size).saturating_mul(64);
        let count = count.filter(|&n| n as u64 <= most.saturating_add(1 << 20));
        let count = count.ok_or_else(|| short(u64::MAX))?;
        let damaged = |detail: String| FormatError::Damaged {
            detail: format!("tensor `{name}`: {detail}"),
        };
        let bytes = if empty || is_contiguous(sizes, strides) {
            let start = if empty { 0 } else { (offset * size) as usize };
            storage
                .slice(start..start + count * size as usize)
                .ok_or_else(|| short(needed))?
        } else {
            // Many tensors may lie over one storage, each by its own strides.
            let copied = self.copied.get().saturating_add(count as u64 * size);
            self.copied.set(copied);
            if copied > MAX_COPIED + 4 * self.archive.len() {
                let what = format!("strided tensors take over {copied} bytes in all");
                let help = "make the weights contiguous before exporting".to_owned();
                return Err(FormatError::Limit { what, help });
            }
            Bytes::new(Arc::new(gather(
                storage.as_ref(),
                offset,
                strides,
                &shape,
                count,
                size as usize,
            )))
        };
        Tensor::new(dtype, &shape, bytes).map_err(|e| damaged(e.into()))
    }

    fn storage(&self, entry: &str) -> Result<Bytes, FormatError> {
        if let Some(bytes) = self.loaded.borrow().get(entry) {
            return Ok(bytes.clone());
        }
        let bytes = self.archive.read(entry)?;
        self.loaded
            .borrow_mut()
            .insert(entry.to_owned(), bytes.clone());
        Ok(bytes)
    }
}

fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1u64;
    shape.iter().zip(strides).rev().all(|(&n, &stride)| {
        let fits = n == 1 || stride == expected;
        expected = expected.saturating_mul(n);
        fits
    })
}

/// Copies strided elements into row-major order.
fn gather(
    storage: &[u8],
    offset: u64,
    strides: &[u64],
    shape: &[usize],
    count: usize,
    size: usize,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(count * size);
    let mut index = vec![0usize; shape.len()];
    for _ in 0..count {
        let at = index
            .iter()
            .zip(strides)
            .map(|(&i, &stride)| i as u64 * stride)
            .sum::<u64>()
            + offset;
        let at = at as usize * size;
        out.extend_from_slice(&storage[at..at + size]);
        for (i, n) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *n {
                break;
            }
            *i = 0;
        }
    }
    out
}

fn dtype_of(class: &str, name: &str) -> Result<DType, FormatError> {
    if let Some(dtype) = called(|names| names.storage == class) {
        return Ok(dtype);
    }
    let (kind, help) = match class {
        c if c.starts_with("<quantized") || c.starts_with('Q') => (
            "quantized".to_owned(),
            "export the model before quantizing it",
        ),
        c if c.starts_with("Complex") => {
            ("complex".to_owned(), "express the model with real tensors")
        }
        c if c.starts_with('<') => (
            c.trim_matches(['<', '>']).to_owned(),
            "make it an ordinary tensor (to_dense()) before exporting",
        ),
        c => (
            format!("of type {c}"),
            "convert the model to float32 before exporting",
        ),
    };
    Err(FormatError::TensorKind {
        name: name.to_owned(),
        kind,
        help: help.to_owned(),
    })
}

/// Refuses an archive whose numbers have their bytes in the other order; `first` is a tensor of it.
pub(in crate::formats) fn check_byte_order(
    archive: &Archive,
    first: &str,
) -> Result<(), FormatError> {
    if archive.contains("byteorder") && archive.read_text("byteorder")?.starts_with(b"big") {
        return Err(FormatError::TensorKind {
            name: first.to_owned(),
            kind: "big-endian, as all of the file".to_owned(),
            help: "save the model on a little-endian machine".to_owned(),
        });
    }
    Ok(())
}
