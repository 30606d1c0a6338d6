//! Functions of one element.

use super::{Call, Entry, Lowered, Read, Written, need, one};
use crate::formats::torchscript::eval::Evaluator;
use crate::formats::torchscript::scalar::dtype_from_code;
use crate::formats::torchscript::value::{Value, print_float};
use crate::ir::Op;

/// Functions without parameters, by their name in PyTorch.
const PLAIN: [(&str, Op); 17] = [
    ("relu", Op::Relu {}),
    ("silu", Op::Silu {}),
    ("sigmoid", Op::Sigmoid {}),
    ("hardsigmoid", Op::HardSigmoid {}),
    ("hardswish", Op::HardSwish {}),
    ("tanh", Op::Tanh {}),
    ("mish", Op::Mish {}),
    ("exp", Op::Exp {}),
    ("log", Op::Log {}),
    ("sqrt", Op::Sqrt {}),
    ("rsqrt", Op::Rsqrt {}),
    ("erf", Op::Erf {}),
    ("abs", Op::Abs {}),
    ("neg", Op::Neg {}),
    ("softplus", Op::Softplus {}),
    ("gelu", Op::Gelu { tanh: false }),
    ("prelu", Op::PRelu {}),
];

pub(super) const TABLE: &[Entry] = &[
    Entry {
        names: &[
            "relu",
            "silu",
            "sigmoid",
            "hardsigmoid",
            "hardswish",
            "tanh",
            "mish",
            "exp",
            "log",
            "sqrt",
            "rsqrt",
            "erf",
            "abs",
            "neg",
        ],
        parameters: &["self"],
        lower: plain,
    },
    Entry {
        names: &["softplus"],
        parameters: &["self", "beta", "threshold"],
        lower: softplus,
    },
    Entry {
        names: &["gelu"],
        parameters: &["self", "approximate"],
        lower: gelu,
    },
    Entry {
        names: &["leaky_relu"],
        parameters: &["self", "negative_slope"],
        lower: leaky_relu,
    },
    Entry {
        names: &["elu"],
        parameters: &["self", "alpha", "scale", "input_scale"],
        lower: elu,
    },
    Entry {
        names: &["prelu", "_prelu_kernel"],
        parameters: &["self", "weight"],
        lower: prelu,
    },
    Entry {
        names: &["hardtanh"],
        parameters: &["self", "min_val", "max_val"],
        lower: hardtanh,
    },
    Entry {
        names: &["relu6"],
        parameters: &["self"],
        lower: relu6,
    },
    Entry {
        names: &["clamp", "clip"],
        parameters: &["self", "min", "max"],
        lower: clamp,
    },
    Entry {
        names: &["clamp_min"],
        parameters: &["self", "min"],
        lower: clamp,
    },
    Entry {
        names: &["clamp_max"],
        parameters: &["self", "max"],
        lower: clamp,
    },
    Entry {
        names: &[
            "dropout",
            "feature_dropout",
            "alpha_dropout",
            "feature_alpha_dropout",
        ],
        parameters: &["self", "p", "train"],
        lower: dropout,
    },
    Entry {
        names: &["detach", "contiguous", "alias", "positive", "lift_fresh"],
        parameters: &["self"],
        lower: same,
    },
    Entry {
        names: &["clone"],
        parameters: &["self"],
        lower: clone,
    },
    Entry {
        names: &["to", "type_as"],
        parameters: &["self"],
        lower: to,
    },
];

fn plain(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let (_, op) = need!(PLAIN.iter().find(|(name, _)| *name == call.name));
    one(ev.emit(op.name(), op.clone(), &[x])?)
}

fn softplus(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    match (call.float_or("beta", 1.0), call.float_or("threshold", 20.0)) {
        // Above 20 the logarithm and its linear continuation agree to the last bit of a float.
        (Some(1.0), Some(20.0..)) => plain(ev, call),
        _ => Ok(None),
    }
}

fn gelu(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let tanh = match call.str("approximate") {
        None | Some("none") => false,
        Some("tanh") => true,
        Some(_) => return Ok(None),
    };
    one(ev.emit("gelu", Op::Gelu { tanh }, &[x])?)
}

fn leaky_relu(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let slope = need!(call.float_or("negative_slope", 0.01)).into();
    one(ev.emit("leaky_relu", Op::LeakyRelu { slope }, &[x])?)
}

fn elu(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    if (
        call.float_or("scale", 1.0),
        call.float_or("input_scale", 1.0),
    ) != (Some(1.0), Some(1.0))
    {
        return Ok(None);
    }
    let alpha = need!(call.float_or("alpha", 1.0)).into();
    one(ev.emit("elu", Op::Elu { alpha }, &[x])?)
}

