//! Attention, out of products and a softmax.

use super::layout::filled;
use crate::formats::onnx::attributes::{int, ints};
use crate::formats::onnx::error::OnnxError;
use crate::formats::onnx::write::{Emitted, Writer};
use crate::ir::{DType, Dim, Tensor};

pub(super) fn attention(
    w: &mut Writer<'_>,
    emitted: &Emitted<'_>,
    scale: Option<f64>,
    causal: bool,
) -> Result<(), OnnxError> {
    let dtype = emitted.dtype();
    let names = w.values(&emitted.operands)?;
    let rank = w.known_rank(emitted, 1)?;
    let (q, k) = (emitted.types[0].shape(), emitted.types[1].shape());
    let width = q.and_then(|shape| shape.last()?.as_number());
    let Some(scale) = scale.or_else(|| width.map(|n| 1.0 / (n as f64).sqrt())) else {
        let what = format!("`{}` has queries of unknown width", emitted.out);
        return Err(OnnxError::unwritable(
            what,
            "give the inputs' shapes with --input",
        ));
    };
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 1, rank - 2);
    let keys = w.step(
        emitted,
        "Transpose",
        &[names[1].clone()],
        vec![ints("perm", perm)],
    );
    let scale = w.scalar(scale, dtype);
    let queries = w.step(emitted, "Mul", &[names[0].clone(), scale], vec![]);
    let mut scores = w.step(emitted, "MatMul", &[queries, keys], vec![]);
    if let Some(mask) = names.get(3) {
        scores = w.step(emitted, "Add", &[scores, mask.clone()], vec![]);
    }
    if causal {
        let length = |shape: Option<&[Dim]>| {
            let shape = shape.unwrap_or_default();
            shape.len().checked_sub(2).map(|axis| shape[axis].clone())
        };
        let (Some(rows), Some(columns)) = (length(q), length(k)) else {
            return w.known_rank(emitted, 0).map(|_| ());
        };
        if let (Some(rows), Some(columns)) = (rows.as_len(), columns.as_len())
            && rows.saturating_mul(columns) <= MAX_MASK
        {
            let hide = |i: usize| {
                if i % columns > i / columns {
                    f64::NEG_INFINITY
                } else {
                    0.0
                }
            };
            let mask = (0..rows * columns).map(hide);
            let mask = w.literal(Tensor::from_f64(dtype, &[rows, columns], mask));
            scores = w.step(emitted, "Add", &[scores, mask], vec![]);
            return weigh(w, emitted, scores, &names[2], rank);
        }
        let hidden = later(w, emitted, &rows, &columns);
        let minus = filled(w, &[], f64::NEG_INFINITY, dtype);
        scores = w.step(emitted, "Where", &[hidden, minus, scores], vec![]);
    }
    weigh(w, emitted, scores, &names[2], rank)
}

/// The most elements of a mask that is written as a constant.
const MAX_MASK: usize = 1 << 20;

fn weigh(
    w: &mut Writer<'_>,
    emitted: &Emitted<'_>,
    scores: String,
    values: &str,
    rank: usize,
) -> Result<(), OnnxError> {
    let scores_rank = emitted.result.rank().unwrap_or(rank);
    let axis = vec![int("axis", scores_rank as i64 - 1)];
    let weights = w.step(emitted, "Softmax", &[scores], axis);
    w.last(emitted, "MatMul", &[weights, values.to_owned()], vec![])
}

/// A matrix that is true where a key comes after the query.
fn later(w: &mut Writer<'_>, emitted: &Emitted<'_>, rows: &Dim, columns: &Dim) -> String {
    let mut count = |length: &Dim, axes: i64| {
        // Positions are counted by summing ones, which every version can do of lists of any length.
        let length = w.size(length);
        let positions = positions(w, emitted, length);
        let shape = match axes {
            0 => w.int_list([-1, 1]),
            _ => w.int_list([1, -1]),
        };
        w.step(emitted, "Reshape", &[positions, shape], vec![])
    };
    let (query, key) = (count(rows, 0), count(columns, 1));
    w.step(emitted, "Greater", &[key, query], vec![])
}

/// `0, 1, ..` as many as a list of one number says.
fn positions(w: &mut Writer<'_>, emitted: &Emitted<'_>, length: String) -> String {
    let none = w.int_list([]);
    let length = w.step(emitted, "Reshape", &[length, none], vec![]);
    let (zero, one) = (w.scalar(0.0, DType::I64), w.scalar(1.0, DType::I64));
    w.step(emitted, "Range", &[zero, length, one], vec![])
}
