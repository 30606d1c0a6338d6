//! What moves elements about: views, slices, concatenation, padding.

use smallvec::SmallVec;

use super::{Call, Entry, Lowered, Read, Written, axis, float, list, need, one};
use crate::formats::torchscript::eval::{Eval, Evaluator};
use crate::formats::torchscript::value::{Value, print_float};
use crate::ir::{self, DType, Dim, Dims, Index, Op, PadMode, Tensor};

pub(super) const TABLE: &[Entry] = &[
    Entry {
        names: &["view", "reshape", "_unsafe_view"],
        parameters: &["self", "shape"],
        lower: reshape,
    },
    Entry {
        names: &["view_as", "reshape_as"],
        parameters: &["self", "other"],
        lower: reshape_as,
    },
    Entry {
        names: &["flatten"],
        parameters: &["self", "start_dim", "end_dim"],
        lower: flatten,
    },
    Entry {
        names: &["unflatten"],
        parameters: &["self", "dim", "sizes"],
        lower: unflatten,
    },
    Entry {
        names: &["transpose", "swapaxes", "swapdims"],
        parameters: &["self", "dim0", "dim1"],
        lower: transpose,
    },
    Entry {
        names: &["t", "numpy_T", "mT"],
        parameters: &["self"],
        lower: t,
    },
    Entry {
        names: &["permute"],
        parameters: &["self", "dims"],
        lower: permute,
    },
    Entry {
        names: &["squeeze"],
        parameters: &["self", "dim"],
        lower: squeeze,
    },
    Entry {
        names: &["unsqueeze"],
        parameters: &["self", "dim"],
        lower: unsqueeze,
    },
    Entry {
        names: &["expand"],
        parameters: &["self", "size"],
        lower: expand,
    },
    Entry {
        names: &["expand_as"],
        parameters: &["self", "other"],
        lower: expand_as,
    },
    Entry {
        names: &["cat", "concat", "concatenate"],
        parameters: &["tensors", "dim"],
        lower: cat,
    },
    Entry {
        names: &["stack"],
        parameters: &["tensors", "dim"],
        lower: stack,
    },
    Entry {
        names: &["slice"],
        parameters: &["self", "dim", "start", "end", "step"],
        lower: slice,
    },
    Entry {
        names: &["narrow"],
        parameters: &["self", "dim", "start", "length"],
        lower: narrow,
    },
    Entry {
        names: &["select"],
        parameters: &["self", "dim", "index"],
        lower: select,
    },
    Entry {
        names: &["chunk", "unsafe_chunk"],
        parameters: &["self", "chunks", "dim"],
        lower: chunk,
    },
    Entry {
        names: &["split", "split_with_sizes", "unsafe_split"],
        parameters: &["self", "split_size", "dim"],
        lower: split,
    },
    Entry {
        names: &["unbind"],
        parameters: &["self", "dim"],
        lower: unbind,
    },
    Entry {
        names: &["index_select"],
        parameters: &["self", "dim", "index"],
        lower: index_select,
    },
    Entry {
        names: &["pad"],
        parameters: &["self", "pad", "mode", "value"],
        lower: pad,
    },
    Entry {
        names: &["constant_pad_nd"],
        parameters: &["self", "pad", "value"],
        lower: pad,
    },
    Entry {
        names: &[
            "reflection_pad1d",
            "reflection_pad2d",
            "reflection_pad3d",
            "replication_pad1d",
            "replication_pad2d",
            "replication_pad3d",
        ],
        parameters: &["self", "pad"],
        lower: pad,
    },
];

fn operand(ev: &Evaluator<'_>, call: &Call<'_, '_>) -> Eval<Option<(ir::Value, Dims)>> {
    let Some(x) = call.tensor(ev, "self")? else {
        return Ok(None);
    };
    Ok(ev.shape(x).map(|shape| (x, shape)))
}

fn to(ev: &mut Evaluator<'_>, call: &Call<'_, '_>, x: ir::Value, shape: Dims) -> Read {
    one(ev.emit(call.name, Op::Reshape { shape }, &[x])?)
}

fn reshape(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let mut sizes = need!(
        call.get("shape")
            .and_then(Value::items)
            .map(|_| ())
            .and(call.dims("shape"))
    );
    let inferred = sizes.iter().position(|d| d.as_number() == Some(-1));
    if let Some(inferred) = inferred {
        let shape = need!(ev.shape(x));
        sizes[inferred] = Dim::from(1);
        // The same whole product where the sizes are the operand's own, only one of them left out.
        sizes[inferred] = shape
            .iter()
            .product::<Dim>()
            .floor_div(&sizes.iter().product());
    } else if let Some(shape) = ev.shape(x) {
        settle(&shape, &mut sizes);
    }
    to(ev, call, x, sizes)
}

