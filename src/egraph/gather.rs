//! The operators that a gather with factors and constants becomes.

use super::picks::{Pick, Picks};
use crate::ir::{Dim, Dims, Op, PadMode, Type};

/// One operator of a gather, on the result of the one before.
pub struct Step {
    /// The operator; its first operand is that result.
    pub op: Op,
    /// One factor for each channel, if the operator is a product with them.
    pub factors: Option<Vec<f64>>,
}

impl From<Op> for Step {
    fn from(op: Op) -> Step {
        Step { op, factors: None }
    }
}

/// The operators that do the picks along `axis` of a value of type `x`: pads for constants, then a slice or a gather, then a
/// product with factors.
///
/// # Errors
/// When the number of channels is unknown.
pub fn steps(x: &Type, axis: usize, picks: &Picks) -> Result<Vec<Step>, String> {
    let n = x
        .len(axis)
        .ok_or("a gather along an axis of unknown size")?;
    let rank = x.rank().unwrap_or_default();
    if let Some((before, after, constant)) = as_pad(picks, n) {
        return Ok(vec![pad(rank, axis, before, after, constant).into()]);
    }
    let mut constants: Vec<f64> = Vec::new();
    let index: Vec<u32> = picks
        .0
        .iter()
        .map(|pick| match *pick {
            Pick::Channel { index, .. } => index,
            Pick::Constant(c) => {
                let known = constants
                    .iter()
                    .position(|known| known.to_bits() == c.0.to_bits());
                let at = known.unwrap_or_else(|| {
                    constants.push(c.0);
                    constants.len() - 1
                });
                (n + at) as u32
            }
        })
        .collect();
    let mut steps: Vec<Step> = constants
        .iter()
        .map(|constant| pad(rank, axis, 0, 1, *constant).into())
        .collect();
    let consecutive = index.windows(2).all(|w| w[1] == w[0] + 1);
    let whole = index.len() == n + constants.len() && consecutive && index.first() == Some(&0);
    if let (false, true, Some(first)) = (whole, consecutive, index.first()) {
        let first = *first as usize;
        let slice = Op::Slice {
            axis,
            start: Dim::from(first),
            end: Dim::from(first + index.len()),
            step: 1,
        };
        steps.push(slice.into());
    } else if !whole {
        let index = index.into();
        steps.push(Op::Gather { axis, index }.into());
    }
    let factors: Vec<f64> = picks
        .0
        .iter()
        .map(|pick| match pick {
            Pick::Channel { scale, .. } => scale.0,
            Pick::Constant(_) => 1.0,
        })
        .collect();
    if factors.iter().any(|f| *f != 1.0) {
        steps.push(Step {
            op: Op::Mul {},
            factors: Some(factors),
        });
    }
    Ok(steps)
}

fn pad(rank: usize, axis: usize, before: usize, after: usize, value: f64) -> Op {
    let only = |n: usize| -> Dims {
        (0..rank)
            .map(|a| Dim::from(if a == axis { n } else { 0 }))
            .collect()
    };
    Op::Pad {
        before: only(before),
        after: only(after),
        mode: PadMode::Constant,
        value: value.into(),
    }
}

/// Whether the picks are all `n` channels in order with one constant around them.
fn as_pad(picks: &Picks, n: usize) -> Option<(usize, usize, f64)> {
    let constant = |pick: &Pick| match pick {
        Pick::Constant(value) => Some(value.0),
        Pick::Channel { .. } => None,
    };
    let before = picks
        .0
        .iter()
        .take_while(|pick| constant(pick).is_some())
        .count();
    let after = picks.len().checked_sub(before + n)?;
    let middle: Picks = picks.0[before..before + n].iter().copied().collect();
    let mut values = picks.0[..before]
        .iter()
        .chain(&picks.0[before + n..])
        .map(constant);
    let value = values.next()??;
    let same = values.all(|v| v.is_some_and(|v| v.to_bits() == value.to_bits()));
    (same && middle.is_identity(n)).then_some((before, after, value))
}
