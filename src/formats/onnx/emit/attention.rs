//! Attention, out of products and a softmax.

use super::layout::filled;
use crate::formats::onnx::attributes::{int, ints};
use crate::formats::onnx::error::OnnxError;
use crate::formats::onnx::write::{Spelled, Writer};
use crate::ir::{DType, Dim, Tensor};

pub(super) fn attention(
    w: &mut Writer<'_>,
    spelled: &Spelled<'_>,
    scale: Option<f64>,
    causal: bool,
) -> Result<(), OnnxError> {
    let dtype = spelled.dtype();
    let names = w.values(&spelled.operands)?;
    let rank = w.known_rank(spelled, 1)?;
    let (q, k) = (spelled.types[0].shape(), spelled.types[1].shape());
    let width = q.and_then(|shape| shape.last()?.as_number());
    let Some(scale) = scale.or_else(|| width.map(|n| 1.0 / (n as f64).sqrt())) else {
        let what = format!("`{}` has queries of unknown width", spelled.out);
        return Err(OnnxError::unwritable(
            what,
            "give the inputs' shapes with --input",
        ));
    };
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 1, rank - 2);
    let keys = w.step(
        spelled,
        "Transpose",
        &[names[1].clone()],
        vec![ints("perm", perm)],
    );
    let scale = w.scalar(scale, dtype);
    let queries = w.step(spelled, "Mul", &[names[0].clone(), scale], vec![]);
    let mut scores = w.step(spelled, "MatMul", &[queries, keys], vec![]);
    if let Some(mask) = names.get(3) {
        scores = w.step(spelled, "Add", &[scores, mask.clone()], vec![]);
    }
    if causal {
        let length = |shape: Option<&[Dim]>| {
            let shape = shape.unwrap_or_default();
            shape.len().checked_sub(2).map(|axis| shape[axis].clone())
        };
        let (Some(rows), Some(columns)) = (length(q), length(k)) else {
            return w.known_rank(spelled, 0).map(|_| ());
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
            scores = w.step(spelled, "Add", &[scores, mask], vec![]);
            return weigh(w, spelled, scores, &names[2], rank);
        }
        let hidden = later(w, spelled, &rows, &columns);
        let minus = filled(w, &[], f64::NEG_INFINITY, dtype);
        scores = w.step(spelled, "Where", &[hidden, minus, scores], vec![]);
    }
    weigh(w, spelled, scores, &names[2], rank)
}

/// The most elements of a mask that is written as a constant.
const MAX_MASK: usize = 1 << 20;

fn weigh(
    w: &mut Writer<'_>,
    spelled: &Spelled<'_>,
    scores: String,
    values: &str,
    rank: usize,
) -> Result<(), OnnxError> {
    let scores_rank = spelled.result.rank().unwrap_or(rank);
    let axis = vec![int("axis", scores_rank as i64 - 1)];
    let weights = w.step(spelled, "Softmax", &[scores], axis);
    w.last(spelled, "MatMul", &[weights, values.to_owned()], vec![])
}

/// A matrix that is true where a key comes after the query.
fn later(w: &mut Writer<'_>, spelled: &Spelled<'_>, rows: &Dim, columns: &Dim) -> String {
    let mut count = |length: &Dim, axes: i64| {
        // Positions are counted by summing ones, which every version can do of lists of any length.
        let length = w.size(length);
        let positions = positions(w, spelled, length);
        let shape = match axes {
            0 => w.int_list([-1, 1]),
            _ => w.int_list([1, -1]),
        };
        w.step(spelled, "Reshape", &[positions, shape], vec![])
    };
    let (query, key) = (count(rows, 0), count(columns, 1));
    w.step(spelled, "Greater", &[key, query], vec![])
}

/// `0, 1, ..` as many as a list of one number says.
fn positions(w: &mut Writer<'_>, spelled: &Spelled<'_>, length: String) -> String {
    let none = w.int_list([]);
    let length = w.step(spelled, "Reshape", &[length, none], vec![]);
    let (zero, one) = (w.scalar(0.0, DType::I64), w.scalar(1.0, DType::I64));
    w.step(spelled, "Range", &[zero, length, one], vec![])
}
