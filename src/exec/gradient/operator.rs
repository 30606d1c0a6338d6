//! The gradient of each operator, in one list.

use super::super::array::Array;
use super::super::pool::Reduce;
use super::super::reduce::Reduction;
use super::{attention, convolution, layout, norm, pointwise, product, window};
use crate::ir::{Bindings, Op, Real, binaries, functions};

/// An operator where it was run.
pub(super) struct Site<'s, 'g, T> {
    pub op: &'s Op,
    /// Its operands, as far as they were kept; constants always are.
    pub operands: &'s [Option<Array<'g, T>>],
    pub shapes: &'s [&'s [usize]],
    /// Its result, if that was kept.
    pub result: Option<&'s Array<'g, T>>,
    pub bindings: &'s Bindings,
}

/// What an operator's gradient takes of its run.
pub(super) struct Saved {
    pub operands: bool,
    pub result: bool,
}

impl<'g, T: Real> Site<'_, 'g, T> {
    pub(super) fn operand(&self, i: usize) -> Result<&Array<'g, T>, String> {
        let operand = self.operands.get(i).and_then(Option::as_ref);
        operand.ok_or_else(|| format!("operand {i} of {} was not kept", self.op.name()))
    }

    pub(super) fn result(&self) -> Result<&Array<'g, T>, String> {
        let kept = || format!("the result of {} was not kept", self.op.name());
        self.result.ok_or_else(kept)
    }

    pub(super) fn shape(&self, i: usize) -> &[usize] {
        self.shapes.get(i).copied().unwrap_or_default()
    }
}

/// Whether the operator has a gradient by the operands that are `active`; else what is wrong, in words.
pub(super) fn differentiable(op: &Op, active: &[bool]) -> Result<(), String> {
    let only_first = match op {
        Op::Opaque(opaque) => {
            return Err(format!(
                "optc does not know the gradient of the operator {}",
                opaque.name
            ));
        }
        Op::Cast { dtype } if !dtype.is_float() => {
            return Err(format!("a cast to {dtype} has no gradient"));
        }
        Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear {} | Op::BatchNorm { .. } => true,
        Op::LayerNorm { .. } | Op::GroupNorm { .. } | Op::PRelu {} => true,
        _ => false,
    };
    if active.iter().skip(1).any(|active| only_first && *active) {
        return Err(format!(
            "{} with weights that depend on the input has no gradient here",
            op.name()
        ));
    }
    Ok(())
}

/// What of a run the gradient needs.
pub(super) fn saved(op: &Op) -> Saved {
    let (operands, result) = match op {
        Op::Relu {} | Op::Softmax { .. } | Op::LogSoftmax { .. } => (false, true),
        Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear {} | Op::BatchNorm { .. } => {
            (false, false)
        }
        Op::Add {} | Op::Sub {} | Op::AvgPool { .. } | Op::AdaptiveAvgPool { .. } => (false, false),
        Op::ReduceMean { .. } | Op::ReduceSum { .. } | Op::Resize { .. } => (false, false),
        Op::Cast { .. } | Op::Dropout { .. } | Op::Identity {} | Op::Neg {} => (false, false),
        Op::Pad { .. } | Op::Concat { .. } | Op::Slice { .. } | Op::Gather { .. } => (false, false),
        Op::Flatten { .. } | Op::Reshape { .. } | Op::Transpose { .. } => (false, false),
        Op::Squeeze { .. } | Op::Unsqueeze { .. } | Op::Expand { .. } => (false, false),
        _ => (true, false),
    };
    Saved { operands, result }
}

/// What of the result's adjoint comes to an operand.
///
/// # Errors
/// What does not fit, in words.
pub(super) fn back<'g, T: Real>(
    site: &Site<'_, 'g, T>,
    operand: usize,
    adjoint: Array<'g, T>,
) -> Result<Array<'g, T>, String> {
    let shape = site.shape(operand);
    match site.op {
        Op::Conv { .. } => convolution::conv_back(site.op, site.operand(1)?, shape, &adjoint),
        Op::ConvTranspose { .. } => {
            convolution::conv_transpose_back(site.op, site.operand(1)?, &adjoint)
        }
        Op::Linear {} => product::linear(site.operand(1)?, shape, &adjoint),
        Op::MatMul {} => product::matmul(site, operand, &adjoint),
        Op::Attention { scale, causal } => {
            attention::attention(site, operand, scale.map(|s| s.0), *causal, adjoint)
        }

        Op::BatchNorm { eps } => norm::batch_norm(site, eps.0, adjoint),
        Op::LayerNorm { axes, eps } => norm::layer_norm(site, *axes, eps.0, adjoint),
        Op::GroupNorm { groups, eps } => norm::group_norm(site, *groups, eps.0, adjoint),
        Op::Softmax { axis } => norm::softmax(site.result()?, *axis, false, &adjoint),
        Op::LogSoftmax { axis } => norm::softmax(site.result()?, *axis, true, &adjoint),

        Op::PRelu {} => pointwise::prelu(site, &adjoint),
        functions!() => pointwise::function(site, adjoint),
        binaries!() => pointwise::binary(site, operand, adjoint),

        Op::MaxPool { .. } | Op::AdaptiveMaxPool { .. } => {
            window::pool(site, Reduce::Max, &adjoint)
        }
        Op::AvgPool { count_pad, .. } => window::pool(
            site,
            Reduce::Mean {
                count_pad: *count_pad,
            },
            &adjoint,
        ),
        Op::AdaptiveAvgPool { .. } => {
            window::pool(site, Reduce::Mean { count_pad: false }, &adjoint)
        }
        Op::Resize { mode, .. } => window::resize(shape, *mode, &adjoint),

        Op::ReduceMean { axes, .. } => layout::reduction(site, axes, Reduction::Mean, adjoint),
        Op::ReduceSum { axes, .. } => layout::reduction(site, axes, Reduction::Sum, adjoint),
        Op::ReduceMax { axes, .. } => layout::reduction(site, axes, Reduction::Max, adjoint),
        Op::Concat { axis } => layout::concat(site, operand, *axis, adjoint),
        Op::Transpose { perm } => layout::transpose(perm, adjoint),
        Op::Pad { .. } | Op::Slice { .. } | Op::Gather { .. } => layout::moved(site, adjoint),
        Op::Expand { .. } => pointwise::sum_to(adjoint, shape),
        Op::Flatten { .. }
        | Op::Reshape { .. }
        | Op::Squeeze { .. }
        | Op::Unsqueeze { .. }
        | Op::Dropout { .. }
        | Op::Identity {} => adjoint.reshaped(shape),

        Op::Opaque(opaque) => Err(format!(
            "optc does not know the gradient of the operator {}",
            opaque.name
        )),
    }
}
