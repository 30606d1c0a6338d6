//! Pooling and resizing.

use super::convolution::padded;
use super::{Argument, Builder, Call, Expression, Lowered, Read, Written, first, need, one};
use crate::ir::{self, DType, Dim, Dims, Ints, Op, Padding, ResizeMode, Type};

/// The number of spatial dimensions, from the operator's name.
fn dimensions(name: &str) -> usize {
    name.bytes()
        .find(u8::is_ascii_digit)
        .map_or(2, |d| usize::from(d - b'0'))
}

pub(super) fn max_pool(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let n = dimensions(call.name);
    ev.demand(x, &vec![None; n + 2], None)?;
    let kernel = need!(call.spatial_dims("kernel_size", n, &Dims::new())).clone();
    let stride = need!(call.spatial_dims("stride", n, &kernel));
    let pad = Padding::symmetric(need!(call.spatial("padding", n, 0)));
    let dilation = need!(call.spatial("dilation", n, 1));
    let ceil = need!(call.bool_or("ceil_mode", false));
    if ev.shape(x).is_none_or(|x| x.len() != n + 2) {
        return Ok(None);
    }
    one(ev.emit(
        "max_pool",
        Op::MaxPool {
            kernel,
            stride,
            pad,
            dilation,
            ceil,
        },
        &[x],
    )?)
}

/// Where the maxima were found is a second result.
pub(super) fn with_indices(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let pool = max_pool(ev, call)?;
    beside_indices(ev, pool)
}

pub(super) fn avg_pool(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let n = dimensions(call.name);
    ev.demand(x, &vec![None; n + 2], None)?;
    let kernel = need!(call.spatial_dims("kernel_size", n, &Dims::new()));
    let stride = need!(call.spatial_dims("stride", n, &kernel));
    let pad = Padding::symmetric(need!(call.spatial("padding", n, 0)));
    let ceil = need!(call.bool_or("ceil_mode", false));
    let count_pad = need!(call.bool_or("count_include_pad", true));
    if !call.lacks("divisor_override") || ev.shape(x).is_none_or(|x| x.len() != n + 2) {
        return Ok(None);
    }
    one(ev.emit(
        "avg_pool",
        Op::AvgPool {
            kernel,
            stride,
            pad,
            ceil,
            count_pad,
        },
        &[x],
    )?)
}

pub(super) fn adaptive_avg_pool(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let n = dimensions(call.name);
    ev.demand(x, &vec![None; n + 2], None)?;
    let output = need!(call.spatial_dims("output_size", n, &Dims::new()));
    if ev.shape(x).is_none_or(|x| x.len() != n + 2) {
        return Ok(None);
    }
    one(ev.emit("adaptive_avg_pool", Op::AdaptiveAvgPool { output }, &[x])?)
}

pub(super) fn adaptive_max_pool(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let x = need!(call.tensor("self"));
    let n = dimensions(call.name);
    ev.demand(x, &vec![None; n + 2], None)?;
    let output = need!(call.spatial_dims("output_size", n, &Dims::new()));
    if ev.shape(x).is_none_or(|x| x.len() != n + 2) {
        return Ok(None);
    }
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
    let aligned = need!(call.bool_or("align_corners", false));
    resize(
        ev,
        call,
        if aligned {
            ResizeMode::LinearAligned
        } else {
            ResizeMode::Linear
        },
    )
}

