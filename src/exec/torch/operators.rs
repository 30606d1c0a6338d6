//! One operator on tensors.

use tch::{Kind, TchError, Tensor};

use super::convert::{ints, shape};
use super::windows::{adaptive_avg_pool, adaptive_max_pool, convolution, pool};
use super::{MOMENTUM, reason};
use crate::exec::evaluate::{length, number};
use crate::exec::movement::padded_positions;
use crate::exec::pool::Pool;
use crate::ir::{Bindings, DType, Dim, Op, PadMode, ResizeMode, movements, operators};

/// A result, or why there is none.
pub(super) type Computed = Result<Tensor, Refusal>;

/// Why something cannot be computed, in words.
pub(super) struct Refusal(String);

impl From<TchError> for Refusal {
    fn from(error: TchError) -> Refusal {
        Refusal(reason(&error))
    }
}

impl From<String> for Refusal {
    fn from(what: String) -> Refusal {
        Refusal(what)
    }
}

impl From<&str> for Refusal {
    fn from(what: &str) -> Refusal {
        Refusal(what.to_string())
    }
}

/// What an operator says in numbers and libtorch wants as a tensor: the index of a gather, a slope.
pub(super) fn attribute(
    op: &Op,
    kind: Kind,
    device: tch::Device,
) -> Result<Option<Tensor>, TchError> {
    Ok(Some(match op {
        Op::Gather { index, .. } => {
            let index: Vec<i64> = index.iter().map(|i| i64::from(*i)).collect();
            Tensor::f_from_slice(&index)?.f_to_device(device)?
        }
        Op::LeakyRelu { slope: factor } | Op::Elu { alpha: factor } => {
            Tensor::f_full([1], factor.0, (kind, device))?
        }
        _ => return Ok(None),
    }))
}

macro_rules! methods {
    ($(
        $(#[$doc:meta])* $op:ident = $name:literal($arity:expr) { $($field:ident: $ty:ty),* $(,)? }
        $class:ident($numbers:ident, $factors:expr) $(= $function:expr)?
        $(=> [$(libtorch($method:ident))? $(aten $aten:tt)? $(onnx $onnx:tt)? $(else $formula:expr)?])?;
    )*) => {
        /// The pattern of all operators that a method of tch computes.
        macro_rules! named { () => { $($($(| methods!(@pattern $op $method))?)?)* } }

        fn by_name(op: &Op, x: &Tensor, second: Option<&Tensor>) -> Computed {
            let second = || second.ok_or("there is no second operand");
            Ok(match op {
                $($($(Op::$op {} => methods!(@call $class x $method second),)?)?)*
                _ => return Err("libtorch has no operator of this name".into()),
            })
        }
    };
    (@pattern $op:ident $method:ident) => { Op::$op {} };
    (@call Function $x:ident $method:ident $second:ident) => { $x.$method()? };
    (@call Binary $x:ident $method:ident $second:ident) => { $x.$method($second()?)? };
}

operators!(methods);

/// What an operator is applied to.
pub(super) struct Call<'c> {
    pub operands: &'c [&'c Tensor],
    /// As [`attribute`] made it.
    pub attribute: Option<&'c Tensor>,
    pub bindings: &'c Bindings,
    /// Whether batch norms use the batch's statistics, and dropout drops.
    pub training: bool,
}

