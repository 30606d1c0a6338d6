//! Which slices of a constant are equal, proportional or zero.

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHasher};
use smallvec::SmallVec;

use super::arithmetic::split;
use crate::egraph::channel_map::Partition;
use crate::ir::{DType, Real, Tensor};

/// The slices of a constant along one axis, each reduced to a direction and a length.
#[derive(Debug)]
pub struct Rows {
    /// Slices that are equal bit for bit (but for the sign of zero).
    pub equal: Partition,
    /// Slices equal up to a positive factor; zero slices are each other's.
    pub proportional: Partition,
    /// The factor of each slice to the first of its class in `proportional`; 1 where equal.
    pub factor: Vec<f64>,
    /// Whether the slice is zero.
    pub zero: Vec<bool>,
}

impl Rows {
    /// The slices of `tensor` along `axis`.
    pub fn of(tensor: &Tensor, axis: usize) -> Rows {
        // In the order in which they lie: large ones are not copied.
        if let Some(transpose) = tensor.by_columns() {
            return Rows::of(&transpose, 1 - axis);
        }
        match tensor.dtype() {
            DType::F32 => compare_rows(&tensor.elements::<f32>(), tensor.shape(), axis),
            _ => compare_rows(&tensor.elements::<f64>(), tensor.shape(), axis),
        }
    }

    /// Whether no slice is equal or proportional to another, or zero.
    pub fn are_distinct(&self) -> bool {
        let alone = |partition: &Partition| partition.first.len() == self.zero.len();
        alone(&self.equal) && alone(&self.proportional) && !self.zero.contains(&true)
    }
}

/// The input channels of each of `groups` groups, for a weight `[O, C/groups, ..]`, of which all elements are zero.
pub(super) fn unread(weight: &Tensor, groups: usize) -> Vec<bool> {
    match weight.dtype() {
        DType::F32 => zero_columns(&weight.elements::<f32>(), weight.shape(), groups),
        _ => zero_columns(&weight.elements::<f64>(), weight.shape(), groups),
    }
}

fn zero_columns<T: Real>(values: &[T], shape: &[usize], groups: usize) -> Vec<bool> {
    let (outputs, inputs, taps) = split(shape, 1);
    let mut zero = vec![true; groups * inputs];
    if outputs == 0 || inputs * taps == 0 {
        return zero;
    }
    for (output, row) in values.chunks_exact(inputs * taps).enumerate() {
        let group = output * groups / outputs;
        for (input, kernel) in row.chunks_exact(taps).enumerate() {
            // A NaN is not zero.
            zero[group * inputs + input] &= kernel.iter().all(|x| Real::to_f64(*x) == 0.0);
        }
    }
    zero
}

/// How far a row's elements may be from proportional before the rows count as different: rounding of the products only.
const PROPORTIONAL: f64 = 4.0;

fn compare_rows<T: Real>(values: &[T], shape: &[usize], axis: usize) -> Rows {
    let (outer, len, inner) = split(shape, axis);
    let row = |r: usize| {
        (0..outer).flat_map(move |o| values[(o * len + r) * inner..][..inner].iter().copied())
    };
    // Hashes first, in parallel: rows are compared element by element only where the hashes agree.
    let digests: Vec<RowDigest> = (0..len)
        .into_par_iter()
        .map(|r| RowDigest::of(row(r)))
        .collect();
    let mut equal = Classes::new(len);
    let mut proportional = Classes::new(len);
    let mut factor = vec![1.0; len];
    for r in 0..len {
        let digest = &digests[r];
        equal.place(r, digest.exact, |other| {
            row(other).zip(row(r)).all(|(a, b)| a == b)
        });
        let mut found = 1.0;
        proportional.place(r, digest.direction, |other| {
            let (a, b) = (digests[other].norm, digest.norm);
            if digest.zero || digests[other].zero {
                return digest.zero && digests[other].zero;
            }
            let candidate = b / a;
            let tolerance = PROPORTIONAL * T::epsilon().to_f64() * b;
            let close = |(x, y): (T, T)| (x.to_f64() * candidate - y.to_f64()).abs() <= tolerance;
            found = if row(other).zip(row(r)).all(|(x, y)| x == y) {
                1.0
            } else {
                candidate
            };
            candidate.is_finite() && row(other).zip(row(r)).all(close)
        });
        factor[r] = if proportional.partition.first[proportional.partition.class[r]] == r {
            1.0
        } else {
            found
        };
    }
    Rows {
        equal: equal.partition,
        proportional: proportional.partition,
        factor,
        zero: digests.iter().map(|d| d.zero).collect(),
    }
}

