//! A convolution's weight by input channel: the kernels that read one channel, as a matrix, and how few of them it takes to
//! make all the others.

use faer::{Mat, Side};
use rayon::prelude::*;

use super::elimination::regularised;
use crate::ir::{Op, Real};

/// How the weight of a convolution, transposed or not, lies in memory when it is seen by input channel: for each channel a
/// matrix of `outputs` kernels with `taps` elements each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KernelLayout {
    /// Groups of the convolution.
    pub groups: usize,
    /// Input channels, over all groups.
    pub inputs: usize,
    /// Output channels of one group.
    pub outputs: usize,
    /// Elements of a kernel.
    pub taps: usize,
    /// Whether input channels come first in memory, as they do in a transposed convolution.
    pub transposed: bool,
}

impl KernelLayout {
    /// The layout of the weight of `op`, which has this shape; `None` for what is no convolution, is pointwise or depthwise,
    /// or has no elements.
    pub fn of(op: &Op, shape: &[usize]) -> Option<KernelLayout> {
        op.convolution()?;
        let layout = KernelLayout::dense(op, shape)?;
        let separable = layout.taps > 1 && layout.outputs > 0 && layout.inputs > layout.groups;
        (separable && layout.inputs % layout.groups == 0).then_some(layout)
    }

    /// The layout of any convolution or linear layer.
    pub fn dense(op: &Op, shape: &[usize]) -> Option<KernelLayout> {
        let groups = match op {
            Op::Linear {} => 1,
            op => op.convolution()?.3,
        };
        let [first, second, kernel @ ..] = shape else {
            return None;
        };
        let transposed = matches!(op, Op::ConvTranspose { .. });
        let (inputs, outputs) = if transposed {
            (*first, *second)
        } else {
            (second * groups, first.checked_div(groups)?)
        };
        Some(KernelLayout {
            groups,
            inputs,
            outputs,
            taps: kernel.iter().product(),
            transposed,
        })
    }

    /// The group that an input channel is in.
    pub fn group(&self, channel: usize) -> usize {
        channel / (self.inputs / self.groups)
    }

    /// Where the kernels of `channel` begin, and how far it is from each to the next.
    fn place(&self, channel: usize) -> (usize, usize) {
        let inputs = self.inputs / self.groups;
        let (first, step) = if self.transposed {
            (channel * self.outputs, 1)
        } else {
            let group = self.group(channel) * self.outputs;
            (group * inputs + channel % inputs, inputs)
        };
        (first * self.taps, step * self.taps)
    }

    /// The kernels of one input channel, `[outputs, taps]`.
    pub fn matrix<T: Real>(&self, weight: &[T], channel: usize) -> Mat<f64> {
        let (first, step) = self.place(channel);
        Mat::from_fn(self.outputs, self.taps, |output, tap| {
            Real::to_f64(weight[first + output * step + tap])
        })
    }

    /// Writes the kernels of one input channel.
    pub fn set_matrix(&self, weight: &mut [f64], channel: usize, kernels: &Mat<f64>) {
        let (first, step) = self.place(channel);
        for output in 0..self.outputs {
            for tap in 0..self.taps {
                weight[first + output * step + tap] = kernels[(output, tap)];
            }
        }
    }

    /// What the weight makes of one patch, `[inputs * taps]`: `[outputs of all groups]`.
    pub fn apply(&self, weight: &[f64], patch: &[f64]) -> Vec<f64> {
        let mut results = vec![0.0; self.outputs * self.groups];
        for (channel, patch) in patch.chunks_exact(self.taps.max(1)).enumerate() {
            let kernels = self.matrix(weight, channel);
            let first = self.group(channel) * self.outputs;
            for output in 0..self.outputs {
                let products = patch
                    .iter()
                    .enumerate()
                    .map(|(tap, x)| x * kernels[(output, tap)]);
                results[first + output] += products.sum::<f64>();
            }
        }
        results
    }

    /// Multiply-adds of the convolution for each position that its kernels are applied at.
    pub fn dense_work(&self) -> usize {
        self.inputs * self.outputs * self.taps
    }

