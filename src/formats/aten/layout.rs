//! What moves elements about: views, slices, concatenation, padding.

mod written;

use super::{Argument, Builder, Call, Lowered, Read, float, need, one};
use crate::formats::sizes::position;
use crate::ir::{self, Dim, Dims, Op, PadMode};
pub(super) use written::write;

pub(super) fn operand(ev: &dyn Builder, call: &Call<'_>) -> Option<(ir::Value, Dims)> {
    let x = call.tensor("self")?;
    ev.shape(x).map(|shape| (x, shape))
}

fn to(ev: &mut dyn Builder, call: &Call<'_>, x: ir::Value, shape: Dims) -> Read {
    one(ev.emit(call.name, Op::Reshape { shape }, &[x])?)
}

pub(super) fn reshape(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let mut sizes = need!(
        call.get(call.parameters[1])
            .and_then(Argument::items)
            .and_then(|items| items.iter().map(Argument::as_dim).collect::<Option<Dims>>())
    );
    if sizes.len() > Dim::MAX_RANK {
        return Ok(None);
    }
    let inferred = sizes.iter().position(|d| d.as_number() == Some(-1));
    if let Some(inferred) = inferred {
        let shape = need!(ev.shape(x));
        sizes[inferred] = Dim::from(1);
        sizes[inferred] = need!(Dim::left_out(&shape, &sizes));
    } else if let Some(shape) = ev.shape(x) {
        settle(&shape, &mut sizes);
    }
    to(ev, call, x, sizes)
}

/// Gives a size that only the running network computes the number that the element counts demand of it.
fn settle(from: &Dims, to: &mut Dims) {
    if Dim::left_out(from, to) == Some(Dim::from(1)) {
        return;
    }
    for axis in 0..to.len() {
        if to[axis].as_number().is_some() {
            continue;
        }
        let mut others = to.clone();
        others.remove(axis);
        let needed = Dim::left_out(from, &others).filter(|needed| needed.as_number().is_some());
        if let Some(needed) = needed {
            to[axis] = needed;
            return;
        }
    }
}

pub(super) fn reshape_as(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, other) = (need!(call.tensor("self")), need!(call.tensor("other")));
    let shape = need!(ev.shape(other));
    to(ev, call, x, shape)
}

pub(super) fn flatten(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape) = need!(operand(ev, call));
    if shape.is_empty() {
        return to(ev, call, x, Dims::from_iter([Dim::from(1)]));
    }
    let start = need!(call.axis("start_dim", shape.len(), 0));
    let end = need!(call.axis("end_dim", shape.len(), -1));
    match start.cmp(&end) {
        std::cmp::Ordering::Less => one(ev.emit("flatten", Op::Flatten { start, end }, &[x])?),
        std::cmp::Ordering::Equal => Ok(Some(Lowered::Same)),
        std::cmp::Ordering::Greater => Ok(None),
    }
}

pub(super) fn unflatten(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape) = need!(operand(ev, call));
    let axis = need!(call.axis("dim", shape.len(), 0));
    let mut sizes = need!(call.dims("sizes"));
    if let Some(inferred) = sizes.iter().position(|d| d.as_number() == Some(-1)) {
        sizes[inferred] = Dim::from(1);
        sizes[inferred] = need!(Dim::left_out(&shape[axis..=axis], &sizes));
    }
    let shape = shape[..axis]
        .iter()
        .chain(&sizes)
        .chain(&shape[axis + 1..])
        .cloned()
        .collect();
    to(ev, call, x, shape)
}

fn permuted(ev: &mut dyn Builder, call: &Call<'_>, x: ir::Value, perm: ir::Ints) -> Read {
    if perm.iter().enumerate().all(|(i, p)| i == *p) {
        return Ok(Some(Lowered::Same));
    }
    one(ev.emit(call.name, Op::Transpose { perm }, &[x])?)
}

pub(super) fn transpose(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape) = need!(operand(ev, call));
    let [_, first, second] = call.parameters else {
        return Ok(None);
    };
    let a = need!(position(need!(call.int(first)), shape.len()));
    let b = need!(position(need!(call.int(second)), shape.len()));
    let mut perm: ir::Ints = (0..shape.len()).collect();
    perm.swap(a, b);
    permuted(ev, call, x, perm)
}