struct RowDigest {
    /// Equal for equal rows.
    exact: u64,
    /// Equal for proportional rows, nearly always: the signs of the large elements.
    direction: u64,
    /// The largest magnitude.
    norm: f64,
    zero: bool,
}

impl RowDigest {
    fn of<T: Real>(row: impl Iterator<Item = T> + Clone) -> RowDigest {
        use std::hash::Hasher;
        let norm = row.clone().map(|x| x.to_f64().abs()).fold(0.0, f64::max);
        let (mut exact, mut direction) = (FxHasher::default(), FxHasher::default());
        let (mut signs, mut zero) = (0u64, true);
        for (i, x) in row.enumerate() {
            let x = x.to_f64();
            // A NaN is not zero, and equal to nothing.
            zero &= x == 0.0;
            // + 0.0 makes -0.0 and 0.0 one.
            exact.write_u64((x + 0.0).to_bits());
            let sign = if x > norm / 2.0 {
                1
            } else if x < -norm / 2.0 {
                2
            } else {
                0
            };
            signs = signs << 2 | sign;
            if i % 32 == 31 {
                direction.write_u64(signs);
                signs = 0;
            }
        }
        direction.write_u64(signs);
        RowDigest {
            exact: exact.finish(),
            direction: direction.finish(),
            norm,
            zero,
        }
    }
}

/// Classes of one hash that a row is compared with at most: rows of few elements can all look alike without being so.
const MOST_COMPARED: usize = 256;

/// Classes grown one row at a time, by hash and then by comparison with the first member.
struct Classes {
    partition: Partition,
    by_hash: FxHashMap<u64, SmallVec<[usize; 1]>>,
}

impl Classes {
    fn new(len: usize) -> Classes {
        let partition = Partition {
            class: Vec::with_capacity(len),
            first: Vec::new(),
        };
        Classes {
            partition,
            by_hash: Default::default(),
        }
    }

    fn place(&mut self, row: usize, hash: u64, mut same: impl FnMut(usize) -> bool) {
        let candidates = self.by_hash.entry(hash).or_default();
        let found = candidates
            .iter()
            .copied()
            .take(MOST_COMPARED)
            .find(|class| same(self.partition.first[*class]));
        let class = found.unwrap_or_else(|| {
            candidates.push(self.partition.first.len());
            self.partition.first.push(row);
            self.partition.first.len() - 1
        });
        self.partition.class.push(class);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_distinct_if_none_is_zero_or_like_another() {
        let rows = |values: [f32; 4]| Rows::of(&Tensor::from_vec(&[2, 2], values.to_vec()), 0);
        assert!(rows([1.0, 2.0, 2.0, 1.0]).are_distinct());
        assert!(!rows([1.0, 2.0, 2.0, 4.0]).are_distinct());
        assert!(!rows([1.0, 2.0, 0.0, 0.0]).are_distinct());
        // Infinite rows are equal, but no number is the factor between them.
        let infinite = rows([f32::INFINITY, 1.0, f32::INFINITY, 1.0]);
        assert_eq!(infinite.equal.first, [0]);
        assert_eq!(infinite.proportional.first, [0, 1]);
        assert!(!infinite.are_distinct());
    }

    #[test]
    fn many_rows_that_only_look_proportional_are_not_all_compared() {
        const ROWS: usize = 10_000;
        let values = (0..ROWS).flat_map(|i| [1.0, i as f32 / (3 * ROWS) as f32]);
        let rows = Rows::of(&Tensor::from_vec(&[ROWS, 2], values.collect()), 0);
        assert!(rows.are_distinct());
    }
}