impl Call<'_> {
    /// The result of `op`.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub(super) fn evaluate(&self, op: &Op) -> Result<Tensor, String> {
        let (arity, given) = (op.arity(), self.operands.len());
        if !arity.contains(&given) {
            return Err(format!(
                "{} takes {arity:?} operands, not {given}",
                op.name()
            ));
        }
        self.compute(op).map_err(|Refusal(what)| what)
    }

    fn get(&self, i: usize) -> Option<&Tensor> {
        self.operands.get(i).copied()
    }

    fn all(&self, dims: &[Dim]) -> Result<Vec<usize>, String> {
        dims.iter().map(|dim| length(dim, self.bindings)).collect()
    }

    fn compute(&self, op: &Op) -> Computed {
        let x = self.get(0).ok_or("there is no operand")?;
        let second = || self.get(1).ok_or("there is no second operand");
        let attribute = || self.attribute.ok_or("an attribute was not prepared");
        let (kind, rank) = (x.f_kind()?, x.dim());
        Ok(match op {
            Op::Conv { .. } | Op::ConvTranspose { .. } => {
                convolution(op, x, second()?, self.get(2))?
            }
            Op::Linear {} => x.f_linear(second()?, self.get(2))?,
            Op::MatMul {} => x.f_matmul(second()?)?,
            Op::BatchNorm { eps } => self.batch_norm(x, eps.0)?,
            Op::LayerNorm { axes, eps } => {
                let lengths = shape(x);
                let first = rank.checked_sub(*axes).ok_or("too few axes to normalise")?;
                let inner = ints(&lengths[first..]);
                x.f_layer_norm(inner, self.get(1), self.get(2), eps.0, true)?
            }
            Op::GroupNorm { groups, eps } => {
                let groups = ints(&[*groups])[0];
                x.f_group_norm(groups, self.get(1), self.get(2), eps.0, true)?
            }

            // PReLU takes any slope; tch's leaky_relu only libtorch's default.
            Op::LeakyRelu { .. } => x.f_prelu(attribute()?)?,
            Op::PRelu {} => x.f_prelu(second()?)?,
            Op::Clip { min, max } => x.f_clamp(min.0, max.0)?,
            // ELU keeps the sign, so the factor of its negative part can be put on afterwards.
            Op::Elu { alpha } if alpha.0 == 1.0 => x.f_elu()?,
            Op::Elu { .. } => x.f_elu()?.f_prelu(attribute()?)?,
            Op::Gelu { tanh } => x.f_gelu(if *tanh { "tanh" } else { "none" })?,
            named!() => by_name(op, x, self.get(1))?,
            Op::Softsign {} => x.f_div(&x.f_abs()?.f_add_scalar(1.0)?)?,

            Op::Softmax { axis } => x.f_softmax(ints(&[*axis])[0], None)?,
            Op::LogSoftmax { axis } => x.f_log_softmax(ints(&[*axis])[0], None)?,
            Op::Attention { scale, causal } => self.attention(scale.map(|s| s.0), *causal)?,

            Op::MaxPool { .. } | Op::AvgPool { .. } => pool(x, &Pool::of(op, self.bindings)?)?,
            Op::AdaptiveAvgPool { output } => adaptive_avg_pool(x, ints(&self.all(output)?))?,
            Op::AdaptiveMaxPool { output } => adaptive_max_pool(x, ints(&self.all(output)?))?,
            // To libtorch no axes are all axes.
            Op::ReduceMean { axes, .. }
            | Op::ReduceSum { axes, .. }
            | Op::ReduceMax { axes, .. }
                if axes.is_empty() =>
            {
                x.shallow_clone()
            }
            Op::ReduceMean { axes, keep } => x.f_mean_dim(ints(axes), *keep, kind)?,
            Op::ReduceSum { axes, keep } => x.f_sum_dim_intlist(ints(axes), *keep, kind)?,
            Op::ReduceMax { axes, keep } => x.f_amax(ints(axes), *keep)?,

            Op::Resize { size, mode } => resize(x, ints(&self.all(size)?), *mode)?,
            movements!() => self.moved(op, x)?,

            Op::Cast { dtype } if dtype.is_float() => x.shallow_clone(),
            Op::Cast { dtype: DType::Bool } => x.f_ne(0.0)?.f_to_kind(kind)?,
            Op::Cast { .. } => x.f_trunc()?,
            Op::Dropout { p } if self.training => x.f_dropout(p.0, true)?,
            Op::Dropout { .. } | Op::Identity {} => x.shallow_clone(),
            Op::Opaque(opaque) => {
                let name = &opaque.name;
                return Err(format!("optc does not know what the operator {name} computes").into());
            }
        })
    }

    /// What an operator gives that moves elements about.
    fn moved(&self, op: &Op, x: &Tensor) -> Computed {
        Ok(match op {
            Op::Pad {
                before,
                after,
                mode,
                value,
            } => {
                let amounts = |dims: &[Dim]| -> Result<Vec<i64>, String> {
                    dims.iter().map(|dim| number(dim, self.bindings)).collect()
                };
                pad(x, &amounts(before)?, &amounts(after)?, *mode, value.0)?
            }
            Op::Concat { axis } => Tensor::f_cat(self.operands, ints(&[*axis])[0])?,
            Op::Slice {
                axis,
                start,
                end,
                step,
            } => {
                let (start, end) = (length(start, self.bindings)?, length(end, self.bindings)?);
                let len = *shape(x).get(*axis).ok_or("there is no such axis")?;
                if start > end || end > len {
                    return Err(format!("{start}..{end} is not within the length {len}").into());
                }
                let [axis, start, end, step] = [*axis, start, end, *step].map(|n| ints(&[n])[0]);
                x.f_slice(axis, start, end, step)?
            }
            Op::Gather { axis, index } => {
                let len = *shape(x).get(*axis).ok_or("there is no such axis")?;
                if let Some(i) = index.iter().find(|i| **i as usize >= len) {
                    return Err(format!("the index has position {i}, the axis only {len}").into());
                }
                let index = self.attribute.ok_or("an attribute was not prepared")?;
                x.f_index_select(ints(&[*axis])[0], index)?
            }
            Op::Flatten { start, end } => {
                let [start, end] = [*start, *end].map(|n| ints(&[n])[0]);
                x.f_flatten(start, end)?
            }
            Op::Reshape { shape } => x.f_reshape(ints(&self.all(shape)?))?,
            Op::Transpose { perm } => x.f_permute(ints(perm))?,
            Op::Squeeze { axes } => {
                let lengths = shape(x);
                if axes.iter().any(|axis| lengths.get(*axis) != Some(&1)) {
                    return Err(format!("{axes:?} of {lengths:?} do not have length 1").into());
                }
                x.f_squeeze_dims(ints(axes))?
            }
            Op::Unsqueeze { axes } => {
                let mut axes = ints(axes);
                axes.sort();
                let mut x = x.shallow_clone();
                for axis in axes {
                    x = x.f_unsqueeze(axis)?;
                }
                x
            }
            Op::Expand { shape } => x.f_expand(ints(&self.all(shape)?), false)?,
            op => return Err(format!("{} moves no elements", op.name()).into()),
        })
    }

    fn batch_norm(&self, x: &Tensor, eps: f64) -> Computed {
        let [_, scale, shift, mean, variance] = self.operands[..] else {
            return Err("batch_norm takes five operands".into());
        };
        let lengths = shape(x);
        let count = lengths.iter().product::<usize>() / lengths.get(1).copied().unwrap_or(1).max(1);
        if self.training && count < 2 {
            return Err("one value a channel has no variance; train with larger batches".into());
        }
        if mean.requires_grad() || variance.requires_grad() {
            // Statistics that the network computes; libtorch's operator is not differentiable there.
            let mut channels = vec![1; x.dim()];
            channels[1] = -1;
            let [scale, shift, mean, variance] =
                [scale, shift, mean, variance].map(|v| v.f_reshape(&channels));
            let deviation = variance?.f_add_scalar(eps)?.f_sqrt()?;
            let normal = x.f_sub(&mean?)?.f_div(&deviation)?;
            return Ok(normal.f_mul(&scale?)?.f_add(&shift?)?);
        }
        let (scale, shift) = (Some(scale), Some(shift));
        let (mean, variance) = (Some(mean), Some(variance));
        let training = self.training;
        Ok(x.f_batch_norm(scale, shift, mean, variance, training, MOMENTUM, eps, true)?)
    }

    fn attention(&self, scale: Option<f64>, causal: bool) -> Computed {
        let [q, k, v, mask @ ..] = self.operands else {
            return Err("attention takes queries, keys and values".into());
        };
        let length = |x: &Tensor| x.size().iter().rev().nth(1).copied();
        let mask = match (mask.first(), length(q), length(k)) {
            // libtorch takes one of both.
            (Some(mask), Some(l), Some(s)) if causal => {
                let options = (q.f_kind()?, q.device());
                let hidden = Tensor::f_full([l, s], f64::NEG_INFINITY, options)?.f_triu(1)?;
                Some(mask.f_add(&hidden)?)
            }
            (mask, ..) => mask.map(|mask| mask.shallow_clone()),
        };
        let causal = causal && mask.is_none();
        Ok(Tensor::f_scaled_dot_product_attention(
            q, k, v, mask, 0.0, causal, scale, false,
        )?)
    }
}

