//! Functions of single elements, and of two.

use crate::formats::onnx::attributes::{float, string};
use crate::formats::onnx::error::{MISTAKE, OnnxError};
use crate::formats::onnx::proto::AttributeProto;
use crate::formats::onnx::write::{Spelled, Writer};
use crate::ir::{DType, Op};

/// A node of this operator and nothing more, whose operands are all of the result's type.
pub(super) fn alike(w: &mut Writer<'_>, op: &str, spelled: &Spelled<'_>) -> Result<(), OnnxError> {
    let inputs = operands(w, spelled)?;
    w.emit(op, &inputs, vec![], &spelled.out);
    Ok(())
}

/// The operands, as of the result's type where they are numbers without dimensions.
fn operands(w: &mut Writer<'_>, spelled: &Spelled<'_>) -> Result<Vec<String>, OnnxError> {
    let mut inputs = Vec::with_capacity(spelled.operands.len());
    for i in 0..spelled.operands.len() {
        inputs.push(match spelled.result.dtype() {
            Some(dtype) if spelled.operands.len() > 1 => w.value_as(spelled, i, dtype)?,
            _ => w.value(spelled.operands[i])?,
        });
    }
    Ok(inputs)
}

/// The same with an attribute.
pub(super) fn with(
    w: &mut Writer<'_>,
    op: &str,
    spelled: &Spelled<'_>,
    attribute: AttributeProto,
) -> Result<(), OnnxError> {
    let mut inputs = Vec::with_capacity(spelled.operands.len());
    for value in &spelled.operands {
        inputs.push(w.value(*value)?);
    }
    w.emit(op, &inputs, vec![attribute], &spelled.out);
    Ok(())
}

fn dtype(spelled: &Spelled<'_>) -> DType {
    spelled.result.dtype().unwrap_or(DType::F32)
}

/// A quotient; of 1 it is a reciprocal.
pub(super) fn quotient(w: &mut Writer<'_>, spelled: &Spelled<'_>) -> Result<(), OnnxError> {
    let one = w
        .graph
        .constant(spelled.operands[0].node)
        .is_some_and(|constant| {
            let tensor = &constant.tensor;
            tensor.shape().is_empty() && tensor.elements::<f64>().first() == Some(&1.0)
        });
    if one && spelled.types[1].shape() == spelled.result.shape() {
        let x = w.value_as(spelled, 1, dtype(spelled))?;
        w.emit("Reciprocal", &[x], vec![], &spelled.out);
        return Ok(());
    }
    alike(w, "Div", spelled)
}

pub(super) fn clip(
    w: &mut Writer<'_>,
    spelled: &Spelled<'_>,
    min: f64,
    max: f64,
) -> Result<(), OnnxError> {
    let mut inputs = vec![w.value(spelled.operands[0])?];
    if w.opset < 11 {
        let mut attributes = Vec::new();
        for (name, bound) in [("min", min), ("max", max)] {
            if bound.is_finite() {
                attributes.push(float(name, bound));
            }
        }
        w.emit("Clip", &inputs, attributes, &spelled.out);
        return Ok(());
    }
    let mut bounds = Vec::new();
    for bound in [min, max] {
        bounds.push(match bound.is_finite() {
            true => w.scalar(bound, dtype(spelled)),
            false => String::new(),
        });
    }
    while bounds.last().is_some_and(String::is_empty) {
        bounds.pop();
    }
    inputs.extend(bounds);
    w.emit("Clip", &inputs, vec![], &spelled.out);
    Ok(())
}

