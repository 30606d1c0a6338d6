//! Shape inference: the types of an operator's results, from the types of its operands.
//!
//! Sizes are expressions. Two sizes that must agree and are *provably* different (their difference is a number other than 0) are an
//! error; otherwise they are taken to be equal at run time, and the result has the number if one of them is a number, else the
//! left one. So it is for broadcasting too: a size that is not known to be 1 is taken not to be repeated.
//!
//! A result whose shape depends on an operand of unknown shape has an unknown shape; that is no error.

mod attributes;
mod layout;
mod window;

#[cfg(test)]
mod tests;

use smallvec::{SmallVec, smallvec};

use super::dim::{Dim, Dims};
use super::op::{Op, binaries, functions};
use super::tensor::DType;
use super::types::Type;

/// A shape, or `None` where it cannot be known.
type Shape = Option<Dims>;

/// The types of the results of `op` on operands of these types.
///
/// Operands have one element type, but that a scalar (a tensor without dimensions) takes the type of the others.
///
/// ```
/// use optc::ir::{Op, Type, infer::infer};
/// let ty = |text: &str| text.parse::<Type>().unwrap();
/// let (images, kernel) = (ty("f32[N,3,H,W]"), ty("f32[16,3,3,3]"));
/// let conv = Op::Conv {
///     stride: [2, 2].into_iter().collect(),
///     pad: optc::ir::Padding::symmetric([1, 1]),
///     dilation: [1, 1].into_iter().collect(),
///     groups: 1,
/// };
/// assert_eq!(infer(&conv, &[&images, &kernel]).unwrap()[0], ty("f32[N,16,floor((H+1)/2),floor((W+1)/2)]"));
/// assert!(infer(&conv, &[&ty("f32[N,4,H,W]"), &kernel]).is_err());
/// ```
///
/// # Errors
/// What does not fit, in words: the number of operands, an attribute's length or range, element types, sizes.
pub fn infer(op: &Op, operands: &[&Type]) -> Result<SmallVec<[Type; 1]>, String> {
    check_arity(op, operands.len())?;
    match op {
        Op::Opaque(opaque) => return Ok(opaque.outputs.clone()),
        Op::Identity {} => return Ok(smallvec![operands[0].clone()]),
        _ => attributes::check(op)?,
    }
    let mut dtypes = SmallVec::<[_; 4]>::new();
    let mut shapes = SmallVec::<[_; 4]>::new();
    for (i, ty) in operands.iter().enumerate() {
        match ty {
            Type::Tensor(dtype, _) => {
                dtypes.push((*dtype, ty.rank()));
                shapes.push(ty.shape());
            }
            Type::Other(name) => return Err(format!("operand {i} is a {name}, not a tensor")),
        }
    }
    let dtype = dtype(op, &dtypes)?;
    let shape = shape(op, &shapes)?;
    for size in shape.iter().flatten() {
        if is_negative(size) {
            return Err(format!("the result would have the size {size}"));
        }
        check_length(size)?;
    }
    Ok(smallvec![Type::Tensor(dtype, shape)])
}

/// Checks the number of operands.
pub(super) fn check_arity(op: &Op, operands: usize) -> Result<(), String> {
    let arity = op.arity();
    if arity.contains(&operands) {
        return Ok(());
    }
    let takes = match (*arity.start(), *arity.end()) {
        (least, usize::MAX) => format!("at least {least}"),
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    };
    Err(format!(
        "{} takes {takes} operands, not {operands}",
        op.name()
    ))
}

/// The element type of the result, from type and rank of each operand.
fn dtype(op: &Op, operands: &[(DType, Option<usize>)]) -> Result<DType, String> {
    if let Op::Cast { dtype } = op {
        return Ok(*dtype);
    }
    let (mut result, mut scalar) = (operands[0].0, operands[0].1 == Some(0));
    for (dtype, rank) in &operands[1..] {
        let adapts = |from: DType, to: DType| {
            to.is_float() || !from.is_float() && (to != DType::Bool || from == DType::Bool)
        };
        match *rank == Some(0) {
            _ if *dtype == result => {}
            true if adapts(*dtype, result) => {}
            other if scalar && adapts(result, *dtype) => {
                result = *dtype;
                scalar = other;
                continue;
            }
            _ => {
                return Err(format!(
                    "element types {result} and {dtype} differ: cast one"
                ));
            }
        }
        scalar &= *rank == Some(0);
    }
    if op.needs_float() && !result.is_float() {
        return Err(format!(
            "{} computes in floating point, not in {result}: cast first",
            op.name()
        ));
    }
    Ok(result)
}

