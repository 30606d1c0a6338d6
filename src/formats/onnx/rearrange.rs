//! Elements of small tensors under another shape, in another order, or repeated.

use smallvec::{SmallVec, smallvec};

use super::content::{Content, MAX_ELEMENTS, count};
use super::fold::{axes, axis_of};
use super::import::Importer;
use super::view::View;

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
    Some(Content {
        dtype: x.dtype,
        shape,
        elements,
    })
}

pub(super) fn gather<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let index = im.content(view.input(1)?)?.clone();
    let x = im.content(view.input(0)?)?;
    let axis = axis_of(view.int("axis", 0), x.shape.len())?;
    let length = x.shape[axis];
    let positions = { index.ints()?.into_iter() }
        .map(|n| axis_of(n, length))
        .collect::<Option<Vec<_>>>()?;
    let mut picked = select(x, axis, &positions)?;
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
            None if view.input(i + 1).is_some() => Some(im.ints(view, i + 1)?),
            None => None,
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
        let axis = axis_of(*axis, x.shape.len())?;
        let positions = positions(x.shape[axis], starts[i], ends[i], steps[i])?;
        x = select(&x, axis, &positions)?;
    }
    Some(x)
}

/// The positions of a slice.
fn positions(length: usize, start: i64, end: i64, step: i64) -> Option<Vec<usize>> {
    let length = i64::try_from(length).ok()?;
    let wrap = |n: i64| if n < 0 { n.saturating_add(length) } else { n };
    let (start, end) = (wrap(start), wrap(end));
    let mut positions = Vec::new();
    match step {
        0 => return None,
        _ if length == 0 => {}
        1.. => {
            let (start, end) = (start.clamp(0, length), end.clamp(0, length));
            let step = usize::try_from(step).ok()?;
            positions.extend((start..end).step_by(step).map(|i| i as usize));
        }
        // Backwards from before the first element: nothing to some, that element to others.
        _ if start < 0 => return None,
        _ => {
            let (mut at, end) = (start.min(length - 1), end.clamp(-1, length - 1));
            while at > end {
                positions.push(at as usize);
                at = at.saturating_add(step);
            }
        }
    }
    Some(positions)
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
        axis => axis_of(axis, rank)?,
    };
    let (rows, columns) = x.shape.split_at(axis);
    x.shape = smallvec![count(rows)?, count(columns)?];
    Some(x)
}

pub(super) fn transpose<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let x = im.content(view.input(0)?)?;
    let rank = x.shape.len();
    let perm: Vec<usize> = match view.ints("perm") {
        Some(perm) => { perm.iter() }
            .map(|axis| axis_of(*axis, rank))
            .collect::<Option<_>>()?,
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
    Some(Content {
        dtype: x.dtype,
        elements: (0..x.elements.len()).map(element).collect::<Option<_>>()?,
        shape: shape.clone(),
    })
}

pub(super) fn concat<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let mut parts = Vec::with_capacity(view.node.input.len());
    for i in 0..view.node.input.len() {
        parts.push(im.content(view.input(i)?)?.clone());
    }
    let first = parts.first()?;
    let rank = first.shape.len();
    let axis = axis_of(view.int("axis", 0), rank)?;
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
    Some(Content {
        dtype: first.dtype,
        shape,
        elements,
    })
}

pub(super) fn squeeze<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let axes = match view.ints("axes").is_some() || view.input(1).is_some() {
        true => Some(axes(im, view)?),
        false => None,
    };
    let mut x = im.content(view.input(0)?)?.clone();
    let rank = x.shape.len();
    let axes: Option<Vec<usize>> = match axes {
        // An empty list is all axes to some, and none to others.
        Some(axes) if axes.is_empty() => return None,
        Some(axes) => Some(
            { axes.iter() }
                .map(|a| axis_of(*a, rank))
                .collect::<Option<_>>()?,
        ),
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
    Some(Content {
        dtype: x.dtype,
        shape: shape.into(),
        elements: (0..count).map(element).collect::<Option<_>>()?,
    })
}
