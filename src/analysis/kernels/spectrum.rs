//! Kernels as sums of few directions, weighed by what is read.

use faer::{Mat, Side};

use crate::analysis::elimination::regularised;

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
