//! The numbers of recipes.

use rayon::prelude::*;
use smallvec::SmallVec;

use super::{ConstId, Constants, Recipe};
use crate::egraph::channel_map::{ChannelMap, MapEntry};
use crate::ir::{DType, Real, Tensor};

/// What a recipe gives, before it is rounded to the constant's type or after.
pub(super) enum Computed {
    Tensor(Tensor),
    F64(Vec<f64>),
}

impl Constants {
    /// The numbers of a constant with this recipe and shape.
    pub(super) fn compute(&self, recipe: &Recipe, shape: &[usize]) -> Computed {
        let values = match recipe {
            // These hold their tensor from the start.
            Recipe::Leaf(_)
            | Recipe::Made(_)
            | Recipe::SeparateKernels { .. }
            | Recipe::SeparateMix { .. } => Vec::new(),
            Recipe::Reshape { of, .. } => {
                return match self.value(*of).reshaped(shape) {
                    Ok(tensor) => Computed::Tensor(tensor),
                    Err(_) => Computed::F64(self.f64(*of).into_owned()),
                };
            }
            Recipe::Gather { of, .. } | Recipe::Sum { of, .. } | Recipe::SumInGroups { of, .. } => {
                return self.moved(recipe, *of, shape);
            }
            Recipe::ConstantShare {
                of,
                output,
                input,
                map,
            } => constant_share(&self.f64(*of), self.shape(*of), *output, *input, map),
            Recipe::NormScale {
                scale,
                variance,
                eps,
            } => {
                let (scale, variance) = (self.f64(*scale), self.f64(*variance));
                scale
                    .iter()
                    .zip(variance.iter())
                    .map(|(s, v)| s / (v + eps.0).sqrt())
                    .collect()
            }
            Recipe::Scale {
                of,
                axis,
                by,
                groups,
            } => return self.scale(*of, *axis, *by, *groups),
            Recipe::Affine { a, by, plus, minus } => {
                let (by, plus, minus) = (self.f64(*by), self.f64(*plus), self.f64(*minus));
                let a = a.map(|a| self.f64(a));
                let at = |i: usize| a.as_ref().map_or(0.0, |a| a[i]);
                (0..by.len())
                    .map(|i| (at(i) - minus[i]) * by[i] + plus[i])
                    .collect()
            }
            Recipe::Add { a, b } => self
                .f64(*a)
                .iter()
                .zip(self.f64(*b).iter())
                .map(|(a, b)| a + b)
                .collect(),
            Recipe::ComposeOuter { outer, inner } => {
                self.after(*outer, [&self.f64(*outer), &self.f64(*inner)])
            }
            Recipe::ComposeInner { outer, inner } => {
                self.before(*outer, *inner, [&self.f64(*outer), &self.f64(*inner)])
            }
            Recipe::Apply { weight, by, groups } => {
                let (p, o) = (self.shape(*weight)[0], self.shape(*weight)[1]);
                let k: usize = self.shape(*weight)[2..].iter().product();
                let (weight, by) = (self.f64(*weight), self.f64(*by));
                let rows = (p / groups).max(1);
                let row = |p: usize| {
                    let by = &by[p / rows * o..][..o];
                    let kernel = |i: usize| weight[(p * o + i) * k..][..k].iter().sum::<f64>();
                    by.iter().enumerate().map(|(i, by)| kernel(i) * by).sum()
                };
                (0..p).map(row).collect()
            }
        };
        Computed::F64(values)
    }

    /// The numbers of [`Recipe::ComposeOuter`] from those of its operands.
    pub(super) fn after(&self, outer: ConstId, numbers: [&[f64]; 2]) -> Vec<f64> {
        let (p, o) = (self.shape(outer)[0], self.shape(outer)[1]);
        product(numbers[0], numbers[1], p, o)
    }

    /// The numbers of [`Recipe::ComposeInner`] from those of its operands.
    pub(super) fn before(&self, outer: ConstId, inner: ConstId, numbers: [&[f64]; 2]) -> Vec<f64> {
        let (o, i) = (self.shape(inner)[0], self.shape(inner)[1]);
        let p = self.shape(outer)[0];
        let k: usize = self.shape(outer)[2..].iter().product();
        compose_inner(numbers[0], numbers[1], [p, o, i, k])
    }

