//! Pooling and resizing.

use super::convolution::padded;
use super::expression::{by_dimension, dimensions};
use super::{Argument, Builder, Call, Eval, Expression, Lowered, Read, Written, first, need, one};
use crate::ir::{self, DType, Dim, Dims, Ints, Op, Padding, ResizeMode, Type};

/// The images that a call reads, and how many spatial dimensions they have, which its name says; `None` for others.
fn images(ev: &mut dyn Builder, call: &Call<'_>, x: &str) -> Eval<Option<(ir::Value, usize)>> {
    let x = need!(call.tensor(x));
    let digit = call.name.bytes().find(u8::is_ascii_digit);
    let n = digit.map_or(2, |digit| usize::from(digit - b'0'));
    ev.demand(x, &vec![None; n + 2], None)?;
    let fits = ev.shape(x).is_some_and(|shape| shape.len() == n + 2);
    Ok(fits.then_some((x, n)))
}

/// Kernel and stride of a pool.
fn window(call: &Call<'_>, n: usize) -> Option<(Dims, Dims)> {
    let kernel = call.spatial_dims("kernel_size", n, &Dims::new())?;
    let stride = call.spatial_dims("stride", n, &kernel)?;
    Some((kernel, stride))
}

pub(super) fn max_pool(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, n) = need!(images(ev, call, "self")?);
    let (kernel, stride) = need!(window(call, n));
    let op = Op::MaxPool {
        kernel,
        stride,
        pad: Padding::symmetric(need!(call.spatial("padding", n, 0))),
        dilation: need!(call.spatial("dilation", n, 1)),
        ceil: need!(call.bool_or("ceil_mode", false)),
    };
    one(ev.emit("max_pool", op, &[x])?)
}

/// Where the maxima were found is a second result.
pub(super) fn with_indices(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let pool = max_pool(ev, call)?;
    beside_indices(ev, pool)
}

pub(super) fn avg_pool(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, n) = need!(images(ev, call, "self")?);
    let (kernel, stride) = need!(window(call, n));
    let op = Op::AvgPool {
        kernel,
        stride,
        pad: Padding::symmetric(need!(call.spatial("padding", n, 0))),
        ceil: need!(call.bool_or("ceil_mode", false)),
        count_pad: need!(call.bool_or("count_include_pad", true)),
    };
    if !call.lacks("divisor_override") {
        return Ok(None);
    }
    one(ev.emit("avg_pool", op, &[x])?)
}

pub(super) fn adaptive_avg_pool(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, n) = need!(images(ev, call, "self")?);
    let output = need!(call.spatial_dims("output_size", n, &Dims::new()));
    one(ev.emit("adaptive_avg_pool", Op::AdaptiveAvgPool { output }, &[x])?)
}

pub(super) fn adaptive_max_pool(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let (x, n) = need!(images(ev, call, "self")?);
    let output = need!(call.spatial_dims("output_size", n, &Dims::new()));
    let pool = one(ev.emit("adaptive_max_pool", Op::AdaptiveMaxPool { output }, &[x])?)?;
    beside_indices(ev, pool)
}

fn beside_indices(ev: &mut dyn Builder, pool: Option<Lowered>) -> Read {
    let shape = match &pool {
        Some(Lowered::One(value)) => ev.shape(*value),
        _ => None,
    };
    first(pool, [Type::Tensor(DType::I64, shape)])
}

pub(super) fn nearest(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    resize(ev, call, ResizeMode::Nearest)
}

pub(super) fn linear(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let mode = if need!(call.bool_or("align_corners", false)) {
        ResizeMode::LinearAligned
    } else {
        ResizeMode::Linear
    };
    resize(ev, call, mode)
}

fn resize(ev: &mut dyn Builder, call: &Call<'_>, mode: ResizeMode) -> Read {
    let (x, n) = need!(images(ev, call, "input")?);
    let factors = match call.get("scale_factors") {
        None => None,
        // Only whole factors give the same samples as the sizes that they lead to.
        Some(value) => Some(need!(
            whole_numbers(value).filter(|factors| factors.len() == n)
        )),
    };
    let size = match (call.get("output_size"), factors) {
        (Some(_), None) => need!(call.spatial_dims("output_size", n, &Dims::new())),
        (None, Some(factors)) => need!(ev.shape(x))[2..]
            .iter()
            .zip(factors)
            .map(|(size, f)| size.clone() * Dim::from(f))
            .collect(),
        _ => return Ok(None),
    };
    one(ev.emit("resize", Op::Resize { size, mode }, &[x])?)
}

fn whole_numbers(value: &Argument) -> Option<Vec<i64>> {
    let items = value.items()?;
    let whole = |v: &Argument| {
        v.as_f64()
            .filter(|x| x.fract() == 0.0 && *x >= 1.0 && *x <= 1e6)
            .map(|x| x as i64)
    };
    items.iter().map(whole).collect()
}

/// Whether PyTorch's pools can pad so: on both sides alike, and by no more than half of what the window spans.
fn is_said(pad: &Padding, kernel: &Dims, dilation: Option<&Ints>) -> bool {
    let half = |i: usize| {
        let dilation = dilation.map_or(1, |dilation| dilation[i]);
        let kernel = kernel.get(i).and_then(Dim::as_len);
        // Of a size that is not known a pool came from PyTorch.
        kernel.is_none_or(|kernel| pad.before[i] <= ir::extent(kernel, dilation) / 2)
    };
    pad.is_symmetric() && (0..pad.before.len()).all(half)
}

