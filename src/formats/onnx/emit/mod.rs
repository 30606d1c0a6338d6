//! Operators of the IR as nodes of ONNX, each in the version of the model: one table, and what a version lacks out of what it has.

mod adaptive;
mod attention;
mod layers;
mod layout;
mod normalisation;
mod pointwise;
mod pool;

use std::ops::{Deref, DerefMut};

use super::attributes::{int, ints};
use super::error::{MISTAKE, OnnxError};
use super::proto::AttributeProto;
use super::tensor;
use super::write::Writer;
use crate::formats::spelling::of_reduction;
use crate::ir::{DType, Dim, NodeId, Op, Type, Value};

/// An operation that is being written, with what its nodes are made of.
pub(super) struct Emitted<'w, 'g> {
    pub writer: &'w mut Writer<'g>,
    pub id: NodeId,
    pub operands: Vec<Value>,
    pub types: Vec<&'g Type>,
    pub result: &'g Type,
    /// The name of its result.
    pub out: String,
}

impl<'g> Deref for Emitted<'_, 'g> {
    type Target = Writer<'g>;
    fn deref(&self) -> &Writer<'g> {
        self.writer
    }
}

impl DerefMut for Emitted<'_, '_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.writer
    }
}

impl<'g> Emitted<'_, 'g> {
    /// The spatial sizes of operand `i`.
    fn spatial(&self, i: usize) -> Option<&'g [Dim]> {
        self.types[i].shape()?.get(2..)
    }

    /// How many dimensions operand `i` has; an error where that is not known.
    fn known_rank(&self, i: usize) -> Result<usize, OnnxError> {
        self.types[i].rank().ok_or_else(|| {
            let name = &self.graph.node(self.id).name;
            OnnxError::unwritable(
                format!(
                    "`{name}` has an operand of which not even the number of dimensions is known"
                ),
                "give the inputs' shapes with --input",
            )
        })
    }

    /// The element type of its result.
    fn dtype(&self) -> DType {
        self.result.dtype().unwrap_or(DType::F32)
    }

    /// The name of operand `i`.
    fn operand(&mut self, i: usize) -> Result<String, OnnxError> {
        let value = self.operands[i];
        self.value(value)
    }

    /// The names of all operands.
    fn operand_names(&mut self) -> Result<Vec<String>, OnnxError> {
        self.writer.values(&self.operands)
    }

    /// The name of operand `i` as one of this type: numbers without dimensions take the type of the others.
    fn value_as(&mut self, i: usize, dtype: DType) -> Result<String, OnnxError> {
        if self.types[i].dtype() == Some(dtype) {
            return self.operand(i);
        }
        if let Some(constant) = self.graph.constant(self.operands[i].node)
            && constant.tensor.shape().is_empty()
        {
            let x = constant.tensor.elements::<f64>().first().copied();
            return Ok(self.scalar(x.unwrap_or(0.0), dtype));
        }
        let name = self.operand(i)?;
        let to = int("to", tensor::code(dtype).into());
        Ok(self.step("Cast", &[name], vec![to]))
    }

    /// A number of the type of the operation's result, without dimensions.
    fn number(&mut self, x: f64) -> String {
        let dtype = self.dtype();
        self.scalar(x, dtype)
    }

    /// Adds the node whose result is the operation's.
    fn last(
        &mut self,
        op: &str,
        inputs: &[String],
        attributes: Vec<AttributeProto>,
    ) -> Result<(), OnnxError> {
        self.writer.emit(op, inputs, attributes, &self.out);
        Ok(())
    }

    /// Adds a node on the way to the operation's result, and gives the name of its own.
    fn step(&mut self, op: &str, inputs: &[String], attributes: Vec<AttributeProto>) -> String {
        let name = self.writer.fresh(&format!("{}/{op}", self.out));
        self.emit(op, inputs, attributes, &name);
        name
    }
}

