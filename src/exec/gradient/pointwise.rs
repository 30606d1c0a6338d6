//! Functions of one element and of two.

use ndarray::{ArrayD, Axis};

use super::super::array::{Array, from_vec};
use super::super::elementwise::{scalar, zip};
use super::operator::Site;
use crate::ir::{Op, Real};

/// By the result, which is positive where the operand is.
fn relu<'g, T: Real>(y: &Array<'g, T>, adjoint: Array<'g, T>) -> Result<Array<'g, T>, String> {
    let y = y.contiguous();
    let shape = adjoint.shape().to_vec();
    let mut adjoint = adjoint.into_vec();
    for (adjoint, y) in adjoint.iter_mut().zip(y.as_slice().unwrap_or_default()) {
        *adjoint = if *y > T::zero() { *adjoint } else { T::zero() };
    }
    from_vec(&shape, adjoint)
}

/// Slopes are constant, one a channel.
pub(super) fn prelu<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    adjoint: &Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let x = site.operand(0)?;
    let mut shape = vec![1; x.shape().len()];
    let slope = site.operand(1)?;
    if let (Some(channels), Some(slopes)) = (shape.get_mut(1), slope.shape().first()) {
        *channels = *slopes;
    }
    let slopes = slope.clone().reshaped(&shape)?;
    let scale = zip(x.clone(), slopes, |x, slope| {
        if x < T::zero() { slope } else { T::one() }
    })?;
    zip(adjoint.clone(), scale, |a, s| a * s)
}

pub(super) fn function<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let op = site.op;
    match op {
        Op::Relu {} => return relu(site.result()?, adjoint),
        // To another floating-point type: others were refused.
        Op::Cast { .. } => return Ok(adjoint),
        Op::Neg {} => return zip(adjoint.clone(), adjoint, |a, _| -a),
        _ => {}
    }
    let missing = || format!("{} has no derivative", op.name());
    derivative(op, T::one()).ok_or_else(missing)?;
    zip(adjoint, site.operand(0)?.clone(), |a, x| {
        a * derivative(op, x).unwrap_or_default()
    })
}

/// The derivative of a function of one element; where it has none, that of one side.
fn derivative<T: Real>(op: &Op, x: T) -> Option<T> {
    let number = T::from_f64;
    let (zero, one, two) = (T::zero(), T::one(), number(2.0));
    let of = |op: Op| scalar(&op, x).unwrap_or_default();
    let where_negative = |slope: T| if x < zero { slope } else { one };
    let inside = |min: T, max: T| if x < min || x > max { zero } else { one };
    let sigmoid = || of(Op::Sigmoid {});
    Some(match op {
        Op::Relu {} => {
            if x > zero {
                one
            } else {
                zero
            }
        }
        Op::LeakyRelu { slope } => where_negative(number(slope.0)),
        Op::Clip { min, max } => inside(number(min.0), number(max.0)),
        Op::Elu { alpha } => where_negative(number(alpha.0) * x.exp()),
        Op::Selu {} => {
            if x < zero {
                // An exponential is the function less its limit.
                of(Op::Selu {}) - scalar(&Op::Selu {}, T::neg_infinity())?
            } else {
                scalar(&Op::Selu {}, one)?
            }
        }
        Op::Silu {} => sigmoid() * (one + x * (one - sigmoid())),
        Op::Gelu { tanh: false } => {
            let below = (one + scalar(&Op::Erf {}, x / two.sqrt())?) / two;
            let density = (-x * x / two).exp() / number((2.0 * std::f64::consts::PI).sqrt());
            below + x * density
        }
        Op::Gelu { tanh: true } => {
            let scale = number((2.0 / std::f64::consts::PI).sqrt());
            let t = (scale * (x + number(0.044715) * x * x * x)).tanh();
            let inner = scale * (one + number(3.0 * 0.044715) * x * x);
            (one + t + x * (one - t * t) * inner) / two
        }
        Op::Sigmoid {} => sigmoid() * (one - sigmoid()),
        Op::HardSigmoid {} => inside(number(-3.0), number(3.0)) / number(6.0),
        Op::HardSwish {} if x < number(-3.0) => zero,
        Op::HardSwish {} if x > number(3.0) => one,
        Op::HardSwish {} => x / number(3.0) + number(0.5),
        Op::Tanh {} => one - x.tanh().powi(2),
        Op::Softplus {} => sigmoid(),
        Op::Mish {} => {
            let t = of(Op::Softplus {}).tanh();
            t + x * (one - t * t) * sigmoid()
        }
        Op::Softsign {} => (one + x.abs()).powi(2).recip(),
        Op::Sin {} => x.cos(),
        Op::Cos {} => -x.sin(),
        Op::Atan {} => (one + x * x).recip(),
        Op::Exp {} => x.exp(),
        Op::Log {} => x.recip(),
        Op::Sqrt {} => (two * x.sqrt()).recip(),
        Op::Rsqrt {} => -(two * x * x.sqrt()).recip(),
        Op::Erf {} => number(2.0 / std::f64::consts::PI.sqrt()) * (-x * x).exp(),
        Op::Abs {} => {
            if x < zero {
                -one
            } else if x > zero {
                one
            } else {
                zero
            }
        }
        _ => return None,
    })
}

