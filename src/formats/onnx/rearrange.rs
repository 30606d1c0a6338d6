//! Elements of small tensors under another shape, in another order, or repeated.

use ndarray::{Axis, concatenate};

use super::content::{Content, MAX_ELEMENTS, count};
use super::fold::axes;
use super::import::Importer;
use super::view::View;
use crate::formats::sizes::{from_front, position, positions, slice_positions};

/// The elements at these positions of an axis.
fn select(x: &Content, axis: usize, positions: &[usize]) -> Option<Content> {
    let mut shape = x.shape().to_vec();
    shape[axis] = positions.len();
    count(&shape)?;
    Some(Content {
        dtype: x.dtype,
        elements: x.elements.select(Axis(axis), positions),
    })
}

/// The same elements under another shape.
fn reshaped(x: &Content, shape: &[usize]) -> Option<Content> {
    count(shape)?;
    Some(Content {
        dtype: x.dtype,
        elements: x.elements.to_shape(shape).ok()?.into_owned(),
    })
}

pub(super) fn gather<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let index = im.content(view.input(1)?)?.clone();
    let x = im.content(view.input(0)?)?;
    let axis = position(view.int("axis", 0), x.shape().len())?;
    let picked = select(x, axis, &positions(&index.ints()?, x.shape()[axis])?)?;
    let (before, after) = x.shape().split_at(axis);
    reshaped(&picked, &[before, index.shape(), &after[1..]].concat())
}

pub(super) fn slice<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let mut lists = Vec::new();
    for (i, name) in ["starts", "ends", "axes", "steps"].into_iter().enumerate() {
        lists.push(match view.ints(name) {
            Some(ints) => Some(ints.to_vec()),
            None => im.optional_ints(view, i + 1)?,
        });
    }
    let mut x = im.content(view.input(0)?)?.clone();
    let (starts, ends) = (lists[0].take()?, lists[1].take()?);
    let axes = lists[2]
        .take()
        .unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = lists[3].take().unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return None;
    }
    for (i, axis) in axes.iter().enumerate() {
        let axis = position(*axis, x.shape().len())?;
        let positions = sliced(x.shape()[axis], starts[i], ends[i], steps[i])?;
        x = select(&x, axis, &positions)?;
    }
    Some(x)
}

/// The positions of a slice; backwards from before the first element is nothing to some, that element to others.
fn sliced(length: usize, start: i64, end: i64, step: i64) -> Option<Vec<usize>> {
    let is_before = length > 0 && step < 0 && from_front(start, length as i64) < 0;
    slice_positions(length, [Some(start), Some(end), Some(step)]).filter(|_| !is_before)
}

pub(super) fn reshape<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let target = im.ints(view, 1)?;
    let x = im.content(view.input(0)?)?;
    let keep_zero = view.int("allowzero", 0) != 0;
    let mut shape = Vec::new();
    let mut rest = None;
    for (axis, length) in target.iter().enumerate() {
        shape.push(match length {
            0 if !keep_zero => *x.shape().get(axis)?,
            -1 if rest.is_none() => {
                rest = Some(axis);
                1
            }
            n => usize::try_from(*n).ok()?,
        });
    }
    let known = count(&shape)?;
    if let Some(axis) = rest {
        shape[axis] = x.elements.len().checked_div(known)?;
    }
    reshaped(x, &shape)
}

/// A matrix: the axes before `axis` are its rows.
pub(super) fn flatten<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let x = im.content(view.input(0)?)?;
    let rank = x.shape().len();
    let axis = match view.int("axis", 1) {
        axis if usize::try_from(axis) == Ok(rank) => rank,
        axis => position(axis, rank)?,
    };
    let (rows, columns) = x.shape().split_at(axis);
    reshaped(x, &[count(rows)?, count(columns)?])
}

pub(super) fn transpose<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let mut x = im.content(view.input(0)?)?.clone();
    let rank = x.shape().len();
    let perm = match view.ints("perm") {
        Some(perm) => positions(perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    if perm.len() != rank || (0..rank).any(|axis| !perm.contains(&axis)) {
        return None;
    }
    x.elements = x.elements.permuted_axes(&perm[..]);
    Some(x)
}

pub(super) fn concat<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let mut parts = Vec::with_capacity(view.node.input.len());
    for i in 0..view.node.input.len() {
        parts.push(im.content(view.input(i)?)?.clone());
    }
    let first = parts.first()?;
    let (dtype, rank) = (first.dtype, first.shape().len());
    let axis = position(view.int("axis", 0), rank)?;
    let alike = |part: &Content| part.dtype == dtype && part.shape().len() == rank;
    let total: usize = parts.iter().map(|part| part.elements.len()).sum();
    if total > MAX_ELEMENTS || !parts.iter().all(alike) {
        return None;
    }
    let parts: Vec<_> = parts.iter().map(|part| part.elements.view()).collect();
    let elements = concatenate(Axis(axis), &parts).ok()?;
    Some(Content { dtype, elements })
}

pub(super) fn squeeze<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let axes = axes(im, view)?;
    let x = im.content(view.input(0)?)?;
    let (shape, rank) = (x.shape(), x.shape().len());
    let gone = match axes {
        // An empty list is all axes to some, and none to others.
        Some(axes) if axes.is_empty() => return None,
        Some(axes) => positions(&axes, rank)?,
        None => (0..rank).filter(|axis| shape[*axis] == 1).collect(),
    };
    let kept = (0..rank).filter(|axis| !gone.contains(axis));
    let kept: Vec<usize> = kept.map(|axis| shape[axis]).collect();
    let fits = gone.iter().all(|axis| shape[*axis] == 1);
    fits.then(|| reshaped(x, &kept))?
}

/// The elements repeated to this shape.
pub(super) fn spread(x: &Content, shape: &[usize]) -> Option<Content> {
    count(shape)?;
    let elements = x.elements.broadcast(shape)?.to_owned();
    let dtype = x.dtype;
    Some(Content { dtype, elements })
}
