//! Shapes of what slides a window over the spatial dimensions, or resamples them.

use super::super::attribute::{Ints, Padding};
use super::super::dim::{Dim, Dims};
use super::super::op::Op;
use super::{Shape, are_different, check_shape, same};

/// A convolution of either kind: input, weight, bias.
pub(super) fn convolution(op: &Op, operands: &[Option<&[Dim]>]) -> Result<Shape, String> {
    let Some((stride, pad, dilation, groups)) = op.convolution() else {
        return Ok(None);
    };
    let rank = stride.len() + 2;
    for (what, shape) in [("input", operands[0]), ("weight", operands[1])] {
        if let Some(shape) = shape
            && shape.len() != rank
        {
            return Err(format!(
                "the {what} has {} axes, not {rank} for {} spatial dimensions",
                shape.len(),
                stride.len()
            ));
        }
    }
    let Some(weight) = operands[1] else {
        return Ok(None);
    };
    let groups = Dim::from(groups);
    let (inputs, outputs) = match op {
        Op::ConvTranspose { .. } => (weight[0].clone(), weight[1].clone() * groups.clone()),
        _ => (weight[1].clone() * groups.clone(), weight[0].clone()),
    };
    for (what, channels) in [("input", &inputs), ("output", &outputs)] {
        let whole = channels.floor_div(&groups) * groups.clone();
        if are_different(&whole, channels) {
            return Err(format!(
                "{channels} {what} channels cannot be split into {groups} groups"
            ));
        }
    }
    check_shape(
        operands.get(2).copied().flatten(),
        std::slice::from_ref(&outputs),
        "the bias",
    )?;
    let Some(x) = operands[0] else {
        return Ok(None);
    };
    same(&x[1], &inputs, || {
        "channels of the input and those that the weight reads".to_string()
    })?;
    let mut shape = Dims::from_iter([x[0].clone(), outputs]);
    for (i, (size, kernel)) in x[2..].iter().zip(&weight[2..]).enumerate() {
        let stride = Dim::from(stride[i]);
        let extent = extent(kernel, dilation[i]);
        let padding = Dim::from(pad.before[i]) + Dim::from(pad.after[i]);
        shape.push(at_least_one(match op {
            Op::ConvTranspose { output_pad, .. } => {
                (size.clone() - Dim::from(1)) * stride - padding + extent + output_pad[i].into()
            }
            _ => (size.clone() + padding - extent).floor_div(&stride) + Dim::from(1),
        })?);
    }
    Ok(Some(shape))
}

/// A pool of `x [N,C,..]`.
pub(super) fn pool(
    x: &[Dim],
    kernel: &[Dim],
    stride: &[Dim],
    pad: &Padding,
    dilation: Option<&Ints>,
    ceil: bool,
) -> Result<Dims, String> {
    check_rank(x, kernel.len())?;
    let mut shape = Dims::from(&x[..2]);
    for (i, size) in x[2..].iter().enumerate() {
        let (before, after) = (Dim::from(pad.before[i]), Dim::from(pad.after[i]));
        let extent = extent(&kernel[i], dilation.map_or(1, |d| d[i]));
        for amount in [&before, &after] {
            if (extent.clone() - amount.clone())
                .as_number()
                .is_some_and(|n| n < 1)
            {
                return Err(format!(
                    "a pad of {amount} leaves a window of {extent} without a sample"
                ));
            }
        }
        let travel = size.clone() + before.clone() + after.clone() - extent.clone();
        let windows = if !ceil {
            travel.floor_div(&stride[i]) + Dim::from(1)
        } else {
            let windows = travel.ceil_div(&stride[i]) + Dim::from(1);
            // A window must start inside: that only ever cuts when the stride exceeds the extent less the pad.
            match (extent - after - stride[i].clone()).as_number() {
                Some(0..) => windows,
                _ => windows.minimum(&(size.clone() + before).ceil_div(&stride[i])),
            }
        };
        shape.push(at_least_one(windows)?);
    }
    Ok(shape)
}

/// Spatial dimensions replaced by `sizes`.
pub(super) fn resample(x: &[Dim], sizes: &[Dim]) -> Result<Dims, String> {
    check_rank(x, sizes.len())?;
    Ok(x[..2].iter().chain(sizes).cloned().collect())
}

fn check_rank(x: &[Dim], spatial: usize) -> Result<(), String> {
    if x.len() == spatial + 2 {
        Ok(())
    } else {
        Err(format!(
            "the input has {} axes, not {} for {spatial} spatial dimensions",
            x.len(),
            spatial + 2
        ))
    }
}

/// How far a kernel reaches: `dilation * (kernel - 1) + 1`.
fn extent(kernel: &Dim, dilation: usize) -> Dim {
    (kernel.clone() - Dim::from(1)) * Dim::from(dilation) + Dim::from(1)
}

fn at_least_one(size: Dim) -> Result<Dim, String> {
    match size.as_number() {
        Some(..1) => Err("the kernel is larger than the padded input".to_string()),
        _ => Ok(size),
    }
}
