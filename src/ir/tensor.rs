//! Weights: an element type, a shape, and bytes that may be a slice of the mapped model file.
//!
//! A matrix may lie in memory column by column: the weight of a product in a file that has it the other way round. It is put in
//! order where somebody reads it, and nobody keeps that copy.

mod element;

use std::borrow::Cow;
use std::fmt;
use std::hash::Hasher;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use smallvec::SmallVec;

use super::bytes::Bytes;
use super::dim::Dim;
use super::types::{Type, TypeError};
pub use element::{DType, Real};

struct Owned<T>(Vec<T>);

impl<T: bytemuck::Pod> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// A constant: contiguous, row-major, little-endian. Cloning shares the bytes.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: SmallVec<[usize; 4]>,
    bytes: Bytes,
    /// Whether it is a matrix whose columns lie one after the other.
    by_columns: bool,
}

impl Tensor {
    /// A tensor over `bytes`.
    ///
    /// # Errors
    /// When there are not exactly as many bytes as the type and the shape say.
    pub fn new(dtype: DType, shape: &[usize], bytes: Bytes) -> Result<Tensor, TypeError> {
        let len = byte_len(dtype, shape)
            .ok_or_else(|| TypeError(format!("a tensor of shape {shape:?} is too large")))?;
        if bytes.len() != len {
            return Err(TypeError(format!(
                "{dtype}{shape:?} takes {len} bytes, not {}",
                bytes.len()
            )));
        }
        Ok(Tensor {
            dtype,
            shape: shape.into(),
            bytes,
            by_columns: false,
        })
    }

    /// A tensor of `T`'s type that owns its elements.
    ///
    /// # Panics
    /// When the number of elements is not the product of the shape: a mistake of the caller, never of a file.
    pub fn from_vec<T: Real>(shape: &[usize], elements: Vec<T>) -> Tensor {
        assert_eq!(
            elements.len(),
            shape.iter().product::<usize>(),
            "elements for shape {shape:?}"
        );
        Tensor {
            dtype: T::DTYPE,
            shape: shape.into(),
            bytes: Bytes::new(Arc::new(Owned(elements))),
            by_columns: false,
        }
    }

    /// A tensor of `dtype` with these values, rounded to it.
    ///
    /// # Panics
    /// As [`Tensor::from_vec`].
    #[doc(hidden)]
    pub fn from_f64(
        dtype: DType,
        shape: &[usize],
        values: impl IntoIterator<Item = f64>,
    ) -> Tensor {
        let values = values.into_iter();
        fn owned<T: bytemuck::Pod + Send + Sync>(values: impl Iterator<Item = T>) -> Bytes {
            Bytes::new(Arc::new(Owned(values.collect::<Vec<T>>())))
        }
        let bytes = match dtype {
            DType::F64 => owned(values),
            DType::F32 => owned(values.map(|x| x as f32)),
            DType::F16 => owned(values.map(f16::from_f64)),
            DType::BF16 => owned(values.map(bf16::from_f64)),
            DType::I64 => owned(values.map(|x| x as i64)),
            DType::I32 => owned(values.map(|x| x as i32)),
            DType::I16 => owned(values.map(|x| x as i16)),
            DType::I8 => owned(values.map(|x| x as i8)),
            DType::U8 => owned(values.map(|x| x as u8)),
            DType::Bool => owned(values.map(|x| u8::from(x != 0.0))),
        };
        assert_eq!(
            Some(bytes.len()),
            byte_len(dtype, shape),
            "elements for shape {shape:?}"
        );
        Tensor {
            dtype,
            shape: shape.into(),
            bytes,
            by_columns: false,
        }
    }

    /// The transpose of a matrix, over the same bytes; `None` for what is no matrix.
    #[doc(hidden)]
    pub fn transposed(&self) -> Option<Tensor> {
        let [rows, columns] = self.shape[..] else {
            return None;
        };
        Some(Tensor {
            shape: [columns, rows].as_slice().into(),
            by_columns: !self.by_columns,
            ..self.clone()
        })
    }

