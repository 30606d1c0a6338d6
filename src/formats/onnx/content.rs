//! What small tensors hold: numbers, and sizes as expressions.
//!
//! Exporters compute sizes by nodes: `Shape`, `Gather`, `Mul`, `Floor`, `Concat`. Folded, they say a reshape's shape as an expression.

use smallvec::{SmallVec, smallvec};

use crate::ir::{DType, Dim, Dims, Tensor};

/// The most elements that are kept track of.
pub(super) const MAX_ELEMENTS: usize = 4096;

/// The same where elements are floating-point numbers: more are no scales of sizes, but weights.
const MAX_SCALES: usize = 16;

/// The largest divisor of a size that is not whole: all products with it are exact in `f32` for sizes below 65,536.
const MAX_OVER: i64 = 256;

/// One element.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Number {
    /// A size, over a number that is a power of two: `H * 0.5` is `H` over 2.
    Size(Dim, i64),
    /// A number that is not whole, nor a small fraction.
    Real(f64),
}

/// The elements of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    pub dtype: DType,
    pub shape: SmallVec<[usize; 2]>,
    pub elements: Vec<Number>,
}

impl Number {
    pub(super) fn whole(dim: Dim) -> Number {
        Number::Size(dim, 1)
    }

    /// A number; a small fraction stays exact.
    pub(super) fn of(x: f64) -> Number {
        let scaled = x * MAX_OVER as f64;
        match scaled.fract() == 0.0 && scaled.abs() < (1i64 << 40) as f64 {
            true => Number::Size(Dim::from(scaled as i64), MAX_OVER).reduced(),
            false => Number::Real(x),
        }
    }

    /// With the smallest divisor.
    fn reduced(self) -> Number {
        match self {
            Number::Size(dim, mut over) => {
                let mut dim = dim;
                while over > 1 {
                    let half = dim.floor_div(&Dim::from(2));
                    if half.clone() * Dim::from(2) != dim {
                        break;
                    }
                    (dim, over) = (half, over / 2);
                }
                Number::Size(dim, over)
            }
            real => real,
        }
    }

    /// The size, if it is whole.
    pub(super) fn size(&self) -> Option<&Dim> {
        match self {
            Number::Size(dim, 1) => Some(dim),
            _ => None,
        }
    }

    /// The number, if it depends on no symbol.
    pub(super) fn value(&self) -> Option<f64> {
        match self {
            Number::Size(dim, over) => Some(dim.as_number()? as f64 / *over as f64),
            Number::Real(x) => Some(*x),
        }
    }

    pub(super) fn add(&self, other: &Number, sign: i64) -> Option<Number> {
        match (self, other) {
            (Number::Size(a, over_a), Number::Size(b, over_b)) => {
                let over = (*over_a).max(*over_b);
                let a = a.clone() * Dim::from(over / over_a);
                let b = b.clone() * Dim::from(over / over_b * sign);
                Some(Number::Size(a + b, over).reduced())
            }
            _ => {
                let (a, b) = (self.value()? as f32, other.value()? as f32);
                Some(Number::of((a + b * sign as f32).into()))
            }
        }
    }

    pub(super) fn mul(&self, other: &Number) -> Option<Number> {
        match (self, other) {
            (Number::Size(a, over_a), Number::Size(b, over_b)) => {
                let over = over_a.checked_mul(*over_b).filter(|n| *n <= MAX_OVER)?;
                Some(Number::Size(a.clone() * b.clone(), over).reduced())
            }
            _ => {
                let (a, b) = (self.value()? as f32, other.value()? as f32);
                Some(Number::of((a * b).into()))
            }
        }
    }

    /// The quotient; of whole numbers rounded to 0, as integers divide.
    pub(super) fn div(&self, other: &Number, whole: bool) -> Option<Number> {
        if whole {
            let (a, b) = (self.size()?, other.size()?);
            return match (a.as_number(), b.as_number()) {
                (_, Some(0)) => None,
                (Some(a), Some(b)) => Some(Number::whole(Dim::from(a.checked_div(b)?))),
                _ => Some(Number::whole(a.floor_div(b))),
            };
        }
        match (self, other) {
            (Number::Size(a, over), Number::Size(b, 1)) => match b.as_number() {
                Some(b) if b > 0 && b & (b - 1) == 0 => {
                    let over = over.checked_mul(b).filter(|n| *n <= MAX_OVER)?;
                    Some(Number::Size(a.clone(), over).reduced())
                }
                _ => {
                    let (a, b) = (self.value()? as f32, other.value()? as f32);
                    Some(Number::of((a / b).into()))
                }
            },
            _ => {
                let (a, b) = (self.value()? as f32, other.value()? as f32);
                Some(Number::of((a / b).into()))
            }
        }
    }

    pub(super) fn floor(&self) -> Option<Number> {
        match self {
            Number::Size(dim, over) => Some(Number::whole(dim.floor_div(&Dim::from(*over)))),
            Number::Real(x) => Some(Number::of(x.floor())),
        }
    }

    pub(super) fn ceil(&self) -> Option<Number> {
        match self {
            Number::Size(dim, over) => Some(Number::whole(dim.ceil_div(&Dim::from(*over)))),
            Number::Real(x) => Some(Number::of(x.ceil())),
        }
    }

