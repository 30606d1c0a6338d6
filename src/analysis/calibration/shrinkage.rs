//! Shrinkage: correlations that few samples show by chance are taken away.
//!
//! Of few samples every feature is made of the others, and what is built on that fails on the next ones. Correlations are chance as far
//! as they differ from part to part of the samples: Ledoit and Wolf (2004), with correlations in place of covariances as Schäfer and
//! Strimmer (2005) have it. Features that really are made of others are so in every part, and shrinkage would hide it; so it is done
//! only where it makes parts likelier, each by what the others show.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::{MANY, RIDGE};

/// The covariance, with smaller correlations where that is the better guess at those of all there is to sample. `shares` are those of
/// the parts of the samples, and `of_part` gives an element of the covariance of one about the mean of all.
pub(super) fn shrunk(
    covariance: Mat<f64>,
    shares: &[f64],
    of_part: impl Fn(usize, usize, usize) -> f64,
) -> Mat<f64> {
    let n = covariance.nrows();
    // What never changes goes with nothing.
    let scale = |i: usize| match covariance[(i, i)] {
        variance if variance > f64::from(f32::MIN_POSITIVE) => variance.sqrt().recip(),
        _ => 0.0,
    };
    let scale: Vec<f64> = (0..n).map(scale).collect();
    let correlations = Correlations {
        features: n,
        shares,
        all: |i, j| covariance[(i, j)] * scale[i] * scale[j],
        of_part: |part, i, j| of_part(part, i, j) * scale[i] * scale[j],
    };
    let kept = correlations.kept();
    if kept == 1.0 || correlations.surprise(1.0) <= correlations.surprise(kept) {
        return covariance;
    }
    Mat::from_fn(n, n, |i, j| match covariance[(i, j)] {
        own if i == j => own,
        other => kept * other,
    })
}

/// Correlations of features. They are worked out when asked for: matrices of all parts are more than the memory of large layers.
struct Correlations<'s, A, P> {
    features: usize,
    /// The share of all samples that each part has.
    shares: &'s [f64],
    /// Over all samples.
    all: A,
    /// Over the samples of one part.
    of_part: P,
}

impl<A: Fn(usize, usize) -> f64, P: Fn(usize, usize, usize) -> f64> Correlations<'_, A, P> {
    /// What is left of correlations when those that parts do not agree on are taken away, 0 to 1.
    fn kept(&self) -> f64 {
        let (mut noise, mut squares) = (0.0, 0.0);
        for (i, j) in (0..self.features).flat_map(|j| (0..j).map(move |i| (i, j))) {
            let all = (self.all)(i, j);
            squares += all * all;
            let off = |(part, share): (usize, &f64)| share * ((self.of_part)(part, i, j) - all);
            let off = self.shares.iter().enumerate().map(off);
            noise += off.map(|off| off * off).sum::<f64>();
        }
        let parts = self.shares.len() as f64;
        let noise = noise * parts / (parts - 1.0).max(1.0);
        (1.0 - noise / squares.max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }

    /// How unlikely parts are as normal numbers, each by the correlations of the others of which so much is kept; less what is the
    /// same for all. Of many features one part is tried.
    fn surprise(&self, kept: f64) -> f64 {
        let n = self.features;
        let of = |(part, share): (usize, &f64)| {
            let own = Mat::from_fn(n, n, |i, j| (self.of_part)(part, i, j));
            let others = Mat::from_fn(n, n, |i, j| {
                let other = ((self.all)(i, j) - share * own[(i, j)]) / (1.0 - share);
                if i == j { other + RIDGE } else { kept * other }
            });
            let factor = others.llt(Side::Lower).ok()?;
            let logarithm = (0..n).map(|i| factor.L()[(i, i)].ln()).sum::<f64>();
            let explained = factor.solve(own);
            Some(2.0 * logarithm + (0..n).map(|i| explained[(i, i)]).sum::<f64>())
        };
        let tried = if n > MANY { 1 } else { self.shares.len() };
        let parts = self.shares.iter().enumerate().take(tried);
        parts.map(of).sum::<Option<f64>>().unwrap_or(f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlations_are_kept_as_far_as_parts_agree_on_them() {
        let kept_of = |parts: [f64; 2]| {
            let all = |_, _| (parts[0] + parts[1]) / 2.0;
            let correlations = Correlations {
                features: 2,
                shares: &[0.5, 0.5],
                all,
                of_part: |part, _, _| parts[part],
            };
            correlations.kept()
        };
        assert_eq!(kept_of([0.5, 0.5]), 1.0);
        // The square of the mean is 0.25, that of its error (0.4 / 2)^2 * 2 * 2.
        assert!((kept_of([0.9, 0.1]) - 0.36).abs() < 1e-12);
        assert_eq!(kept_of([0.9, -0.9]), 0.0);
    }

    #[test]
    fn correlations_by_chance_shrink_and_features_that_are_made_of_others_stay_so() {
        // Eight parts of four positions each, where features are made of so many coordinates.
        let is_left = |features: usize, coordinates: usize| {
            let mut random = fastrand::Rng::with_seed(5);
            let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
            let mix = Mat::from_fn(features, coordinates, |i, j| match coordinates {
                c if c == features => f64::from(u8::from(i == j)),
                _ => normal(),
            });
            let part = |_| {
                let at = &mix * Mat::from_fn(coordinates, 4, |_, _| normal());
                (&at * at.transpose()) * faer::Scale(0.25)
            };
            let parts: Vec<Mat<f64>> = (0..8).map(part).collect();
            let all = Mat::from_fn(features, features, |i, j| {
                parts.iter().map(|part| part[(i, j)]).sum::<f64>() / 8.0
            });
            let of_part = |part: usize, i, j| parts[part][(i, j)];
            shrunk(all.clone(), &[0.125; 8], of_part) == all
        };
        assert!(!is_left(24, 24));
        assert!(is_left(24, 2));
    }

    #[test]
    fn what_never_changes_goes_with_nothing() {
        let shrunk = shrunk(Mat::zeros(2, 2), &[0.5, 0.5], |_, _, _| 0.0);
        assert_eq!(shrunk, Mat::<f64>::zeros(2, 2));
    }
}
