//! Sums, products and powers of two operands, and products of matrices.

use super::{Argument, Builder, Call, Eval, Expression, Read, Written, first, need, one};
use crate::formats::spelling;
use crate::ir::{self, DType, Dim, Dims, Ints, Op, Tensor, Type};

/// Both operands of an operator, numbers as constants of the tensor's element type.
pub(super) fn operands(
    ev: &mut dyn Builder,
    call: &Call<'_>,
    a: &str,
    b: &str,
) -> Eval<Option<[ir::Value; 2]>> {
    let (tensor_a, tensor_b) = (call.tensor(a), call.tensor(b));
    let mut number = |name: &str, beside: ir::Value| {
        let value = call.get(name)?;
        let dtype = ev.graph().ty(beside).dtype()?;
        let x = value.as_f64()?;
        let whole = !matches!(value, Argument::Float(_));
        let certain = ev.graph().is_dtype_certain(beside);
        // Of a type that is only thought to be one of whole numbers a constant would make it that; of one that may be such, a
        // number of floating point makes it one of floating point even where it changes no value.
        let neutral = match call.name {
            "add" | "sub" | "subtract" | "rsub" => 0.0,
            _ => 1.0,
        };
        let only_converts = !whole && x == neutral;
        // A truth value beside a whole number becomes one.
        let counts = whole && dtype == DType::Bool;
        if !certain && (!dtype.is_float() || only_converts) || counts || !is_exact(x, dtype) {
            return None;
        }
        // A fraction beside whole numbers makes floats of them, which a constant of their type could not.
        let dtype = if whole && !certain {
            DType::I64
        } else if !whole && !dtype.is_float() {
            DType::F32
        } else {
            dtype
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

/// Whether a number is what it is also as a constant beside a tensor of this type: PyTorch calculates with a number that half
/// precision cannot hold as it is.
fn is_exact(x: f64, dtype: DType) -> bool {
    let kept = || Tensor::from_f64(dtype, &[], [x]).elements::<f64>().first() == Some(&x);
    !matches!(dtype, DType::F16 | DType::BF16) || x.is_nan() || kept()
}

/// A function of two operands that the table of all formats has.
pub(super) fn function(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let op = need!(call.spelled());
    let other = *need!(call.parameters.get(1));
    if !takes_numbers(&op) && call.tensor(other).is_none() {
        return Ok(None);
    }
    let [a, b] = need!(operands(ev, call, "self", other)?);
    let b = need!(scaled(ev, call, a, b)?);
    one(ev.emit(op.name(), op, &[a, b])?)
}

/// Whether PyTorch takes a number for an operand.
pub(super) fn takes_numbers(op: &Op) -> bool {
    spelling::of_op(op).is_some_and(|row| row.aten.numbers)
}

/// `alpha * b`, to be added to `a` or subtracted from it.
pub(super) fn scaled(
    ev: &mut dyn Builder,
    call: &Call<'_>,
    a: ir::Value,
    b: ir::Value,
) -> Eval<Option<ir::Value>> {
    let alpha = need!(call.float_or("alpha", 1.0));
    if alpha == 1.0 {
        return Ok(Some(b));
    }
    let mut b = b;
    let mut dtype = need!(ev.graph().ty(b).dtype());
    let certain = ev.graph().is_dtype_certain(b);
    if !dtype.is_float() && !certain || !is_exact(alpha, dtype) {
        return Ok(None);
    }
    let whole = matches!(call.get("alpha"), Some(Argument::Int(_)));
    if !certain && whole {
        dtype = DType::I64;
    } else if !dtype.is_float() && !whole {
        // A fraction of whole numbers is of the type of what it is added to.
        dtype = DType::F32;
        if ev.graph().ty(a).dtype() != Some(dtype) {
            return Ok(None);
        }
        b = need!(ev.emit("cast", Op::Cast { dtype }, &[b])?);
    }
    let alpha = ev.scalar(alpha, dtype);
    ev.emit("mul", Op::Mul {}, &[b, alpha])
}

pub(super) fn rsub(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let [a, b] = need!(operands(ev, call, "self", "other")?);
    match call.float_or("alpha", 1.0) {
        Some(1.0) => one(ev.emit("sub", Op::Sub {}, &[b, a])?),
        _ => Ok(None),
    }
}

pub(super) fn square(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    one(ev.emit("mul", Op::Mul {}, &[x, x])?)
}

pub(super) fn reciprocal(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let dtype = need!(ev.graph().ty(x).dtype());
    let numerator = ev.scalar(1.0, dtype);
    one(ev.emit("div", Op::Div {}, &[numerator, x])?)
}

pub(super) fn linear(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, weight) = (need!(call.tensor("input")), need!(call.tensor("weight")));
    // PyTorch also takes a vector for the weight, and a bias that is broadcast.
    let outputs = ev.graph().ty(weight).len(0);
    let rank = |value| ev.shape(value).map(|shape| shape.len());
    let fits = |bias| rank(bias) == Some(1) && ev.graph().ty(bias).len(0) == outputs;
    if rank(weight).is_some_and(|rank| rank != 2)
        || outputs.is_some() && call.tensor("bias").is_some_and(|bias| !fits(bias))
    {
        return Ok(None);
    }
    if let (Some(rank), Some(features)) =
        (ev.shape(x).map(|s| s.len()), ev.graph().ty(weight).len(1))
    {
        let mut sizes = vec![None; rank];
        if let Some(last) = sizes.last_mut() {
            *last = i64::try_from(features).ok();
        }
        let dtype = ev.graph().ty(weight).dtype();
        ev.demand(x, &sizes, dtype)?;
    }
    match call.tensor("bias") {
        Some(bias) => one(ev.emit("linear", Op::Linear {}, &[x, weight, bias])?),
        None if call.lacks("bias") => one(ev.emit("linear", Op::Linear {}, &[x, weight])?),
        None => Ok(None),
    }
}

pub(super) fn matmul(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (a, b) = (need!(call.tensor_at(0)), need!(call.tensor_at(1)));
    let ranks = (ev.shape(a).map(|s| s.len()), ev.shape(b).map(|s| s.len()));
    if let (Some(2..), Some(weight)) = (ranks.0, transposed_constant(ev, b)) {
        return one(ev.emit("linear", Op::Linear {}, &[a, weight])?);
    }
    match ranks {
        (Some(2..), Some(2..)) => one(ev.emit("matmul", Op::MatMul {}, &[a, b])?),
        _ => Ok(None),
    }
}

pub(super) fn addmm(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let one_each =
        (call.float_or("beta", 1.0), call.float_or("alpha", 1.0)) == (Some(1.0), Some(1.0));
    let (bias, a, b) = (
        need!(call.tensor("self")),
        need!(call.tensor_at(1)),
        need!(call.tensor_at(2)),
    );
    if !one_each {
        return Ok(None);
    }
    if let Some(weight) = transposed_constant(ev, b)
        && ev.shape(bias).is_some_and(|shape| shape.len() == 1)
        && ev.graph().ty(bias).len(0) == ev.graph().ty(weight).len(0)
    {
        return one(ev.emit("linear", Op::Linear {}, &[a, weight, bias])?);
    }
    let product = need!(ev.emit("matmul", Op::MatMul {}, &[a, b])?);
    one(ev.emit("add", Op::Add {}, &[product, bias])?)
}

/// The constant matrix that is transposed to this value: a product with it is a linear layer.
fn transposed_constant(ev: &dyn Builder, value: ir::Value) -> Option<ir::Value> {
    let graph = ev.graph();
    match graph.op(value.node)? {
        Op::Transpose { perm } if perm.as_slice() == [1, 0] => {}
        _ => return None,
    }
    let matrix = *graph.operands(value.node).first()?;
    graph.constant(matrix.node).map(|_| matrix)
}

pub(super) fn attention(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let mut operands = Vec::new();
    for name in ["query", "key", "value"] {
        operands.push(need!(call.tensor(name)));
    }
    if !call.lacks("attn_mask") {
        let mask = need!(call.tensor("attn_mask"));
        // A mask of truth values hides, it is not added.
        if !ev.graph().ty(mask).is_float() {
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

/// The same as it is called once a kernel was chosen; what it keeps for the gradient is its second result.
pub(super) fn kernel_attention(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let result = attention(ev, call)?;
    first(result, [Type::Tensor(DType::F32, None)])
}

pub(super) fn write(w: &Written<'_>) -> Result<Option<Expression>, String> {
    use Expression::{Bool, Float};
    let is_number = |i: usize| matches!(w.operands.get(i), Some(Float(_)));
    let (a, b) = (w.x(), w.optional(1));
    Ok(Some(match w.op {
        // A number stands in the call itself, on the side where PyTorch takes one.
        Op::Add {} | Op::Mul {} if is_number(0) => Expression::call(w.op.name(), "Tensor", [b, a]),
        Op::Sub {} if is_number(0) => Expression::call("rsub", "Scalar", [b, a]),
        Op::Div {} if is_number(0) => {
            let reciprocal = Expression::call("reciprocal", "default", [b]).typed(w.ty(1)?.clone());
            Expression::call("mul", "Tensor", [reciprocal, a])
        }
        Op::Pow {} if is_number(0) => Expression::call("pow", "Scalar", [a, b]),
        Op::Pow {} if is_number(1) => Expression::call("pow", "Tensor_Scalar", [a, b]),
        Op::Pow {} => Expression::call("pow", "Tensor_Tensor", [a, b]),
        Op::Linear {} if w.core => core_linear(w)?,
        Op::Linear {} => Expression::call("linear", "default", [a, b, w.optional(2)]),
        Op::MatMul {} => {
            let batch = |i: usize| {
                w.shape(i)
                    .map(|shape| &shape[..shape.len().saturating_sub(2)])
            };
            let name = match (batch(0), batch(1)) {
                (Ok([]), Ok([])) if w.core => "mm",
                (Ok([n]), Ok([m])) if w.core && n == m => "bmm",
                _ => "matmul",
            };
            Expression::call(name, "default", [a, b])
        }
        Op::Attention { scale, causal } => {
            // PyTorch takes a mask or hides what comes later, not both.
            let (mask, causal) = if *causal && w.operands.len() > 3 {
                (causal_mask(w)?, false)
            } else {
                (w.optional(3), *causal)
            };
            let operands = [a, b, w.optional(2), mask, Float(0.0), Bool(causal)];
            let call = Expression::call("scaled_dot_product_attention", "default", operands);
            match scale {
                Some(scale) => call.keyword("scale", Float(scale.0)),
                None => call,
            }
        }
        op => {
            let row = spelling::of_op(op).filter(|row| row.operands() == 2);
            let Some(name) = row.and_then(|row| row.aten.names.first()) else {
                return Ok(None);
            };
            let overload = if takes_numbers(op) {
                "Tensor"
            } else {
                "default"
            };
            Expression::call(name, overload, [a, b])
        }
    }))
}

/// The mask of an attention which also hides the keys that come after their query.
fn causal_mask(w: &Written<'_>) -> Result<Expression, String> {
    let length = |i: usize| -> Result<Dim, String> {
        let length = w.shape(i)?.iter().rev().nth(1);
        length.cloned().ok_or_else(|| "it has no rows".to_owned())
    };
    let scores = Dims::from_iter([length(0)?, length(1)?]);
    let mask = w.ty(3)?;
    let dtype = mask.dtype().unwrap_or(DType::F32);
    let ty = Type::Tensor(dtype, Some(scores.clone()));
    let hidden = Expression::call("full", "default", [])
        .keyword("size", Expression::sizes(&scores))
        .keyword("fill_value", Expression::Float(f64::NEG_INFINITY))
        .keyword("dtype", Expression::Dtype(dtype))
        .typed(ty.clone());
    let later = Expression::call("triu", "default", [])
        .keyword("self", hidden)
        .keyword("diagonal", Expression::Int(1))
        .typed(ty.clone());
    let both = vec![w.optional(3), later];
    w.on(&Op::Add {}, both, &[mask, &ty]).map(|(both, _)| both)
}

/// A linear layer by products of matrices.
fn core_linear(w: &Written<'_>) -> Result<Expression, String> {
    let (shape, weight) = (w.shape(0)?, w.ty(1)?);
    let features = weight.shape().and_then(<[Dim]>::first).cloned();
    let features = features.ok_or("the shape of its weight is not known")?;
    let perm = Ints::from_slice(&[1, 0]);
    let (weight, _) = w.before(&Op::Transpose { perm }, w.optional(1), weight)?;
    let product = |x| match w.optional(2) {
        Expression::None => Expression::call("mm", "default", [x, weight]),
        bias => Expression::call("addmm", "default", [bias, x, weight]),
    };
    let Some((last, leading)) = shape.split_last().filter(|(_, leading)| leading.len() != 1) else {
        return Ok(product(w.x()));
    };
    let rows = Dim::product(leading).ok_or("it has too many sizes")?;
    let flat = Op::Reshape {
        shape: Dims::from_iter([rows.clone(), last.clone()]),
    };
    let (x, _) = w.before(&flat, w.x(), w.ty(0)?)?;
    let dtype = w.ty(0)?.dtype().unwrap_or(DType::F32);
    let ty = Type::tensor(dtype, [rows, features.clone()]);
    let shape = leading.iter().cloned().chain([features]).collect();
    let (result, _) = w.before(&Op::Reshape { shape }, product(x).typed(ty.clone()), &ty)?;
    Ok(result)
}
