//! Sums, products and powers of two operands, and products of matrices.

use super::{Call, Entry, Read, Written, need, one};
use crate::formats::torchscript::eval::{Eval, Evaluator};
use crate::formats::torchscript::value::{Value, print_float};
use crate::ir::{self, DType, Op};

pub(super) const TABLE: &[Entry] = &[
    Entry {
        names: &["add", "sub", "subtract"],
        parameters: &["self", "other", "alpha"],
        lower: add,
    },
    Entry {
        names: &["rsub"],
        parameters: &["self", "other", "alpha"],
        lower: rsub,
    },
    Entry {
        names: &["mul", "multiply", "maximum", "minimum", "max", "min"],
        parameters: &["self", "other"],
        lower: plain,
    },
    Entry {
        names: &["div", "divide", "true_divide"],
        parameters: &["self", "other", "rounding_mode"],
        lower: div,
    },
    Entry {
        names: &["pow", "__pow__"],
        parameters: &["self", "exponent"],
        lower: pow,
    },
    Entry {
        names: &["square"],
        parameters: &["self"],
        lower: square,
    },
    Entry {
        names: &["reciprocal"],
        parameters: &["self"],
        lower: reciprocal,
    },
    Entry {
        names: &["linear"],
        parameters: &["input", "weight", "bias"],
        lower: linear,
    },
    Entry {
        names: &["matmul", "bmm", "mm"],
        parameters: &["self", "other"],
        lower: matmul,
    },
    Entry {
        names: &["addmm", "baddbmm"],
        parameters: &["self", "batch1", "batch2", "beta", "alpha"],
        lower: addmm,
    },
    Entry {
        names: &["scaled_dot_product_attention"],
        parameters: &[
            "query",
            "key",
            "value",
            "attn_mask",
            "dropout_p",
            "is_causal",
            "scale",
            "enable_gqa",
        ],
        lower: attention,
    },
];

/// Both operands of an operator, numbers as constants of the tensor's element type.
fn operands(
    ev: &mut Evaluator<'_>,
    call: &Call<'_, '_>,
    a: &str,
    b: &str,
) -> Eval<Option<[ir::Value; 2]>> {
    let (tensor_a, tensor_b) = (call.tensor(ev, a)?, call.tensor(ev, b)?);
    let mut number = |name: &str, beside: ir::Value| {
        let value = call.get(name)?;
        let dtype = ev.graph.ty(beside).dtype()?;
        let x = value.as_f64()?;
        // A fraction beside whole numbers makes floats of them, which a constant of their type could not.
        let whole = !matches!(value.unwrap_zero_dim(), Value::Float(_));
        let dtype = if dtype.is_float() || (whole && dtype != DType::Bool) {
            dtype
        } else {
            DType::F32
        };
        Some(ev.scalar(x, dtype))
    };
    Ok(match (tensor_a, tensor_b) {
        (Some(a), Some(b)) => Some([a, b]),
        (Some(a), None) => number(b, a).map(|b| [a, b]),
        (None, Some(b)) => number(a, b).map(|a| [a, b]),
        (None, None) => None,
    })
}

/// `a + alpha * b`, `a - alpha * b`.
fn add(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let [a, mut b] = need!(operands(ev, call, "self", "other")?);
    let alpha = need!(call.float_or("alpha", 1.0));
    if alpha != 1.0 {
        let dtype = need!(ev.graph.ty(b).dtype());
        let alpha = ev.scalar(alpha, dtype);
        b = need!(ev.emit("mul", Op::Mul {}, &[b, alpha])?);
    }
    let op = if call.name == "add" {
        Op::Add {}
    } else {
        Op::Sub {}
    };
    one(ev.emit(op.name(), op, &[a, b])?)
}

fn rsub(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let [a, b] = need!(operands(ev, call, "self", "other")?);
    match call.float_or("alpha", 1.0) {
        Some(1.0) => one(ev.emit("sub", Op::Sub {}, &[b, a])?),
        _ => Ok(None),
    }
}

fn plain(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let op = match call.name {
        "mul" | "multiply" => Op::Mul {},
        "maximum" | "max" => Op::Maximum {},
        _ => Op::Minimum {},
    };
    // `max(x)` and `max(x, axis)` are other operators.
    if matches!(call.name, "max" | "min") && call.tensor(ev, "other")?.is_none() {
        return Ok(None);
    }
    let operands = need!(operands(ev, call, "self", "other")?);
    one(ev.emit(op.name(), op, &operands)?)
}

fn div(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    if call.get("rounding_mode").is_some() {
        return Ok(None);
    }
    let operands = need!(operands(ev, call, "self", "other")?);
    one(ev.emit("div", Op::Div {}, &operands)?)
}

fn pow(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let operands = need!(operands(ev, call, "self", "exponent")?);
    one(ev.emit("pow", Op::Pow {}, &operands)?)
}

fn square(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    one(ev.emit("mul", Op::Mul {}, &[x, x])?)
}

