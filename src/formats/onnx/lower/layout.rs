//! The same elements under another shape, type or order.

use super::pointwise::number;
use crate::formats::onnx::fold::axes;
use crate::formats::onnx::import::Importer;
use crate::formats::onnx::tensor;
use crate::formats::onnx::view::{View, decimal};
use crate::formats::sizes::{position, positions};
use crate::ir::{Dim, Dims, Ints, Op, Type, Value};

/// The operand, if it is a tensor of a type that the IR has.
pub(super) fn operand<'m>(im: &mut Importer<'m>, view: &View<'m>, i: usize) -> Option<Value> {
    let x = im.operand(view, i)?;
    matches!(im.ty(x), Type::Tensor(..)).then_some(x)
}

pub(super) fn identity<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    im.last(view, Op::Identity {}, &[x])
}

pub(super) fn cast<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let dtype = tensor::dtype(i32::try_from(view.int("to", 0)).ok()?)?;
    im.last(view, Op::Cast { dtype }, &[x])
}

pub(super) fn cast_like<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let like = im.operand(view, 1)?;
    let dtype = im.dtype(like)?;
    im.last(view, Op::Cast { dtype }, &[x])
}

pub(super) fn dropout<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let p = match (view.opset < 12, view.input(1)) {
        (true, _) => view.float("ratio", 0.5),
        (false, None) => 0.5,
        (false, Some(name)) => decimal(number(im, name)? as f32),
    };
    if let Some(training) = view.input(2)
        && number(im, training) != Some(0.0)
    {
        return None;
    }
    im.last(view, Op::Dropout { p: p.into() }, &[x])
}

pub(super) fn concat<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let operands = (0..view.node.input.len()).map(|i| operand(im, view, i));
    let operands = operands.collect::<Option<Vec<_>>>()?;
    let rank = operands.iter().find_map(|x| im.rank(*x))?;
    let axis = position(view.attribute("axis")?.i?, rank)?;
    // A scalar would take the type of the others, and is none of ONNX's operands.
    let dtype = im.dtype(*operands.first()?);
    let alike = operands
        .iter()
        .all(|x| im.dtype(*x) == dtype && im.rank(*x) != Some(0));
    alike.then(|| im.last(view, Op::Concat { axis }, &operands))?
}

pub(super) fn flatten<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let shape = im.shape(x)?;
    let rank = shape.len();
    let axis = view.int("axis", 1);
    let axis = match position(axis, rank) {
        Some(axis) => axis,
        None if axis == rank as i64 => rank,
        None => return None,
    };
    if axis == 1 && rank >= 2 {
        let (start, end) = (1, rank - 1);
        return im.last(view, Op::Flatten { start, end }, &[x]);
    }
    let (left, right) = shape.split_at(axis);
    let shape = Dims::from_iter([Dim::product(left)?, Dim::product(right)?]);
    im.last(view, Op::Reshape { shape }, &[x])
}

pub(super) fn reshape<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let mut shape = im.sizes(view, 1, x)?;
    let from = im.shape(x);
    let keep_zero = view.int("allowzero", 0) != 0;
    for (axis, size) in shape.iter_mut().enumerate() {
        if size.as_number() == Some(0) && !keep_zero {
            *size = from.as_ref()?.get(axis)?.clone();
        }
    }
    if let Some(at) = shape.iter().position(|size| size.as_number() == Some(-1)) {
        let mut others: Dims = shape.clone();
        others.remove(at);
        // Where they do not fit, whoever runs the model says so.
        shape[at] = Dim::left_out(&from?, &others)?;
    }
    im.last(view, Op::Reshape { shape }, &[x])
}

pub(super) fn transpose<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let perm = match view.ints("perm") {
        Some(perm) => { perm.iter() }
            .map(|axis| usize::try_from(*axis).ok())
            .collect::<Option<Ints>>()?,
        None => (0..im.rank(x)?).rev().collect(),
    };
    im.last(view, Op::Transpose { perm }, &[x])
}

pub(super) fn squeeze<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let shape = im.shape(x)?;
    let mut axes = match axes(im, view)? {
        Some(axes) => positions(&axes, shape.len())?,
        None => {
            let sizes = shape.iter().map(Dim::as_number);
            let sizes = sizes.collect::<Option<Vec<_>>>()?;
            (0..sizes.len()).filter(|axis| sizes[*axis] == 1).collect()
        }
    };
    axes.sort_unstable();
    im.last(view, Op::Squeeze { axes }, &[x])
}

pub(super) fn unsqueeze<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let axes = axes(im, view)??;
    let mut axes = positions(&axes, im.rank(x)? + axes.len())?;
    axes.sort_unstable();
    im.last(view, Op::Unsqueeze { axes }, &[x])
}