/// The slopes of channels stand before one axis of length 1 for each dimension after them.
pub(super) fn prelu(w: &mut Writer<'_>, spelled: &Spelled<'_>) -> Result<(), OnnxError> {
    let x = w.value(spelled.operands[0])?;
    let count = spelled.types[1].len(0);
    let is_constant = w.graph.constant(spelled.operands[1].node).is_some();
    let slope = match count {
        // Of one axis it would give the result one.
        Some(1) if is_constant && spelled.types[0].shape().is_some_and(<[_]>::is_empty) => {
            w.reshaped(spelled.operands[1], &[])?
        }
        Some(1) => w.value(spelled.operands[1])?,
        _ => {
            let rank = w.known_rank(spelled, 0)?;
            let trailing = rank.saturating_sub(2);
            match count.filter(|_| is_constant) {
                Some(count) => {
                    let mut shape = vec![1; trailing + 1];
                    shape[0] = count;
                    w.reshaped(spelled.operands[1], &shape)?
                }
                None => {
                    let slope = w.value(spelled.operands[1])?;
                    let shape = std::iter::once(-1).chain(std::iter::repeat_n(1, trailing));
                    let shape = w.int_list(shape);
                    w.step(spelled, "Reshape", &[slope, shape], vec![])
                }
            }
        }
    };
    w.emit("PRelu", &[x, slope], vec![], &spelled.out);
    Ok(())
}

/// What some versions have an operator for, and others do not.
pub(super) fn composed(
    w: &mut Writer<'_>,
    op: &Op,
    spelled: &Spelled<'_>,
) -> Result<(), OnnxError> {
    let x = w.value(spelled.operands[0])?;
    let out = &spelled.out;
    let dtype = dtype(spelled);
    let sixth = || vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)];
    match op {
        Op::HardSigmoid {} => w.emit("HardSigmoid", &[x], sixth(), out),
        Op::HardSwish {} if w.opset >= 14 => w.emit("HardSwish", &[x], vec![], out),
        Op::HardSwish {} => {
            let gate = w.step(spelled, "HardSigmoid", std::slice::from_ref(&x), sixth());
            w.emit("Mul", &[x, gate], vec![], out);
        }
        Op::Mish {} if w.opset >= 18 => w.emit("Mish", &[x], vec![], out),
        Op::Mish {} => {
            let gate = w.step(spelled, "Softplus", std::slice::from_ref(&x), vec![]);
            let gate = w.step(spelled, "Tanh", &[gate], vec![]);
            w.emit("Mul", &[x, gate], vec![], out);
        }
        Op::Silu {} if w.opset >= 24 => w.emit("Swish", &[x], vec![], out),
        Op::Silu {} => {
            let gate = w.step(spelled, "Sigmoid", std::slice::from_ref(&x), vec![]);
            w.emit("Mul", &[x, gate], vec![], out);
        }
        Op::Rsqrt {} => {
            let root = w.step(spelled, "Sqrt", &[x], vec![]);
            w.emit("Reciprocal", &[root], vec![], out);
        }
        Op::Gelu { tanh } if w.opset >= 20 => {
            let how = if *tanh { "tanh" } else { "none" };
            w.emit("Gelu", &[x], vec![string("approximate", how)], out);
        }
        Op::Gelu { tanh } => {
            let number = |w: &mut Writer<'_>, x: f64| w.scalar(x, dtype);
            let inner = if *tanh {
                // sqrt(2 / pi) (x + 0.044715 x^3)
                let (cubic, scale) = (
                    number(w, 0.044715),
                    number(w, (2.0 / std::f64::consts::PI).sqrt()),
                );
                let square = w.step(spelled, "Mul", &[x.clone(), x.clone()], vec![]);
                let cube = w.step(spelled, "Mul", &[square, x.clone()], vec![]);
                let cube = w.step(spelled, "Mul", &[cube, cubic], vec![]);
                let sum = w.step(spelled, "Add", &[x.clone(), cube], vec![]);
                let scaled = w.step(spelled, "Mul", &[sum, scale], vec![]);
                w.step(spelled, "Tanh", &[scaled], vec![])
            } else {
                let root = number(w, std::f64::consts::SQRT_2);
                let scaled = w.step(spelled, "Div", &[x.clone(), root], vec![]);
                w.step(spelled, "Erf", &[scaled], vec![])
            };
            let (one, half) = (number(w, 1.0), number(w, 0.5));
            let sum = w.step(spelled, "Add", &[inner, one], vec![]);
            let product = w.step(spelled, "Mul", &[x, sum], vec![]);
            w.emit("Mul", &[product, half], vec![], out);
        }
        op => return Err(OnnxError::unwritable(op.name(), MISTAKE)),
    }
    Ok(())
}
