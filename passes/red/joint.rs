//! The directions of all channels' kernels together, where it is known how what they read varies together.

use faer::Mat;

use crate::analysis::elimination::{Criterion, Elimination, compensate, eliminate};
use crate::analysis::kernels::{KernelLayout, Spectrum};

/// What is added to the variance of a direction before a covariance is inverted.
const RIDGE: f64 = 1e-4;

/// The directions of all channels' kernels together: which of them to do without, if the others make up for it.
pub struct Joint {
    /// The covariance of the results of all directions, `[inputs * taps, inputs * taps]`.
    gram: Mat<f64>,
    /// What the layer makes of them, `[outputs, inputs * taps]`.
    weight: Mat<f64>,
    elimination: Elimination,
}

impl Joint {
    /// Weighs the directions of a layer's channels, whose `spectra` are those of its `weight`; `None` where the covariance has no
    /// inverse.
    pub fn of(
        layout: &KernelLayout,
        weight: &[f64],
        spectra: &[Spectrum],
        covariance: &Mat<f64>,
    ) -> Option<Joint> {
        let (n, taps) = (layout.inputs * layout.taps, layout.taps);
        let mut gram = Mat::zeros(n, n);
        let mut of = Mat::zeros(layout.outputs, n);
        for (c, spectrum) in spectra.iter().enumerate() {
            let coefficients = spectrum.coefficients(&layout.matrix(weight, c));
            of.subcols_mut(c * taps, taps).copy_from(&coefficients);
            for (d, other) in spectra.iter().enumerate() {
                let block = covariance.submatrix(c * taps, d * taps, taps, taps);
                let block = spectrum.directions() * block * other.directions().transpose();
                gram.submatrix_mut(c * taps, d * taps, taps, taps)
                    .copy_from(&block);
            }
        }
        // Directions have a variance of one, or none.
        (0..n).for_each(|i| gram[(i, i)] += RIDGE);
        let elimination = eliminate(&gram, &of, Criterion::Backward, n)?;
        Some(Joint {
            gram,
            weight: of,
            elimination,
        })
    }

    /// What the result loses with so many directions in all, squared.
    pub fn loss(&self, kernels: usize) -> f64 {
        let gone = self.gram.nrows().saturating_sub(kernels);
        self.elimination.loss[gone]
    }

    /// The kernels of every channel, `[outputs, taps]` each, made of so many directions in all.
    pub fn project(
        &self,
        layout: &KernelLayout,
        spectra: &[Spectrum],
        kernels: usize,
    ) -> Vec<Mat<f64>> {
        let gone = self.gram.nrows().saturating_sub(kernels);
        let kept = &self.elimination.order[gone..];
        let mut projected = vec![Mat::zeros(layout.outputs, layout.taps); layout.inputs];
        let Some(weight) = compensate(&self.gram, &self.weight, kept) else {
            return projected;
        };
        for (a, direction) in kept.iter().enumerate() {
            let (c, k) = (direction / layout.taps, direction % layout.taps);
            for output in 0..layout.outputs {
                for tap in 0..layout.taps {
                    projected[c][(output, tap)] +=
                        weight[(output, a)] * spectra[c].directions()[(k, tap)];
                }
            }
        }
        projected
    }
}
