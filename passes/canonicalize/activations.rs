//! Activations that a file spells out in several operators: one in their place.
//!
//! Where there was no operator for it yet, exporters wrote hard-swish as `x * clip(x + 3, 0, 6) / 6`, which goes over the memory four
//! times.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::polynomial::cubic;
use crate::ir::{Graph, NodeId, Op, Value};
use crate::pipeline::{Changed, PassContext};

/// How far a factor may be from what it should be, for rounding.
const NEAR: f64 = 1e-6;

/// `sqrt(2 / pi) (x + 0.044715 x^3)`: what the hyperbolic tangent is of in GELU.
const GELU: [f64; 4] = {
    let linear = FRAC_2_SQRT_PI * FRAC_1_SQRT_2;
    [0.0, linear, 0.0, 0.044715 * linear]
};

/// How many products and quotients lie within each other at most.
const DEPTH: usize = 4;

/// Puts one operator in the place of a product that is an activation, if it is one.
pub(super) fn recognise(graph: &mut Graph, node: NodeId, context: &mut PassContext<'_>) -> Changed {
    let spelled_out = matches!(graph.op(node), Some(Op::Mul {} | Op::Div {}));
    if !spelled_out {
        return Changed::No;
    }
    let Some(gated) = Gated::of(graph, node.into(), DEPTH) else {
        return Changed::No;
    };
    let (op, factor) = match (gated.gate, gated.times_x) {
        (Gate::HardSigmoid, true) => (Op::HardSwish {}, 1.0),
        (Gate::HardSigmoid, false) => (Op::HardSigmoid {}, 1.0),
        (Gate::Erf, true) => (Op::Gelu { tanh: false }, 0.5),
        (Gate::Tanh, true) => (Op::Gelu { tanh: true }, 0.5),
        (Gate::Erf | Gate::Tanh, false) => return Changed::No,
    };
    let same_type = graph.ty(gated.x) == graph.ty(node.into());
    let is_whole = (gated.factor - factor).abs() < NEAR;
    let name = op.name();
    if !is_whole || !same_type || graph.replace_op(node, op, &[gated.x]).is_err() {
        return Changed::No;
    }
    let what = format!("{name}, which was spelled out");
    context.applied(&graph.node(node).name, what);
    Changed::Yes
}

/// `factor * gate(x)`, or `factor * x * gate(x)`.
#[derive(Clone, Copy)]
struct Gated {
    /// What the gate reads.
    x: Value,
    gate: Gate,
    factor: f64,
    times_x: bool,
}

/// What lets some of a number through.
#[derive(Clone, Copy)]
enum Gate {
    /// `hard_sigmoid(x)`.
    HardSigmoid,
    /// `1 + erf(x / sqrt(2))`.
    Erf,
    /// `1 + tanh(x)`; of [`GELU`] in what it is multiplied with.
    Tanh,
}

impl Gated {
    /// What a value is, as far as `depth` products and quotients within each other say.
    fn of(graph: &Graph, value: Value, depth: usize) -> Option<Gated> {
        let depth = depth.checked_sub(1)?;
        let operands = graph.operands(value.node);
        let alone = |x: Value, gate: Gate, factor: f64| Gated {
            x,
            gate,
            factor,
            times_x: false,
        };
        match (graph.op(value.node)?, &operands[..]) {
            (Op::HardSigmoid {}, [x]) => Some(alone(*x, Gate::HardSigmoid, 1.0)),
            (Op::Clip { min, max }, [sum]) if min.0 == 0.0 && max.0 == 6.0 => {
                let (x, three) = with_number(graph, *sum, &Op::Add {})?;
                (three == 3.0).then(|| alone(x, Gate::HardSigmoid, 6.0))
            }
            (Op::Add {}, _) => {
                let (inner, one) = with_number(graph, value, &Op::Add {})?;
                let function = graph.op(inner.node).filter(|_| one == 1.0)?;
                let inner = *graph.operands(inner.node).first()?;
                if *function == (Op::Tanh {}) {
                    return Some(alone(inner, Gate::Tanh, 1.0));
                }
                let is_erf = *function == (Op::Erf {});
                let (x, share) = multiple(graph, inner).filter(|_| is_erf)?;
                let near = (share - FRAC_1_SQRT_2).abs() < NEAR;
                near.then(|| alone(x, Gate::Erf, 1.0))
            }
            (Op::Div {}, [gate, by]) => {
                let by = number(graph, *by)?;
                Gated::of(graph, *gate, depth).map(|gate| gate.times(by.recip()))
            }
            (Op::Mul {}, [a, b]) => {
                if let Some((gate, factor)) = with_number(graph, value, &Op::Mul {}) {
                    return Gated::of(graph, gate, depth).map(|gate| gate.times(factor));
                }
                let by_x = |gate: Value, x: Value| {
                    let gate = Gated::of(graph, gate, depth).filter(|gate| !gate.times_x)?;
                    // The factor of the whole may stand beside x.
                    let (x, factor) = match multiple(graph, x) {
                        Some((inner, factor)) if gate.is_of(graph, inner) => (inner, factor),
                        _ => (x, 1.0),
                    };
                    let times_x = true;
                    gate.is_of(graph, x).then_some(Gated {
                        x,
                        times_x,
                        ..gate.times(factor)
                    })
                };
                by_x(*a, *b).or_else(|| by_x(*b, *a))
            }
            _ => None,
        }
    }

    /// Whether it is the gate of x.
    fn is_of(&self, graph: &Graph, x: Value) -> bool {
        match self.gate {
            Gate::HardSigmoid | Gate::Erf => self.x == x,
            Gate::Tanh => cubic(graph, self.x, x).is_some_and(|inner| {
                let mut pairs = inner.iter().zip(GELU);
                pairs.all(|(is, should)| (is - should).abs() < NEAR)
            }),
        }
    }

    fn times(self, factor: f64) -> Gated {
        Gated {
            factor: self.factor * factor,
            ..self
        }
    }
}

/// What a value is a multiple of, and the factor.
fn multiple(graph: &Graph, value: Value) -> Option<(Value, f64)> {
    match (graph.op(value.node)?, &graph.operands(value.node)[..]) {
        (op @ Op::Mul {}, _) => with_number(graph, value, op),
        (Op::Div {}, [x, by]) => Some((*x, number(graph, *by)?.recip())),
        _ => None,
    }
}

/// The operands of a sum or product of which one is a number.
pub(super) fn with_number(graph: &Graph, value: Value, op: &Op) -> Option<(Value, f64)> {
    if graph.op(value.node)? != op {
        return None;
    }
    match graph.operands(value.node)[..] {
        [a, b] => number(graph, b)
            .map(|n| (a, n))
            .or_else(|| number(graph, a).map(|n| (b, n))),
        _ => None,
    }
}

/// The number that a constant of one element is.
pub(super) fn number(graph: &Graph, value: Value) -> Option<f64> {
    let tensor = &graph.constant(value.node)?.tensor;
    let only = (tensor.len() == 1).then(|| tensor.elements::<f64>().first().copied());
    only.flatten()
}
