//! Functions of single elements, and of two.

use crate::formats::onnx::import::Importer;
use crate::formats::onnx::view::View;
use crate::ir::{DType, Op, Value};

/// The operand, if it is of floating-point numbers: on whole ones ONNX wraps around and rounds as the IR does not.
fn float<'m>(im: &mut Importer<'m>, view: &View<'m>, i: usize) -> Option<Value> {
    let x = im.operand(view, i)?;
    im.is_float(x).then_some(x)
}

pub(super) fn unary<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let op = match view.op() {
        "Abs" => Op::Abs {},
        "Erf" => Op::Erf {},
        "Exp" => Op::Exp {},
        "HardSwish" => Op::HardSwish {},
        "Log" => Op::Log {},
        "Mish" => Op::Mish {},
        "Neg" => Op::Neg {},
        "Relu" => Op::Relu {},
        "Sigmoid" => Op::Sigmoid {},
        "Softplus" => Op::Softplus {},
        "Sqrt" => Op::Sqrt {},
        "Tanh" => Op::Tanh {},
        _ => return None,
    };
    let x = float(im, view, 0)?;
    im.last(view, op, &[x])
}

/// 1 / x.
pub(super) fn reciprocal<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = float(im, view, 0)?;
    let one = im.scalar(view, 1.0, im.dtype(x)?);
    im.last(view, Op::Div {}, &[one, x])
}

pub(super) fn leaky_relu<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = float(im, view, 0)?;
    let slope = view.float("alpha", 0.01).into();
    im.last(view, Op::LeakyRelu { slope }, &[x])
}

pub(super) fn elu<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = float(im, view, 0)?;
    let alpha = view.float("alpha", 1.0).into();
    im.last(view, Op::Elu { alpha }, &[x])
}

pub(super) fn gelu<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = float(im, view, 0)?;
    let tanh = match view.string("approximate") {
        None | Some("none") => false,
        Some("tanh") => true,
        Some(_) => return None,
    };
    im.last(view, Op::Gelu { tanh }, &[x])
}

pub(super) fn swish<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = float(im, view, 0)?;
    let plain = view.float("alpha", 1.0) == 1.0;
    plain.then(|| im.last(view, Op::Silu {}, &[x]))?
}

/// That of PyTorch, which has a slope of a sixth.
pub(super) fn hard_sigmoid<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = float(im, view, 0)?;
    let (alpha, beta) = (view.float("alpha", 0.2), view.float("beta", 0.5));
    let known = (alpha - 1.0 / 6.0).abs() < 1e-6 && beta == 0.5;
    known.then(|| im.last(view, Op::HardSigmoid {}, &[x]))?
}

/// The number that a value holds.
pub(super) fn number<'m>(im: &mut Importer<'m>, name: &'m str) -> Option<f64> {
    if let Some(tensor) = im.tensor(name) {
        return tensor.elements::<f64>().first().copied();
    }
    im.content(name)?.only()?.value()
}

pub(super) fn clip<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = float(im, view, 0)?;
    let mut bound = |i: usize, attribute: &str, default: f64| {
        if view.opset < 11 {
            return Some(view.float(attribute, default));
        }
        match view.input(i) {
            None => Some(default),
            Some(name) => number(im, name),
        }
    };
    let min = bound(1, "min", f64::NEG_INFINITY)?;
    let max = bound(2, "max", f64::INFINITY)?;
    if view.opset >= 11 && !view.node.attribute.is_empty() || min.is_nan() || max.is_nan() {
        return None;
    }
    // As written, not as the nearest number to it.
    let decimal = |x: f64| crate::formats::onnx::view::decimal(x as f32);
    let (min, max) = match im.dtype(x)? {
        DType::F64 => (min, max),
        _ => (decimal(min), decimal(max)),
    };
    let (min, max) = (min.into(), max.into());
    im.last(view, Op::Clip { min, max }, &[x])
}

pub(super) fn prelu<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = float(im, view, 0)?;
    let rank = im.rank(x)?;
    let name = view.input(1)?;
    let shape = im.tensor(name)?.shape().to_vec();
    let count: usize = shape.iter().product();
    // One slope a channel: all of them along axis 1 of the input.
    let channels = (1 + shape.len()).checked_sub(rank);
    let along = channels.is_some_and(|axis| shape.get(axis) == Some(&count));
    if shape.len() > rank || (count != 1 && !along) {
        return None;
    }
    let slope = im.reshaped(name, &[count])?;
    im.last(view, Op::PRelu {}, &[x, slope])
}

pub(super) fn binary<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let (a, b) = (float(im, view, 0)?, float(im, view, 1)?);
    let same = im.dtype(a) == im.dtype(b) && view.node.input.len() == 2;
    let op = match view.op() {
        "Add" => Op::Add {},
        "Sub" => Op::Sub {},
        "Mul" => Op::Mul {},
        "Div" => Op::Div {},
        _ => Op::Pow {},
    };
    same.then(|| im.last(view, op, &[a, b]))?
}

/// A sum, minimum or maximum of any number of operands.
pub(super) fn fold<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let op = match view.op() {
        "Max" => Op::Maximum {},
        "Min" => Op::Minimum {},
        _ => Op::Add {},
    };
    let count = view.node.input.len();
    let mut operands = Vec::with_capacity(count);
    for i in 0..count {
        operands.push(float(im, view, i)?);
    }
    let alike = operands
        .windows(2)
        .all(|w| im.dtype(w[0]) == im.dtype(w[1]));
    let (first, rest) = operands.split_first().filter(|_| alike)?;
    let Some((last, middle)) = rest.split_last() else {
        return im.last(view, Op::Identity {}, &[*first]);
    };
    let mut sum = *first;
    for value in middle {
        sum = im.step(view, "part", op.clone(), &[sum, *value])?;
    }
    im.last(view, op, &[sum, *last])
}
