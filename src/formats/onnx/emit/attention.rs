//! Attention, out of products and a softmax.

use super::Emitted;
use super::layout::filled;
use crate::formats::onnx::attributes::{int, ints};
use crate::formats::onnx::error::OnnxError;
use crate::ir::{DType, Dim, Tensor};

pub(super) fn attention(
    w: &mut Emitted<'_, '_>,
    scale: Option<f64>,
    causal: bool,
) -> Result<(), OnnxError> {
    let dtype = w.dtype();
    let names = w.operand_names()?;
    let rank = w.known_rank(1)?;
    let (q, k) = (w.types[0].shape(), w.types[1].shape());
    let width = q.and_then(|shape| shape.last()?.as_number());
    let Some(scale) = scale.or_else(|| width.map(|n| 1.0 / (n as f64).sqrt())) else {
        let what = format!("`{}` has queries of unknown width", w.out);
        return Err(OnnxError::unwritable(
            what,
            "give the inputs' shapes with --input",
        ));
    };
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 1, rank - 2);
    let keys = w.step("Transpose", &[names[1].clone()], vec![ints("perm", perm)]);
    let scale = w.scalar(scale, dtype);
    let queries = w.step("Mul", &[names[0].clone(), scale], vec![]);
    let mut scores = w.step("MatMul", &[queries, keys], vec![]);
    if let Some(mask) = names.get(3) {
        scores = w.step("Add", &[scores, mask.clone()], vec![]);
    }
    if causal {
        let length = |shape: Option<&[Dim]>| {
            let shape = shape.unwrap_or_default();
            shape.len().checked_sub(2).map(|axis| shape[axis].clone())
        };
        let (Some(rows), Some(columns)) = (length(q), length(k)) else {
            return w.known_rank(0).map(|_| ());
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
            scores = w.step("Add", &[scores, mask], vec![]);
            return weigh(w, scores, &names[2], rank);
        }
        let hidden = later(w, &rows, &columns);
        let minus = filled(w, &[], f64::NEG_INFINITY, dtype);
        scores = w.step("Where", &[hidden, minus, scores], vec![]);
    }
    weigh(w, scores, &names[2], rank)
}

/// The most elements of a mask that is written as a constant.
const MAX_MASK: usize = 1 << 20;

fn weigh(
    w: &mut Emitted<'_, '_>,
    scores: String,
    values: &str,
    rank: usize,
) -> Result<(), OnnxError> {
    let scores_rank = w.result.rank().unwrap_or(rank);
    let axis = vec![int("axis", scores_rank as i64 - 1)];
    let weights = w.step("Softmax", &[scores], axis);
    w.last("MatMul", &[weights, values.to_owned()], vec![])
}

/// A matrix that is true where a key comes after the query.
fn later(w: &mut Emitted<'_, '_>, rows: &Dim, columns: &Dim) -> String {
    let mut count = |length: &Dim, axes: i64| {
        // Positions are counted by summing ones, which every version can do of lists of any length.
        let length = w.size(length);
        let positions = positions(w, length);
        let shape = match axes {
            0 => w.int_list([-1, 1]),
            _ => w.int_list([1, -1]),
        };
        w.step("Reshape", &[positions, shape], vec![])
    };
    let (query, key) = (count(rows, 0), count(columns, 1));
    w.step("Greater", &[key, query], vec![])
}

/// `0, 1, ..` as many as a list of one number says.
fn positions(w: &mut Emitted<'_, '_>, length: String) -> String {
    let none = w.int_list([]);
    let length = w.step("Reshape", &[length, none], vec![]);
    let (zero, one) = (w.scalar(0.0, DType::I64), w.scalar(1.0, DType::I64));
    w.step("Range", &[zero, length, one], vec![])
}
