//! What attributes must be, whatever the operands' shapes are.

use super::super::attribute::{Ints, Padding};
use super::super::dim::Dim;
use super::super::op::Op;
use super::is_negative;

/// Checks lengths and ranges of an operator's attributes against each other.
pub(super) fn check(op: &Op) -> Result<(), String> {
    match op {
        Op::Conv {
            stride,
            pad,
            dilation,
            groups,
        } => convolution(stride, pad, dilation, *groups),
        Op::ConvTranspose {
            stride,
            pad,
            output_pad,
            dilation,
            groups,
        } => {
            convolution(stride, pad, dilation, *groups)?;
            output_padding(output_pad, stride, dilation)
        }
        Op::MaxPool {
            kernel,
            stride,
            pad,
            dilation,
            ..
        } => {
            spatial("dilation", dilation.len(), kernel.len())?;
            positive("dilation", dilation)?;
            pool(kernel, stride, pad)
        }
        Op::AvgPool {
            kernel,
            stride,
            pad,
            ..
        } => pool(kernel, stride, pad),
        Op::AdaptiveAvgPool { output } | Op::AdaptiveMaxPool { output } => {
            dimensions(output.len())?;
            positive_sizes("output", output)
        }
        Op::Resize { size, .. } => {
            dimensions(size.len())?;
            positive_sizes("size", size)
        }
        Op::GroupNorm { groups: 0, .. } => Err("groups is 0".to_string()),
        Op::ReduceMean { axes, .. }
        | Op::ReduceSum { axes, .. }
        | Op::ReduceMax { axes, .. }
        | Op::Squeeze { axes }
        | Op::Unsqueeze { axes } => distinct("axes", axes),
        Op::Pad { before, after, .. } if before.len() != after.len() => Err(format!(
            "before has {} amounts, after {}",
            before.len(),
            after.len()
        )),
        Op::Slice { step: 0, .. } => Err("step is 0".to_string()),
        Op::Flatten { start, end } if start > end => {
            Err(format!("axes {start} to {end} are the wrong way round"))
        }
        Op::Transpose { perm } => {
            distinct("perm", perm)?;
            match perm.iter().find(|axis| **axis >= perm.len()) {
                Some(axis) => Err(format!("perm names axis {axis} of {}", perm.len())),
                None => Ok(()),
            }
        }
        Op::Reshape { shape } | Op::Expand { shape } => match shape.iter().find(|d| is_negative(d))
        {
            Some(size) => Err(format!("the size {size} is negative")),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn output_padding(output_pad: &Ints, stride: &Ints, dilation: &Ints) -> Result<(), String> {
    spatial("output_pad", output_pad.len(), stride.len())?;
    let room = stride.iter().zip(dilation).map(|(s, d)| s.max(d));
    match output_pad
        .iter()
        .zip(room)
        .find(|(extra, room)| extra >= room)
    {
        Some((extra, _)) => Err(format!(
            "output_pad {extra} is not below the stride or the dilation"
        )),
        None => Ok(()),
    }
}

fn convolution(stride: &Ints, pad: &Padding, dilation: &Ints, groups: usize) -> Result<(), String> {
    dimensions(stride.len())?;
    spatial("pad", pad.before.len(), stride.len())?;
    spatial("pad", pad.after.len(), stride.len())?;
    spatial("dilation", dilation.len(), stride.len())?;
    positive("stride", stride)?;
    positive("dilation", dilation)?;
    positive("groups", &[groups])
}

fn pool(kernel: &[Dim], stride: &[Dim], pad: &Padding) -> Result<(), String> {
    dimensions(kernel.len())?;
    spatial("stride", stride.len(), kernel.len())?;
    spatial("pad", pad.before.len(), kernel.len())?;
    spatial("pad", pad.after.len(), kernel.len())?;
    positive_sizes("kernel", kernel)?;
    positive_sizes("stride", stride)
}

fn dimensions(count: usize) -> Result<(), String> {
    match count {
        1..=3 => Ok(()),
        _ => Err(format!("{count} spatial dimensions, not 1 to 3")),
    }
}

fn spatial(what: &str, length: usize, dimensions: usize) -> Result<(), String> {
    if length == dimensions {
        Ok(())
    } else {
        Err(format!(
            "{what} has {length} numbers for {dimensions} spatial dimensions"
        ))
    }
}

fn positive(what: &str, numbers: &[usize]) -> Result<(), String> {
    if numbers.contains(&0) {
        Err(format!("{what} is 0"))
    } else {
        Ok(())
    }
}

fn positive_sizes(what: &str, sizes: &[Dim]) -> Result<(), String> {
    match sizes.iter().filter_map(Dim::as_number).find(|n| *n < 1) {
        Some(n) => Err(format!("{what} is {n}")),
        None => Ok(()),
    }
}

fn distinct(what: &str, axes: &[usize]) -> Result<(), String> {
    match (1..axes.len()).find(|i| axes[..*i].contains(&axes[*i])) {
        Some(i) => Err(format!("{what} names axis {} twice", axes[i])),
        None => Ok(()),
    }
}
