//! Operators that work on each element by itself, or on two broadcast against each other.

use ndarray::{ArrayD, ArrayViewD, IxDyn, Zip};
use rayon::prelude::*;

use super::array::{Array, element_count};
use crate::ir::functions::{maximum, minimum};
use crate::ir::{Class, Op, Real, operators};

/// Elements below which a second thread costs more than it saves.
pub(super) const PARALLEL_FROM: usize = 1 << 15;

/// A unary operator's value at one number; `None` if `op` is not one.
pub fn scalar<T: Real>(op: &Op, x: T) -> Option<T> {
    let mut x = [x];
    op.apply(&mut x).then_some(x[0])
}

/// A unary operator on an array, in place where nobody else reads it.
pub(super) fn unary<'a, T: Real>(op: &Op, x: Array<'a, T>) -> Result<Array<'a, T>, String> {
    if op.class() == Class::View {
        return Ok(x);
    }
    let mut x = x.into_owned();
    if x.as_slice_memory_order().is_none() {
        x = x.as_standard_layout().into_owned();
    }
    let known = match x.as_slice_memory_order_mut() {
        Some(xs) if xs.len() >= PARALLEL_FROM => xs
            .par_chunks_mut(PARALLEL_FROM / 2)
            .map(|xs| op.apply(xs))
            .all(|known| known),
        Some(xs) => op.apply(xs),
        None => false,
    };
    if known {
        Ok(x.into())
    } else {
        Err(format!("{} is not a unary function", op.name()))
    }
}

macro_rules! pairs {
    ($(
        $(#[$doc:meta])* $op:ident = $name:literal($arity:expr) { $($field:ident: $ty:ty),* $(,)? }
        $class:ident($numbers:ident, $factors:expr) $(= $function:expr)? $(=> $others:tt)?;
    )*) => {
        /// A binary operator on arrays that broadcast against each other; `None` if `op` is not one.
        pub(super) fn binary<'a, T: Real>(
            op: &Op,
            a: Array<'a, T>,
            b: Array<'a, T>,
        ) -> Option<Result<Array<'a, T>, String>> {
            Some(match op {
                $(Op::$op { .. } => pairs!(@zip a b $class $($function)?),)*
                Op::Opaque(_) => return None,
            })
        }
    };
    (@zip $a:ident $b:ident Binary $function:expr) => { zip($a, $b, $function) };
    (@zip $a:ident $b:ident $class:ident $($function:expr)?) => { return None };
}

operators!(pairs);

/// `f` over two arrays broadcast from the last axis, written into one of them if it has the shape of the result and no
/// other reader.
pub(super) fn zip<'a, T: Real>(
    a: Array<'a, T>,
    b: Array<'a, T>,
    f: impl Fn(T, T) -> T + Sync + Send,
) -> Result<Array<'a, T>, String> {
    let shape = broadcast_shape(a.shape(), b.shape())?;
    let len = element_count::<T>(&shape)?;
    let (a, b) = match reusable(a, &shape) {
        Ok(mut target) => {
            let b = broadcast(&b, &shape)?;
            let zip = Zip::from(&mut target).and(&b);
            let update = |a: &mut T, b: &T| *a = f(*a, *b);
            if len < PARALLEL_FROM {
                zip.for_each(update)
            } else {
                zip.par_for_each(update)
            }
            return Ok(target.into());
        }
        Err(a) => (a, b),
    };
    let b = match reusable(b, &shape) {
        Ok(mut target) => {
            let a = broadcast(&a, &shape)?;
            let zip = Zip::from(&mut target).and(&a);
            let update = |b: &mut T, a: &T| *b = f(*a, *b);
            if len < PARALLEL_FROM {
                zip.for_each(update)
            } else {
                zip.par_for_each(update)
            }
            return Ok(target.into());
        }
        Err(b) => b,
    };
    let (a, b) = (broadcast(&a, &shape)?, broadcast(&b, &shape)?);
    let zip = Zip::from(&a).and(&b);
    let result = if len < PARALLEL_FROM {
        zip.map_collect(|a, b| f(*a, *b))
    } else {
        zip.par_map_collect(|a, b| f(*a, *b))
    };
    Ok(result.into())
}

fn reusable<'a, T: Real>(array: Array<'a, T>, shape: &[usize]) -> Result<ArrayD<T>, Array<'a, T>> {
    if array.shape() == shape {
        array.into_unique()
    } else {
        Err(array)
    }
}

/// A view of `array` with its axes of length 1 repeated to `shape`.
pub(super) fn broadcast<'v, T: Real>(
    array: &'v Array<'_, T>,
    shape: &[usize],
) -> Result<ArrayViewD<'v, T>, String> {
    let failed = || {
        format!(
            "the shape {:?} does not broadcast to {shape:?}",
            array.shape()
        )
    };
    match array {
        Array::Borrowed(view) => view.broadcast(IxDyn(shape)),
        Array::Shared(shared) => shared.broadcast(IxDyn(shape)),
    }
    .ok_or_else(failed)
}

/// The shape that both shapes broadcast to, from the last axis.
pub(crate) fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| {
        (axis + shape.len())
            .checked_sub(rank)
            .map_or(1, |axis| shape[axis])
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (n, m) if n == m || m == 1 => Ok(n),
            (1, m) => Ok(m),
            _ => Err(format!("the shapes {a:?} and {b:?} do not broadcast")),
        })
        .collect()
}
