//! Few kernels a channel, fitted to data: kernels and their mix in turn.
//!
//! A separated convolution is linear in its kernels given their mix, and in the mix given the kernels. So each is solved for in
//! turn, by least squares from the covariance of all patches and their covariance with what the layer should give; no
//! kernel is added, and none taken away.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use super::kernels::{KernelLayout, Separation};

/// How often kernels and mix take turns.
const TURNS: usize = 10;

/// What is added to the diagonal where kernels of a channel are nearly the same, relative to its mean.
const RIDGE: f64 = 1e-9;

/// The weight, `[outputs, inputs * taps]`, of a convolution with one group that has as many kernels a channel as `separation`
/// and comes nearest to `cross`, `[outputs, inputs * taps]`, the covariance of its results with its patches, `covariance`
/// being that of the patches. `None` where a channel's patches have no inverse covariance.
pub fn refine(
    layout: &KernelLayout,
    separation: &Separation,
    covariance: &Mat<f64>,
    cross: &Mat<f64>,
) -> Option<Mat<f64>> {
    let (taps, count, outputs) = (layout.taps, separation.channels.len(), layout.outputs);
    let n = layout.inputs * taps;
    let mut kernels = Mat::from_fn(count, taps, |r, tap| separation.kernels[r * taps + tap]);
    let mut mix = Mat::from_fn(outputs, count, |o, r| separation.mix[o * count + r]);
    let block = |c: usize| covariance.submatrix(c * taps, c * taps, taps, taps);
    let factors: Option<Vec<_>> = (0..layout.inputs)
        .map(|c| block(c).llt(Side::Lower).ok())
        .collect();
    let factors = factors?;
    let compose = |mix: &Mat<f64>, kernels: &Mat<f64>| {
        let mut weight = Mat::<f64>::zeros(outputs, n);
        for (r, c) in separation.channels.iter().enumerate() {
            let product = mix.col(r) * kernels.row(r);
            let mut target = weight.subcols_mut(c * taps, taps);
            target += &product;
        }
        weight
    };
    for _ in 0..TURNS {
        // What is still missing, as seen by every tap.
        let mut missing = cross - compose(&mix, &kernels) * covariance;
        for (r, c) in separation.channels.iter().enumerate() {
            let by = mix.col(r);
            let weight = by.squared_norm_l2();
            if weight <= f64::MIN_POSITIVE {
                continue;
            }
            let gradient = missing.subcols(c * taps, taps).transpose() * by;
            let step = factors[*c].solve(gradient.as_mat()) * faer::Scale(1.0 / weight);
            for tap in 0..taps {
                kernels[(r, tap)] += step[(tap, 0)];
            }
            let moved = step.transpose() * covariance.subrows(c * taps, taps);
            missing -= by * moved.row(0);
        }
        let mut seen = Mat::<f64>::zeros(count, n);
        for (r, c) in separation.channels.iter().enumerate() {
            let rows = covariance.subrows(c * taps, taps);
            seen.row_mut(r).copy_from(kernels.row(r) * rows);
        }
        let through = |of: &Mat<f64>| {
            Mat::from_fn(of.nrows(), count, |i, r| {
                let c = separation.channels[r];
                (0..taps)
                    .map(|tap| of[(i, c * taps + tap)] * kernels[(r, tap)])
                    .sum::<f64>()
            })
        };
        let mut gram = through(&seen);
        let diagonal: f64 = (0..count).map(|r| gram[(r, r)]).sum();
        let ridge = RIDGE * diagonal / count as f64;
        (0..count).for_each(|r| gram[(r, r)] += ridge);
        let target = through(cross);
        let solved = gram.llt(Side::Lower).ok()?.solve(target.transpose());
        mix = solved.transpose().to_owned();
    }
    Some(compose(&mix, &kernels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_reached_is_reached() {
        // Two channels of four taps, one kernel each; the wanted weight has just that form.
        let noise = |a: f64, b: f64| ((a * 12.9898 + b * 78.233).sin() * 43758.5453).fract();
        let layout = KernelLayout {
            groups: 1,
            inputs: 2,
            outputs: 5,
            taps: 4,
            transposed: false,
        };
        let separation = |seed: f64| Separation {
            channels: vec![0, 1],
            kernels: (0..8).map(|i| noise(seed, f64::from(i))).collect(),
            mix: (0..10).map(|i| noise(f64::from(i), seed)).collect(),
        };
        let wanted = separation(1.0);
        let weight = Mat::from_fn(5, 8, |o, i| wanted.mix[o * 2 + i / 4] * wanted.kernels[i]);
        let samples = Mat::from_fn(8, 40, |i, t| noise(i as f64 + 9.0, t as f64));
        let covariance = &samples * samples.transpose();
        let cross = &weight * &covariance;
        let found = refine(&layout, &separation(2.0), &covariance, &cross).unwrap();
        let error = (&found - &weight).norm_l2() / weight.norm_l2();
        assert!(error < 1e-3, "{error}");
    }
}
