//! Polynomials that a graph spells out in sums and products.

use super::activations::number;
use crate::ir::{Graph, Op, Value};

/// How many sums and products lie within each other at most.
const DEPTH: usize = 6;

/// The coefficients of a polynomial of degree 3 at most, the constant one first.
pub(super) type Cubic = [f64; 4];

/// What a value is as a polynomial in `x`; `None` where it is none, or of a higher degree.
pub(super) fn cubic(graph: &Graph, value: Value, x: Value) -> Option<Cubic> {
    within(graph, value, x, DEPTH)
}

fn within(graph: &Graph, value: Value, x: Value, depth: usize) -> Option<Cubic> {
    if value == x {
        return Some([0.0, 1.0, 0.0, 0.0]);
    }
    if let Some(number) = number(graph, value) {
        return Some([number, 0.0, 0.0, 0.0]);
    }
    let depth = depth.checked_sub(1)?;
    let of = |value: Value| within(graph, value, x, depth);
    match (graph.op(value.node)?, &graph.operands(value.node)[..]) {
        (Op::Neg {}, [a]) => Some(of(*a)?.map(|c| -c)),
        (Op::Add {}, [a, b]) => Some(sum(of(*a)?, of(*b)?, 1.0)),
        (Op::Sub {}, [a, b]) => Some(sum(of(*a)?, of(*b)?, -1.0)),
        (Op::Mul {}, [a, b]) => product(of(*a)?, of(*b)?),
        (Op::Div {}, [a, b]) => {
            let by = number(graph, *b)?;
            Some(of(*a)?.map(|c| c / by))
        }
        (Op::Pow {}, [a, b]) => {
            let (base, exponent) = (of(*a)?, number(graph, *b)?);
            let times = [2.0, 3.0].iter().position(|n| *n == exponent)? + 1;
            (0..times).try_fold(base, |power, _| product(power, base))
        }
        _ => None,
    }
}

fn sum(a: Cubic, b: Cubic, sign: f64) -> Cubic {
    std::array::from_fn(|i| a[i] + sign * b[i])
}

fn product(a: Cubic, b: Cubic) -> Option<Cubic> {
    let mut product = [0.0; 4];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate().filter(|(_, y)| x * *y != 0.0) {
            *product.get_mut(i + j)? += x * y;
        }
    }
    Some(product)
}
