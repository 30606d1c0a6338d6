//! What moves elements about, as calls.

use crate::formats::aten::expression::{dimensions, int, size};
use crate::formats::aten::{Expression, Written};
use crate::ir::{self, DType, Dim, Dims, Ints, Op, PadMode, Tensor, Type};

pub(in crate::formats) fn write(w: &Written<'_>) -> Result<Option<Expression>, String> {
    use Expression::{Float, Int};
    let call = |name, overload, rest: &[Expression]| {
        Expression::call(name, overload, [&[w.x()], rest].concat())
    };
    Ok(Some(match w.op {
        Op::Reshape { shape } => reshape(w, shape),
        Op::Flatten { start, end } if w.core => flattened(w, *start, *end)?,
        Op::Flatten { start, end } => call("flatten", "using_ints", &[int(*start), int(*end)]),
        Op::Transpose { perm } => call("permute", "default", &[Expression::ints(perm)]),
        Op::Squeeze { axes } if w.core => call("squeeze", "dims", &[Expression::ints(axes)]),
        Op::Squeeze { axes } => {
            // One after the other, the last first: PyTorch 1 takes no lists here.
            let mut axes = axes.clone();
            axes.sort_unstable_by(|a, b| b.cmp(a));
            let squeeze = |axis: usize| Op::Squeeze {
                axes: Ints::from_slice(&[axis]),
            };
            return one_by_one(w, &axes, squeeze, "squeeze", "dim");
        }
        Op::Unsqueeze { axes } => {
            let mut axes = axes.clone();
            axes.sort_unstable();
            let unsqueeze = |axis: usize| Op::Unsqueeze {
                axes: Ints::from_slice(&[axis]),
            };
            return one_by_one(w, &axes, unsqueeze, "unsqueeze", "default");
        }
        Op::Expand { shape } => call("expand", "default", &[unchanged(w, shape)]),
        Op::Concat { axis } => {
            let operands = Expression::List(w.operands.clone());
            Expression::call("cat", "default", [operands, int(*axis)])
        }
        Op::Slice {
            axis,
            start,
            end,
            step,
        } => {
            let whole = w.shape(0).ok().and_then(|shape| shape.get(*axis)) == Some(end);
            let end = if whole {
                Int(i64::MAX)
            } else {
                size(end.clone())
            };
            let rest = [int(*axis), size(start.clone()), end, int(*step)];
            call("slice", "Tensor", &rest)
        }
        Op::Gather { axis, index } => gather(w, *axis, index),
        Op::Pad {
            before,
            after,
            mode,
            value,
        } => {
            let both = before.iter().zip(after).rev();
            let amounts: Dims = both.flat_map(|(b, a)| [b.clone(), a.clone()]).collect();
            // Leading axes without a pad are left out.
            let last = amounts.iter().rposition(|d| d.as_number() != Some(0));
            let used = last.map_or(0, |i| i / 2 + 1);
            match mode {
                PadMode::Constant => {
                    let rest = [Expression::sizes(&amounts[..2 * used]), Float(value.0)];
                    call("constant_pad_nd", "default", &rest)
                }
                _ => return mirrored(w, *mode, &amounts, used).map(Some),
            }
        }
        _ => return Ok(None),
    }))
}

/// A flattening as the reshape that core operators have for it.
fn flattened(w: &Written<'_>, start: usize, end: usize) -> Result<Expression, String> {
    let from = w.shape(0)?;
    let joined = Dim::product(from.get(start..=end).unwrap_or_default());
    let joined = joined.ok_or("it has too many sizes")?;
    let before = from.iter().take(start).cloned();
    let after = from.iter().skip(end + 1).cloned();
    Ok(reshape(w, &before.chain([joined]).chain(after).collect()))
}