    /// Of a matrix that lies column by column its transpose, which can be read without a copy; `None` for all others.
    pub(crate) fn by_columns(&self) -> Option<Tensor> {
        self.transposed().filter(|_| self.by_columns)
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements' bytes, row-major and little-endian; a copy only of a matrix that lies by columns.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        let stored = self.stored();
        let [rows, columns] = self.shape[..] else {
            return Cow::Borrowed(stored);
        };
        if !self.by_columns {
            return Cow::Borrowed(stored);
        }
        let mut bytes = vec![0; stored.len()];
        let size = self.dtype.size();
        transpose(columns, rows, |to, from| {
            bytes[to * size..][..size].copy_from_slice(&stored[from * size..][..size]);
        });
        Cow::Owned(bytes)
    }

    /// The type of a constant that is this.
    pub(crate) fn ty(&self) -> Type {
        let shape = self.shape.iter().map(|n| Dim::from(*n));
        Type::tensor(self.dtype, shape)
    }

    /// The bytes in the order in which they lie.
    fn stored(&self) -> &[u8] {
        self.bytes.expect_read();
        self.bytes.as_ref()
    }

    /// How many bytes the elements take; reads none of them.
    #[doc(hidden)]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Which memory the elements are in: equal for tied weights, whatever their shape. Reads none of them.
    pub(crate) fn place(&self) -> (usize, Range<usize>) {
        self.bytes.place()
    }

    /// Whether both tensors are the same stretch of the same memory, read the same way: *tied* weights.
    #[doc(hidden)]
    pub fn same_memory(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && self.by_columns == other.by_columns
            && self.bytes.same_memory(&other.bytes)
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// When the shape is of another length.
    #[doc(hidden)]
    pub fn reshaped(&self, shape: &[usize]) -> Result<Tensor, TypeError> {
        let bytes = if self.by_columns {
            Bytes::new(Arc::new(self.bytes().into_owned()))
        } else {
            self.bytes.clone()
        };
        Tensor::new(self.dtype, shape, bytes)
    }

    /// The elements as `T`: borrowed where the tensor is of `T`'s type, aligned and not by columns, converted
    /// otherwise.
    pub fn elements<T: Real>(&self) -> Cow<'_, [T]> {
        if let Some(rows) = self.by_columns() {
            let stored = rows.stored_elements::<T>();
            let mut elements = vec![T::default(); stored.len()];
            transpose(rows.shape[0], rows.shape[1], |to, from| {
                elements[to] = stored[from];
            });
            return Cow::Owned(elements);
        }
        self.stored_elements()
    }

