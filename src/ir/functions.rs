//! Functions of one element or of two, which the rows of the operators are made of.

use super::tensor::{DType, Real};

/// Applies a function to every element.
pub(super) fn each<T: Real>(xs: &mut [T], f: impl Fn(T) -> T) -> bool {
    for x in xs {
        *x = f(*x);
    }
    true
}

pub(super) fn real<T: Real>(x: f64) -> T {
    T::from_f64(x)
}

pub(super) fn clip<T: Real>(x: T, min: T, max: T) -> T {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

pub(super) fn sigmoid<T: Real>(x: T) -> T {
    T::one() / (T::one() + (-x).exp())
}

pub(super) fn hard_sigmoid<T: Real>(x: T) -> T {
    clip(x / real(6.0) + real(0.5), T::zero(), T::one())
}

/// Without overflow: log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).
pub(super) fn softplus<T: Real>(x: T) -> T {
    clip(x, T::zero(), T::infinity()) + (-x.abs()).exp().ln_1p()
}

pub(super) fn erf<T: Real>(x: T) -> T {
    real(libm::erf(x.to_f64()))
}

/// tanh(sqrt(2 / pi) (x + 0.044715 x^3)).
pub(super) fn gelu_tanh<T: Real>(x: T) -> T {
    let scale = real::<T>((2.0 / std::f64::consts::PI).sqrt());
    (scale * (x + real::<T>(0.044715) * x * x * x)).tanh()
}

/// The number that a cast leaves of one.
pub(super) fn cast<T: Real>(dtype: DType, x: T) -> T {
    match dtype {
        dtype if dtype.is_float() => x,
        DType::Bool if x == T::zero() => T::zero(),
        DType::Bool => T::one(),
        _ => x.trunc(),
    }
}

/// The larger number. What compares lets NaN through, whichever side it is on.
pub(crate) fn maximum<T: Real>(a: T, b: T) -> T {
    nan_or(a, b, a.max(b))
}

/// The smaller number, or NaN.
pub(crate) fn minimum<T: Real>(a: T, b: T) -> T {
    nan_or(a, b, a.min(b))
}

fn nan_or<T: Real>(a: T, b: T, other: T) -> T {
    if a.is_nan() {
        a
    } else if b.is_nan() {
        b
    } else {
        other
    }
}