fn reciprocal(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let dtype = need!(ev.graph.ty(x).dtype());
    let numerator = ev.scalar(1.0, dtype);
    one(ev.emit("div", Op::Div {}, &[numerator, x])?)
}

fn linear(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, weight) = (
        need!(call.tensor(ev, "input")?),
        need!(call.tensor(ev, "weight")?),
    );
    if let (Some(rank), Some(features)) = (ev.shape(x).map(|s| s.len()), ev.graph.ty(weight).len(1))
    {
        let mut sizes = vec![None; rank];
        if let Some(last) = sizes.last_mut() {
            *last = i64::try_from(features).ok();
        }
        let dtype = ev.graph.ty(weight).dtype();
        ev.demand(x, &sizes, dtype)?;
    }
    match call.tensor(ev, "bias")? {
        Some(bias) => one(ev.emit("linear", Op::Linear {}, &[x, weight, bias])?),
        None if call.lacks("bias") => one(ev.emit("linear", Op::Linear {}, &[x, weight])?),
        None => Ok(None),
    }
}

fn matmul(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (a, b) = (
        need!(call.tensor(ev, "self")?),
        need!(call.tensor(ev, "other")?),
    );
    let ranks = (ev.shape(a).map(|s| s.len()), ev.shape(b).map(|s| s.len()));
    match ranks {
        (Some(2..), Some(2..)) => one(ev.emit("matmul", Op::MatMul {}, &[a, b])?),
        _ => Ok(None),
    }
}

fn addmm(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let one_each =
        (call.float_or("beta", 1.0), call.float_or("alpha", 1.0)) == (Some(1.0), Some(1.0));
    let (bias, a, b) = (
        need!(call.tensor(ev, "self")?),
        need!(call.tensor(ev, "batch1")?),
        need!(call.tensor(ev, "batch2")?),
    );
    if !one_each {
        return Ok(None);
    }
    let product = need!(ev.emit("matmul", Op::MatMul {}, &[a, b])?);
    one(ev.emit("add", Op::Add {}, &[product, bias])?)
}

fn attention(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let mut operands = Vec::new();
    for name in ["query", "key", "value"] {
        operands.push(need!(call.tensor(ev, name)?));
    }
    if !call.lacks("attn_mask") {
        let mask = need!(call.tensor(ev, "attn_mask")?);
        // A mask of truth values hides, it is not added.
        if !ev.graph.ty(mask).dtype().is_some_and(DType::is_float) {
            return Ok(None);
        }
        operands.push(mask);
    }
    if call.float_or("dropout_p", 0.0) != Some(0.0)
        || call.bool_or("enable_gqa", false) != Some(false)
    {
        return Ok(None);
    }
    let scale = match call.get("scale") {
        None => None,
        Some(value) => Some(need!(value.as_f64()).into()),
    };
    let causal = need!(call.bool_or("is_causal", false));
    one(ev.emit("attention", Op::Attention { scale, causal }, &operands)?)
}

pub(super) fn write(w: &mut Written<'_>) -> Result<Option<String>, String> {
    // A number stands in the call itself, on the side where PyTorch takes one.
    let number = |i: usize| w.scalars.get(i).copied().flatten().map(print_float);
    let binary = |name: &str, reversed: &str| {
        let (a, b) = (w.x(), w.optional(1));
        match (number(0), number(1)) {
            (_, Some(number)) => format!("torch.{name}({a}, {number})"),
            (Some(number), None) if !reversed.is_empty() => {
                reversed.replace("{x}", b).replace("{n}", &number)
            }
            _ => format!("torch.{name}({a}, {b})"),
        }
    };
    Ok(Some(match w.op {
        Op::Add {} => binary("add", "torch.add({x}, {n})"),
        Op::Sub {} => binary("sub", "torch.rsub({x}, {n})"),
        Op::Mul {} => binary("mul", "torch.mul({x}, {n})"),
        Op::Div {} => binary("div", "torch.mul(torch.reciprocal({x}), {n})"),
        Op::Pow {} => binary("pow", "torch.pow({n}, {x})"),
        Op::Maximum {} => format!("torch.maximum({}, {})", w.x(), w.optional(1)),
        Op::Minimum {} => format!("torch.minimum({}, {})", w.x(), w.optional(1)),
        Op::Linear {} => format!(
            "torch.linear({}, {}, {})",
            w.x(),
            w.optional(1),
            w.optional(2)
        ),
        Op::MatMul {} => format!("torch.matmul({}, {})", w.x(), w.optional(1)),
        Op::Attention { scale, causal } => {
            let causal = if *causal { "True" } else { "False" };
            let scale = scale.map_or(String::new(), |s| format!(", scale={}", print_float(s.0)));
            let operands = [w.x(), w.optional(1), w.optional(2), w.optional(3)].join(", ");
            format!("torch.scaled_dot_product_attention({operands}, 0., {causal}{scale})")
        }
        _ => return Ok(None),
    }))
}