    /// The elements as `T` in the order in which they lie: borrowed where the tensor is of `T`'s type and aligned.
    pub(crate) fn stored_elements<T: Real>(&self) -> Cow<'_, [T]> {
        let bytes = self.stored();
        if self.dtype == T::DTYPE {
            return match bytemuck::try_cast_slice(bytes) {
                Ok(slice) => Cow::Borrowed(slice),
                Err(_) => {
                    let mut elements = vec![T::default(); bytes.len() / size_of::<T>()];
                    bytemuck::cast_slice_mut(&mut elements).copy_from_slice(bytes);
                    Cow::Owned(elements)
                }
            };
        }
        fn read<E: bytemuck::Pod, T: Real>(bytes: &[u8], to_f64: impl Fn(E) -> f64) -> Vec<T> {
            bytes
                .chunks_exact(size_of::<E>())
                .map(|b| T::from_f64(to_f64(bytemuck::pod_read_unaligned(b))))
                .collect()
        }
        Cow::Owned(match self.dtype {
            DType::F64 => read(bytes, |x: f64| x),
            DType::F32 => read(bytes, |x: f32| x.into()),
            DType::F16 => read(bytes, f16::to_f64),
            DType::BF16 => read(bytes, bf16::to_f64),
            DType::I64 => read(bytes, |x: i64| x as f64),
            DType::I32 => read(bytes, |x: i32| x.into()),
            DType::I16 => read(bytes, |x: i16| x.into()),
            DType::I8 => read(bytes, |x: i8| x.into()),
            DType::U8 | DType::Bool => read(bytes, |x: u8| x.into()),
        })
    }

    /// A hash of type, shape and content, the same on every run.
    pub(crate) fn content_hash(&self) -> u64 {
        let mut hasher = rustc_hash::FxHasher::default();
        hasher.write_u8(self.dtype as u8);
        for n in &self.shape {
            hasher.write_usize(*n);
        }
        hasher.write(&self.bytes());
        hasher.finish()
    }

    /// Whether any element is NaN or infinite.
    #[doc(hidden)]
    pub fn has_non_finite(&self) -> bool {
        fn any<E: bytemuck::Pod>(bytes: &[u8], finite: impl Fn(E) -> bool) -> bool {
            let mut elements = bytes.chunks_exact(size_of::<E>());
            elements.any(|b| !finite(bytemuck::pod_read_unaligned(b)))
        }
        match self.dtype {
            DType::F64 => any(self.stored(), f64::is_finite),
            DType::F32 => any(self.stored(), f32::is_finite),
            DType::F16 => any(self.stored(), f16::is_finite),
            DType::BF16 => any(self.stored(), bf16::is_finite),
            _ => false,
        }
    }
}

/// Calls `copy(to, from)` for each element of the transpose of a row-major matrix: where it goes, and where it comes from.
fn transpose(rows: usize, columns: usize, mut copy: impl FnMut(usize, usize)) {
    // In blocks, so that both sides stay in the cache.
    const BLOCK: usize = 32;
    for row_block in (0..rows).step_by(BLOCK) {
        for column_block in (0..columns).step_by(BLOCK) {
            for row in row_block..rows.min(row_block + BLOCK) {
                for column in column_block..columns.min(column_block + BLOCK) {
                    copy(column * rows + row, row * columns + column);
                }
            }
        }
    }
}

/// Bytes a tensor takes; `None` on overflow.
pub fn byte_len(dtype: DType, shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(dtype.size(), |product, n| product.checked_mul(*n))
        .filter(|n| isize::try_from(*n).is_ok())
}

impl PartialEq for Tensor {
    fn eq(&self, other: &Tensor) -> bool {
        let same_bytes = || {
            let (a, b) = (self.bytes.as_ref(), other.bytes.as_ref());
            self.by_columns == other.by_columns && std::ptr::eq(a, b)
        };
        let alike = self.dtype == other.dtype && self.shape == other.shape;
        alike && (same_bytes() || self.bytes() == other.bytes())
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{:?} #{:016x}",
            self.dtype,
            self.shape,
            self.content_hash()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transpose_is_read_in_its_own_order_over_the_same_memory() {
        let matrix = Tensor::from_vec(&[2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let transposed = matrix.transposed().unwrap();
        let copied = Tensor::from_vec(&[3, 2], vec![1.0f32, 4.0, 2.0, 5.0, 3.0, 6.0]);
        assert_eq!(transposed, copied);
        assert_eq!(transposed.content_hash(), copied.content_hash());
        assert_eq!(transposed.elements::<f32>(), copied.elements::<f32>());
        assert_eq!(transposed.elements::<f64>(), copied.elements::<f64>());
        let row = |tensor: &Tensor| tensor.reshaped(&[6]).unwrap();
        assert_eq!(row(&transposed), row(&copied));
        assert_eq!(transposed.place(), matrix.place());
        assert!(!transposed.same_memory(&matrix));
        assert!(transposed.transposed().unwrap().same_memory(&matrix));
        assert!(transposed.by_columns().unwrap().same_memory(&matrix));
        assert!(row(&matrix).transposed().is_none());
    }
}