/// The pool of what is padded before it, as an argument of a call; and its type. A last window that starts in the pad, which a
/// pool that pads itself does not count, is cut off.
fn pool_of_padded(w: &Written<'_>, value: f64) -> Result<(Expression, Type), String> {
    let mut op = w.op.clone();
    let (Op::MaxPool { pad, .. } | Op::AvgPool { pad, .. }) = &mut op else {
        return Err("it is no pool".to_owned());
    };
    let zeros = Padding::symmetric(Ints::from_elem(0, pad.before.len()));
    let pad = std::mem::replace(pad, zeros);
    let (x, ty) = padded(w, &pad, value)?;
    let (mut result, mut ty) = w.before(&op, x, &ty)?;
    let wanted = ir::infer::infer(w.op, w.types)?;
    let wanted = wanted.first().and_then(Type::shape).unwrap_or_default();
    for (axis, end) in wanted.iter().enumerate().skip(2) {
        if ty.shape().and_then(|shape| shape.get(axis)) != Some(end) {
            let slice = Op::slice(axis, 0.into(), end.clone());
            (result, ty) = w.before(&slice, result, &ty)?;
        }
    }
    Ok((result, ty))
}

/// An average that does not count the pad, however that is: the same average of ones, which is less at the edges, makes up for it.
fn average_of_what_is_there(w: &Written<'_>) -> Result<Expression, String> {
    let (sums, average) = pool_of_padded(w, 0.0)?;
    let one = Op::Clip {
        min: 1.0.into(),
        max: 1.0.into(),
    };
    let (ones, _) = w.before(&one, w.x(), w.ty(0)?)?;
    let ones = Written {
        operands: vec![ones],
        ..w.clone()
    };
    let (shares, _) = pool_of_padded(&ones, 0.0)?;
    let types = [&average, &average];
    w.on(&Op::Div {}, vec![sums, shares], &types)
        .map(|(quotient, _)| quotient)
}

pub(super) fn write(w: &Written<'_>) -> Result<Option<Expression>, String> {
    use Expression::{Bool, None as Nothing};
    let sizes = |dims: &Dims| Expression::sizes(dims);
    let call = |names, n: usize, rest: Vec<Expression>| {
        Ok::<_, String>(Expression::call(by_dimension(names, n)?, "default", rest))
    };
    Ok(Some(match w.op {
        Op::MaxPool {
            kernel,
            stride,
            pad,
            dilation,
            ceil,
        } => {
            if !is_said(pad, kernel, Some(dilation)) {
                return pool_of_padded(w, f64::NEG_INFINITY).map(|(pool, _)| Some(pool));
            }
            let (n, pad) = (kernel.len(), Expression::ints(&pad.before));
            let (kernel, stride) = (sizes(kernel), sizes(stride));
            let dilation = Expression::ints(dilation);
            let rest = vec![w.x(), kernel, stride, pad, dilation, Bool(*ceil)];
            if w.core && n > 1 {
                let names = ["", "max_pool2d_with_indices", "max_pool3d_with_indices"];
                call(names, n, rest)?.beside([indices(w)?])
            } else {
                call(dimensions!("max_pool"), n, rest)?
            }
        }
        Op::AvgPool {
            kernel,
            stride,
            pad,
            ceil,
            count_pad,
        } => {
            match (is_said(pad, kernel, None), count_pad) {
                (true, _) => {}
                (false, true) => return pool_of_padded(w, 0.0).map(|(pool, _)| Some(pool)),
                (false, false) => return average_of_what_is_there(w).map(Some),
            }
            let (n, pad) = (kernel.len(), Expression::ints(&pad.before));
            let (kernel, stride) = (sizes(kernel), sizes(stride));
            let rest = vec![w.x(), kernel, stride, pad, Bool(*ceil), Bool(*count_pad)];
            call(dimensions!("avg_pool"), n, rest)?
        }
        Op::AdaptiveAvgPool { output } => {
            let mut names = dimensions!("adaptive_avg_pool");
            if w.core {
                names[1..].copy_from_slice(&["_adaptive_avg_pool2d", "_adaptive_avg_pool3d"]);
            }
            call(names, output.len(), vec![w.x(), sizes(output)])?
        }
        Op::AdaptiveMaxPool { output } => {
            let names = dimensions!("adaptive_max_pool");
            call(names, output.len(), vec![w.x(), sizes(output)])?.beside([indices(w)?])
        }
        Op::Resize { size, mode } => {
            const LINEAR: [&str; 3] = [
                "upsample_linear1d",
                "upsample_bilinear2d",
                "upsample_trilinear3d",
            ];
            let (names, align) = match mode {
                ResizeMode::Nearest => (dimensions!("upsample_nearest"), None),
                ResizeMode::Linear => (LINEAR, Some(Bool(false))),
                ResizeMode::LinearAligned => (LINEAR, Some(Bool(true))),
            };
            let rest = [w.x(), sizes(size)]
                .into_iter()
                .chain(align)
                .chain([Nothing]);
            Expression::call(by_dimension(names, size.len())?, "vec", rest)
        }
        _ => return Ok(None),
    }))
}

/// The type of the positions at which maxima were found.
fn indices(w: &Written<'_>) -> Result<Type, String> {
    let result = ir::infer::infer(w.op, w.types)?;
    let shape = result.first().and_then(Type::shape).map(Dims::from);
    Ok(Type::Tensor(DType::I64, shape))
}
