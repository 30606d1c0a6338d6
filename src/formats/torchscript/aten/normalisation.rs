//! Normalisations.

use super::{Call, Entry, Read, Written, need, one};
use crate::formats::torchscript::eval::{Eval, Evaluator};
use crate::formats::torchscript::value::print_float;
use crate::ir::{self, Op, Tensor};

pub(super) const TABLE: &[Entry] = &[
    Entry {
        names: &["batch_norm", "cudnn_batch_norm"],
        parameters: &[
            "input",
            "weight",
            "bias",
            "running_mean",
            "running_var",
            "training",
            "momentum",
            "eps",
        ],
        lower: batch_norm,
    },
    Entry {
        names: &["layer_norm"],
        parameters: &["input", "normalized_shape", "weight", "bias", "eps"],
        lower: layer_norm,
    },
    Entry {
        names: &["group_norm"],
        parameters: &["input", "num_groups", "weight", "bias", "eps"],
        lower: group_norm,
    },
    Entry {
        names: &["instance_norm"],
        parameters: &[
            "input",
            "weight",
            "bias",
            "running_mean",
            "running_var",
            "use_input_stats",
            "momentum",
            "eps",
        ],
        lower: instance_norm,
    },
];

fn batch_norm(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "input")?);
    let statistics = (
        call.tensor(ev, "running_mean")?,
        call.tensor(ev, "running_var")?,
    );
    let training = need!(call.bool_or("training", false));
    let (Some(mean), Some(variance)) = statistics else {
        // Without running statistics a batch norm uses the batch's own, in training and evaluation alike.
        return Ok(None);
    };
    if training {
        return Err(ev.training("batch norm"));
    }
    let channels = need!(ev.graph.ty(mean).len(0));
    if let Some(rank) = ev.shape(x).map(|s| s.len()).filter(|rank| *rank > 1) {
        let mut sizes = vec![None; rank];
        sizes[1] = i64::try_from(channels).ok();
        let dtype = ev.graph.ty(mean).dtype();
        ev.demand(x, &sizes, dtype)?;
    }
    let scale = need!(affine(ev, call, "weight", mean, 1.0)?);
    let shift = need!(affine(ev, call, "bias", mean, 0.0)?);
    let eps = need!(call.float_or("eps", 1e-5)).into();
    one(ev.emit(
        "batch_norm",
        Op::BatchNorm { eps },
        &[x, scale, shift, mean, variance],
    )?)
}

/// A per-channel operand; one that is left out is a constant.
fn affine(
    ev: &mut Evaluator<'_>,
    call: &Call<'_, '_>,
    name: &str,
    like: ir::Value,
    value: f64,
) -> Eval<Option<ir::Value>> {
    if !call.lacks(name) {
        return call.tensor(ev, name);
    }
    let (Some(n), Some(dtype)) = (ev.graph.ty(like).len(0), ev.graph.ty(like).dtype()) else {
        return Ok(None);
    };
    let tensor = Tensor::from_f64(dtype, &[n], std::iter::repeat_n(value, n));
    Ok(Some(ev.literal(name, tensor)))
}

/// Input, and scale and shift if they are given; a shift alone is not to be said.
fn scale_and_shift(ev: &Evaluator<'_>, call: &Call<'_, '_>) -> Eval<Option<Vec<ir::Value>>> {
    let Some(x) = call.tensor(ev, "input")? else {
        return Ok(None);
    };
    let mut operands = vec![x];
    for name in ["weight", "bias"] {
        match call.tensor(ev, name)? {
            Some(value) if name == "weight" || operands.len() == 2 => operands.push(value),
            None if call.lacks(name) => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(operands))
}

fn layer_norm(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let operands = need!(scale_and_shift(ev, call)?);
    let axes = need!(call.dims("normalized_shape")).len();
    let eps = need!(call.float_or("eps", 1e-5)).into();
    one(ev.emit("layer_norm", Op::LayerNorm { axes, eps }, &operands)?)
}

fn group_norm(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let operands = need!(scale_and_shift(ev, call)?);
    let groups = need!(call.int("num_groups").and_then(|g| usize::try_from(g).ok()));
    let eps = need!(call.float_or("eps", 1e-5)).into();
    one(ev.emit("group_norm", Op::GroupNorm { groups, eps }, &operands)?)
}

/// An instance norm on the input's own statistics is a group norm of one channel a group.
fn instance_norm(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let operands = need!(scale_and_shift(ev, call)?);
    if call.bool_or("use_input_stats", true) != Some(true) || !call.lacks("running_mean") {
        return Ok(None);
    }
    let groups = need!(ev.graph.ty(operands[0]).len(1));
    let eps = need!(call.float_or("eps", 1e-5)).into();
    one(ev.emit("group_norm", Op::GroupNorm { groups, eps }, &operands)?)
}

pub(super) fn write(w: &mut Written<'_>) -> Result<Option<String>, String> {
    Ok(Some(match w.op {
        Op::BatchNorm { eps } => {
            let operands = w.operands.join(", ");
            format!(
                "torch.batch_norm({operands}, False, 0., {}, True)",
                print_float(eps.0)
            )
        }
        Op::LayerNorm { axes, eps } => {
            let (axes, eps) = (*axes, print_float(eps.0));
            let shape = w.shape(0)?;
            let shape = shape
                .get(shape.len().saturating_sub(axes)..)
                .unwrap_or_default()
                .to_vec();
            let shape = w.sizes(&shape);
            format!(
                "torch.layer_norm({}, {shape}, {}, {}, {eps})",
                w.x(),
                w.optional(1),
                w.optional(2)
            )
        }
        Op::GroupNorm { groups, eps } => {
            let eps = print_float(eps.0);
            format!(
                "torch.group_norm({}, {groups}, {}, {}, {eps})",
                w.x(),
                w.optional(1),
                w.optional(2)
            )
        }
        _ => return Ok(None),
    }))
}