/// Gives a size that only the running network computes the number that the element counts demand of it.
fn settle(from: &Dims, to: &mut Dims) {
    let total: Dim = from.iter().product();
    let product: Dim = to.iter().product();
    if total == product {
        return;
    }
    for axis in 0..to.len() {
        if to[axis].as_number().is_some() {
            continue;
        }
        let rest: Dim = to
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != axis)
            .map(|(_, d)| d.clone())
            .fold(Dim::from(1), |a, b| a * b);
        let needed = total.floor_div(&rest);
        if needed.as_number().is_some() && needed.clone() * rest == total {
            to[axis] = needed;
            return;
        }
    }
}

fn reshape_as(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, other) = (
        need!(call.tensor(ev, "self")?),
        need!(call.tensor(ev, "other")?),
    );
    let shape = need!(ev.shape(other));
    to(ev, call, x, shape)
}

fn flatten(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    if shape.is_empty() {
        return to(ev, call, x, Dims::from_iter([Dim::from(1)]));
    }
    let start = need!(call.axis("start_dim", shape.len(), 0));
    let end = need!(call.axis("end_dim", shape.len(), -1));
    match start.cmp(&end) {
        std::cmp::Ordering::Less => one(ev.emit("flatten", Op::Flatten { start, end }, &[x])?),
        std::cmp::Ordering::Equal => Ok(Some(Lowered::Same)),
        std::cmp::Ordering::Greater => Ok(None),
    }
}

fn unflatten(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let axis = need!(call.axis("dim", shape.len(), 0));
    let mut sizes = need!(call.dims("sizes"));
    if let Some(inferred) = sizes.iter().position(|d| d.as_number() == Some(-1)) {
        sizes[inferred] = Dim::from(1);
        sizes[inferred] = shape[axis].floor_div(&sizes.iter().product());
    }
    let shape = shape[..axis]
        .iter()
        .chain(&sizes)
        .chain(&shape[axis + 1..])
        .cloned()
        .collect();
    to(ev, call, x, shape)
}

fn permuted(ev: &mut Evaluator<'_>, call: &Call<'_, '_>, x: ir::Value, perm: ir::Ints) -> Read {
    if perm.iter().enumerate().all(|(i, p)| i == *p) {
        return Ok(Some(Lowered::Same));
    }
    one(ev.emit(call.name, Op::Transpose { perm }, &[x])?)
}

fn transpose(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let a = need!(axis(need!(call.int("dim0")), shape.len()));
    let b = need!(axis(need!(call.int("dim1")), shape.len()));
    let mut perm: ir::Ints = (0..shape.len()).collect();
    perm.swap(a, b);
    permuted(ev, call, x, perm)
}

fn t(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    match shape.len() {
        2 => permuted(ev, call, x, ir::Ints::from_slice(&[1, 0])),
        0 | 1 => Ok(Some(Lowered::Same)),
        _ => Ok(None),
    }
}

fn permute(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let perm = need!(call.axes("dims", shape.len()));
    permuted(ev, call, x, perm)
}

fn squeeze(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let named = match call.lacks("dim") {
        true => (0..shape.len()).collect(),
        false => need!(call.axes("dim", shape.len())),
    };
    // Only axes of length 1 go; of a size that is no number it is not known.
    let mut axes = ir::Ints::new();
    for axis in named {
        match shape[axis].as_number() {
            Some(1) => axes.push(axis),
            Some(_) => {}
            None => return Ok(None),
        }
    }
    if axes.is_empty() {
        return Ok(Some(Lowered::Same));
    }
    axes.sort_unstable();
    one(ev.emit("squeeze", Op::Squeeze { axes }, &[x])?)
}

fn unsqueeze(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let axis = need!(axis(need!(call.int("dim")), shape.len() + 1));
    one(ev.emit(
        "unsqueeze",
        Op::Unsqueeze {
            axes: ir::Ints::from_slice(&[axis]),
        },
        &[x],
    )?)
}

fn expand(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, from) = need!(operand(ev, call)?);
    let mut shape = need!(call.dims("size"));
    let new = need!(shape.len().checked_sub(from.len()));
    for (i, size) in shape.iter_mut().enumerate() {
        if size.as_number() == Some(-1) {
            *size = need!(i.checked_sub(new).map(|i| from[i].clone()));
        }
    }
    expanded(ev, x, &from, shape)
}

fn expand_as(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, from) = need!(operand(ev, call)?);
    let other = need!(call.tensor(ev, "other")?);
    let shape = need!(ev.shape(other));
    expanded(ev, x, &from, shape)
}

