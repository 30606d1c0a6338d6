//! What small tensors hold: numbers, and sizes as expressions.
//!
//! Exporters compute sizes by nodes: `Shape`, `Gather`, `Mul`, `Floor`, `Concat`. Folded, they say a reshape's shape as an expression.

use ndarray::{Array1, ArrayD, arr0};

use crate::formats::sizes::remainder;
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
    pub elements: ArrayD<Number>,
}

impl Number {
    pub(super) fn whole(dim: Dim) -> Number {
        Number::Size(dim, 1)
    }

    /// A number; a small fraction stays exact.
    pub(super) fn of(x: f64) -> Number {
        let scaled = x * MAX_OVER as f64;
        let negative_zero = x == 0.0 && x.is_sign_negative();
        if scaled.fract() == 0.0 && scaled.abs() < (1i64 << 40) as f64 && !negative_zero {
            Number::Size(Dim::from(scaled as i64), MAX_OVER).reduced()
        } else {
            Number::Real(x)
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

    /// The number, if it is whole and depends on no symbol.
    fn int(&self) -> Option<i64> {
        self.size()?.as_number()
    }

    /// The sum; of floating-point numbers as `f32` rounds it.
    pub(super) fn add(&self, other: &Number, whole: bool) -> Option<Number> {
        if let Some(known) = both(self, other, whole, i64::checked_add, |a, b| a + b) {
            return known;
        }
        let (Number::Size(a, over_a), Number::Size(b, over_b)) = (self, other) else {
            return None;
        };
        let over = (*over_a).max(*over_b);
        let a = a.clone() * Dim::from(over / over_a);
        let b = b.clone() * Dim::from(over / over_b);
        Some(Number::Size(a + b, over).reduced())
    }

    pub(super) fn neg(&self, whole: bool) -> Option<Number> {
        match self {
            _ if whole => self.mul(&Number::whole(Dim::from(-1)), true),
            _ => self.mul(&Number::of(-1.0), false),
        }
    }

    pub(super) fn sub(&self, other: &Number, whole: bool) -> Option<Number> {
        match both(self, other, whole, i64::checked_sub, |a, b| a - b) {
            Some(known) => known,
            None => self.add(&other.neg(whole)?, whole),
        }
    }

    pub(super) fn mul(&self, other: &Number, whole: bool) -> Option<Number> {
        if let Some(known) = both(self, other, whole, i64::checked_mul, |a, b| a * b) {
            return known;
        }
        let (Number::Size(a, over_a), Number::Size(b, over_b)) = (self, other) else {
            return None;
        };
        let over = over_a.checked_mul(*over_b).filter(|n| *n <= MAX_OVER)?;
        Some(Number::Size(a.clone() * b.clone(), over).reduced())
    }

    /// The quotient; of whole numbers rounded to 0, as integers divide.
    pub(super) fn div(&self, other: &Number, whole: bool) -> Option<Number> {
        if let Some(known) = both(self, other, whole, i64::checked_div, |a, b| a / b) {
            return known;
        }
        if whole {
            return towards_zero(self.size()?, other.size()?).map(Number::whole);
        }
        let (Number::Size(a, over), Number::Size(b, 1)) = (self, other) else {
            return None;
        };
        // By a power of two, which leaves a fraction that is exact.
        let b = b.as_number().filter(|b| *b > 0 && b & (b - 1) == 0)?;
        let over = over.checked_mul(b).filter(|n| *n <= MAX_OVER)?;
        Some(Number::Size(a.clone(), over).reduced())
    }

    /// What is left of a division of whole numbers, with the sign of the divisor.
    pub(super) fn rem(&self, other: &Number) -> Option<Number> {
        let (a, b) = (self.size()?, other.size()?);
        match (a.as_number(), b.as_number()) {
            (_, Some(0)) => None,
            (Some(a), Some(b)) => {
                let rest = a.checked_rem(b)?;
                let other_side = rest != 0 && (rest < 0) != (b < 0);
                let rest = if other_side { rest + b } else { rest };
                Some(Number::whole(Dim::from(rest)))
            }
            _ => Some(Number::whole(remainder(a, b))),
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
            (_, DType::Bool) => {
                let holds = self.value()? != 0.0;
                Some(Number::whole(Dim::from(i64::from(holds))))
            }
            (_, DType::F16 | DType::BF16) => None,
            (_, to) if to.is_float() => Some(self.clone()),
            // Without the sign that a zero may have.
            (Number::Real(x), _) => {
                Some(Number::of(x.trunc() + 0.0)).filter(|n| n.size().is_some())
            }
            (Number::Size(dim, over), DType::I32 | DType::I64) => {
                towards_zero(dim, &Dim::from(*over)).map(Number::whole)
            }
            _ => None,
        }
    }

    /// The larger of both; what is no number stays none.
    pub(super) fn max(&self, other: &Number) -> Option<Number> {
        self.extreme(other, f64::max, Dim::maximum)
    }

    /// The smaller of both; what is no number stays none.
    pub(super) fn min(&self, other: &Number) -> Option<Number> {
        self.extreme(other, f64::min, Dim::minimum)
    }

    fn extreme(
        &self,
        other: &Number,
        of_reals: fn(f64, f64) -> f64,
        of_sizes: fn(&Dim, &Dim) -> Dim,
    ) -> Option<Number> {
        if let (Some(a), Some(b)) = (self.size(), other.size()) {
            return Some(Number::whole(of_sizes(a, b)));
        }
        let (a, b) = (self.value()?, other.value()?);
        Some(if a.is_nan() || b.is_nan() {
            Number::Real(f64::NAN)
        } else {
            Number::of(of_reals(a, b))
        })
    }

    /// How this compares to the other, where that does not depend on what the symbols are.
    pub(super) fn order(&self, other: &Number) -> Option<std::cmp::Ordering> {
        if let (Some(a), Some(b)) = (self.int(), other.int()) {
            return Some(a.cmp(&b));
        }
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

/// What an operation gives on two numbers that are known, whole ones or `f32`; `None` where a symbol is in either.
fn both(
    a: &Number,
    b: &Number,
    whole: bool,
    of_ints: fn(i64, i64) -> Option<i64>,
    of_floats: fn(f32, f32) -> f32,
) -> Option<Option<Number>> {
    if whole {
        let (a, b) = (a.int()?, b.int()?);
        // What overflows is left to the runtime.
        return Some(of_ints(a, b).map(|n| Number::whole(Dim::from(n))));
    }
    let (a, b) = (a.value()? as f32, b.value()? as f32);
    Some(Some(Number::of(of_floats(a, b).into())))
}

/// The quotient rounded towards 0, as integers are divided: down where it is no less than 0, else up.
fn towards_zero(a: &Dim, b: &Dim) -> Option<Dim> {
    let (a, b) = match b.as_number() {
        Some(0 | i64::MIN) => return None,
        Some(1) => return Some(a.clone()),
        Some(..0) => (-a.clone(), -b.clone()),
        Some(_) => (a.clone(), b.clone()),
        None if b.is_never_negative() => (a.clone(), b.clone()),
        None => return None,
    };
    if a.is_never_negative() {
        return Some(a.floor_div(&b));
    }
    if (-a.clone()).is_never_negative() {
        return Some(a.ceil_div(&b));
    }
    let zero = Dim::from(0);
    Some(a.floor_div(&b).maximum(&zero) + a.ceil_div(&b).minimum(&zero))
}

/// How many elements a tensor of this shape has; `None` where that, or what other lengths make beside one of 0, is over
/// [`MAX_ELEMENTS`].
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    let bound =
        |n: usize, length: &usize| Some(n.checked_mul(*length)?).filter(|n| *n <= MAX_ELEMENTS);
    shape
        .iter()
        .map(|length| (*length).max(1))
        .try_fold(1, |n, length| bound(n, &length))?;
    Some(shape.iter().product())
}

impl Content {
    /// Elements in row-major order, if they are as many as the shape says.
    pub(super) fn new(dtype: DType, shape: &[usize], elements: Vec<Number>) -> Option<Content> {
        let elements = ArrayD::from_shape_vec(shape, elements).ok()?;
        Some(Content { dtype, elements })
    }

    /// Of a tensor that is small, and of a type that sizes are computed in.
    pub(super) fn of(tensor: &Tensor) -> Option<Content> {
        let dtype = tensor.dtype();
        let most = if dtype.is_float() {
            MAX_SCALES
        } else {
            MAX_ELEMENTS
        };
        let fits = tensor.shape().len() <= 4 && count(tensor.shape()).is_some_and(|n| n <= most);
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
        Content::new(dtype, tensor.shape(), elements)
    }

    /// A list.
    pub(super) fn list(dtype: DType, elements: impl IntoIterator<Item = Number>) -> Content {
        let elements = Array1::from_iter(elements).into_dyn();
        Content { dtype, elements }
    }

    /// A list of sizes.
    pub(super) fn of_sizes(sizes: &[Dim]) -> Content {
        Content::list(DType::I64, sizes.iter().cloned().map(Number::whole))
    }

    /// A single size.
    pub(super) fn scalar(size: Dim) -> Content {
        let elements = arr0(Number::whole(size)).into_dyn();
        let dtype = DType::I64;
        Content { dtype, elements }
    }

    /// What a function gives on each element.
    pub(super) fn map(
        &self,
        dtype: DType,
        function: impl Fn(&Number) -> Option<Number>,
    ) -> Option<Content> {
        let elements = self.elements.iter().map(function);
        Content::new(dtype, self.shape(), elements.collect::<Option<_>>()?)
    }

    pub(super) fn shape(&self) -> &[usize] {
        self.elements.shape()
    }

    /// The elements as sizes, if all are whole.
    pub(super) fn sizes(&self) -> Option<Dims> {
        self.elements.iter().map(|n| n.size().cloned()).collect()
    }

    /// The elements as whole numbers, if none depends on a symbol.
    pub(super) fn ints(&self) -> Option<Vec<i64>> {
        self.elements.iter().map(Number::int).collect()
    }

    /// The elements as numbers, if none depends on a symbol.
    pub(super) fn values(&self) -> Option<Vec<f64>> {
        self.elements.iter().map(Number::value).collect()
    }

    /// The only element.
    pub(super) fn only(&self) -> Option<&Number> {
        self.elements.first().filter(|_| self.elements.len() == 1)
    }

    /// A tensor of these elements, if none depends on a symbol.
    pub(super) fn tensor(&self) -> Option<Tensor> {
        let exact = self.dtype != DType::I64 || { self.elements.iter() }
            .all(|n| n.value().is_some_and(|x| x.abs() < 9e15));
        let values = self.values().filter(|_| exact)?;
        Some(Tensor::from_f64(self.dtype, self.shape(), values))
    }

    /// Whether an expression has grown too long to be of use.
    pub(super) fn is_too_long(&self) -> bool {
        let long = |n: &Number| matches!(n, Number::Size(dim, _) if dim.is_too_long());
        count(self.shape()).is_none() || self.elements.iter().any(long)
    }
}
