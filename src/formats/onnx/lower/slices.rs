//! Parts of tensors.

use smallvec::SmallVec;

use super::layout::operand;
use crate::formats::onnx::import::Importer;
use crate::formats::onnx::view::View;
use crate::formats::sizes::{from_front, position};
use crate::ir::{Dim, Dims, Op, Value};

/// A position as ONNX means it: negative from the end, and within the axis.
fn bound(at: &Dim, size: &Dim) -> Dim {
    let zero = Dim::from(0);
    match (at.as_number(), size.as_number()) {
        (Some(n), Some(size)) => Dim::from(from_front(n, size).clamp(0, size)),
        // "To the end", as exporters say it.
        (Some(n), None) if n >= i64::from(i32::MAX) => size.clone(),
        (Some(n), None) if n <= -i64::from(i32::MAX) || n == 0 => zero,
        (Some(n), None) if n < 0 => not_below(size.clone() + at.clone(), &zero),
        (Some(_), None) => not_above(at.clone(), size),
        (None, _) if at == size => at.clone(),
        (None, _) => not_above(not_below(at.clone(), &zero), size),
    }
}

/// The larger of both, which most often is plain to see.
fn not_below(a: Dim, b: &Dim) -> Dim {
    if (a.clone() - b.clone()).is_never_negative() {
        a
    } else {
        a.maximum(b)
    }
}

/// The smaller of both.
fn not_above(a: Dim, b: &Dim) -> Dim {
    if (b.clone() - a.clone()).is_never_negative() {
        a
    } else {
        a.minimum(b)
    }
}

/// Whether an expression may turn out to count from the end.
fn may_be_negative(dim: &Dim) -> bool {
    dim.as_number().is_none() && !dim.is_never_negative()
}

pub(super) fn slice<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let shape = im.shape(x)?;
    let given = |list: &[i64]| -> Dims { list.iter().map(|n| Dim::from(*n)).collect() };
    let (starts, ends, axes, steps) = if view.opset < 10 {
        let axes = view.ints("axes").map(<[i64]>::to_vec);
        (
            given(view.ints("starts")?),
            given(view.ints("ends")?),
            axes,
            None,
        )
    } else {
        let axes = im.optional_ints(view, 3)?;
        let steps = im.optional_ints(view, 4)?;
        (im.sizes(view, 1, x)?, im.sizes(view, 2, x)?, axes, steps)
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] || starts.is_empty() {
        return None;
    }
    let mut parts = Vec::with_capacity(starts.len());
    for (i, axis) in axes.iter().enumerate() {
        let axis = position(*axis, shape.len())?;
        let step = usize::try_from(steps[i]).ok().filter(|step| *step > 0)?;
        if may_be_negative(&starts[i]) || may_be_negative(&ends[i]) {
            return None;
        }
        let start = bound(&starts[i], &shape[axis]);
        let end = bound(&ends[i], &shape[axis]);
        // An empty part ends where it starts.
        let end = not_below(end, &start);
        parts.push(Op::Slice {
            axis,
            start,
            end,
            step,
        });
    }
    let last = parts.pop()?;
    let mut value = x;
    for part in parts {
        value = im.step(view, "part", part, &[value])?;
    }
    im.last(view, last, &[value])
}

/// One slice a result.
pub(super) fn split<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<SmallVec<[Value; 1]>> {
    if !view.only(&["axis", "split", "num_outputs"]) {
        return None;
    }
    let x = operand(im, view, 0)?;
    let shape = im.shape(x)?;
    let axis = position(view.int("axis", 0), shape.len())?;
    let count = view.node.output.len();
    let size = &shape[axis];
    let lengths: Vec<Dim> = if let Some(lengths) = view.ints("split") {
        lengths.iter().map(|n| Dim::from(*n)).collect()
    } else if view.input(1).is_some() {
        im.sizes(view, 1, x)?.into_vec()
    } else {
        let whole = i64::try_from(count).ok()?;
        let length = match size.as_number() {
            Some(n) if n % whole == 0 => n / whole,
            // The last part may be shorter since version 18.
            Some(n) if view.opset >= 18 => n.checked_add(whole - 1)? / whole,
            _ => return None,
        };
        let size = size.as_number()?;
        let part = |i: i64| (size - i * length).clamp(0, length);
        (0..whole).map(|i| Dim::from(part(i))).collect()
    };
    if lengths.len() != count || (0..count).any(|i| view.output(i).is_none()) {
        return None;
    }
    let mut results = SmallVec::new();
    let mut start = Dim::from(0);
    for (i, length) in lengths.into_iter().enumerate() {
        let end = start.clone() + length;
        let part = Op::slice(axis, start, end.clone());
        results.push(im.named(view.output(i)?, part, &[x])?);
        start = end;
    }
    (start == *size).then_some(results)
}