fn shape(op: &Op, operands: &[Option<&[Dim]>]) -> Result<Shape, String> {
    use Op::*;
    let x = operands[0];
    // The shape that `result` gives, where that of the only operand is known.
    let from_x = |result: &dyn Fn(&[Dim]) -> Result<Dims, String>| x.map(result).transpose();
    match op {
        Conv { .. } | ConvTranspose { .. } => window::convolution(op, operands),
        MaxPool {
            kernel,
            stride,
            pad,
            dilation,
            ceil,
        } => from_x(&|x| window::pool(x, kernel, stride, pad, Some(dilation), *ceil)),
        AvgPool {
            kernel,
            stride,
            pad,
            ceil,
            ..
        } => from_x(&|x| window::pool(x, kernel, stride, pad, None, *ceil)),
        AdaptiveAvgPool { output } | AdaptiveMaxPool { output } => {
            from_x(&|x| window::resample(x, output))
        }
        Resize { size, .. } => from_x(&|x| window::resample(x, size)),

        Linear {} => layout::linear(operands),
        MatMul {} => layout::matmul(x, operands[1]),
        Attention { .. } => layout::attention(operands),
        BatchNorm { .. } => layout::batch_norm(operands),
        LayerNorm { axes, .. } => layout::layer_norm(*axes, operands),
        GroupNorm { groups, .. } => layout::group_norm(*groups, operands),
        PRelu {} => layout::prelu(x, operands[1]),

        binaries!() => match (x, operands[1]) {
            (Some(a), Some(b)) => broadcast(a, b).map(Some),
            _ => Ok(None),
        },
        Softmax { axis } | LogSoftmax { axis } => from_x(&|x| {
            check_axis(*axis, x.len())?;
            Ok(x.into())
        }),
        ReduceMean { axes, keep } | ReduceSum { axes, keep } => {
            from_x(&|x| layout::reduce(x, axes, *keep))
        }
        ReduceMax { axes, keep } => from_x(&|x| match axes.iter().find_map(|a| x.get(*a)) {
            Some(size) if size.as_number() == Some(0) => Err("the maximum of nothing".to_string()),
            _ => layout::reduce(x, axes, *keep),
        }),

        Pad {
            before,
            after,
            mode,
            ..
        } => from_x(&|x| layout::pad(x, before, after, *mode)),
        Concat { axis } => layout::concat(*axis, operands),
        Slice {
            axis,
            start,
            end,
            step,
        } => from_x(&|x| layout::slice(x, *axis, start, end, *step)),
        Gather { axis, index } => from_x(&|x| layout::gather(x, *axis, index)),
        Flatten { start, end } => from_x(&|x| layout::flatten(x, *start, *end)),
        Reshape { shape } => match x {
            Some(x) => layout::reshape(x, shape).map(Some),
            None => Ok(Some(shape.clone())),
        },
        Transpose { perm } => from_x(&|x| layout::transpose(x, perm)),
        Squeeze { axes } => from_x(&|x| layout::squeeze(x, axes)),
        Unsqueeze { axes } => from_x(&|x| layout::unsqueeze(x, axes)),
        Expand { shape } => match x {
            Some(x) => layout::expand(x, shape).map(Some),
            None => Ok(Some(shape.clone())),
        },

        functions!() | Dropout { .. } | Identity {} | Opaque(_) => Ok(x.map(Dims::from)),
    }
}

/// The shape of an element-wise operation on these two: from the last axis, a size of 1 is repeated.
///
/// # Errors
/// Two sizes that are provably different, neither of them 1.
pub fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Dims, String> {
    let rank = a.len().max(b.len());
    let size = |shape: &[Dim], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(i) => shape[i].clone(),
        None => Dim::from(1),
    };
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (a, b) if b.as_number() == Some(1) => Ok(a),
            (a, b) if a.as_number() == Some(1) => Ok(b),
            (a, b) => same(&a, &b, || format!("sizes of axis {axis}")),
        })
        .collect::<Result<_, _>>()
        .map_err(|e| format!("{e}, and neither is 1"))
}

/// The size that both are: `a` unless only `b` is a number. An error when they are provably different.
fn same(a: &Dim, b: &Dim, what: impl FnOnce() -> String) -> Result<Dim, String> {
    if are_different(a, b) {
        Err(format!("the {} differ: {a} and {b}", what()))
    } else if a.as_number().is_none() && b.as_number().is_some() {
        Ok(b.clone())
    } else {
        Ok(a.clone())
    }
}

/// Whether no numbers for the symbols can make both sizes equal, as far as their difference shows.
pub(super) fn are_different(a: &Dim, b: &Dim) -> bool {
    a != b && (a.clone() - b.clone()).as_number().is_some()
}

fn is_negative(size: &Dim) -> bool {
    size.as_number().is_some_and(|n| n < 0)
}

/// The product, unless its expression grows too long.
fn product(sizes: &[Dim]) -> Result<Dim, String> {
    Dim::product(sizes).ok_or_else(too_long)
}

fn check_length(size: &Dim) -> Result<(), String> {
    if size.is_too_long() {
        Err(too_long())
    } else {
        Ok(())
    }
}

fn too_long() -> String {
    format!(
        "the result would have a size of over {} terms",
        Dim::MAX_LENGTH
    )
}

fn check_axis(axis: usize, rank: usize) -> Result<(), String> {
    if axis < rank {
        Ok(())
    } else {
        Err(format!("there is no axis {axis} in {rank} dimensions"))
    }
}

/// Checks that an operand, if given and known, has this shape.
fn check_shape(operand: Option<&[Dim]>, expected: &[Dim], what: &str) -> Result<(), String> {
    let Some(shape) = operand else { return Ok(()) };
    let equal = shape.len() == expected.len()
        && !shape.iter().zip(expected).any(|(a, b)| are_different(a, b));
    if equal {
        Ok(())
    } else {
        Err(format!("{what} has shape {shape:?}, not {expected:?}"))
    }
}
