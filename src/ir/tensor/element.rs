//! The types of elements.

use std::fmt;

use half::{bf16, f16};

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
    #[doc(hidden)]
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
    pub(crate) fn epsilon(self) -> f64 {
        match self {
            DType::F64 => f64::EPSILON,
            DType::F32 => f32::EPSILON.into(),
            DType::F16 => f16::EPSILON.into(),
            DType::BF16 => bf16::EPSILON.into(),
            _ => 0.0,
        }
    }

    /// The type with this name in the text form.
    pub(crate) fn from_name(name: &str) -> Option<DType> {
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
    #[doc(hidden)]
    const DTYPE: DType;
    /// The nearest number to `x`.
    #[doc(hidden)]
    fn from_f64(x: f64) -> Self;
    /// The number in double precision.
    #[doc(hidden)]
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
