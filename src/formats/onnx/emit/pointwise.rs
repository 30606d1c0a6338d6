//! Functions of single elements, and of two.

use super::Emitted;
use super::layers::needs;
use super::layout::per_channel;
use crate::formats::onnx::attributes::{float, string};
use crate::formats::onnx::error::{MISTAKE, OnnxError};
use crate::formats::onnx::proto::AttributeProto;
use crate::formats::spelling::{self, Formula, Onnx, Spelling, Value};
use crate::ir::Op;

/// A node of this operator and nothing more, whose operands are all of the result's type.
pub(super) fn alike(w: &mut Emitted<'_, '_>, op: &str) -> Result<(), OnnxError> {
    let inputs = operands(w)?;
    w.last(op, &inputs, vec![])
}

/// The operands, as of the result's type where they are numbers without dimensions.
fn operands(w: &mut Emitted<'_, '_>) -> Result<Vec<String>, OnnxError> {
    let mut inputs = Vec::with_capacity(w.operands.len());
    for i in 0..w.operands.len() {
        inputs.push(match w.result.dtype() {
            Some(dtype) if w.operands.len() > 1 => w.value_as(i, dtype)?,
            _ => w.operand(i)?,
        });
    }
    Ok(inputs)
}

/// The same with an attribute.
pub(super) fn with(
    w: &mut Emitted<'_, '_>,
    op: &str,
    attribute: AttributeProto,
) -> Result<(), OnnxError> {
    let inputs = w.operand_names()?;
    w.last(op, &inputs, vec![attribute])
}

/// A quotient; of 1 it is a reciprocal.
pub(super) fn quotient(w: &mut Emitted<'_, '_>) -> Result<(), OnnxError> {
    let one = w
        .graph
        .constant(w.operands[0].node)
        .is_some_and(|constant| {
            let tensor = &constant.tensor;
            tensor.shape().is_empty() && tensor.elements::<f64>().first() == Some(&1.0)
        });
    if one && w.types[1].shape() == w.result.shape() {
        let x = w.value_as(1, w.dtype())?;
        return w.last("Reciprocal", &[x], vec![]);
    }
    alike(w, "Div")
}

pub(super) fn clip(w: &mut Emitted<'_, '_>, min: f64, max: f64) -> Result<(), OnnxError> {
    let mut inputs = vec![w.operand(0)?];
    if w.opset < 11 {
        let mut attributes = Vec::new();
        for (name, bound) in [("min", min), ("max", max)] {
            if bound.is_finite() {
                attributes.push(float(name, bound));
            }
        }
        return w.last("Clip", &inputs, attributes);
    }
    let mut bounds = Vec::new();
    for bound in [min, max] {
        bounds.push(if bound.is_finite() {
            w.number(bound)
        } else {
            String::new()
        });
    }
    while bounds.last().is_some_and(String::is_empty) {
        bounds.pop();
    }
    inputs.extend(bounds);
    w.last("Clip", &inputs, vec![])
}

/// The slopes of channels stand before one axis of length 1 for each dimension after them.
pub(super) fn prelu(w: &mut Emitted<'_, '_>) -> Result<(), OnnxError> {
    let x = w.operand(0)?;
    let count = w.types[1].len(0);
    let is_constant = w.graph.constant(w.operands[1].node).is_some();
    let slope = match count {
        // Of one axis it would give the result one.
        Some(1) if is_constant && w.types[0].shape().is_some_and(<[_]>::is_empty) => {
            let slope = w.operands[1];
            w.reshaped(slope, &[])?
        }
        Some(1) => w.operand(1)?,
        _ => {
            let rank = w.known_rank(0)?;
            per_channel(w, 1, rank)?
        }
    };
    w.last("PRelu", &[x, slope], vec![])
}

/// A function that the table of all formats has: by its name, or out of others where the version has none.
pub(super) fn function(w: &mut Emitted<'_, '_>, op: &Op) -> Result<(), OnnxError> {
    let row = spelling::of_op(op).ok_or_else(|| OnnxError::unwritable(op.name(), MISTAKE))?;
    let named = row.onnx.as_ref().filter(|(_, since)| w.opset >= *since);
    let (name, inputs, attributes) = match (named, row.formula, &row.onnx) {
        (Some((onnx, _)), ..) => (onnx.name, operands(w)?, attributes(row, onnx, op)),
        (None, Some(formula), _) => composed(w, &formula())?,
        (None, None, Some((onnx, since))) => return needs(w, *since, onnx.name),
        (None, None, None) => return Err(OnnxError::unwritable(op.name(), MISTAKE)),
    };
    w.last(name, &inputs, attributes)
}

fn attributes(row: &Spelling, onnx: &Onnx, op: &Op) -> Vec<AttributeProto> {
    let attributes = row.write(op, onnx.attributes);
    let attribute = |(name, value)| match value {
        Value::Real(x) => float(name, x),
        Value::Text(text) => string(name, text),
    };
    attributes.map(attribute).collect()
}

/// A node without its name: operator, operands, attributes.
type Unnamed = (&'static str, Vec<String>, Vec<AttributeProto>);

/// The last node of a formula, after the others are added.
fn composed(w: &mut Emitted<'_, '_>, formula: &Formula) -> Result<Unnamed, OnnxError> {
    let Formula::Of(op, parts) = formula else {
        return Err(OnnxError::unwritable("a formula", MISTAKE));
    };
    let reciprocal = matches!(**op, Op::Div {}) && matches!(parts[..], [Formula::Number(1.0), _]);
    let parts = &parts[usize::from(reciprocal)..];
    let mut inputs = Vec::with_capacity(parts.len());
    for part in parts {
        inputs.push(match part {
            Formula::X => w.operand(0)?,
            Formula::Number(x) => w.number(*x),
            Formula::Of(..) => {
                let (name, inputs, attributes) = composed(w, part)?;
                w.step(name, &inputs, attributes)
            }
        });
    }
    let row = spelling::of_op(op).and_then(|row| Some((row, row.onnx.as_ref()?)));
    match row {
        _ if reciprocal => Ok(("Reciprocal", inputs, vec![])),
        Some((row, (onnx, _))) => Ok((onnx.name, inputs, attributes(row, onnx, op))),
        None => Err(OnnxError::unwritable(op.name(), MISTAKE)),
    }
}