fn resize(ev: &mut dyn Builder, call: &Call<'_>, mode: ResizeMode) -> Read {
    let x = need!(call.tensor("input"));
    let n = dimensions(call.name);
    ev.demand(x, &vec![None; n + 2], None)?;
    let shape = need!(ev.shape(x).filter(|shape| shape.len() == n + 2));
    let factors = match call.get("scale_factors") {
        None => None,
        // Only whole factors give the same samples as the sizes that they lead to.
        Some(value) => Some(need!(
            whole_numbers(value).filter(|factors| factors.len() == n)
        )),
    };
    let size = match (call.get("output_size"), factors) {
        (Some(_), None) => need!(call.spatial_dims("output_size", n, &Dims::new())),
        (None, Some(factors)) => shape[2..]
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
        kernel.is_none_or(|kernel| {
            let span = kernel.saturating_sub(1).saturating_mul(dilation);
            pad.before[i] <= span.saturating_add(1) / 2
        })
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
            let slice = Op::Slice {
                axis,
                start: 0.into(),
                end: end.clone(),
                step: 1,
            };
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
    let ints = |ints: &Ints| Expression::ints(ints);
    // Each name by the number of spatial dimensions.
    let call = |names: [&'static str; 3], n: usize, rest: Vec<Expression>| {
        let name = names.get(n.wrapping_sub(1));
        let name = name.ok_or("it has more than three spatial dimensions")?;
        Ok::<_, String>(Expression::call(name, "default", rest))
    };
    Ok(Some(match w.op {
        Op::MaxPool {
            kernel,
            stride,
            pad,
            dilation,
            ceil,
        } => {
            let n = kernel.len();
            if !is_said(pad, kernel, Some(dilation)) {
                return pool_of_padded(w, f64::NEG_INFINITY).map(|(pool, _)| Some(pool));
            }
            let (x, pad) = (w.x(), ints(&pad.before));
            let (kernel, stride, dilation) = (sizes(kernel), sizes(stride), ints(dilation));
            let rest = vec![x, kernel, stride, pad, dilation, Bool(*ceil)];
            match w.core && n > 1 {
                true => call(
                    ["", "max_pool2d_with_indices", "max_pool3d_with_indices"],
                    n,
                    rest,
                )?
                .beside([indices(w)?]),
                false => call(["max_pool1d", "max_pool2d", "max_pool3d"], n, rest)?,
            }
        }
        Op::AvgPool {
            kernel,
            stride,
            pad,
            ceil,
            count_pad,
        } => {
            let n = kernel.len();
            match (is_said(pad, kernel, None), count_pad) {
                (true, _) => {}
                (false, true) => return pool_of_padded(w, 0.0).map(|(pool, _)| Some(pool)),
                (false, false) => return average_of_what_is_there(w).map(Some),
            }
            let (x, pad) = (w.x(), ints(&pad.before));
            let (kernel, stride) = (sizes(kernel), sizes(stride));
            let rest = vec![x, kernel, stride, pad, Bool(*ceil), Bool(*count_pad)];
            call(["avg_pool1d", "avg_pool2d", "avg_pool3d"], n, rest)?
        }
        Op::AdaptiveAvgPool { output } => {
            let names = match w.core {
                true => [
                    "adaptive_avg_pool1d",
                    "_adaptive_avg_pool2d",
                    "_adaptive_avg_pool3d",
                ],
                false => [
                    "adaptive_avg_pool1d",
                    "adaptive_avg_pool2d",
                    "adaptive_avg_pool3d",
                ],
            };
            call(names, output.len(), vec![w.x(), sizes(output)])?
        }
        Op::AdaptiveMaxPool { output } => {
            let names = [
                "adaptive_max_pool1d",
                "adaptive_max_pool2d",
                "adaptive_max_pool3d",
            ];
            call(names, output.len(), vec![w.x(), sizes(output)])?.beside([indices(w)?])
        }
        Op::Resize { size, mode } => {
            let align = match mode {
                ResizeMode::Nearest => None,
                ResizeMode::Linear => Some(Bool(false)),
                ResizeMode::LinearAligned => Some(Bool(true)),
            };
            let names = match align {
                None => [
                    "upsample_nearest1d",
                    "upsample_nearest2d",
                    "upsample_nearest3d",
                ],
                Some(_) => [
                    "upsample_linear1d",
                    "upsample_bilinear2d",
                    "upsample_trilinear3d",
                ],
            };
            let name = names.get(size.len().wrapping_sub(1));
            let name = name.ok_or("it has more than three spatial dimensions")?;
            let rest = [w.x(), sizes(size)]
                .into_iter()
                .chain(align)
                .chain([Nothing]);
            Expression::call(name, "vec", rest)
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
