//! Reductions over axes.

use crate::formats::onnx::fold::axes;
use crate::formats::onnx::import::Importer;
use crate::formats::onnx::view::View;
use crate::formats::sizes::{position, positions};
use crate::formats::spelling::REDUCTIONS;
use crate::ir::{DType, Op, Value};

pub(super) fn reduce<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = im.operand(view, 0)?;
    let rank = im.rank(x).filter(|_| im.is_float(x))?;
    let given = axes(im, view)?.unwrap_or_default();
    let mut axes = positions(&given, rank)?;
    axes.sort_unstable();
    if given.is_empty() {
        if view.int("noop_with_empty_axes", 0) != 0 {
            // Whether there are squares then is not the same in all versions.
            if matches!(view.op(), "ReduceL2" | "ReduceSumSquare") {
                return None;
            }
            return im.last(view, Op::Identity {}, &[x]);
        }
        axes.extend(0..rank);
    }
    let keep = view.int("keepdims", 1) != 0;
    if let "ReduceL2" | "ReduceSumSquare" = view.op() {
        return squares(im, view, x, Op::ReduceSum { axes, keep });
    }
    let row = REDUCTIONS.iter().find(|row| row.onnx.0 == view.op())?;
    im.last(view, (row.make)(axes, keep), &[x])
}

/// The sum of squares, or its root. Squares of half-precision numbers leave their range, and how a runtime goes about that is its own.
fn squares<'m>(im: &mut Importer<'m>, view: &View<'m>, x: Value, sum: Op) -> Option<Value> {
    let dtype = im.graph.ty(x).dtype();
    dtype.filter(|dtype| matches!(dtype, DType::F32 | DType::F64))?;
    let squares = im.step(view, "squares", Op::Mul {}, &[x, x])?;
    if view.op() == "ReduceSumSquare" {
        return im.last(view, sum, &[squares]);
    }
    let sum = im.step(view, "sum", sum, &[squares])?;
    im.last(view, Op::Sqrt {}, &[sum])
}

/// Until version 13 the operand is taken as a matrix, all axes from `axis` on being its columns.
pub(super) fn softmax<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = im.operand(view, 0)?;
    let shape = im.shape(x).filter(|_| im.is_float(x))?;
    let rank = shape.len();
    let default = if view.opset < 13 { 1 } else { -1 };
    let axis = position(view.int("axis", default), rank)?;
    let op = |axis| match view.op() {
        "Softmax" => Op::Softmax { axis },
        _ => Op::LogSoftmax { axis },
    };
    let last = shape[axis + 1..].iter().all(|d| d.as_number() == Some(1));
    if view.opset >= 13 || last {
        return im.last(view, op(axis), &[x]);
    }
    let end = rank - 1;
    let rows = im.step(view, "rows", Op::Flatten { start: axis, end }, &[x])?;
    let rows = im.step(view, "over_rows", op(axis), &[rows])?;
    im.last(view, Op::Reshape { shape }, &[rows])
}
