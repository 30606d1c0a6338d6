//! Channels that a pad, a slice or another shape moves.

use super::{Constants, Factors, Flow, Source, keeps};
use crate::ir::regroup;
use crate::ir::{Dim, Op, PadMode};

pub(super) fn pad(op: &Op, axis: usize, x: &[Dim]) -> Flow {
    let Op::Pad {
        before,
        after,
        mode,
        value,
    } = op
    else {
        return Flow::Refuses("it is no pad");
    };
    match (
        before[axis].as_number(),
        after[axis].as_number(),
        x[axis].as_len(),
    ) {
        (Some(0), Some(0), _) => {
            let constants = match mode {
                PadMode::Constant if value.0 == 0.0 => Constants::Zero,
                PadMode::Constant => Constants::Vary,
                _ => Constants::Same,
            };
            keeps([Some(axis)], op.factors(), constants)
        }
        (Some(first), Some(last), Some(n))
            if first >= 0
                && last >= 0
                && *mode == PadMode::Constant
                && only_axis(before, after, axis) =>
        {
            let constants = |n: i64| std::iter::repeat_n(Source::Constant(value.0), n as usize);
            let source = constants(first)
                .chain((0..n).map(Source::Channel))
                .chain(constants(last))
                .collect();
            Flow::Selects { axis, source }
        }
        _ => Flow::Refuses("it pads the channels"),
    }
}

/// Whether a pad touches this axis alone.
fn only_axis(before: &[Dim], after: &[Dim], axis: usize) -> bool {
    let zero = |(a, n): (usize, &Dim)| a == axis || n.as_number() == Some(0);
    before.iter().enumerate().all(zero) && after.iter().enumerate().all(zero)
}

pub(super) fn slice(start: &Dim, end: &Dim, step: usize, axis: usize, x: &[Dim]) -> Flow {
    match (start.as_len(), end.as_len(), x[axis].as_len()) {
        (Some(start), Some(end), Some(n)) if end <= n => {
            let source = (start..end)
                .step_by(step.max(1))
                .map(Source::Channel)
                .collect();
            Flow::Selects { axis, source }
        }
        _ => Flow::Refuses("it slices the channels at a size known only at run time"),
    }
}

/// Where the positions of an axis come from when an array of shape `x` gets the shape `result`.
pub(super) fn regrouped(x: &[Dim], result: &[Dim], axis: usize) -> Flow {
    let factors = regroup::Factors::of(x, result);
    if let Some(from) = factors.kept(axis) {
        return keeps([Some(from)], Factors::All, Constants::Same);
    }
    let found = factors.regroups(axis);
    match found.as_slice() {
        [] if result[axis].as_number().is_none() => {
            Flow::Refuses("it joins or splits axes into one whose size is known only at run time")
        }
        [] => Flow::Refuses("it cuts across axes"),
        _ => Flow::Regroups(found),
    }
}
