//! Matrix products: the one place that multiplies matrices, and the operators that are little else.

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView1, ArrayView2, ArrayViewD, ArrayViewMut1, ArrayViewMut2, Axis, Ix2, Zip};
use rayon::prelude::*;

use super::array::{Array, from_vec, zeros};
use super::elementwise::{broadcast, broadcast_shape};
use crate::ir::Real;

/// Multiply-adds below which a second thread costs more than it saves.
const PARALLEL_FROM: usize = 1 << 18;

/// `c += a b`, on all threads if the product is large.
///
/// Every element is summed in one order whatever the number of threads, so results do not depend on it.
pub(super) fn product<T: Real>(a: ArrayView2<T>, b: ArrayView2<T>, mut c: ArrayViewMut2<T>) {
    let (m, n) = c.dim();
    let work = m.saturating_mul(n).saturating_mul(a.ncols());
    let threads = rayon::current_num_threads();
    if m == 1 {
        return matrix_vector(b.reversed_axes(), a.row(0), c.row_mut(0));
    }
    if n == 1 {
        return matrix_vector(a, b.column(0), c.column_mut(0));
    }
    if work < PARALLEL_FROM || threads == 1 {
        return general_mat_mul(T::one(), &a, &b, T::one(), &mut c);
    }
    if m >= n {
        let rows = m.div_ceil(threads);
        let parts = c.axis_chunks_iter_mut(Axis(0), rows).into_par_iter();
        parts
            .zip(a.axis_chunks_iter(Axis(0), rows).into_par_iter())
            .for_each(|(mut c, a)| general_mat_mul(T::one(), &a, &b, T::one(), &mut c));
    } else {
        let columns = n.div_ceil(threads).next_multiple_of(16);
        let parts = c.axis_chunks_iter_mut(Axis(1), columns).into_par_iter();
        parts
            .zip(b.axis_chunks_iter(Axis(1), columns).into_par_iter())
            .for_each(|(mut c, b)| general_mat_mul(T::one(), &a, &b, T::one(), &mut c));
    }
}

/// `c += a x`: memory-bound, so every element of `a` is read once.
fn matrix_vector<T: Real>(a: ArrayView2<T>, x: ArrayView1<T>, mut c: ArrayViewMut1<T>) {
    let parallel = a.len() >= PARALLEL_FROM;
    if a.strides()[1].unsigned_abs() <= a.strides()[0].unsigned_abs() {
        let rows = Zip::from(&mut c).and(a.rows());
        let add_row = |c: &mut T, row: ArrayView1<T>| *c = *c + row.dot(&x);
        return if parallel {
            rows.par_for_each(add_row)
        } else {
            rows.for_each(add_row)
        };
    }
    let add_columns = |(mut c, a): (ArrayViewMut1<T>, ArrayView2<T>)| {
        for (x, column) in x.iter().zip(a.columns()) {
            c.scaled_add(*x, &column);
        }
    };
    if !parallel {
        return add_columns((c, a));
    }
    let rows = a.nrows().div_ceil(rayon::current_num_threads());
    let parts = c.axis_chunks_iter_mut(Axis(0), rows).into_par_iter();
    parts
        .zip(a.axis_chunks_iter(Axis(0), rows).into_par_iter())
        .for_each(add_columns);
}

/// `x [..,I]`, `W [O,I]`, `[b [O]]` -> `[..,O]`.
pub(super) fn linear<'a, T: Real>(
    x: &Array<T>,
    weight: &Array<T>,
    bias: Option<&Array<T>>,
) -> Result<Array<'a, T>, String> {
    let weight = matrix(weight.view())?;
    let (outputs, inputs) = weight.dim();
    let (Some((&last, leading)), true) =
        (x.shape().split_last(), x.shape().last() == Some(&inputs))
    else {
        return Err(format!(
            "an input of shape {:?} does not end in the {inputs} inputs of the weight",
            x.shape()
        ));
    };
    let shape = [leading, &[outputs]].concat();
    let rows: usize = leading.iter().product();
    let mut result = zeros::<T>(&shape)?;
    if let Some(bias) = bias {
        let bias = vector(bias, outputs, "bias")?;
        for row in result.chunks_exact_mut(outputs.max(1)) {
            row.copy_from_slice(&bias);
        }
    }
    let x = x.contiguous();
    if let (Ok(x), Ok(target)) = (
        x.view().into_shape_with_order((rows, last)),
        ArrayViewMut2::from_shape((rows, outputs), &mut result),
    ) {
        product(x, weight.reversed_axes(), target);
    }
    from_vec(&shape, result)
}

/// The matrix product over the last two axes, the others broadcast.
pub(super) fn matmul<'a, T: Real>(a: &Array<T>, b: &Array<T>) -> Result<Array<'a, T>, String> {
    let failed = || {
        format!(
            "matrices of shapes {:?} and {:?} cannot be multiplied",
            a.shape(),
            b.shape()
        )
    };
    let ([a_batch @ .., m, k], [b_batch @ .., l, n]) = (a.shape(), b.shape()) else {
        return Err(failed());
    };
    let (m, k, n) = (*m, *k, *n);
    if k != *l {
        return Err(failed());
    }
    let batch = broadcast_shape(a_batch, b_batch).map_err(|_| failed())?;
    let shape = [&batch[..], &[m, n]].concat();
    let mut result = zeros::<T>(&shape)?;
    let (a_all, b_all) = (
        broadcast(a, &[&batch[..], &[m, k]].concat())?,
        broadcast(b, &[&batch[..], &[k, n]].concat())?,
    );
    let (a_all, b_all) = (matrices(&a_all), matrices(&b_all));
    let multiply = |(c, (a, b)): (&mut [T], (&ArrayView2<T>, &ArrayView2<T>))| {
        if let Ok(c) = ArrayViewMut2::from_shape((m, n), c) {
            product(a.view(), b.view(), c);
        }
    };
    let pairs = a_all.par_iter().zip(&b_all);
    result
        .par_chunks_exact_mut((m * n).max(1))
        .zip(pairs)
        .for_each(multiply);
    from_vec(&shape, result)
}

/// The matrices in the last two axes of a view, in row-major order of the others.
pub(super) fn matrices<'v, T: Real>(view: &ArrayViewD<'v, T>) -> Vec<ArrayView2<'v, T>> {
    let mut parts = vec![view.clone()];
    for _ in 2..view.ndim() {
        parts = parts
            .iter()
            .flat_map(|part| {
                (0..part.len_of(Axis(0))).map(|i| part.clone().index_axis_move(Axis(0), i))
            })
            .collect();
    }
    parts
        .into_iter()
        .filter_map(|part| part.into_dimensionality::<Ix2>().ok())
        .collect()
}

/// The view as a matrix.
pub(super) fn matrix<T: Real>(view: ArrayViewD<T>) -> Result<ArrayView2<T>, String> {
    let rank = view.ndim();
    view.into_dimensionality::<Ix2>()
        .map_err(|_| format!("expected a matrix, found {rank} dimensions"))
}

/// The elements of an operand that must be a vector of this length.
pub(super) fn vector<T: Real>(array: &Array<T>, len: usize, what: &str) -> Result<Vec<T>, String> {
    if array.shape() == [len] {
        Ok(array.view().iter().copied().collect())
    } else {
        Err(format!(
            "the {what} has the shape {:?} instead of [{len}]",
            array.shape()
        ))
    }
}
