//! Arithmetic of positions and sizes that every format's programs do.

use crate::ir::{Dim, Ints};

/// The position in what is so long, counted from the front: a negative one counts from the end.
pub(super) fn position(at: i64, length: usize) -> Option<usize> {
    let at = match at {
        ..0 => at.checked_add(i64::try_from(length).ok()?)?,
        _ => at,
    };
    usize::try_from(at).ok().filter(|at| *at < length)
}

/// Several positions.
pub(super) fn positions(at: &[i64], length: usize) -> Option<Ints> {
    at.iter().map(|at| position(*at, length)).collect()
}

/// The positions that a slice by Python's rules takes of a sequence; `None` if its step is 0.
pub(super) fn slice_positions(
    length: usize,
    [start, end, step]: [Option<i64>; 3],
) -> Option<Vec<usize>> {
    let (length, step) = (i64::try_from(length).ok()?, step.unwrap_or(1));
    let (low, high) = if step < 0 {
        (-1, length - 1)
    } else {
        (0, length)
    };
    let place = |at: i64| from_front(at, length).clamp(low, high);
    let (first, last) = if step < 0 { (high, low) } else { (low, high) };
    let (mut at, end) = (start.map_or(first, place), end.map_or(last, place));
    let mut positions = Vec::new();
    while step != 0 && if step < 0 { at > end } else { at < end } {
        positions.push(at as usize);
        at = at.saturating_add(step);
    }
    (step != 0).then_some(positions)
}

/// A position counted from the front, wherever that is.
pub(super) fn from_front(at: i64, length: i64) -> i64 {
    match at {
        ..0 => at.saturating_add(length),
        _ => at,
    }
}

/// What a division rounded down leaves.
pub(super) fn remainder(a: &Dim, b: &Dim) -> Dim {
    a.clone() - a.floor_div(b) * b.clone()
}

/// A size, unless its expression is [too long](Dim::is_too_long) to be of use.
pub(super) fn bounded(dim: Dim) -> Option<Dim> {
    (!dim.is_too_long()).then_some(dim)
}
