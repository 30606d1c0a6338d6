//! What numbers a network takes: the mean, the deviation and the limits of each channel of its input.

use ndarray::{ArcArray, ArrayD, IxDyn};
use rayon::prelude::*;

use super::noise;
use super::norms::{Norm, Norms, Sums};
use crate::Result;
use crate::data::Dreams;
use crate::exec::Gradient;
use crate::ir::{Graph, Value};

/// Samples that it is found on.
pub const SAMPLES: usize = 16;
/// Deviations that are tried, as powers of two, and means in units of these.
const POWERS: std::ops::RangeInclusive<i32> = -8..=8;
const MEANS: [f64; 4] = [0.0, 1.0, 2.0, -1.0];
/// What is tried around the best: factors of the deviation, and steps of the mean in units of it.
const FACTORS: [f64; 3] = [
    1.0,
    std::f64::consts::FRAC_1_SQRT_2,
    std::f64::consts::SQRT_2,
];
const NEARBY: [f64; 3] = [0.0, 0.5, -0.5];
/// How many deviations from the mean numbers may lie.
const REACH: f32 = 2.5;

/// For each channel a mean and a deviation, in which samples are optimised, and the least and the largest number in these.
#[derive(Clone, Debug)]
pub struct Range {
    pub mean: Vec<f32>,
    pub deviation: Vec<f32>,
    pub limits: Vec<[f32; 2]>,
}

impl Range {
    /// As was said, or else as fits the batch norms that come first.
    ///
    /// # Errors
    /// When the network cannot be run on noise.
    pub fn find(
        graph: &Graph,
        norms: &Norms,
        dreams: &Dreams,
        sample: &[usize],
        seed: u64,
    ) -> Result<Range> {
        let channels = if sample.len() > 1 { sample[0] } else { 1 };
        if let Some(range) = &dreams.range {
            let each: Vec<[f32; 2]> = range.iter().copied().cycle().take(channels).collect();
            // Natural images have about a quarter of their range for a deviation, and the mean a little below the middle.
            let deviation: Vec<f32> = each
                .iter()
                .map(|[least, largest]| (largest - least) / 4.0)
                .collect();
            let mean: Vec<f32> = each
                .iter()
                .map(|[least, largest]| (least + largest) / 2.0)
                .collect();
            let limits = each.iter().zip(mean.iter().zip(&deviation));
            let limits = limits
                .map(|(ends, (m, d))| ends.map(|end| (end - m) / d))
                .collect();
            return Ok(Range {
                mean,
                deviation,
                limits,
            });
        }
        // Of single channels the first layers say little: most of their filters look at differences.
        let [mean, deviation] = Search::new(graph, norms, sample, channels, seed)?.best()?;
        Ok(Range {
            mean: vec![mean as f32; channels],
            deviation: vec![deviation as f32; channels],
            limits: vec![[-REACH, REACH]; channels],
        })
    }

    /// The numbers that the network takes, for those of a sample in deviations.
    pub fn apply(&self, z: &[f32]) -> Vec<f32> {
        let plane = (z.len() / self.mean.len().max(1)).max(1);
        let channels = self.mean.iter().zip(&self.deviation).cycle();
        let planes = z.chunks(plane).zip(channels);
        planes
            .flat_map(|(z, (mean, deviation))| z.iter().map(move |z| mean + deviation * z))
            .collect()
    }
}

/// Noise, and the batch norms that come first.
struct Search<'g> {
    norms: Vec<&'g Norm>,
    gradient: Gradient<'g, f32>,
    noise: Vec<Vec<f32>>,
    shape: Vec<usize>,
    channels: usize,
}

impl<'g> Search<'g> {
    fn new(
        graph: &'g Graph,
        norms: &'g Norms,
        sample: &[usize],
        channels: usize,
        seed: u64,
    ) -> Result<Search<'g>> {
        let norms: Vec<_> = norms.all.iter().filter(|norm| norm.first).collect();
        let targets: Vec<Value> = norms.iter().map(|norm| norm.x).collect();
        let chunk = super::batch::chunk(graph, sample);
        let noise = (0..SAMPLES.div_ceil(chunk)).map(|i| {
            let samples =
                (i * chunk..(i + 1) * chunk).map(|i| noise::sample(sample, &[seed, 1, i as u64]));
            samples.flatten().collect()
        });
        Ok(Search {
            norms,
            gradient: Gradient::new(graph, &targets)?,
            noise: noise.collect(),
            shape: [&[chunk], sample].concat(),
            channels,
        })
    }

    /// The mean and the deviation that fit best if all channels have the same.
    fn best(&self) -> Result<[f64; 2]> {
        let coarse = POWERS.flat_map(|power| {
            let deviation = 2.0f64.powi(power);
            MEANS.map(|mean| [mean * deviation, deviation])
        });
        let [mean, deviation] = self.best_of(coarse)?;
        let fine = FACTORS
            .into_iter()
            .flat_map(|factor| NEARBY.map(|step| [mean + step * deviation, factor * deviation]));
        self.best_of(fine)
    }

    /// The first of the best of these.
    fn best_of(&self, all: impl Iterator<Item = [f64; 2]>) -> Result<[f64; 2]> {
        let mut best = (f64::INFINITY, [0.0, 1.0]);
        for tried in all {
            let loss = self.loss(tried)?;
            if loss < best.0 {
                best = (loss, tried);
            }
        }
        Ok(best.1)
    }

    /// How far noise of this mean and deviation is from what was recorded.
    fn loss(&self, [mean, deviation]: [f64; 2]) -> Result<f64> {
        let range = Range {
            mean: vec![mean as f32; self.channels],
            deviation: vec![deviation as f32; self.channels],
            limits: Vec::new(),
        };
        let sums = |z: &Vec<f32>| -> Result<Vec<Sums>> {
            let run = self.gradient.run(array(&self.shape, range.apply(z)))?;
            let of = |norm: &&Norm| run.value(norm.x).map(|x| Sums::of(&x.view()));
            Ok(self
                .norms
                .iter()
                .map(|norm| of(norm).unwrap_or_default())
                .collect())
        };
        let parts: Vec<Vec<Sums>> = self.noise.par_iter().map(sums).collect::<Result<_>>()?;
        let loss = self.norms.iter().enumerate().map(|(i, norm)| {
            let mut sums = Sums::default();
            parts.iter().for_each(|each| sums.add(&each[i]));
            norm.compare(&sums).0
        });
        Ok(loss.sum())
    }
}

/// These elements in this shape.
pub fn array(shape: &[usize], elements: Vec<f32>) -> ArcArray<f32, IxDyn> {
    // As many as the shape says: whoever made them made as many.
    let array = ArrayD::from_shape_vec(shape, elements);
    array
        .unwrap_or_else(|_| ArrayD::zeros(IxDyn(shape)))
        .into_shared()
}
