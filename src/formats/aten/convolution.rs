//! Convolutions.

use super::expression::{by_dimension, dimensions, int};
use super::{Builder, Call, Expression, Read, Written, need, one};
use crate::ir::{Dim, Dims, Ints, Op, PadMode, Padding, Type, extent};

pub(super) fn either(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    let transposed = need!(call.bool_or("transposed", false));
    convolution(ev, call, transposed)
}

pub(super) fn forward(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    convolution(ev, call, false)
}

pub(super) fn transposed(ev: &mut dyn Builder, call: &Call<'_>) -> Read {
    convolution(ev, call, true)
}

pub(super) fn convolution(ev: &mut dyn Builder, call: &Call<'_>, transposed: bool) -> Read {
    let (x, weight) = (need!(call.tensor("input")), need!(call.tensor("weight")));
    let shape = need!(ev.shape(weight));
    let n = need!(shape.len().checked_sub(2).filter(|n| (1..=3).contains(n)));
    let groups = need!(
        call.int_or("groups", 1)
            .and_then(|g| usize::try_from(g).ok())
    );
    let dtype = ev.graph().ty(weight).dtype();
    let read = if transposed {
        shape[0].clone()
    } else {
        shape[1].clone() * groups.into()
    };
    let mut sizes = vec![None; n + 2];
    sizes[1] = read.as_number();
    ev.demand(x, &sizes, dtype)?;
    // Without a batch dimension PyTorch convolves as well; the IR does not.
    if ev.shape(x).is_some_and(|x| x.len() != n + 2)
        && ev.shape(x).is_some_and(|x| x.len() == n + 1)
    {
        return Ok(None);
    }
    let stride = need!(call.spatial("stride", n, 1));
    let dilation = need!(call.spatial("dilation", n, 1));
    let pad = match call.str("padding") {
        Some("valid") => Padding::symmetric(std::iter::repeat_n(0, n)),
        Some("same") => {
            let kernel: Ints = need!(shape[2..].iter().map(|k| k.as_len()).collect::<Option<_>>());
            let total = kernel
                .iter()
                .zip(&dilation)
                .map(|(k, d)| extent(*k, *d) - 1);
            let (before, after) = total.map(|t| (t / 2, t - t / 2)).unzip();
            Padding { before, after }
        }
        Some(_) => return Ok(None),
        None => Padding::symmetric(need!(call.spatial("padding", n, 0))),
    };
    let mut operands = vec![x, weight];
    match call.tensor("bias") {
        Some(bias) => operands.push(bias),
        None if call.lacks("bias") => {}
        None => return Ok(None),
    }
    let op = if transposed {
        let output_pad = need!(call.spatial("output_padding", n, 0));
        Op::ConvTranspose {
            stride,
            pad,
            output_pad,
            dilation,
            groups,
        }
    } else {
        Op::Conv {
            stride,
            pad,
            dilation,
            groups,
        }
    };
    let label = if transposed { "conv_transpose" } else { "conv" };
    one(ev.emit(label, op, &operands)?)
}

