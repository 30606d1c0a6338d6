//! A convolution's weight by input channel: the kernels that read one channel, as a matrix, and how few of them it takes to
//! make all the others.

mod layout;
mod spectrum;

use faer::{Mat, Side};
use rayon::prelude::*;

use crate::ir::Real;
pub use layout::KernelLayout;
pub use spectrum::{PatchMoment, Spectrum};

/// A convolution as depthwise kernels and a pointwise mix of their results:
/// `conv(x,W) = conv1x1(depthwise(gather(x,channels),kernels),mix)`, R kernels in all.
#[derive(Clone, Debug, PartialEq)]
pub struct Separation {
    /// The input channel that each kernel reads, `[R]`, those of a group together and as many in each.
    pub channels: Vec<usize>,
    /// The kernels, `[R, taps]`.
    pub kernels: Vec<f64>,
    /// How much of each kernel's result each output channel takes, `[outputs of all groups, R / groups]`.
    pub mix: Vec<f64>,
}

impl Separation {
    /// The separated form of a weight, exact up to `epsilon`, the rounding of its elements; `None` where it would take no
    /// fewer multiply-adds than the weight itself.
    ///
    /// The kernels of a channel are those that are distinct up to a factor, or, where that is fewer, a basis of what they span.
    pub fn of<T: Real>(layout: &KernelLayout, weight: &[T], epsilon: f64) -> Option<Separation> {
        let channels = 0..layout.inputs;
        // Most layers have no redundant kernels at all, so count before anything is factored.
        let ranks: usize = channels
            .clone()
            .into_par_iter()
            .map(|channel| rank(&layout.matrix(weight, channel), epsilon))
            .sum();
        if layout.separated_work(ranks.max(1)) >= layout.dense_work() {
            return None;
        }
        let bases: Option<Vec<Basis>> = channels
            .into_par_iter()
            .map(|channel| Basis::of(&layout.matrix(weight, channel), epsilon))
            .collect();
        let separation = Separation::assemble(layout, &bases?);
        let kernels = separation.channels.len();
        (kernels > 0 && layout.separated_work(kernels) < layout.dense_work()).then_some(separation)
    }

    /// Puts the bases of all channels together; groups with fewer kernels than others get kernels of zeros.
    fn assemble(layout: &KernelLayout, bases: &[Basis]) -> Separation {
        let inputs = layout.inputs / layout.groups;
        let count = |group: &[Basis]| group.iter().map(Basis::len).sum::<usize>();
        let width = bases.chunks(inputs).map(count).max().unwrap_or(0);
        let mut separation = Separation {
            channels: Vec::with_capacity(width * layout.groups),
            kernels: Vec::with_capacity(width * layout.groups * layout.taps),
            mix: vec![0.0; layout.groups * layout.outputs * width],
        };
        for (group, members) in bases.chunks(inputs).enumerate() {
            let first = separation.channels.len();
            for (i, basis) in members.iter().enumerate() {
                for k in 0..basis.len() {
                    let at = separation.channels.len() - first;
                    separation.channels.push(group * inputs + i);
                    let kernel = (0..layout.taps).map(|tap| basis.kernels[(k, tap)]);
                    separation.kernels.extend(kernel);
                    for output in 0..layout.outputs {
                        let row = group * layout.outputs + output;
                        separation.mix[row * width + at] = basis.mix[(output, k)];
                    }
                }
            }
            separation.channels.resize(first + width, group * inputs);
            let elements = separation.channels.len() * layout.taps;
            separation.kernels.resize(elements, 0.0);
        }
        separation
    }
}

/// The kernels of one channel as `mix kernels`.
struct Basis {
    /// `[r, taps]`.
    kernels: Mat<f64>,
    /// `[outputs, r]`.
    mix: Mat<f64>,
}