    /// As another type: towards zero where it is whole.
    pub(super) fn cast(&self, to: DType) -> Option<Number> {
        match (self, to) {
            (_, DType::Bool) => Some(Number::of(f64::from(u8::from(self.value()? != 0.0)))),
            (_, DType::F16 | DType::BF16) => None,
            (_, to) if to.is_float() => Some(self.clone()),
            (Number::Real(x), _) => Some(Number::of(x.trunc())).filter(|n| n.size().is_some()),
            (Number::Size(dim, 1), DType::I32 | DType::I64) => Some(Number::whole(dim.clone())),
            (Number::Size(dim, over), DType::I32 | DType::I64) => {
                let negative = dim.as_number().is_some_and(|n| n < 0);
                let dim = match negative {
                    true => dim.ceil_div(&Dim::from(*over)),
                    false => dim.floor_div(&Dim::from(*over)),
                };
                Some(Number::whole(dim))
            }
            _ => None,
        }
    }

    pub(super) fn max(&self, other: &Number, sign: i64) -> Option<Number> {
        match (self.size(), other.size()) {
            (Some(a), Some(b)) => Some(Number::whole(match sign {
                1 => a.at_least(b),
                _ => a.at_most(b),
            })),
            _ => {
                let (a, b) = (self.value()?, other.value()?);
                Some(Number::of(if sign == 1 { a.max(b) } else { a.min(b) }))
            }
        }
    }

    /// How this compares to the other, where that does not depend on what the symbols are.
    pub(super) fn order(&self, other: &Number) -> Option<std::cmp::Ordering> {
        if let (Some(a), Some(b)) = (self.value(), other.value()) {
            return a.partial_cmp(&b);
        }
        let (a, b) = (self.size()?, other.size()?);
        let difference = a.clone() - b.clone();
        if let Some(n) = difference.as_number() {
            return Some(n.cmp(&0));
        }
        // A size is no negative number, so it is more than one.
        match (a.as_number(), b.as_number()) {
            (None, Some(..0)) if a.is_never_negative() => Some(std::cmp::Ordering::Greater),
            (Some(..0), None) if b.is_never_negative() => Some(std::cmp::Ordering::Less),
            _ => None,
        }
    }
}

impl Content {
    /// Of a tensor that is small, and of a type that sizes are computed in.
    pub(super) fn of(tensor: &Tensor) -> Option<Content> {
        let dtype = tensor.dtype();
        let most = if dtype.is_float() {
            MAX_SCALES
        } else {
            MAX_ELEMENTS
        };
        let fits = tensor.shape().len() <= 4 && tensor.len() <= most;
        if !fits || matches!(dtype, DType::F16 | DType::BF16 | DType::F64) {
            return None;
        }
        let elements = match dtype {
            // Exact beyond what a `f64` holds.
            DType::I64 => tensor
                .bytes()
                .chunks_exact(8)
                .map(|b| Number::whole(Dim::from(bytemuck::pod_read_unaligned::<i64>(b))))
                .collect(),
            _ => {
                let elements = tensor.elements::<f64>();
                elements.iter().map(|x| Number::of(*x)).collect()
            }
        };
        Some(Content {
            dtype,
            shape: tensor.shape().into(),
            elements,
        })
    }

    /// A list of sizes.
    pub(super) fn list(sizes: &[Dim]) -> Content {
        Content {
            dtype: DType::I64,
            shape: smallvec![sizes.len()],
            elements: sizes.iter().cloned().map(Number::whole).collect(),
        }
    }

    /// A single size.
    pub(super) fn scalar(size: Dim) -> Content {
        Content {
            dtype: DType::I64,
            shape: smallvec![],
            elements: vec![Number::whole(size)],
        }
    }

    /// The elements as sizes, if all are whole.
    pub(super) fn sizes(&self) -> Option<Dims> {
        { self.elements.iter() }
            .map(|n| n.size().cloned())
            .collect()
    }

    /// The elements as whole numbers, if none depends on a symbol.
    pub(super) fn ints(&self) -> Option<Vec<i64>> {
        { self.elements.iter() }
            .map(|n| n.size()?.as_number())
            .collect()
    }

    /// The elements as numbers, if none depends on a symbol.
    pub(super) fn values(&self) -> Option<Vec<f64>> {
        self.elements.iter().map(Number::value).collect()
    }

    /// The only element.
    pub(super) fn only(&self) -> Option<&Number> {
        match self.elements.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// A tensor of these elements, if none depends on a symbol.
    pub(super) fn tensor(&self) -> Option<Tensor> {
        let exact = self.dtype != DType::I64 || { self.elements.iter() }
            .all(|n| n.value().is_some_and(|x| x.abs() < 9e15));
        let values = self.values().filter(|_| exact)?;
        Some(Tensor::from_f64(self.dtype, &self.shape, values))
    }

    /// Whether an expression has grown too long to be of use.
    pub(super) fn is_too_long(&self) -> bool {
        let long = |n: &Number| matches!(n, Number::Size(dim, _) if dim.is_too_long());
        self.elements.len() > MAX_ELEMENTS || self.elements.iter().any(long)
    }
}