pub(super) fn write(w: &Written<'_>) -> Result<Option<Expression>, String> {
    let Some((stride, pad, dilation, groups)) = w.op.convolution() else {
        return Ok(None);
    };
    let n = stride.len();
    let zeros = Ints::from_elem(0, n);
    let (x, pad, output_pad) = match w.op {
        Op::ConvTranspose { output_pad, .. } => {
            // What is cut off at the end beyond the beginning's amount is added nowhere else: a smaller output padding.
            let rest = |i: usize| {
                let amount = (output_pad[i] + pad.before[i]).checked_sub(pad.after[i]);
                amount.filter(|amount| *amount < stride[i].max(dilation[i]))
            };
            match (0..n).map(rest).collect::<Option<Ints>>() {
                Some(rest) => (w.x(), &pad.before, Some(rest)),
                None => return cut_to_size(w, output_pad).map(Some),
            }
        }
        _ if pad.is_symmetric() => (w.x(), &pad.before, None),
        _ => (padded(w, pad, 0.0)?.0, &zeros, None),
    };
    let (weight, bias, ints) = (w.optional(1), w.optional(2), Expression::ints);
    let (stride, pad, dilation, groups) = (ints(stride), ints(pad), ints(dilation), int(groups));
    if w.core {
        let transposed = Expression::Bool(output_pad.is_some());
        let output_pad = ints(output_pad.as_ref().unwrap_or(&zeros));
        let window = [stride, pad, dilation, transposed, output_pad, groups];
        let arguments = [x, weight, bias].into_iter().chain(window);
        return Ok(Some(Expression::call("convolution", "default", arguments)));
    }
    Ok(Some(match output_pad {
        None => {
            let arguments = [x, weight, bias, stride, pad, dilation, groups];
            Expression::call(by_dimension(dimensions!("conv"), n)?, "default", arguments)
        }
        Some(rest) => {
            let window = [stride, pad, ints(&rest), groups, dilation];
            let arguments = [x, weight, bias].into_iter().chain(window);
            let name = by_dimension(dimensions!("conv_transpose"), n)?;
            let overload = if n == 1 { "default" } else { "input" };
            Expression::call(name, overload, arguments)
        }
    }))
}

/// A transposed convolution whose end PyTorch cannot say by an output padding, which is less than the stride or the dilation: zeros
/// behind what it reads let its result reach as far as wanted, and the rest is cut off.
fn cut_to_size(w: &Written<'_>, output_pad: &Ints) -> Result<Expression, String> {
    let mut op = w.op.clone();
    let Op::ConvTranspose {
        stride,
        pad,
        output_pad: none,
        ..
    } = &mut op
    else {
        return Err("it is no transposed convolution".to_owned());
    };
    let n = stride.len();
    let (mut more, mut less) = (Ints::from_elem(0, n), vec![0; n]);
    for i in 0..n {
        let reach = output_pad[i] + pad.before[i];
        let steps = reach.saturating_sub(pad.after[i]).div_ceil(stride[i]);
        more[i] = steps;
        less[i] = -((steps.saturating_mul(stride[i]) + pad.after[i] - reach) as i64);
    }
    none.fill(0);
    pad.after.clone_from(&pad.before);
    let zeros = Ints::from_elem(0, n);
    let longer = Padding {
        before: zeros,
        after: more,
    };
    let (x, ty) = padded(w, &longer, 0.0)?;
    let operands = [&[x], &w.operands[1..]].concat();
    let types = [&[&ty], &w.types[1..]].concat();
    let (whole, ty) = w.on(&op, operands, &types)?;
    let rank = ty.shape().map_or(0, <[_]>::len);
    let cut = around(rank, [&vec![0; n][..], &less[..]], 0.0);
    w.before(&cut, whole, &ty).map(|(cut, _)| cut)
}

/// Operand 0 with a pad of its spatial dimensions that differs between the sides.
pub(super) fn padded(
    w: &Written<'_>,
    pad: &Padding,
    value: f64,
) -> Result<(Expression, Type), String> {
    let op = around(w.shape(0)?.len(), [&pad.before[..], &pad.after[..]], value);
    w.before(&op, w.x(), w.ty(0)?)
}

/// So many of a number before and after the last axes of a tensor of this rank; fewer than none cut off.
fn around<N: Copy + Into<Dim>>(rank: usize, amounts: [&[N]; 2], value: f64) -> Op {
    let [before, after] = amounts.map(|amounts| -> Dims {
        let leading = std::iter::repeat_n(0.into(), rank.saturating_sub(amounts.len()));
        leading.chain(amounts.iter().map(|n| (*n).into())).collect()
    });
    Op::Pad {
        before,
        after,
        mode: PadMode::Constant,
        value: value.into(),
    }
}
