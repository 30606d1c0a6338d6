//! Weights: an element type, a shape, and bytes that may be a slice of the mapped model file.

use std::borrow::Cow;
use std::fmt;
use std::hash::Hasher;
use std::ops::Range;
use std::sync::Arc;

use half::{bf16, f16};
use smallvec::SmallVec;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl DType {
    /// Every element type, with the name that the text form uses.
    pub const ALL: [(DType, &'static str); 10] = [
        (DType::F64, "f64"),
        (DType::F32, "f32"),
        (DType::F16, "f16"),
        (DType::BF16, "bf16"),
        (DType::I64, "i64"),
        (DType::I32, "i32"),
        (DType::I16, "i16"),
        (DType::I8, "i8"),
        (DType::U8, "u8"),
        (DType::Bool, "bool"),
    ];

    /// Bytes an element.
    pub fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 => 8,
            DType::F32 | DType::I32 => 4,
            DType::F16 | DType::BF16 | DType::I16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }

    /// Whether elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F64 | DType::F32 | DType::F16 | DType::BF16)
    }

    /// The distance from 1 to the next number of a floating-point type; 0 for the others.
    pub fn epsilon(self) -> f64 {
        match self {
            DType::F64 => f64::EPSILON,
            DType::F32 => f32::EPSILON.into(),
            DType::F16 => f16::EPSILON.into(),
            DType::BF16 => bf16::EPSILON.into(),
            _ => 0.0,
        }
    }

    /// The type with this name in the text form.
    pub fn from_name(name: &str) -> Option<DType> {
        DType::ALL
            .iter()
            .find(|(_, n)| *n == name)
            .map(|(dtype, _)| *dtype)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = DType::ALL
            .iter()
            .find(|(dtype, _)| dtype == self)
            .map_or("?", |(_, name)| name);
        f.write_str(name)
    }
}

/// A number that weights are computed in: `f32` or `f64`.
pub trait Real:
    num_traits::Float
    + bytemuck::Pod
    + Send
    + Sync
    + Default
    + fmt::Debug
    + fmt::Display
    + std::iter::Sum
    + 'static
{
    /// The element type of a tensor of such numbers.
    const DTYPE: DType;
    /// The nearest number to `x`.
    fn from_f64(x: f64) -> Self;
    /// The number in double precision.
    fn to_f64(self) -> f64;
}

impl Real for f32 {
    const DTYPE: DType = DType::F32;
    fn from_f64(x: f64) -> f32 {
        x as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Real for f64 {
    const DTYPE: DType = DType::F64;
    fn from_f64(x: f64) -> f64 {
        x
    }
    fn to_f64(self) -> f64 {
        self
    }
}

/// Bytes with a shared owner: a mapped file, or memory of our own.
#[derive(Clone)]
pub struct Bytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl Bytes {
    /// All bytes of `owner`.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>) -> Bytes {
        let range = 0..(*owner).as_ref().len();
        Bytes { owner, range }
    }

    /// All `len` bytes of `owner`, which is not asked for them before somebody reads them.
    pub fn lazy(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, len: usize) -> Bytes {
        Bytes {
            owner,
            range: 0..len,
        }
    }

    /// How many bytes these are; reads none.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// A part of these bytes, sharing their owner; `None` when it does not lie within them.
    pub fn slice(&self, range: Range<usize>) -> Option<Bytes> {
        let (start, end) = (
            self.range.start.checked_add(range.start)?,
            self.range.start.checked_add(range.end)?,
        );
        (start <= end && end <= self.range.end).then(|| Bytes {
            owner: self.owner.clone(),
            range: start..end,
        })
    }

    /// Which memory this is: the owner's identity, and the stretch of it. Reads nothing.
    fn place(&self) -> (usize, Range<usize>) {
        let owner = Arc::as_ptr(&self.owner).cast::<()>();
        (owner as usize, self.range.clone())
    }

    /// Whether both are the same stretch of the same owner's memory.
    pub fn same_memory(&self, other: &Bytes) -> bool {
        self.place() == other.place()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({})", self.range.len())
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

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
}

impl Tensor {
    /// A tensor over `bytes`, which must be exactly as long as the type and the shape say.
    pub fn new(dtype: DType, shape: &[usize], bytes: Bytes) -> Result<Tensor, String> {
        let len = byte_len(dtype, shape)
            .ok_or_else(|| format!("a tensor of shape {shape:?} is too large"))?;
        if bytes.len() != len {
            return Err(format!(
                "{dtype}{shape:?} takes {len} bytes, not {}",
                bytes.len()
            ));
        }
        Ok(Tensor {
            dtype,
            shape: shape.into(),
            bytes,
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
        }
    }

    /// A tensor of `dtype` with these values, rounded to it.
    ///
    /// # Panics
    /// As [`Tensor::from_vec`].
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
        }
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

    /// The elements' bytes, row-major and little-endian.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// How many bytes the elements take; reads none of them.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Which memory the elements are in: equal for tied weights, whatever their shape. Reads none of them.
    pub fn place(&self) -> (usize, Range<usize>) {
        self.bytes.place()
    }

    /// Whether both tensors are the same stretch of the same memory, read the same way: *tied* weights.
    pub fn same_memory(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && self.bytes.same_memory(&other.bytes)
    }

    /// The same elements under another shape of the same length.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Tensor, String> {
        Tensor::new(self.dtype, shape, self.bytes.clone())
    }

    /// The elements as `T`: borrowed where the tensor is of `T`'s type and aligned, converted otherwise.
    pub fn elements<T: Real>(&self) -> Cow<'_, [T]> {
        if self.dtype == T::DTYPE {
            return match bytemuck::try_cast_slice(self.bytes()) {
                Ok(slice) => Cow::Borrowed(slice),
                Err(_) => Cow::Owned(
                    self.bytes()
                        .chunks_exact(size_of::<T>())
                        .map(bytemuck::pod_read_unaligned)
                        .collect(),
                ),
            };
        }
        fn read<E: bytemuck::Pod, T: Real>(bytes: &[u8], to_f64: impl Fn(E) -> f64) -> Vec<T> {
            bytes
                .chunks_exact(size_of::<E>())
                .map(|b| T::from_f64(to_f64(bytemuck::pod_read_unaligned(b))))
                .collect()
        }
        let bytes = self.bytes();
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
    pub fn content_hash(&self) -> u64 {
        let mut hasher = rustc_hash::FxHasher::default();
        hasher.write_u8(self.dtype as u8);
        for n in &self.shape {
            hasher.write_usize(*n);
        }
        hasher.write(self.bytes());
        hasher.finish()
    }

    /// Whether any element is NaN or infinite.
    pub fn has_non_finite(&self) -> bool {
        match self.dtype {
            DType::F32 => self.elements::<f32>().iter().any(|x| !x.is_finite()),
            dtype if dtype.is_float() => self.elements::<f64>().iter().any(|x| !x.is_finite()),
            _ => false,
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
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
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