/// A pad of the last `used` axes with what is there, which PyTorch does to one, two or three axes behind two others.
fn mirrored(
    w: &Written<'_>,
    mode: PadMode,
    amounts: &Dims,
    used: usize,
) -> Result<Expression, String> {
    let rank = w.shape(0)?.len();
    let spatial = used.max(rank.saturating_sub(2)).max(1);
    let (names, mode) = match mode {
        PadMode::Reflect => (Some(dimensions!("reflection_pad")), "reflect"),
        PadMode::Replicate => (Some(dimensions!("replication_pad")), "replicate"),
        _ => (None, "circular"),
    };
    if spatial > 3 {
        return Err("PyTorch pads at most three axes with what is there".to_owned());
    }
    let name = names.filter(|_| w.core).map(|names| names[spatial - 1]);
    let pad = |x: Expression| {
        let zeros = std::iter::repeat_n(Dim::from(0), 2 * spatial);
        let amounts = amounts.iter().cloned().chain(zeros).take(2 * spatial);
        let sizes = Expression::sizes(&amounts.collect::<Dims>());
        match name {
            Some(name) => Expression::call(name, "default", [x, sizes]),
            None => Expression::call("pad", "default", [x, sizes, Expression::Str(mode)]),
        }
    };
    // Axes of length 1 stand in for those that are missing in front.
    let missing: Ints = (0..(spatial + 2).saturating_sub(rank)).collect();
    if missing.is_empty() {
        return Ok(pad(w.x()));
    }
    let behind = |dims: &[Dim]| -> Dims {
        let ones = std::iter::repeat_n(Dim::from(1), missing.len());
        ones.chain(dims.iter().cloned()).collect()
    };
    let axes = missing.clone();
    let (x, ty) = w.before(&Op::Unsqueeze { axes }, w.x(), w.ty(0)?)?;
    let result = ir::infer::infer(w.op, w.types)?;
    let shape = result.first().and_then(Type::shape).map(behind);
    let dtype = ty.dtype().unwrap_or(DType::F32);
    let padded = Type::Tensor(dtype, shape);
    let squeeze = Op::Squeeze { axes: missing };
    let (result, _) = w.before(&squeeze, pad(x).typed(padded.clone()), &padded)?;
    Ok(result)
}

/// An operator of one axis, for each of several.
fn one_by_one(
    w: &Written<'_>,
    axes: &[usize],
    op: impl Fn(usize) -> Op,
    name: &'static str,
    overload: &'static str,
) -> Result<Option<Expression>, String> {
    let Some((last, before)) = axes.split_last() else {
        return Ok(Some(w.x()));
    };
    let mut x = w.x();
    let mut ty = match before {
        [] => None,
        _ => Some(w.ty(0)?.clone()),
    };
    for axis in before {
        if let Some(known) = ty {
            let (call, known) = w.before(&op(*axis), x, &known)?;
            (x, ty) = (call, Some(known));
        }
    }
    Ok(Some(Expression::call(name, overload, [x, int(*last)])))
}

/// The shape of an expansion: an axis that keeps its length needs no number.
fn unchanged(w: &Written<'_>, shape: &Dims) -> Expression {
    let from = w.shape(0).unwrap_or_default();
    let new = shape.len() - from.len().min(shape.len());
    let size = |(i, to): (usize, &Dim)| match i.checked_sub(new).and_then(|i| from.get(i)) {
        Some(from) if from == to && to.as_number() != Some(1) => Expression::Int(-1),
        _ => size(to.clone()),
    };
    Expression::List(shape.iter().enumerate().map(size).collect())
}

fn gather(w: &Written<'_>, axis: usize, index: &[u32]) -> Expression {
    if let Some(slice) = consecutive(index) {
        let [start, end, step] =
            slice.map(|n| Expression::Int(i64::try_from(n).unwrap_or(i64::MAX)));
        return Expression::call("slice", "Tensor", [w.x(), int(axis), start, end, step]);
    }
    let positions = index.iter().map(|i| f64::from(*i));
    let index = Tensor::from_f64(DType::I64, &[index.len()], positions);
    let rest = [w.x(), int(axis), Expression::Constant(index)];
    Expression::call("index_select", "default", rest)
}

fn reshape(w: &Written<'_>, shape: &Dims) -> Expression {
    let shape = inferred(shape);
    if w.core {
        Expression::call("view", "default", [w.row_major(), shape])
    } else {
        Expression::call("reshape", "default", [w.x(), shape])
    }
}

/// A shape with its most involved size left to PyTorch, as -1.
fn inferred(shape: &Dims) -> Expression {
    let cost = |dim: &Dim| dim.symbols().len();
    let most = (0..shape.len()).max_by_key(|i| (cost(&shape[*i]), std::cmp::Reverse(*i)));
    // With an axis of length 0 the size left out could not be found.
    let empty = shape.iter().any(|d| d.as_number() == Some(0));
    let left_out = most.filter(|i| cost(&shape[*i]) > 0 && !empty);
    let sizes = shape.iter().enumerate().map(|(i, dim)| match left_out {
        Some(left_out) if left_out == i => Expression::Int(-1),
        _ => size(dim.clone()),
    });
    Expression::List(sizes.collect())
}

/// Start, end and step of an index that a slice can say.
fn consecutive(index: &[u32]) -> Option<[u64; 3]> {
    let first = u64::from(*index.first()?);
    let step = match index {
        [a, b, ..] => u64::from(b.checked_sub(*a)?),
        _ => 1,
    };
    let follows = |(i, at): (usize, &u32)| u64::from(*at) == first + i as u64 * step;
    (step > 0 && index.iter().enumerate().all(follows))
        .then(|| [first, first + (index.len() as u64 - 1) * step + 1, step])
}