    /// The same of the separated form with `kernels` depthwise kernels in all.
    pub fn separated_work(&self, kernels: usize) -> usize {
        kernels * (self.taps + self.outputs)
    }
}

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

/// The energy of a channel's kernels by direction: what approximating them by fewer costs.
///
/// The best `r` kernels for a channel are those of its singular value decomposition, with taps weighed by what they meet: the
/// error of the convolution's result is `|| (K - K') L ||²` where `L Lᵀ` is the second moment of the channel's patches.
#[derive(Clone, Debug)]
pub struct Spectrum {
    /// The squared singular values of `K L`, largest first.
    pub energies: Vec<f64>,
    /// `L V`, `[taps, taps]`, columns in the order of `energies`.
    to: Mat<f64>,
    /// `Vᵀ L⁻¹`, `[taps, taps]`.
    from: Mat<f64>,
}

impl Spectrum {
    /// The spectrum of the kernels `matrix` (`[outputs, taps]`) of a channel whose patches have this second moment; `None` where
    /// that is no moment of anything.
    pub fn of(matrix: &Mat<f64>, moment: &PatchMoment) -> Option<Spectrum> {
        let taps = matrix.ncols();
        let root = |moment: &Mat<f64>| Some(moment.llt(Side::Lower).ok()?.L().to_owned());
        let l = regularised(&moment.0, root)?;
        let mut inverse = Mat::<f64>::identity(taps, taps);
        l.solve_lower_triangular_in_place(&mut inverse);
        let weighed = matrix * &l;
        let eigen = (weighed.transpose() * &weighed)
            .self_adjoint_eigen(Side::Lower)
            .ok()?;
        let values = eigen.S().column_vector();
        // Eigenvalues come smallest first.
        let v = Mat::from_fn(taps, taps, |tap, k| eigen.U()[(tap, taps - 1 - k)]);
        Some(Spectrum {
            energies: (0..taps).map(|k| values[taps - 1 - k].max(0.0)).collect(),
            to: l * &v,
            from: v.transpose() * inverse,
        })
    }

    /// The kernels as coefficients of the directions, `[outputs, taps]`: these times [`Spectrum::directions`] are the kernels.
    pub fn coefficients(&self, matrix: &Mat<f64>) -> Mat<f64> {
        matrix * &self.to
    }

    /// The directions as kernels, `[taps, taps]`, one a row; over the patches, results of different ones do not correlate and
    /// have a variance of one.
    pub fn directions(&self) -> &Mat<f64> {
        &self.from
    }

    /// The best approximation of the kernels that has this rank.
    pub fn project(&self, matrix: &Mat<f64>, rank: usize) -> Mat<f64> {
        let taps = self.energies.len();
        let rank = rank.min(taps);
        let to = self.to.subcols(0, rank);
        let from = self.from.subrows(0, rank);
        matrix * to * from
    }
}

/// E[p pᵀ] over the patches p of one channel, `[taps, taps]`, positive definite.
#[derive(Clone, Debug)]
pub struct PatchMoment(pub Mat<f64>);

impl PatchMoment {
    /// The moment of a channel of this variance whose positions correlate by `correlation` with each step between them, for a
    /// kernel of these lengths.
    pub fn correlated(variance: f64, correlation: f64, kernel: &[usize]) -> PatchMoment {
        let steps = |mut a: usize, mut b: usize| -> i32 {
            let mut steps = 0;
            for length in kernel.iter().rev() {
                steps += (a % length).abs_diff(b % length);
                (a, b) = (a / length, b / length);
            }
            steps as i32
        };
        let taps = kernel.iter().product();
        // A channel that never changes still has kernels, which are then all the same to the result.
        let variance = variance.max(f64::from(f32::MIN_POSITIVE));
        PatchMoment(Mat::from_fn(taps, taps, |a, b| {
            variance * correlation.powi(steps(a, b))
        }))
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
    use crate::ir::{Ints, Padding};

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
