//! Functions of single elements, and of two.

use smallvec::SmallVec;

use crate::formats::onnx::import::Importer;
use crate::formats::onnx::view::{View, decimal};
use crate::formats::spelling::{self, Value};
use crate::ir::{self, DType, Op};

/// The operand, if it is of floating-point numbers: on whole ones ONNX wraps around and rounds as the IR does not.
fn float<'m>(im: &mut Importer<'m>, view: &View<'m>, i: usize) -> Option<ir::Value> {
    let x = im.operand(view, i)?;
    im.is_float(x).then_some(x)
}

/// The operator that the table of all formats has for a node.
fn spelled(view: &View<'_>) -> Option<(Op, usize)> {
    let value = |name: &str| {
        let attribute = view.attribute(name)?;
        Some(match (attribute.f, view.string(name)) {
            (_, Some(text)) => Value::Text(text),
            (number, None) => Value::Real(number.map_or(f64::NAN, decimal)),
        })
    };
    let mut rows = spelling::of_onnx(view.op());
    rows.find_map(|(row, onnx)| {
        let names: SmallVec<[&str; 2]> = onnx.attributes.iter().map(|a| a.name).collect();
        let op = row
            .read(onnx.attributes, value)
            .filter(|_| view.only(&names))?;
        Some((op, row.operands()))
    })
}

/// A function that the table of all formats has.
pub(super) fn function<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<ir::Value> {
    let (op, operands) = spelled(view)?;
    if operands > 1 {
        return binary(im, view, op);
    }
    let x = float(im, view, 0)?;
    im.last(view, op, &[x])
}

/// `clip(alpha x + 1/2, 0, 1)`; the IR's has the slope 1/6, and gets a multiple of x for others.
pub(super) fn hard_sigmoid<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<ir::Value> {
    if spelled(view).is_some() {
        return function(im, view);
    }
    let (alpha, beta) = (view.float("alpha", 0.2), view.float("beta", 0.5));
    let x = float(im, view, 0).filter(|_| beta == 0.5)?;
    let slope = im.scalar(view, 6.0 * alpha, im.dtype(x)?);
    let scaled = im.step(view, "scaled", Op::Mul {}, &[x, slope])?;
    im.last(view, Op::HardSigmoid {}, &[scaled])
}

/// 1 / x.
pub(super) fn reciprocal<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<ir::Value> {
    let x = float(im, view, 0)?;
    let one = im.scalar(view, 1.0, im.dtype(x)?);
    im.last(view, Op::Div {}, &[one, x])
}

/// The number that a value holds.
pub(super) fn number<'m>(im: &mut Importer<'m>, name: &'m str) -> Option<f64> {
    if let Some(tensor) = im.tensor(name) {
        return tensor.elements::<f64>().first().copied();
    }
    im.content(name)?.only()?.value()
}

pub(super) fn clip<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<ir::Value> {
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
    let decimal = |x: f64| decimal(x as f32);
    let (min, max) = match im.dtype(x)? {
        DType::F64 => (min, max),
        _ => (decimal(min), decimal(max)),
    };
    let (min, max) = (min.into(), max.into());
    im.last(view, Op::Clip { min, max }, &[x])
}

pub(super) fn prelu<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<ir::Value> {
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

pub(super) fn binary<'m>(im: &mut Importer<'m>, view: &View<'m>, op: Op) -> Option<ir::Value> {
    let (a, b) = (float(im, view, 0)?, float(im, view, 1)?);
    let same = im.dtype(a) == im.dtype(b) && view.node.input.len() == 2;
    same.then(|| im.last(view, op, &[a, b]))?
}

/// A sum, minimum or maximum of any number of operands.
pub(super) fn fold<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<ir::Value> {
    let op = spelled(view).map_or(Op::Add {}, |(op, _)| op);
    let operands = (0..view.node.input.len()).map(|i| float(im, view, i));
    let operands = operands.collect::<Option<Vec<_>>>()?;
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