    /// Positions gathered or summed. A weight can be as large as memory, so `f32` stays `f32`, and what lies by columns stays so.
    fn moved(&self, recipe: &Recipe, of: ConstId, shape: &[usize]) -> Computed {
        if self.dtype(of) != DType::F32 {
            return Computed::F64(moved(recipe, &self.f64(of), self.shape(of), false));
        }
        let value = self.value(of);
        if let Some(transpose) = value.by_columns() {
            let values = moved::<f32>(recipe, &transpose.elements(), transpose.shape(), true);
            let stored: SmallVec<[usize; 4]> = shape.iter().rev().copied().collect();
            let stored = Tensor::from_vec(&stored, values);
            return Computed::Tensor(stored.transposed().unwrap_or(stored));
        }
        let values = moved::<f32>(recipe, &value.elements(), value.shape(), false);
        Computed::Tensor(Tensor::from_vec(shape, values))
    }

    /// A weight scaled along one axis: this runs over every weight of a network, so it stays in `f32`'s memory, too.
    fn scale(&self, of: ConstId, axis: usize, by: ConstId, groups: usize) -> Computed {
        let shape = self.shape(of);
        let (len, inner) = (
            shape[axis],
            shape[axis + 1..].iter().product::<usize>().max(1),
        );
        let by = self.f64(by);
        let group = (self.len(of) / groups).max(1);
        let several = groups > 1;
        let factor = |i: usize| {
            let first = if several { i / group * len } else { 0 };
            by[first + (i / inner) % len]
        };
        if self.dtype(of) == DType::F32 {
            let mut values = self.value(of).elements::<f32>().into_owned();
            values
                .par_chunks_mut(inner)
                .enumerate()
                .for_each(|(i, slice)| {
                    let factor = factor(i * inner);
                    slice
                        .iter_mut()
                        .for_each(|x| *x = (f64::from(*x) * factor) as f32);
                });
            return Computed::Tensor(Tensor::from_vec(shape, values));
        }
        Computed::F64(
            self.f64(of)
                .iter()
                .enumerate()
                .map(|(i, x)| x * factor(i))
                .collect(),
        )
    }
}

/// The numbers of a recipe that gathers or sums positions of an array, or of a matrix whose transpose this is.
fn moved<T: Real>(recipe: &Recipe, of: &[T], shape: &[usize], transposed: bool) -> Vec<T> {
    let along = |axis: usize| if transposed { 1 - axis } else { axis };
    match recipe {
        Recipe::Gather { axis, map, .. } => gather(of, shape, along(*axis), map),
        Recipe::Sum {
            axis, map, width, ..
        } => sum(of, shape, along(*axis), map, *width),
        // The weight of a convolution, which is no matrix.
        Recipe::SumInGroups { map, width, .. } => sum_in_groups(of, shape, map, *width),
        _ => Vec::new(),
    }
}

/// (outer, len, inner) of a row-major array seen along one axis.
pub(super) fn split(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (
        shape[..axis].iter().product(),
        shape[axis],
        shape[axis + 1..].iter().product(),
    )
}

pub(super) fn gather<T: Real>(of: &[T], shape: &[usize], axis: usize, map: &ChannelMap) -> Vec<T> {
    let (outer, len, inner) = split(shape, axis);
    let mut out = Vec::with_capacity(outer * map.len() * inner);
    for o in 0..outer {
        for entry in map.0.iter() {
            match *entry {
                MapEntry::Constant(value) => {
                    out.extend(std::iter::repeat_n(T::from_f64(value.0), inner));
                }
                MapEntry::Channel { index, scale } => {
                    let row = &of[(o * len + index as usize) * inner..][..inner];
                    if scale.0 == 1.0 {
                        out.extend_from_slice(row)
                    } else {
                        out.extend(row.iter().map(|x| times(*x, scale.0)))
                    }
                }
            }
        }
    }
    out
}

fn times<T: Real>(x: T, factor: f64) -> T {
    T::from_f64(Real::to_f64(x) * factor)
}