fn expanded(ev: &mut Evaluator<'_>, x: ir::Value, from: &Dims, shape: Dims) -> Read {
    if *from == shape {
        return Ok(Some(Lowered::Same));
    }
    one(ev.emit("expand", Op::Expand { shape }, &[x])?)
}

fn cat(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let tensors = need!(call.tensors(ev, "tensors")?);
    let rank = need!(tensors.iter().find_map(|v| ev.shape(*v))).len();
    let axis = need!(call.axis("dim", rank, 0));
    one(ev.emit("cat", Op::Concat { axis }, &tensors)?)
}

fn stack(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let tensors = need!(call.tensors(ev, "tensors")?);
    let rank = need!(tensors.first().and_then(|v| ev.shape(*v))).len();
    let axis = need!(call.axis("dim", rank + 1, 0));
    let mut parts = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let axes = ir::Ints::from_slice(&[axis]);
        parts.push(need!(ev.emit(
            "unsqueeze",
            Op::Unsqueeze { axes },
            &[tensor]
        )?));
    }
    one(ev.emit("stack", Op::Concat { axis }, &parts)?)
}

/// A position of an axis as Python's slices mean it: negative from the end, and within the axis.
fn bound(at: Option<&Value<'_>>, size: &Dim, default: &Dim) -> Option<Dim> {
    let Some(at) = at else {
        return Some(default.clone());
    };
    let at = at.as_dim()?;
    match (at.as_number(), size.as_number()) {
        (Some(i64::MAX), _) => Some(size.clone()),
        (Some(n), Some(size)) => Some(Dim::from(
            if n < 0 { n.saturating_add(size) } else { n }.clamp(0, size),
        )),
        (Some(0), None) => Some(at),
        (Some(n), None) if n < 0 => Some((size.clone() + at).at_least(&Dim::from(0))),
        (Some(_), None) => Some(at.at_most(size)),
        // Where the size says itself how far to go.
        (None, _) if at == *size => Some(at),
        (None, _) => match (size.clone() - at.clone()).as_number() {
            Some(0..) => Some(at.at_least(&Dim::from(0))),
            _ => Some(at.at_least(&Dim::from(0)).at_most(size)),
        },
    }
}

fn part(
    ev: &mut Evaluator<'_>,
    x: ir::Value,
    shape: &Dims,
    axis: usize,
    start: Dim,
    end: Dim,
    step: usize,
) -> Read {
    if start.as_number() == Some(0) && end == shape[axis] && step == 1 {
        return Ok(Some(Lowered::Same));
    }
    one(ev.emit(
        "slice",
        Op::Slice {
            axis,
            start,
            end,
            step,
        },
        &[x],
    )?)
}

fn slice(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let axis = need!(call.axis("dim", shape.len(), 0));
    let step = need!(
        call.int_or("step", 1)
            .and_then(|s| usize::try_from(s).ok())
            .filter(|s| *s > 0)
    );
    let size = &shape[axis];
    let start = need!(bound(call.get("start"), size, &Dim::from(0)));
    let end = need!(bound(call.get("end"), size, size));
    // An empty slice ends where it starts.
    let end = match (end.clone() - start.clone()).as_number() {
        Some(..0) => start.clone(),
        _ => end,
    };
    part(ev, x, &shape, axis, start, end, step)
}

fn narrow(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let axis = need!(call.axis("dim", shape.len(), 0));
    let start = need!(bound(call.get("start"), &shape[axis], &Dim::from(0)));
    let length = need!(call.get("length").and_then(Value::as_dim));
    part(ev, x, &shape, axis, start.clone(), start + length, 1)
}

fn select(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let axis = need!(call.axis("dim", shape.len(), 0));
    let index = need!(call.get("index").and_then(Value::as_dim));
    let start = if index.as_number().is_some_and(|i| i < 0) {
        shape[axis].clone() + index
    } else {
        index
    };
    one(pick(ev, x, axis, start)?)
}

/// Position `start` of an axis, which is removed.
fn pick(ev: &mut Evaluator<'_>, x: ir::Value, axis: usize, start: Dim) -> Eval<Option<ir::Value>> {
    let end = start.clone() + Dim::from(1);
    let axes = ir::Ints::from_slice(&[axis]);
    match ev.emit(
        "select",
        Op::Slice {
            axis,
            start,
            end,
            step: 1,
        },
        &[x],
    )? {
        Some(slice) => ev.emit("select", Op::Squeeze { axes }, &[slice]),
        None => Ok(None),
    }
}

/// Consecutive parts of an axis, of these lengths.
fn parts(ev: &mut Evaluator<'_>, x: ir::Value, axis: usize, lengths: &[Dim]) -> Read {
    let mut start = Dim::from(0);
    let mut values = Vec::with_capacity(lengths.len());
    for length in lengths {
        let end = start.clone() + length.clone();
        let op = Op::Slice {
            axis,
            start,
            end: end.clone(),
            step: 1,
        };
        values.push(need!(ev.emit("split", op, &[x])?));
        start = end;
    }
    Ok(Some(Lowered::List(values)))
}

