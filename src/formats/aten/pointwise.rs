//! Functions of one element.

use super::{
    Argument, Builder, Call, Entry, Expression, Lowered, Read, Written, dtype_code,
    dtype_from_code, need, one,
};
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

/// Whether an operator is a function of one element without parameters.
pub(in crate::formats) fn is_plain(op: &Op) -> bool {
    PLAIN.iter().any(|(_, plain)| plain == op)
}

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
        parameters: &["input", "p", "train"],
        lower: dropout,
    },
    Entry {
        names: &["detach", "contiguous", "alias", "positive", "lift_fresh"],
        parameters: &["self"],
        lower: same,
    },
    Entry {
        names: &["clone", "lift_fresh_copy"],
        parameters: &["self"],
        lower: clone,
    },
    Entry {
        names: &["to", "type_as", "_to_copy"],
        parameters: &["self", "dtype", "copy", "other"],
        lower: to,
    },
];

fn plain(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let (_, op) = need!(PLAIN.iter().find(|(name, _)| *name == call.name));
    one(ev.emit(op.name(), op.clone(), &[x])?)
}

fn softplus(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    match (call.float_or("beta", 1.0), call.float_or("threshold", 20.0)) {
        // Above 20 the logarithm and its linear continuation agree to the last bit of a float.
        (Some(1.0), Some(20.0..)) => plain(ev, call),
        _ => Ok(None),
    }
}

fn gelu(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let tanh = match call.str("approximate") {
        None | Some("none") => false,
        Some("tanh") => true,
        Some(_) => return Ok(None),
    };
    one(ev.emit("gelu", Op::Gelu { tanh }, &[x])?)
}

fn leaky_relu(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let slope = need!(call.float_or("negative_slope", 0.01)).into();
    one(ev.emit("leaky_relu", Op::LeakyRelu { slope }, &[x])?)
}

fn elu(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
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

fn prelu(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, weight) = (need!(call.tensor("self")), need!(call.tensor("weight")));
    if ev.shape(weight).is_none_or(|shape| shape.len() != 1) {
        return Ok(None);
    }
    one(ev.emit("prelu", Op::PRelu {}, &[x, weight])?)
}

fn clip(ev: &mut dyn Builder, call: &Call<'_>, min: f64, max: f64) -> Read {
    let x = need!(call.tensor("self"));
    let is_whole = |bound: f64| bound.fract() == 0.0 || bound.is_infinite();
    let bounds_fit = ev.graph().ty(x).is_float() || is_whole(min) && is_whole(max);
    if !bounds_fit {
        return Ok(None);
    }
    one(ev.emit(
        call.name.trim_end_matches('_'),
        Op::Clip {
            min: min.into(),
            max: max.into(),
        },
        &[x],
    )?)
}

fn hardtanh(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (min, max) = (
        need!(call.float_or("min_val", -1.0)),
        need!(call.float_or("max_val", 1.0)),
    );
    clip(ev, call, min, max)
}

fn relu6(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    clip(ev, call, 0.0, 6.0)
}

fn clamp(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    // Whole numbers that are clamped to others become such.
    let bounds = ["min", "max"].map(|name| call.get(name));
    let floats = bounds
        .iter()
        .any(|bound| matches!(bound, Some(Argument::Float(_))));
    if !ev.graph().is_dtype_certain(x) || floats && !ev.graph().ty(x).is_float() {
        return Ok(None);
    }
    let min = need!(call.float_or("min", f64::NEG_INFINITY));
    let max = need!(call.float_or("max", f64::INFINITY));
    clip(ev, call, min, max)
}

fn dropout(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("input"));
    let p = need!(call.float_or("p", 0.5));
    if need!(call.bool_or("train", true)) && p > 0.0 {
        return Err(ev.training("dropout"));
    }
    one(ev.emit("dropout", Op::Dropout { p: p.into() }, &[x])?)
}

fn same(_: &mut dyn Builder, call: &Call<'_>) -> Read {
    Ok(matches!(call.get("self"), Some(Argument::Tensor(_))).then_some(Lowered::Same))
}