pub(super) fn binary<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    operand: usize,
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let both = || Ok::<_, String>((site.operand(0)?.clone(), site.operand(1)?.clone()));
    // The derivative by the operand, of both.
    let times = |derivative: fn(T, T) -> T| {
        let (a, b) = both()?;
        zip(adjoint.clone(), zip(a, b, derivative)?, |adjoint, d| {
            adjoint * d
        })
    };
    let share = match (site.op, operand) {
        (Op::Add {}, _) | (Op::Sub {}, 0) => adjoint,
        (Op::Sub {}, _) => zip(adjoint.clone(), adjoint, |a, _| -a)?,
        (Op::Mul {}, 0) => zip(adjoint, site.operand(1)?.clone(), |a, x| a * x)?,
        (Op::Mul {}, _) => zip(adjoint, site.operand(0)?.clone(), |a, x| a * x)?,
        (Op::Div {}, 0) => zip(adjoint, site.operand(1)?.clone(), |a, x| a / x)?,
        (Op::Div {}, _) => times(|a, b| -a / (b * b))?,
        (Op::Pow {}, 0) => times(|a, b| {
            if b == T::zero() {
                T::zero()
            } else {
                b * a.powf(b - T::one())
            }
        })?,
        (Op::Pow {}, _) => times(|a, b| {
            if a > T::zero() {
                a.powf(b) * a.ln()
            } else {
                T::zero()
            }
        })?,
        (Op::Maximum {}, 0) => times(|a, b| if a >= b { T::one() } else { T::zero() })?,
        (Op::Maximum {}, _) => times(|a, b| if a < b { T::one() } else { T::zero() })?,
        (Op::Minimum {}, 0) => times(|a, b| if a <= b { T::one() } else { T::zero() })?,
        (Op::Minimum {}, _) => times(|a, b| if a > b { T::one() } else { T::zero() })?,
        _ => return Err(format!("{} is not a binary function", site.op.name())),
    };
    sum_to(share, site.shape(operand))
}

/// The sum over what was broadcast from this shape.
pub(super) fn sum_to<'g, T: Real>(
    adjoint: Array<'g, T>,
    shape: &[usize],
) -> Result<Array<'g, T>, String> {
    if adjoint.shape() == shape {
        return Ok(adjoint);
    }
    let mut sums: ArrayD<T> = adjoint.into_owned();
    while sums.ndim() > shape.len() {
        sums = sums.sum_axis(Axis(0));
    }
    for (axis, len) in shape.iter().enumerate() {
        if *len == 1 && sums.shape()[axis] != 1 {
            sums = sums.sum_axis(Axis(axis)).insert_axis(Axis(axis));
        }
    }
    if sums.shape() != shape {
        return Err(format!(
            "a sum of shape {:?} is not of {shape:?}",
            sums.shape()
        ));
    }
    Ok(sums.into())
}