/// Amounts added before and after each spatial dimension, the last ones of `x`; negative ones cut.
pub(super) fn pad_spatial(x: &Tensor, sides: &[(i64, i64)], value: f64) -> Computed {
    let last_first = sides.iter().rev().flat_map(|(b, a)| [*b, *a]);
    Ok(x.f_pad(last_first.collect::<Vec<_>>(), "constant", value)?)
}

fn pad(x: &Tensor, before: &[i64], after: &[i64], mode: PadMode, value: f64) -> Computed {
    if before.len() != x.dim() || after.len() != x.dim() {
        return Err("amounts do not fit the number of axes".into());
    }
    let sides: Vec<(i64, i64)> = before.iter().copied().zip(after.iter().copied()).collect();
    if mode == PadMode::Constant {
        return pad_spatial(x, &sides, value);
    }
    let cut: Vec<(i64, i64)> = sides
        .iter()
        .map(|(b, a)| (*b.min(&0), *a.min(&0)))
        .collect();
    let mut x = pad_spatial(x, &cut, 0.0)?;
    for (axis, (before, after)) in sides.iter().enumerate() {
        if *before <= 0 && *after <= 0 {
            continue;
        }
        let add = |amount: &i64| usize::try_from(*amount).unwrap_or(0);
        let positions = padded_positions(shape(&x)[axis], add(before), add(after), mode)?;
        let index = Tensor::f_from_slice(&ints(&positions))?.f_to_device(x.device())?;
        x = x.f_index_select(axis as i64, &index)?;
    }
    Ok(x)
}

fn resize(x: &Tensor, size: Vec<i64>, mode: ResizeMode) -> Computed {
    let aligned = mode == ResizeMode::LinearAligned;
    Ok(match (mode, size.len()) {
        (ResizeMode::Nearest, 1) => x.f_upsample_nearest1d(size, None)?,
        (ResizeMode::Nearest, 2) => x.f_upsample_nearest2d(size, None, None)?,
        (ResizeMode::Nearest, _) => x.f_upsample_nearest3d(size, None, None, None)?,
        (_, 1) => x.f_upsample_linear1d(size, aligned, None)?,
        (_, 2) => x.f_upsample_bilinear2d(size, aligned, None, None)?,
        (_, _) => x.f_upsample_trilinear3d(size, aligned, None, None, None)?,
    })
}