/// Adds the nodes of an operation; the last one's result is the operation's.
pub(super) fn emit(w: &mut Emitted<'_, '_>, op: &Op) -> Result<(), OnnxError> {
    use Op::*;
    match op {
        Conv { .. } | ConvTranspose { .. } => layers::conv(w, op),
        Linear {} => layers::linear(w),
        MatMul {} => pointwise::alike(w, "MatMul"),
        Attention { scale, causal } => attention::attention(w, scale.map(|s| s.0), *causal),
        MaxPool { .. } | AvgPool { .. } => pool::pool(w, op),
        AdaptiveAvgPool { output } => adaptive::pool(w, output, false),
        AdaptiveMaxPool { output } => adaptive::pool(w, output, true),
        Resize { size, mode } => layers::resize(w, size, *mode),

        BatchNorm { eps } => normalisation::batch(w, eps.0),
        LayerNorm { axes, eps } => normalisation::layer(w, *axes, eps.0),
        GroupNorm { groups, eps } => normalisation::group(w, *groups, eps.0),
        PRelu {} => pointwise::prelu(w),

        Clip { min, max } => pointwise::clip(w, min.0, max.0),
        Div {} => pointwise::quotient(w),
        Softmax { axis } => normalisation::softmax(w, "Softmax", *axis),
        LogSoftmax { axis } => normalisation::softmax(w, "LogSoftmax", *axis),

        ReduceMean { .. } | ReduceSum { .. } | ReduceMax { .. } => reduce(w, op),

        Pad { .. } => layout::pad(w, op),
        Concat { axis } => pointwise::with(w, "Concat", int("axis", *axis as i64)),
        Slice { .. } => layout::slice(w, op),
        Gather { axis, index } => layout::gather(w, *axis, index),
        Flatten { start, end } => layout::flatten(w, *start, *end),
        Reshape { shape } => layout::reshape(w, shape),
        Transpose { perm } => {
            let perm = ints("perm", perm.iter().map(|axis| *axis as i64));
            pointwise::with(w, "Transpose", perm)
        }
        Squeeze { axes } => axes_removed_or_added(w, "Squeeze", axes),
        Unsqueeze { axes } => axes_removed_or_added(w, "Unsqueeze", axes),
        Expand { shape } => layout::expand(w, shape),
        Cast { dtype } => {
            let to = int("to", super::tensor::code(*dtype).into());
            pointwise::with(w, "Cast", to)
        }
        Dropout { p } => layout::dropout(w, p.0),
        Identity {} => pointwise::alike(w, "Identity"),
        // These are written by their template.
        Opaque(_) => Ok(()),
        op => pointwise::function(w, op),
    }
}

/// Operands and attributes of a node whose axes are an attribute before version `since`, and an operand from then on.
fn with_axes(
    w: &mut Emitted<'_, '_>,
    since: i64,
    x: String,
    axes: &[usize],
) -> (Vec<String>, Vec<AttributeProto>) {
    let axes = axes.iter().map(|axis| *axis as i64);
    if w.opset < since {
        (vec![x], vec![ints("axes", axes)])
    } else {
        (vec![x, w.int_list(axes)], vec![])
    }
}

fn axes_removed_or_added(
    w: &mut Emitted<'_, '_>,
    op: &str,
    axes: &[usize],
) -> Result<(), OnnxError> {
    let x = w.operand(0)?;
    let (inputs, attributes) = with_axes(w, 13, x, axes);
    w.last(op, &inputs, attributes)
}

/// A reduction that keeps its axes, on the way to the operation's result: a mean or a maximum.
fn reduced(w: &mut Emitted<'_, '_>, op: &str, x: &str, axes: &[usize]) -> String {
    let (inputs, mut attributes) = with_axes(w, 18, x.to_owned(), axes);
    attributes.insert(0, int("keepdims", 1));
    w.step(op, &inputs, attributes)
}

fn reduce(w: &mut Emitted<'_, '_>, op: &Op) -> Result<(), OnnxError> {
    let Some((row, axes, keep)) = of_reduction(op) else {
        return Err(OnnxError::unwritable(op.name(), MISTAKE));
    };
    // No axes at all would mean all of them.
    if axes.is_empty() {
        return pointwise::alike(w, "Identity");
    }
    let (name, since) = row.onnx;
    let x = w.operand(0)?;
    let (inputs, mut attributes) = with_axes(w, since, x, axes);
    attributes.insert(0, int("keepdims", keep.into()));
    w.last(name, &inputs, attributes)
}
