//! Reductions and softmax.

use super::pool::boolean;
use super::{Call, Entry, Read, Written, list, need, one};
use crate::formats::torchscript::eval::Evaluator;
use crate::ir::{Ints, Op};

pub(super) const TABLE: &[Entry] = &[
    Entry {
        names: &["mean", "sum"],
        parameters: &["self", "dim", "keepdim"],
        lower: mean,
    },
    Entry {
        names: &["amax"],
        parameters: &["self", "dim", "keepdim"],
        lower: mean,
    },
    Entry {
        names: &["softmax", "log_softmax", "_softmax", "_log_softmax"],
        parameters: &["self", "dim"],
        lower: softmax,
    },
];

fn mean(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let rank = need!(ev.shape(x)).len();
    // A cast on the way, or `mean(x, dtype)`: not to be said.
    let casts = call
        .args
        .keyword
        .iter()
        .any(|(k, v)| *k == "dtype" && v.as_int().is_some());
    let lone_int = call.name != "amax" && call.get("dim").is_some_and(|v| v.items().is_none());
    let extra = call
        .args
        .positional
        .get(3)
        .is_some_and(|v| v.as_int().is_some());
    if casts || lone_int || extra {
        return Ok(None);
    }
    let axes = if call.lacks("dim") {
        Ints::new()
    } else {
        need!(call.axes("dim", rank))
    };
    // No axes are all axes.
    let axes = if axes.is_empty() {
        (0..rank).collect()
    } else {
        axes
    };
    let keep = need!(call.bool_or("keepdim", false));
    let op = match call.name {
        "mean" => Op::ReduceMean { axes, keep },
        "sum" => Op::ReduceSum { axes, keep },
        _ => Op::ReduceMax { axes, keep },
    };
    one(ev.emit(op.name(), op, &[x])?)
}

fn softmax(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let rank = need!(ev.shape(x)).len();
    let axis = need!(call.axis("dim", rank, -1));
    let third = call.args.get(2, "dtype").is_some_and(|v| {
        v.as_int()
            .is_some_and(|code| ev.dtype_code_of(x) != Some(code))
    });
    if third && !call.name.starts_with('_') {
        return Ok(None);
    }
    let op = if call.name.contains("log") {
        Op::LogSoftmax { axis }
    } else {
        Op::Softmax { axis }
    };
    one(ev.emit(op.name(), op, &[x])?)
}

pub(super) fn write(w: &mut Written<'_>) -> Result<Option<String>, String> {
    let x = w.x();
    Ok(Some(match w.op {
        Op::ReduceMean { axes, keep } => {
            format!("torch.mean({x}, {}, {})", list(axes), boolean(*keep))
        }
        Op::ReduceSum { axes, keep } => {
            format!("torch.sum({x}, {}, {})", list(axes), boolean(*keep))
        }
        Op::ReduceMax { axes, keep } => {
            format!("torch.amax({x}, {}, {})", list(axes), boolean(*keep))
        }
        Op::Softmax { axis } => format!("torch.softmax({x}, {axis})"),
        Op::LogSoftmax { axis } => format!("torch.log_softmax({x}, {axis})"),
        _ => return Ok(None),
    }))
}
