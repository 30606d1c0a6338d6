//! Elements of small tensors under another shape, in another order, or repeated.

use smallvec::{SmallVec, smallvec};

use super::content::{Content, MAX_ELEMENTS, count};
use super::fold::axes;
use super::import::Importer;
use super::view::View;
use crate::formats::sizes::{from_front, position, positions, slice_positions};

/// The elements at these positions of an axis.
fn select(x: &Content, axis: usize, positions: &[usize]) -> Option<Content> {
    let length = *x.shape.get(axis)?;
    let inner: usize = x.shape[axis + 1..].iter().product();
    let outer: usize = x.shape[..axis].iter().product();
    let mut elements = Vec::new();
    for block in 0..outer {
        for position in positions {
            let start = (block * length + position) * inner;
            elements.extend_from_slice(x.elements.get(start..start + inner)?);
        }
        if elements.len() > MAX_ELEMENTS {
            return None;
        }
    }
    let mut shape = x.shape.clone();
    shape[axis] = positions.len();
    Some(Content::new(x.dtype, shape, elements))
}

pub(super) fn gather<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let index = im.content(view.input(1)?)?.clone();
    let x = im.content(view.input(0)?)?;
    let axis = position(view.int("axis", 0), x.shape.len())?;
    let length = x.shape[axis];
    let mut picked = select(x, axis, &positions(&index.ints()?, length)?)?;
    picked.shape.remove(axis);
    for (i, n) in index.shape.iter().enumerate() {
        picked.shape.insert(axis + i, *n);
    }
    Some(picked)
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
        let axis = position(*axis, x.shape.len())?;
        let positions = sliced(x.shape[axis], starts[i], ends[i], steps[i])?;
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
    let mut x = im.content(view.input(0)?)?.clone();
    let keep_zero = view.int("allowzero", 0) != 0;
    let mut shape: SmallVec<[usize; 2]> = smallvec![];
    let mut rest = None;
    for (axis, length) in target.iter().enumerate() {
        shape.push(match length {
            0 if !keep_zero => *x.shape.get(axis)?,
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
    x.shape = shape;
    (count(&x.shape)? == x.elements.len()).then_some(x)
}

/// A matrix: the axes before `axis` are its rows.
pub(super) fn flatten<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let mut x = im.content(view.input(0)?)?.clone();
    let rank = x.shape.len();
    let axis = match view.int("axis", 1) {
        axis if usize::try_from(axis) == Ok(rank) => rank,
        axis => position(axis, rank)?,
    };
    let (rows, columns) = x.shape.split_at(axis);
    x.shape = smallvec![count(rows)?, count(columns)?];
    Some(x)
}

pub(super) fn transpose<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let x = im.content(view.input(0)?)?;
    let rank = x.shape.len();
    let perm = match view.ints("perm") {
        Some(perm) => positions(perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    if perm.len() != rank || (0..rank).any(|axis| !perm.contains(&axis)) {
        return None;
    }
    let shape: SmallVec<[usize; 2]> = perm.iter().map(|axis| x.shape[*axis]).collect();
    let element = |mut i: usize| {
        let mut at = vec![0; rank];
        for (axis, from) in perm.iter().enumerate().rev() {
            at[*from] = i % shape[axis];
            i /= shape[axis];
        }
        let at = at
            .iter()
            .zip(&x.shape)
            .fold(0, |sum, (i, length)| sum * length + i);
        x.elements.get(at).cloned()
    };
    Some(Content::new(
        x.dtype,
        shape.clone(),
        (0..x.elements.len()).map(element).collect::<Option<_>>()?,
    ))
}

pub(super) fn concat<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let mut parts = Vec::with_capacity(view.node.input.len());
    for i in 0..view.node.input.len() {
        parts.push(im.content(view.input(i)?)?.clone());
    }
    let first = parts.first()?;
    let rank = first.shape.len();
    let axis = position(view.int("axis", 0), rank)?;
    let alike = |part: &Content| {
        let mut shape = part.shape.clone();
        part.shape.len() == rank && {
            shape[axis] = first.shape[axis];
            shape == first.shape
        }
    };
    let total: usize = parts.iter().map(|part| part.elements.len()).sum();
    let same_type = parts.iter().all(|part| part.dtype == first.dtype);
    if total > MAX_ELEMENTS || !same_type || !parts.iter().all(alike) {
        return None;
    }
    let outer: usize = first.shape[..axis].iter().product();
    let mut shape = first.shape.clone();
    shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
    let mut elements = Vec::with_capacity(total);
    for block in 0..outer {
        for part in &parts {
            let length = part.elements.len() / outer;
            elements.extend_from_slice(&part.elements[block * length..(block + 1) * length]);
        }
    }
    Some(Content::new(first.dtype, shape, elements))
}

pub(super) fn squeeze<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let axes = axes(im, view)?;
    let mut x = im.content(view.input(0)?)?.clone();
    let axes = match axes {
        // An empty list is all axes to some, and none to others.
        Some(axes) if axes.is_empty() => return None,
        Some(axes) => Some(positions(&axes, x.shape.len())?),
        None => None,
    };
    let mut at = 0;
    let mut fits = true;
    x.shape.retain(|n| {
        let gone = match &axes {
            Some(axes) => axes.contains(&at),
            None => *n == 1,
        };
        fits &= !gone || *n == 1;
        at += 1;
        !gone
    });
    fits.then_some(x)
}

/// The shape that both have, lengths of 1 being repeated.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Option<SmallVec<[usize; 2]>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(i) => shape[i],
        None => 1,
    };
    let length = |axis| match (at(a, axis), at(b, axis)) {
        (n, m) if n == m || m == 1 => Some(n),
        (1, m) => Some(m),
        _ => None,
    };
    (0..rank).map(length).collect()
}

/// The elements repeated to this shape.
pub(super) fn spread(x: &Content, shape: &[usize]) -> Option<Content> {
    if x.shape[..] == *shape {
        return Some(x.clone());
    }
    let count = count(shape).filter(|_| shape.len() >= x.shape.len())?;
    let skipped = shape.len() - x.shape.len();
    let element = |mut i: usize| {
        let (mut at, mut stride) = (0, 1);
        for (axis, length) in shape.iter().enumerate().rev() {
            let position = i % length;
            i /= length;
            if let Some(own) = axis.checked_sub(skipped).map(|axis| x.shape[axis]) {
                at += if own == 1 { 0 } else { position * stride };
                stride *= own;
            }
        }
        x.elements.get(at).cloned()
    };
    Some(Content::new(
        x.dtype,
        shape.into(),
        (0..count).map(element).collect::<Option<_>>()?,
    ))
}