/// Parts of an axis into which PyTorch may cut it at once.
const MAX_PARTS: i64 = 4096;

/// `size` cut into parts of `length`, the last one shorter.
fn even(size: i64, length: i64) -> Option<Vec<Dim>> {
    if length <= 0 || size <= 0 || (size - 1) / length >= MAX_PARTS {
        return None;
    }
    Some(
        (0..size)
            .step_by(length as usize)
            .map(|start| Dim::from(length.min(size - start)))
            .collect(),
    )
}

fn chunk(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let axis = need!(call.axis("dim", shape.len(), 0));
    let chunks = need!(call.int("chunks").filter(|n| (1..=MAX_PARTS).contains(n)));
    let lengths = match shape[axis].as_number() {
        Some(size) => need!(even(size, size / chunks + i64::from(size % chunks != 0))),
        None => {
            // As many parts as said only where the size is a multiple.
            let length = shape[axis].floor_div(&Dim::from(chunks));
            if length.clone() * Dim::from(chunks) != shape[axis] {
                return Ok(None);
            }
            vec![length; chunks as usize]
        }
    };
    parts(ev, x, axis, &lengths)
}

fn split(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let axis = need!(call.axis("dim", shape.len(), 0));
    let given = need!(call.get("split_size").or(call.get("split_sizes")));
    let lengths = match given.items() {
        Some(items) => need!(items.iter().map(Value::as_dim).collect::<Option<Vec<_>>>()),
        None => need!(even(need!(shape[axis].as_number()), need!(given.as_int()))),
    };
    parts(ev, x, axis, &lengths)
}

fn unbind(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let axis = need!(call.axis("dim", shape.len(), 0));
    let n = need!(shape[axis].as_number().filter(|n| *n <= MAX_PARTS));
    let mut values = Vec::new();
    for i in 0..n {
        values.push(need!(pick(ev, x, axis, Dim::from(i))?));
    }
    Ok(Some(Lowered::List(values)))
}

fn index_select(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let axis = need!(call.axis("dim", shape.len(), 0));
    let index = need!(call.tensor(ev, "index")?);
    let tensor = &need!(ev.graph.constant(index.node)).tensor;
    if !matches!(tensor.dtype(), DType::I64 | DType::I32) || tensor.shape().len() != 1 {
        return Ok(None);
    }
    let whole = |x: &f64| (0.0..=f64::from(u32::MAX)).contains(x).then_some(*x as u32);
    let index: Index = need!(
        tensor
            .elements::<f64>()
            .iter()
            .map(whole)
            .collect::<Option<Vec<_>>>()
    )
    .into();
    one(ev.emit("index_select", Op::Gather { axis, index }, &[x])?)
}

fn pad(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let (x, shape) = need!(operand(ev, call)?);
    let mode = match (call.name, call.str("mode")) {
        ("constant_pad_nd", _) | ("pad", None | Some("constant")) => PadMode::Constant,
        ("pad", Some("reflect")) => PadMode::Reflect,
        ("pad", Some("replicate")) => PadMode::Replicate,
        ("pad", Some("circular")) => PadMode::Circular,
        (name, _) if name.starts_with("reflection") => PadMode::Reflect,
        (name, _) if name.starts_with("replication") => PadMode::Replicate,
        _ => return Ok(None),
    };
    let amounts = need!(call.dims("pad"));
    if amounts.len() % 2 != 0 || amounts.len() / 2 > shape.len() {
        return Ok(None);
    }
    let zeros = || -> Dims { std::iter::repeat_n(Dim::from(0), shape.len()).collect() };
    let (mut before, mut after) = (zeros(), zeros());
    // The last axis comes first.
    for (i, pair) in amounts.chunks(2).enumerate() {
        let axis = shape.len() - 1 - i;
        (before[axis], after[axis]) = (pair[0].clone(), pair[1].clone());
    }
    let value = float(need!(call.float_or("value", 0.0)));
    if before
        .iter()
        .chain(&after)
        .all(|amount| amount.as_number() == Some(0))
    {
        // A copy: what is written to it later is not written to the operand.
        return Ok(Some(Lowered::One(x)));
    }
    one(ev.emit(
        "pad",
        Op::Pad {
            before,
            after,
            mode,
            value,
        },
        &[x],
    )?)
}

pub(super) fn write(w: &mut Written<'_>) -> Result<Option<String>, String> {
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
fn inferred(w: &mut Written<'_>, shape: &Dims) -> String {
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
