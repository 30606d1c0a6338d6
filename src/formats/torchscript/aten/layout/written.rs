//! What moves elements about, as calls.

use smallvec::SmallVec;

use crate::formats::torchscript::aten::{Written, list};
use crate::formats::torchscript::value::print_float;
use crate::ir::{DType, Dim, Dims, Op, PadMode, Tensor};

pub(in crate::formats::torchscript) fn write(
    w: &mut Written<'_>,
) -> Result<Option<String>, String> {
    let op = w.op;
    let x = w.x().to_owned();
    Ok(Some(match op {
        Op::Reshape { shape } => format!("torch.reshape({x}, {})", inferred(w, shape)),
        Op::Flatten { start, end } => format!("torch.flatten({x}, {start}, {end})"),
        Op::Transpose { perm } => format!("torch.permute({x}, {})", list(perm)),
        Op::Squeeze { axes } => {
            // One after the other, the last first: PyTorch 1 takes no lists here.
            let mut axes: SmallVec<[usize; 4]> = axes.iter().copied().collect();
            axes.sort_unstable_by(|a, b| b.cmp(a));
            axes.iter()
                .fold(x, |x, axis| format!("torch.squeeze({x}, {axis})"))
        }
        Op::Unsqueeze { axes } => {
            let mut axes: SmallVec<[usize; 4]> = axes.iter().copied().collect();
            axes.sort_unstable();
            axes.iter()
                .fold(x, |x, axis| format!("torch.unsqueeze({x}, {axis})"))
        }
        Op::Expand { shape } => {
            let from = w.types.first().and_then(|ty| ty.shape()).map(Dims::from);
            let sizes: Vec<String> = shape
                .iter()
                .enumerate()
                .map(|(i, size)| {
                    // An axis that keeps its length needs no number.
                    let kept = from.as_ref().and_then(|from| {
                        let axis = (i + from.len()).checked_sub(shape.len())?;
                        Some(from[axis] == *size && size.as_number() != Some(1))
                    });
                    if kept == Some(true) {
                        "-1".to_owned()
                    } else {
                        (w.size)(size)
                    }
                })
                .collect();
            format!("torch.expand({x}, [{}])", sizes.join(", "))
        }
        Op::Concat { axis } => format!("torch.cat([{}], {axis})", w.operands.join(", ")),
        Op::Slice {
            axis,
            start,
            end,
            step,
        } => {
            let whole = w.shape(0).ok().and_then(|shape| shape.get(*axis)) == Some(end);
            let start = (w.size)(start);
            let end = if whole {
                i64::MAX.to_string()
            } else {
                (w.size)(end)
            };
            format!("torch.slice({x}, {axis}, {start}, {end}, {step})")
        }
        Op::Gather { axis, index } => match consecutive(index) {
            Some((start, end, step)) => format!("torch.slice({x}, {axis}, {start}, {end}, {step})"),
            None => {
                let index = Tensor::from_f64(
                    DType::I64,
                    &[index.len()],
                    index.iter().map(|i| f64::from(*i)),
                );
                let index = (w.constant)(index);
                format!("torch.index_select({x}, {axis}, {index})")
            }
        },
        Op::Pad {
            before,
            after,
            mode,
            value,
        } => {
            let amounts: Dims = before
                .iter()
                .zip(after)
                .rev()
                .flat_map(|(b, a)| [b.clone(), a.clone()])
                .collect();
            // Leading axes without a pad are left out, as the other modes demand.
            let used = amounts
                .iter()
                .rposition(|d| d.as_number() != Some(0))
                .map_or(0, |i| (i + 2) / 2 * 2);
            let amounts = w.sizes(&amounts[..used]);
            match mode {
                PadMode::Constant => format!(
                    "torch.constant_pad_nd({x}, {amounts}, {})",
                    print_float(value.0)
                ),
                PadMode::Reflect => format!("torch.pad({x}, {amounts}, \"reflect\")"),
                PadMode::Replicate => format!("torch.pad({x}, {amounts}, \"replicate\")"),
                PadMode::Circular => format!("torch.pad({x}, {amounts}, \"circular\")"),
            }
        }
        _ => return Ok(None),
    }))
}

/// A shape with its most involved size left to PyTorch, as -1.
pub(super) fn inferred(w: &mut Written<'_>, shape: &Dims) -> String {
    let cost = |dim: &Dim| {
        let mut symbols = 0;
        dim.for_each_symbol(&mut |_| symbols += 1);
        symbols
    };
    let most = (0..shape.len()).max_by_key(|i| (cost(&shape[*i]), std::cmp::Reverse(*i)));
    // With an axis of length 0 the size left out could not be found.
    let empty = shape.iter().any(|d| d.as_number() == Some(0));
    let left_out = most.filter(|i| cost(&shape[*i]) > 0 && !empty);
    let sizes: Vec<String> = shape
        .iter()
        .enumerate()
        .map(|(i, d)| {
            if Some(i) == left_out {
                "-1".to_owned()
            } else {
                (w.size)(d)
            }
        })
        .collect();
    format!("[{}]", sizes.join(", "))
}

/// Start, end and step of an index that a slice can say.
fn consecutive(index: &[u32]) -> Option<(u64, u64, u64)> {
    let first = u64::from(*index.first()?);
    let step = match index {
        [a, b, ..] => u64::from(b.checked_sub(*a)?),
        _ => 1,
    };
    let follows = |(i, at): (usize, &u32)| u64::from(*at) == first + i as u64 * step;
    (step > 0 && index.iter().enumerate().all(follows))
        .then(|| (first, first + (index.len() as u64 - 1) * step + 1, step))
}
