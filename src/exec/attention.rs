//! Scaled dot-product attention, a block of queries at a time.

use ndarray::{ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use super::array::{Array, element_count, from_vec, zeros};
use super::elementwise::{broadcast, broadcast_shape};
use super::matmul::{matrices, product};
use super::reduce::softmax_row;
use crate::ir::Real;

/// Queries whose scores exist at a time, a thread.
const QUERIES: usize = 256;

/// q `[..,L,E]`, k `[..,S,E]`, v `[..,S,F]`, `[mask]` added to the scores -> `[..,L,F]`.
pub(super) fn attention<'a, T: Real>(
    q: &Array<T>,
    k: &Array<T>,
    v: &Array<T>,
    mask: Option<&Array<T>>,
    scale: Option<f64>,
    causal: bool,
) -> Result<Array<'a, T>, String> {
    let failed = || {
        format!(
            "queries {:?}, keys {:?} and values {:?} do not fit together",
            q.shape(),
            k.shape(),
            v.shape()
        )
    };
    let ([q_batch @ .., l, e], [k_batch @ .., s, e_k], [v_batch @ .., s_v, f]) =
        (q.shape(), k.shape(), v.shape())
    else {
        return Err(failed());
    };
    if e != e_k || s != s_v {
        return Err(failed());
    }
    let (l, s, e, f) = (*l, *s, *e, *f);
    let batch = broadcast_shape(q_batch, k_batch)
        .and_then(|batch| broadcast_shape(&batch, v_batch))
        .map_err(|_| failed())?;
    let of = |rows: usize, columns: usize| [&batch[..], &[rows, columns]].concat();
    element_count::<T>(&of(l, s))?;
    let mut result = zeros::<T>(&of(l, f))?;
    let (q, k, v) = (
        broadcast(q, &of(l, e))?,
        broadcast(k, &of(s, e))?,
        broadcast(v, &of(s, f))?,
    );
    let (q, k, v) = (matrices(&q), matrices(&k), matrices(&v));
    let mask = mask.map(|m| broadcast(m, &of(l, s))).transpose()?;
    let mask = mask.map(|m| matrices(&m));
    let scale = T::from_f64(scale.unwrap_or((e as f64).sqrt().recip()));
    let one = |(i, target): (usize, &mut [T])| {
        let Ok(mut target) = ArrayViewMut2::from_shape((l, f), target) else {
            return;
        };
        let blocks = target.axis_chunks_iter_mut(Axis(0), QUERIES);
        blocks
            .into_par_iter()
            .enumerate()
            .for_each(|(block, target)| {
                let first = block * QUERIES;
                let queries = first..(first + QUERIES).min(l);
                let mut scores = ndarray::Array2::zeros((queries.len(), s));
                product(
                    q[i].slice(s![queries.clone(), ..]),
                    k[i].t(),
                    scores.view_mut(),
                );
                for (mut row, query) in scores.rows_mut().into_iter().zip(queries) {
                    row.mapv_inplace(|x| x * scale);
                    if let Some(mask) = &mask {
                        row.zip_mut_with(&mask[i].row(query), |x, m| *x = *x + *m);
                    }
                    if causal {
                        row.iter_mut()
                            .skip(query + 1)
                            .for_each(|x| *x = T::neg_infinity());
                    }
                    if let Some(row) = row.as_slice_mut() {
                        softmax_row(row, false);
                    }
                }
                product(scores.view(), v[i].view(), target);
            });
    };
    result
        .par_chunks_exact_mut((l * f).max(1))
        .enumerate()
        .for_each(one);
    from_vec(&of(l, f), result)
}