pub(super) fn sum<T: Real>(
    of: &[T],
    shape: &[usize],
    axis: usize,
    map: &ChannelMap,
    width: usize,
) -> Vec<T> {
    let (outer, len, inner) = split(shape, axis);
    let mut out = vec![T::default(); outer * width * inner];
    let mut summed: Vec<SmallVec<[(usize, f64); 1]>> = vec![SmallVec::new(); width];
    for (j, entry) in map.0.iter().enumerate() {
        if let MapEntry::Channel { index, scale } = *entry {
            summed[index as usize].push((j, scale.0));
        }
    }
    let sums = |(i, out): (usize, &mut [T])| {
        let (o, to) = (i / width, i % width);
        for (i, out) in out.iter_mut().enumerate() {
            let element = |j: usize| Real::to_f64(of[(o * len + j) * inner + i]);
            // Rounded once.
            let sum = summed[to]
                .iter()
                .fold(0.0, |sum, (j, scale)| sum + element(*j) * scale);
            *out = T::from_f64(sum);
        }
    };
    out.par_chunks_mut(inner.max(1))
        .with_min_len(1 + MIN_WORK / inner.max(1))
        .enumerate()
        .for_each(sums);
    out
}

/// Elements below which a second thread costs more than it saves.
const MIN_WORK: usize = 1 << 14;

pub(super) fn sum_in_groups<T: Real>(
    of: &[T],
    shape: &[usize],
    map: &ChannelMap,
    width: usize,
) -> Vec<T> {
    let (outputs, inputs, taps) = split(shape, 1);
    let groups = (map.len() / inputs.max(1)).max(1);
    let each = (outputs / groups).max(1);
    let group = |map: &[MapEntry], weight: &[T]| {
        let map = map.iter().copied().collect();
        sum(weight, &[each, inputs, taps], 1, &map, width)
    };
    let weights = of.chunks(each * inputs * taps);
    map.0
        .chunks(inputs)
        .zip(weights)
        .flat_map(|(map, weight)| group(map, weight))
        .collect()
}

fn constant_share(
    of: &[f64],
    shape: &[usize],
    output: usize,
    input: usize,
    map: &ChannelMap,
) -> Vec<f64> {
    let mut out = vec![0.0; shape[output]];
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let (by_output, by_input) = (stride(output), stride(input));
    let groups = map.len() / shape[input].max(1);
    for (i, w) in of.iter().enumerate() {
        let (o, c) = (
            (i / by_output) % shape[output],
            (i / by_input) % shape[input],
        );
        let group = o * groups / shape[output];
        if let MapEntry::Constant(value) = map.0[group * shape[input] + c] {
            out[o] += w * value.0;
        }
    }
    out
}

/// `a [p,o]` times `b [o, ..]`.
fn product(a: &[f64], b: &[f64], p: usize, o: usize) -> Vec<f64> {
    let n = b.len() / o.max(1);
    let mut out = vec![0.0; p * n];
    matrix_product(&mut out, a, b, [p, o, n], [(o, 1), (n, 1), (n, 1)]);
    out
}

/// `weight [p,o,k]`, `first [o,i]` -> `[p,i,k]`.
fn compose_inner(weight: &[f64], first: &[f64], [p, o, i, k]: [usize; 4]) -> Vec<f64> {
    let mut out = vec![0.0; p * i * k];
    for (to, from) in out.chunks_mut(i * k).zip(weight.chunks(o * k)) {
        // [i,k] = first^T [i,o] x from [o,k]
        matrix_product(to, first, from, [i, o, k], [(1, i), (k, 1), (k, 1)]);
    }
    out
}

/// `out = a b` for `[m,k]` by `[k,n]`, with (row, column) strides of a, b and out.
fn matrix_product(
    out: &mut [f64],
    a: &[f64],
    b: &[f64],
    [m, k, n]: [usize; 3],
    strides: [(usize, usize); 3],
) {
    use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};
    let [sa, sb, so] = strides;
    let a = ArrayView2::from_shape((m, k).strides(sa), a);
    let b = ArrayView2::from_shape((k, n).strides(sb), b);
    let out = ArrayViewMut2::from_shape((m, n).strides(so), out);
    if let (Ok(a), Ok(b), Ok(mut out)) = (a, b, out) {
        ndarray::linalg::general_mat_mul(1.0, &a, &b, 0.0, &mut out);
    }
}
