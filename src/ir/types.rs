//! The types of values.

use std::fmt;
use std::sync::Arc;

use super::attribute::Attribute;
use super::dim::{Dim, Dims};
use super::tensor::DType;

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Type {
    /// A tensor; its shape is `None` where even the number of dimensions is unknown, as after an opaque operator.
    Tensor(DType, Option<Dims>),
    /// Something else that an opaque operator makes and only opaque operators take, named by its format.
    Other(Arc<str>),
}

impl Type {
    /// A tensor of known shape.
    pub fn tensor(dtype: DType, shape: impl IntoIterator<Item = Dim>) -> Type {
        Type::Tensor(dtype, Some(shape.into_iter().collect()))
    }

    /// The element type, if this is a tensor.
    pub fn dtype(&self) -> Option<DType> {
        match self {
            Type::Tensor(dtype, _) => Some(*dtype),
            Type::Other(_) => None,
        }
    }

    /// Whether this is a tensor of floating-point numbers.
    #[doc(hidden)]
    pub fn is_float(&self) -> bool {
        self.dtype().is_some_and(DType::is_float)
    }

    /// The shape, if this is a tensor and it is known.
    pub fn shape(&self) -> Option<&[Dim]> {
        match self {
            Type::Tensor(_, Some(shape)) => Some(shape),
            _ => None,
        }
    }

    /// The size of `axis`, if it is known to be a number.
    #[doc(hidden)]
    pub fn len(&self, axis: usize) -> Option<usize> {
        self.shape()?.get(axis)?.as_len()
    }

    /// The same with another size of `axis`; `None` where there is no such axis.
    pub(crate) fn with_len(&self, axis: usize, len: usize) -> Option<Type> {
        let mut shape = self.shape()?.to_vec();
        *shape.get_mut(axis)? = len.into();
        Some(Type::tensor(self.dtype()?, shape))
    }

    /// The number of dimensions, if it is known.
    #[doc(hidden)]
    pub fn rank(&self) -> Option<usize> {
        self.shape().map(<[Dim]>::len)
    }
}

/// Why values or elements do not fit where they are put: the number of operands, an attribute's range, element types, sizes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TypeError(pub(crate) String);

impl From<String> for TypeError {
    fn from(text: String) -> TypeError {
        TypeError(text)
    }
}

/// For messages that say more.
impl From<TypeError> for String {
    fn from(error: TypeError) -> String {
        error.0
    }
}

/// `f32[N,16,32,32]`, `f32[*]` where the shape is unknown, `other"List[int]"`.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Tensor(dtype, Some(shape)) => write!(f, "{dtype}{}", shape.print()),
            Type::Tensor(dtype, None) => write!(f, "{dtype}[*]"),
            Type::Other(name) => write!(f, "other{}", name.print()),
        }
    }
}

impl std::str::FromStr for Type {
    type Err = TypeError;

    fn from_str(text: &str) -> Result<Type, TypeError> {
        if let Some(name) = text.strip_prefix("other") {
            return Ok(Type::Other(Attribute::parse(name)?));
        }
        let at = text
            .find('[')
            .ok_or_else(|| format!("expected a type like f32[N,3], found `{text}`"))?;
        let dtype = DType::parse(&text[..at])?;
        match &text[at..] {
            "[*]" => Ok(Type::Tensor(dtype, None)),
            shape => Ok(Type::Tensor(dtype, Some(Dims::parse(shape)?))),
        }
    }
}
