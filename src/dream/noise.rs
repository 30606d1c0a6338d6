//! Noise with the spectrum of natural images: as much in each octave.

use crate::random::random;

/// The share of the variance that channels of an image have in common.
const COMMON: f64 = 0.8;
/// The most channels that are taken for those of an image.
const COLOURS: usize = 4;

/// One sample `[C, ...]`, of mean 0 and variance near 1; without spatial dimensions white.
pub fn sample(shape: &[usize], seed: &[u64]) -> Vec<f32> {
    let mut generator = random(seed);
    let [channels, spatial @ ..] = shape else {
        return vec![gaussian(&mut generator) as f32];
    };
    let len: usize = spatial.iter().product();
    let common = if *channels <= COLOURS { COMMON } else { 0.0 };
    let shared = plane(spatial, &mut generator);
    let mut all = Vec::with_capacity(channels * len);
    for _ in 0..*channels {
        let own = plane(spatial, &mut generator);
        let mixed = shared.iter().zip(own);
        all.extend(mixed.map(|(s, o)| (s * common.sqrt() + o * (1.0 - common).sqrt()) as f32));
    }
    all
}

/// A sum of grids of numbers, each half as fine as the one before, spread over the plane.
fn plane(spatial: &[usize], generator: &mut fastrand::Rng) -> Vec<f64> {
    let longest = spatial.iter().copied().max().unwrap_or(1);
    let octaves = longest.ilog2() as usize + 1;
    let mut sum = vec![0.0; spatial.iter().product()];
    for octave in 0..octaves {
        let grid: Vec<usize> = spatial.iter().map(|n| (n >> octave).max(1)).collect();
        let mut elements: Vec<f64> = (0..grid.iter().product())
            .map(|_| gaussian(generator))
            .collect();
        let mut lengths = grid;
        for (axis, n) in spatial.iter().enumerate() {
            elements = stretched(&elements, &lengths, axis, *n);
            lengths[axis] = *n;
        }
        // What lies between numbers is their mean, and varies less.
        let variance = elements.iter().map(|x| x * x).sum::<f64>() / elements.len().max(1) as f64;
        let weight = if octave + 1 == octaves {
            1.0
        } else {
            variance.max(1e-12).sqrt().recip()
        };
        sum.iter_mut()
            .zip(&elements)
            .for_each(|(sum, x)| *sum += weight * x);
    }
    let weight = (octaves as f64).sqrt().recip();
    sum.iter_mut().for_each(|x| *x *= weight);
    sum
}

/// The axis linearly resampled to `n` positions.
fn stretched(elements: &[f64], lengths: &[usize], axis: usize, n: usize) -> Vec<f64> {
    let from = lengths[axis];
    let inner: usize = lengths[axis + 1..].iter().product();
    let mut result = Vec::with_capacity(elements.len() / from.max(1) * n);
    for block in elements.chunks_exact((from * inner).max(1)) {
        for o in 0..n {
            let at =
                ((o as f64 + 0.5) * from as f64 / n as f64 - 0.5).clamp(0.0, (from - 1) as f64);
            let (lower, share) = (at as usize, at.fract());
            let upper = (lower + 1).min(from - 1);
            result.extend((0..inner).map(|i| {
                block[lower * inner + i] * (1.0 - share) + block[upper * inner + i] * share
            }));
        }
    }
    result
}

/// Of mean 0 and variance 1 (Box and Muller).
pub fn gaussian(generator: &mut fastrand::Rng) -> f64 {
    let (radius, angle) = (1.0 - generator.f64(), generator.f64());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
