//! Elements moved about, repeated, added and left out.

use std::sync::Arc;

use super::layout::operand;
use super::pointwise::number;
use crate::formats::onnx::import::Importer;
use crate::formats::onnx::tensor;
use crate::formats::onnx::view::View;
use crate::formats::sizes::{position, positions};
use crate::ir::infer::broadcast;
use crate::ir::{Constant, DType, Dim, Dims, Ints, Op, PadMode, Role, Tensor, Value};

/// The most positions that a gather names.
const MAX_INDEX: usize = 1 << 20;

/// By positions that are known.
pub(super) fn gather<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let rank = im.rank(x)?;
    let axis = position(view.int("axis", 0), rank)?;
    let index = im.tensor(view.input(1)?)?;
    let known = matches!(index.dtype(), DType::I64 | DType::I32);
    if !known || index.shape().len() > 1 || index.len() > MAX_INDEX || index.is_empty() {
        return None;
    }
    let single = index.shape().is_empty();
    let positions = index.elements::<f64>().into_owned();
    let length = im.ty(x).len(axis);
    let place = |n: &f64| {
        let n = *n as i64;
        let n = if n < 0 {
            n.checked_add(length? as i64)?
        } else {
            n
        };
        u32::try_from(n)
            .ok()
            .filter(|n| length.is_none_or(|length| (*n as usize) < length))
    };
    let index: Arc<[u32]> = positions.iter().map(place).collect::<Option<_>>()?;
    if !single {
        return im.last(view, Op::Gather { axis, index }, &[x]);
    }
    let start = Dim::from(i64::from(*index.first()?));
    let end = start.clone() + Dim::from(1);
    let part = im.step(view, "part", Op::slice(axis, start, end), &[x])?;
    let axes = Ints::from_slice(&[axis]);
    im.last(view, Op::Squeeze { axes }, &[part])
}

pub(super) fn expand<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let target = im.sizes(view, 1, x)?;
    let from = im.shape(x)?;
    let rank = from.len().max(target.len());
    // One of two unequal sizes must be known to be 1; which, nobody can tell of symbols.
    for i in 1..=rank {
        let size = |shape: &Dims| shape.len().checked_sub(i).map(|axis| shape[axis].clone());
        if let (Some(a), Some(b)) = (size(&from), size(&target))
            && a != b
            && a.as_number() != Some(1)
            && b.as_number() != Some(1)
        {
            return None;
        }
    }
    let shape = broadcast(&from, &target).ok()?;
    im.last(view, Op::Expand { shape }, &[x])
}

/// Only of axes of length 1.
pub(super) fn tile<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let repeats = im.sizes(view, 1, x)?;
    let mut shape = im.shape(x)?;
    if shape.len() != repeats.len() {
        return None;
    }
    for (size, times) in shape.iter_mut().zip(repeats) {
        if times.as_number() == Some(1) {
            continue;
        }
        if size.as_number() != Some(1) {
            return None;
        }
        *size = times;
    }
    im.last(view, Op::Expand { shape }, &[x])
}

/// `ConstantOfShape`, with sizes that are not known: one element repeated.
pub(super) fn filled<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let value = match view.attribute("value").and_then(|a| a.t.as_deref()) {
        None => Tensor::from_f64(DType::F32, &[], [0.0]),
        Some(proto) => {
            let value = tensor::tensor(proto, view.name(), None, &mut im.external).ok()??;
            value.reshaped(&[]).ok()?
        }
    };
    let name = im.fresh(&format!("{}.value", view.name()));
    let value = im
        .graph
        .add_constant(&name, Constant::new(value, Role::Literal));
    let shape = im.sizes(view, 0, value.into())?;
    im.last(view, Op::Expand { shape }, &[value.into()])
}

pub(super) fn pad<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let rank = im.rank(x)?;
    let mode = match view.string("mode") {
        None | Some("constant") => PadMode::Constant,
        Some("reflect") => PadMode::Reflect,
        Some("edge") => PadMode::Replicate,
        Some("wrap") => PadMode::Circular,
        Some(_) => return None,
    };
    let (amounts, value) = if view.opset < 11 {
        let amounts: Dims = view.ints("pads")?.iter().map(|n| Dim::from(*n)).collect();
        (amounts, view.float("value", 0.0))
    } else {
        let value = match view.input(2) {
            Some(name) => number(im, name)?,
            None => 0.0,
        };
        (im.sizes(view, 1, x)?, value)
    };
    let axes = match im.optional_ints(view, 3)? {
        None => (0..rank).collect(),
        Some(axes) => positions(&axes, rank)?,
    };
    if amounts.len() != axes.len() * 2 {
        return None;
    }
    let zero = || Dims::from_elem(Dim::from(0), rank);
    let (mut before, mut after) = (zero(), zero());
    for (i, axis) in axes.iter().enumerate() {
        before[*axis] = amounts[i].clone();
        after[*axis] = amounts[i + axes.len()].clone();
    }
    let cuts = before
        .iter()
        .chain(&after)
        .any(|n| n.as_number().is_some_and(|n| n < 0));
    if cuts && mode != PadMode::Constant {
        return None;
    }
    let value = value.into();
    let op = Op::Pad {
        before,
        after,
        mode,
        value,
    };
    im.last(view, op, &[x])
}

/// Blocks of channels to blocks of pixels: as a reshape, a transpose and a reshape.
pub(super) fn depth_to_space<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let [n, c, h, w] = <[Dim; 4]>::try_from(im.shape(x)?.to_vec()).ok()?;
    let b = Dim::from(view.attribute("blocksize")?.i?);
    let parts = c.floor_div(&(b.clone() * b.clone()));
    if c.as_number().is_none() || b.as_number()? < 1 {
        return None;
    }
    let (split, perm) = match view.string("mode") {
        None | Some("DCR") => ([&n, &b, &b, &parts, &h, &w], [0, 3, 4, 1, 5, 2]),
        Some("CRD") => ([&n, &parts, &b, &b, &h, &w], [0, 1, 4, 2, 5, 3]),
        Some(_) => return None,
    };
    let shape = split.into_iter().cloned().collect();
    let joined = [
        n.clone(),
        parts.clone(),
        h.clone() * b.clone(),
        w.clone() * b.clone(),
    ];
    shuffled(im, view, x, shape, &perm, joined)
}

/// Blocks of pixels to blocks of channels.
pub(super) fn space_to_depth<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let [n, c, h, w] = <[Dim; 4]>::try_from(im.shape(x)?.to_vec()).ok()?;
    let b = Dim::from(view.attribute("blocksize")?.i?);
    if b.as_number()? < 1 {
        return None;
    }
    let (rows, columns) = (h.floor_div(&b), w.floor_div(&b));
    let shape = [&n, &c, &rows, &b, &columns, &b]
        .into_iter()
        .cloned()
        .collect();
    let joined = [
        n.clone(),
        c.clone() * b.clone() * b.clone(),
        rows.clone(),
        columns.clone(),
    ];
    shuffled(im, view, x, shape, &[0, 3, 5, 1, 2, 4], joined)
}

fn shuffled<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    x: Value,
    split: Dims,
    perm: &[usize],
    joined: [Dim; 4],
) -> Option<Value> {
    let blocks = im.step(view, "blocks", Op::Reshape { shape: split }, &[x])?;
    let perm = Ints::from_slice(perm);
    let moved = im.step(view, "moved", Op::Transpose { perm }, &[blocks])?;
    let shape = joined.into_iter().collect();
    im.last(view, Op::Reshape { shape }, &[moved])
}