impl Basis {
    /// The kernels that are distinct up to a factor, or an orthonormal basis of all, whichever are fewer. `None` if the
    /// decomposition does not converge, as with elements that are not numbers.
    fn of(matrix: &Mat<f64>, epsilon: f64) -> Option<Basis> {
        let kernels = if epsilon > GRAM_EPSILON && matrix.ncols() <= matrix.nrows() {
            let eigen = (matrix.transpose() * matrix)
                .self_adjoint_eigen(Side::Lower)
                .ok()?;
            let values = eigen.S().column_vector();
            let largest = values.iter().fold(0.0f64, |max, s| max.max(*s));
            let least = threshold(matrix, largest.sqrt(), epsilon).powi(2);
            let rank = values.iter().filter(|s| **s > least).count();
            // Eigenvalues come smallest first.
            let last = matrix.ncols().wrapping_sub(1);
            Mat::from_fn(rank, matrix.ncols(), |k, tap| eigen.U()[(tap, last - k)])
        } else {
            let svd = matrix.thin_svd().ok()?;
            let values = svd.S().column_vector();
            let largest = values.iter().fold(0.0f64, |max, s| max.max(*s));
            let least = threshold(matrix, largest, epsilon);
            let rank = values.iter().filter(|s| **s > least).count();
            Mat::from_fn(rank, matrix.ncols(), |k, tap| svd.V()[(tap, k)])
        };
        let distinct = Basis::distinct(matrix, kernels.nrows(), epsilon);
        Some(distinct.unwrap_or_else(|| Basis {
            mix: matrix * kernels.transpose(),
            kernels,
        }))
    }

    /// Kernels taken as they are, if at most `most` of them make all others by a factor.
    fn distinct(matrix: &Mat<f64>, most: usize, epsilon: f64) -> Option<Basis> {
        let (outputs, taps) = (matrix.nrows(), matrix.ncols());
        let mut taken: Vec<usize> = Vec::new();
        let mut factors: Vec<Option<(usize, f64)>> = Vec::with_capacity(outputs);
        for output in 0..outputs {
            let largest = (0..taps).fold(0.0f64, |max, tap| max.max(matrix[(output, tap)].abs()));
            if largest == 0.0 {
                factors.push(None);
                continue;
            }
            let factor_to = |first: usize| -> Option<f64> {
                let by = |tap: usize| matrix[(first, tap)];
                let pivot = (0..taps).fold(
                    0,
                    |p, tap| if by(tap).abs() > by(p).abs() { tap } else { p },
                );
                let factor = matrix[(output, pivot)] / by(pivot);
                let error = |tap: usize| (by(tap) * factor - matrix[(output, tap)]).abs();
                (0..taps)
                    .all(|tap| error(tap) <= 4.0 * epsilon * largest)
                    .then_some(factor)
            };
            let found = taken
                .iter()
                .enumerate()
                .find_map(|(k, first)| Some((k, factor_to(*first)?)));
            factors.push(Some(found.unwrap_or_else(|| {
                taken.push(output);
                (taken.len() - 1, 1.0)
            })));
            if taken.len() > most {
                return None;
            }
        }
        let mut mix = Mat::zeros(outputs, taken.len());
        for (output, factor) in factors.iter().enumerate() {
            if let Some((k, factor)) = factor {
                mix[(output, *k)] = *factor;
            }
        }
        Some(Basis {
            kernels: Mat::from_fn(taken.len(), taps, |k, tap| matrix[(taken[k], tap)]),
            mix,
        })
    }

    fn len(&self) -> usize {
        self.kernels.nrows()
    }
}

/// From this rounding on, the eigenvalues of the small Gram matrix, which resolve half the digits of a singular value, resolve
/// enough.
const GRAM_EPSILON: f64 = 1e-7;

/// Singular values up to this are rounding.
fn threshold(matrix: &Mat<f64>, largest: f64, epsilon: f64) -> f64 {
    largest * epsilon * matrix.nrows().max(matrix.ncols()) as f64
}