fn prelu(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, weight) = (
        need!(call.tensor(ev, "self")?),
        need!(call.tensor(ev, "weight")?),
    );
    if ev.shape(weight).is_none_or(|shape| shape.len() != 1) {
        return Ok(None);
    }
    one(ev.emit("prelu", Op::PRelu {}, &[x, weight])?)
}

fn clip(ev: &mut Evaluator<'_>, call: &Call<'_, '_>, min: f64, max: f64) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    one(ev.emit(
        call.name.trim_end_matches('_'),
        Op::Clip {
            min: min.into(),
            max: max.into(),
        },
        &[x],
    )?)
}

fn hardtanh(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (min, max) = (
        need!(call.float_or("min_val", -1.0)),
        need!(call.float_or("max_val", 1.0)),
    );
    clip(ev, call, min, max)
}

fn relu6(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    clip(ev, call, 0.0, 6.0)
}

fn clamp(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let min = need!(call.float_or("min", f64::NEG_INFINITY));
    let max = need!(call.float_or("max", f64::INFINITY));
    clip(ev, call, min, max)
}

fn dropout(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let p = need!(call.float_or("p", 0.5));
    if need!(call.bool_or("train", true)) && p > 0.0 {
        return Err(ev.training("dropout"));
    }
    one(ev.emit("dropout", Op::Dropout { p: p.into() }, &[x])?)
}

fn same(_: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    Ok(matches!(call.get("self"), Some(Value::Tensor(_))).then_some(Lowered::Same))
}

fn clone(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    one(call.tensor(ev, "self")?)
}

/// `to(x, dtype, ..)`, `to(x, device, dtype, ..)`, `to(x, other)`: devices do not matter here.
fn to(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let (mut dtype, mut flags) = (None, Vec::new());
    for argument in call.args.positional.iter().skip(1) {
        match argument {
            Value::Int(code) if dtype.is_none() && flags.is_empty() => dtype = Some(*code),
            Value::Tensor(other) if dtype.is_none() => dtype = ev.dtype_code_of(ev.read(other)?),
            Value::Bool(flag) => flags.push(*flag),
            Value::Int(_) | Value::Device(_) | Value::None => {}
            _ => return Ok(None),
        }
    }
    // `non_blocking`, then `copy`.
    let mut copy = flags.get(1).copied().unwrap_or(false);
    for (name, value) in &call.args.keyword {
        match (*name, value) {
            ("dtype", Value::Int(code)) => dtype = Some(*code),
            ("copy", Value::Bool(flag)) => copy = *flag,
            _ => {}
        }
    }
    let code = match dtype {
        Some(code) if ev.dtype_code_of(x) != Some(code) => code,
        _ if copy => return one(Some(x)),
        _ => return Ok(Some(Lowered::Same)),
    };
    let dtype = need!(dtype_from_code(code));
    one(ev.emit("to", Op::Cast { dtype }, &[x])?)
}

pub(super) fn write(w: &mut Written<'_>) -> Result<Option<String>, String> {
    if let Some((name, _)) = PLAIN.iter().find(|(_, op)| op == w.op) {
        return Ok(Some(format!("torch.{name}({})", w.operands.join(", "))));
    }
    let x = w.x();
    Ok(Some(match w.op {
        Op::Gelu { .. } => format!("torch.gelu({x}, approximate=\"tanh\")"),
        Op::LeakyRelu { slope } => format!("torch.leaky_relu({x}, {})", print_float(slope.0)),
        Op::Elu { alpha } => format!("torch.elu({x}, {})", print_float(alpha.0)),
        Op::Clip { min, max } => match (min.is_finite(), max.is_finite()) {
            (true, true) => format!(
                "torch.hardtanh({x}, {}, {})",
                print_float(min.0),
                print_float(max.0)
            ),
            (true, false) => format!("torch.clamp_min({x}, {})", print_float(min.0)),
            (false, true) => format!("torch.clamp_max({x}, {})", print_float(max.0)),
            (false, false) => x.to_owned(),
        },
        Op::Dropout { p } => format!("torch.dropout({x}, {}, False)", print_float(p.0)),
        Op::Identity {} => x.to_owned(),
        Op::Cast { dtype } => {
            format!(
                "torch.to({x}, {})",
                crate::formats::torchscript::scalar::dtype_code(*dtype)
            )
        }
        _ => return Ok(None),
    }))
}
