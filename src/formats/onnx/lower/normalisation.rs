//! Normalisations.

use crate::formats::onnx::import::Importer;
use crate::formats::onnx::view::View;
use crate::formats::sizes::position;
use crate::ir::{DType, Op, Value};

pub(super) fn batch<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let named = view.node.output.iter().filter(|name| !name.is_empty());
    let further = named.count() > 1;
    // Before version 14 further results are what says that it trains.
    if view.int("training_mode", 0) != 0 || view.int("spatial", 1) != 1 || further {
        return None;
    }
    let mut operands = im.operands(view, 0..3)?;
    for i in 3..5 {
        operands.push(im.buffer(view.input(i)?)?);
    }
    let eps = view.float("epsilon", 1e-5).into();
    im.last(view, Op::BatchNorm { eps }, &operands)
}

/// Every channel is a group.
pub(super) fn instance<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = im.operand(view, 0)?;
    let groups = im.ty(x).len(1).filter(|n| *n > 0)?;
    grouped(im, view, groups)
}

pub(super) fn group<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = im.operand(view, 0)?;
    let groups = usize::try_from(view.int("num_groups", 0)).ok()?;
    let single = im.dtype(x) != Some(DType::F64) && view.int("stash_type", 1) == 1;
    // Until version 21 scale and shift are of groups, not of channels.
    let by_channel = view.opset >= 21 || im.ty(x).len(1) == Some(groups);
    (single && by_channel && groups > 0).then(|| grouped(im, view, groups))?
}

fn grouped<'m>(im: &mut Importer<'m>, view: &View<'m>, groups: usize) -> Option<Value> {
    let operands = im.operands(view, 0..3)?;
    let eps = view.float("epsilon", 1e-5).into();
    im.last(view, Op::GroupNorm { groups, eps }, &operands)
}

pub(super) fn layer<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = im.operand(view, 0)?;
    let rank = im.rank(x)?;
    let axis = position(view.int("axis", -1), rank)?;
    let single = im.dtype(x) != Some(DType::F64) && view.int("stash_type", 1) == 1;
    let mut operands = vec![x, im.operand(view, 1).filter(|_| single)?];
    if view.input(2).is_some() {
        operands.push(im.operand(view, 2)?);
    }
    let (axes, eps) = (rank - axis, view.float("epsilon", 1e-5).into());
    im.last(view, Op::LayerNorm { axes, eps }, &operands)
}