/// The rank, or a little less: from the eigenvalues of the small Gram matrix, which resolve half as many digits.
fn rank(matrix: &Mat<f64>, epsilon: f64) -> usize {
    // Vector by vector: the product of matrices keeps megabytes for each thread, and has nothing to gain where one side is so short.
    let gram = if matrix.nrows() < matrix.ncols() {
        let n = matrix.nrows();
        Mat::from_fn(n, n, |a, b| matrix.row(a) * matrix.row(b).transpose())
    } else {
        let n = matrix.ncols();
        Mat::from_fn(n, n, |a, b| matrix.col(a).transpose() * matrix.col(b))
    };
    let Ok(values) = gram.self_adjoint_eigenvalues(Side::Lower) else {
        return 0;
    };
    let largest = values.iter().fold(0.0f64, |max, s| max.max(*s));
    let rounding = f64::EPSILON * matrix.nrows().max(matrix.ncols()) as f64;
    let least = threshold(matrix, 1.0, epsilon).powi(2).max(rounding) * largest;
    values.iter().filter(|value| **value > least).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Ints, Op, Padding};

    fn conv(groups: usize) -> Op {
        let ones = || Ints::from_elem(1, 2);
        Op::Conv {
            stride: ones(),
            pad: Padding::symmetric([1, 1]),
            dilation: ones(),
            groups,
        }
    }

    /// Kernels `(a0, a1)` of channel 0 and so on, for weights `[outputs, inputs, 1, 4]`.
    fn weight(of: impl Fn(usize, usize) -> [f64; 4], outputs: usize, inputs: usize) -> Vec<f64> {
        let kernels = (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i)));
        kernels.flat_map(|(o, i)| of(o, i)).collect()
    }

    fn restored(layout: &KernelLayout, separation: &Separation) -> Vec<f64> {
        let width = separation.channels.len() / layout.groups;
        let mut weight = vec![0.0; layout.dense_work()];
        for channel in 0..layout.inputs {
            let group = layout.group(channel);
            let kernels = Mat::from_fn(layout.outputs, layout.taps, |o, tap| {
                (group * width..(group + 1) * width)
                    .filter(|r| separation.channels[*r] == channel)
                    .map(|r| {
                        separation.mix[(group * layout.outputs + o) * width + r - group * width]
                            * separation.kernels[r * layout.taps + tap]
                    })
                    .sum()
            });
            layout.set_matrix(&mut weight, channel, &kernels);
        }
        weight
    }

    #[test]
    fn proportional_kernels_are_kept_as_they_are() {
        let base = [[1.0, 2.0, -3.0, 0.5], [0.0, 1.0, 1.0, -1.0]];
        let w = weight(|o, i| base[i].map(|x| x * (o as f64 - 1.0)), 6, 2);
        let layout = KernelLayout::of(&conv(1), &[6, 2, 1, 4]).unwrap();
        let separation = Separation::of(&layout, &w, f64::EPSILON).unwrap();
        assert_eq!(separation.channels, [0, 1]);
        assert_eq!(separation.kernels[..4], base[0].map(|x| -x));
        assert_eq!(restored(&layout, &separation), w);
    }

    #[test]
    fn kernels_are_few_where_they_span_little() {
        let base = [[1.0, 2.0, -3.0, 0.5], [0.3, 1.0, 1.0, -1.0]];
        let mixed = |o: usize, _: usize| {
            let (a, b) = ((o as f64).sin(), (o as f64 * 0.7).cos());
            std::array::from_fn(|t| a * base[0][t] + b * base[1][t])
        };
        let w = weight(mixed, 9, 2);
        let layout = KernelLayout::of(&conv(1), &[9, 2, 1, 4]).unwrap();
        let separation = Separation::of(&layout, &w, f64::EPSILON).unwrap();
        assert_eq!(separation.channels, [0, 0, 1, 1]);
        let error = |(a, b): (&f64, &f64)| (a - b).abs();
        let restored = restored(&layout, &separation);
        assert!(w.iter().zip(&restored).map(error).all(|e| e < 1e-13));
    }

    #[test]
    fn groups_get_the_same_number_of_kernels() {
        // Group 0 reads channels 0 and 1, whose kernels are all alike; group 1 has a channel of rank two.
        let of = |o: usize, i: usize| match (o / 6, i, o % 2) {
            (1, 0, 1) => [1.0, 0.0, 0.0, 2.0],
            _ => [1.0, 1.0, 0.0, 1.0],
        };
        let w = weight(of, 12, 2);
        let layout = KernelLayout::of(&conv(2), &[12, 2, 1, 4]).unwrap();
        let separation = Separation::of(&layout, &w, f64::EPSILON).unwrap();
        assert_eq!(separation.channels, [0, 1, 0, 2, 2, 3]);
        assert_eq!(restored(&layout, &separation), w);
    }

    #[test]
    fn a_weight_of_full_rank_stays() {
        let mut x = 0.5f64;
        let random = (0..8 * 3 * 4).map(|_| {
            x = (x * 997.1).fract();
            x - 0.5
        });
        let layout = KernelLayout::of(&conv(1), &[8, 3, 1, 4]).unwrap();
        let w: Vec<f64> = random.collect();
        assert_eq!(Separation::of(&layout, &w, f64::EPSILON), None);
        assert_eq!(KernelLayout::of(&conv(3), &[6, 1, 3, 3]), None);
        assert_eq!(KernelLayout::of(&conv(1), &[6, 2, 1, 1]), None);
    }
}