pub(super) fn t(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape) = need!(operand(ev, call));
    match shape.len() {
        2 => permuted(ev, call, x, ir::Ints::from_slice(&[1, 0])),
        0 | 1 => Ok(Some(Lowered::Same)),
        _ => Ok(None),
    }
}

pub(super) fn permute(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape) = need!(operand(ev, call));
    let perm = need!(call.axes("dims", shape.len()));
    permuted(ev, call, x, perm)
}

pub(super) fn squeeze(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape) = need!(operand(ev, call));
    let named = if call.lacks("dim") {
        (0..shape.len()).collect()
    } else {
        need!(call.axes("dim", shape.len()))
    };
    // Only axes of length 1 go; of a size that is no number it is not known.
    let mut axes = ir::Ints::new();
    for axis in named {
        match shape[axis].as_number() {
            Some(1) => axes.push(axis),
            Some(_) => {}
            None => return Ok(None),
        }
    }
    if axes.is_empty() {
        return Ok(Some(Lowered::Same));
    }
    axes.sort_unstable();
    one(ev.emit("squeeze", Op::Squeeze { axes }, &[x])?)
}

pub(super) fn unsqueeze(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape) = need!(operand(ev, call));
    let axis = need!(position(need!(call.int("dim")), shape.len() + 1));
    one(ev.emit(
        "unsqueeze",
        Op::Unsqueeze {
            axes: ir::Ints::from_slice(&[axis]),
        },
        &[x],
    )?)
}

pub(super) fn expand(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, from) = need!(operand(ev, call));
    let mut shape = need!(call.dims("size"));
    let new = need!(shape.len().checked_sub(from.len()));
    for (i, size) in shape.iter_mut().enumerate() {
        if size.as_number() == Some(-1) {
            *size = need!(i.checked_sub(new).map(|i| from[i].clone()));
        }
    }
    expanded(ev, x, &from, shape)
}

pub(super) fn expand_as(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, from) = need!(operand(ev, call));
    let other = need!(call.tensor("other"));
    let shape = need!(ev.shape(other));
    expanded(ev, x, &from, shape)
}

fn expanded(ev: &mut dyn Builder, x: ir::Value, from: &Dims, shape: Dims) -> Read {
    if *from == shape {
        return Ok(Some(Lowered::Same));
    }
    one(ev.emit("expand", Op::Expand { shape }, &[x])?)
}

pub(super) fn pad(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, shape) = need!(operand(ev, call));
    let mode = match (call.name, call.str("mode")) {
        ("constant_pad_nd", _) | ("pad", None | Some("constant")) => PadMode::Constant,
        ("pad", Some("reflect")) => PadMode::Reflect,
        ("pad", Some("replicate")) => PadMode::Replicate,
        ("pad", Some("circular")) => PadMode::Circular,
        (name, _) if name.starts_with("reflection") => PadMode::Reflect,
        (name, _) if name.starts_with("replication") => PadMode::Replicate,
        _ => return Ok(None),
    };
    let amounts = need!(call.dims(call.parameters[1]));
    if amounts.len() % 2 != 0 || amounts.len() / 2 > shape.len() {
        return Ok(None);
    }
    let zeros = || -> Dims { std::iter::repeat_n(Dim::from(0), shape.len()).collect() };
    let (mut before, mut after) = (zeros(), zeros());
    // The last axis comes first.
    for (i, pair) in amounts.chunks(2).enumerate() {
        let axis = shape.len() - 1 - i;
        (before[axis], after[axis]) = (pair[0].clone(), pair[1].clone());
    }
    let value = float(need!(call.float_or("value", 0.0)));
    if before
        .iter()
        .chain(&after)
        .all(|amount| amount.as_number() == Some(0))
    {
        // A copy: what is written to it later is not written to the operand.
        return Ok(Some(Lowered::One(x)));
    }
    one(ev.emit(
        "pad",
        Op::Pad {
            before,
            after,
            mode,
            value,
        },
        &[x],
    )?)
}

/// A view that the IR has no operator for.
pub(super) fn unknown(_: &mut dyn Builder, _: &Call<'_>) -> Read {
    Ok(None)
}