fn clone(_: &mut dyn Builder, call: &Call<'_>) -> Read {
    one(call.tensor("self"))
}

/// `to(x, dtype, ..)`, `to(x, device, dtype, ..)`, `to(x, other)`: devices do not matter here.
fn to(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let code_of = |ev: &dyn Builder, value| ev.graph().ty(value).dtype().map(dtype_code);
    let (mut dtype, mut flags) = (None, Vec::new());
    for argument in call.args.positional.iter().skip(1) {
        match argument {
            Argument::Int(code) if dtype.is_none() && flags.is_empty() => dtype = Some(*code),
            Argument::Tensor(other) if !ev.graph().is_dtype_certain(*other) => return Ok(None),
            Argument::Tensor(other) if dtype.is_none() => dtype = code_of(ev, *other),
            Argument::Bool(flag) => flags.push(*flag),
            Argument::Int(_) | Argument::Other | Argument::None => {}
            _ => return Ok(None),
        }
    }
    // `non_blocking`, then `copy`; one name says that it always copies.
    let mut copy = flags.get(1).copied().unwrap_or(call.name == "_to_copy");
    for (name, value) in &call.args.keyword {
        match (*name, value) {
            ("dtype", Argument::Int(code)) => dtype = Some(*code),
            ("other", Argument::Tensor(other)) if !ev.graph().is_dtype_certain(*other) => {
                return Ok(None);
            }
            ("other", Argument::Tensor(other)) => dtype = code_of(ev, *other),
            ("copy", Argument::Bool(flag)) => copy = *flag,
            _ => {}
        }
    }
    let code = match dtype {
        Some(code) if code_of(ev, x) != Some(code) || !ev.graph().is_dtype_certain(x) => code,
        _ if copy => return one(Some(x)),
        _ => return Ok(Some(Lowered::Same)),
    };
    let dtype = need!(dtype_from_code(code));
    one(ev.emit("to", Op::Cast { dtype }, &[x])?)
}

pub(super) fn write(w: &Written<'_>) -> Result<Option<Expression>, String> {
    use Expression::{Bool, Dtype, Float, Int, None as Nothing, Str};
    let call =
        |name, rest: &[Expression]| Expression::call(name, "default", [&[w.x()], rest].concat());
    if let Some((name, _)) = PLAIN.iter().find(|(_, op)| op == w.op) {
        return Ok(Some(Expression::call(name, "default", w.operands.clone())));
    }
    Ok(Some(match w.op {
        Op::Gelu { .. } => call("gelu", &[]).keyword("approximate", Str("tanh")),
        Op::LeakyRelu { slope } => call("leaky_relu", &[Float(slope.0)]),
        Op::Elu { alpha } => call("elu", &[Float(alpha.0)]),
        Op::Clip { min, max } if !w.ty(0)?.is_float() && (min.is_finite() || max.is_finite()) => {
            let bound = |x: f64| match x.is_finite() {
                true => Int(x as i64),
                false => Nothing,
            };
            call("clamp", &[bound(min.0), bound(max.0)])
        }
        Op::Clip { min, max } => match (min.is_finite(), max.is_finite()) {
            (true, true) => call("hardtanh", &[Float(min.0), Float(max.0)]),
            (true, false) if w.core => call("clamp", &[Float(min.0)]),
            (false, true) if w.core => call("clamp", &[Nothing, Float(max.0)]),
            (true, false) => call("clamp_min", &[Float(min.0)]),
            (false, true) => call("clamp_max", &[Float(max.0)]),
            (false, false) => w.x(),
        },
        Op::Dropout { .. } if w.core => w.x(),
        Op::Dropout { p } => call("dropout", &[Float(p.0), Bool(false)]),
        Op::Identity {} => w.x(),
        Op::Cast { dtype } if w.core => call("_to_copy", &[]).keyword("dtype", Dtype(*dtype)),
        Op::Cast { dtype } => Expression::call("to", "dtype", [w.x(), Dtype(*dtype)]),
        _ => return Ok(None),
    }))
}
