//! What numbers a network takes: the mean, the deviation and the limits of each channel of its input.

use ndarray::{ArcArray, ArrayD, IxDyn};
use rayon::prelude::*;

use super::noise;
use super::norms::{Norms, Sums};
use crate::Result;
use crate::data::Dreams;
use crate::exec::Gradient;
use crate::ir::{Graph, Value};

/// Samples that it is found on.
const SAMPLES: usize = 16;
/// Deviations that are tried, as powers of two, and means in units of these.
const POWERS: std::ops::RangeInclusive<i32> = -8..=8;
const MEANS: [f64; 4] = [0.0, 1.0, 2.0, -1.0];
/// Steps by which each channel gets its own, and how far they go.
const STEPS: usize = 60;
const RATE: f64 = 0.1;
/// How much channels are held to what all of them have: few filters look at one alone.
const RIDGE: f64 = 0.1;
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
        let search = Search::new(graph, norms, sample, channels, seed)?;
        let (mean, deviation) = search.each(search.shared()?)?;
        Ok(Range {
            mean: mean.iter().map(|m| *m as f32).collect(),
            deviation: deviation.iter().map(|d| *d as f32).collect(),
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
    norms: Vec<&'g super::norms::Norm>,
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
    fn shared(&self) -> Result<[f64; 2]> {
        let mut best = (f64::INFINITY, [0.0, 1.0]);
        for power in POWERS {
            for mean in MEANS {
                let deviation = 2.0f64.powi(power);
                let tried = [mean * deviation, deviation];
                let (loss, ..) = self.loss(
                    &vec![tried[0]; self.channels],
                    &vec![tried[1]; self.channels],
                    false,
                )?;
                if loss < best.0 {
                    best = (loss, tried);
                }
            }
        }
        Ok(best.1)
    }

    /// From there, what fits for each channel: by the gradient, in units of the shared deviation.
    fn each(&self, [mean, deviation]: [f64; 2]) -> Result<(Vec<f64>, Vec<f64>)> {
        let mut at = vec![[0.0, 0.0]; self.channels];
        let mut moments = vec![[[0.0; 2]; 2]; self.channels];
        let numbers = |at: &[[f64; 2]]| -> (Vec<f64>, Vec<f64>) {
            let number = |[m, d]: &[f64; 2]| (mean + deviation * m, deviation * d.exp());
            at.iter().map(number).unzip()
        };
        for step in 0..STEPS {
            let (means, deviations) = numbers(&at);
            let (_, by_mean, by_deviation) = self.loss(&means, &deviations, true)?;
            let rate = RATE * super::batch::cosine(step, STEPS);
            for (c, at) in at.iter_mut().enumerate() {
                let found = [deviation * by_mean[c], deviations[c] * by_deviation[c]];
                let gradient = [0, 1].map(|i| found[i] + RIDGE * at[i]);
                for i in 0..2 {
                    at[i] -= rate * super::batch::adam(&mut moments[c][i], gradient[i], step);
                }
            }
        }
        Ok(numbers(&at))
    }

    /// How far noise of these means and deviations is from what was recorded, and the derivatives by them.
    fn loss(
        &self,
        mean: &[f64],
        deviation: &[f64],
        slopes: bool,
    ) -> Result<(f64, Vec<f64>, Vec<f64>)> {
        let range = Range {
            mean: mean.iter().map(|m| *m as f32).collect(),
            deviation: deviation.iter().map(|d| *d as f32).collect(),
            limits: Vec::new(),
        };
        let run = |z: &Vec<f32>| -> Result<_> {
            let run = self.gradient.run(array(&self.shape, range.apply(z)))?;
            let sums = self.norms.iter().map(|norm| {
                run.value(norm.x)
                    .map(|x| Sums::of(&x.view()))
                    .unwrap_or_default()
            });
            Ok((sums.collect::<Vec<Sums>>(), run))
        };
        let runs: Vec<_> = self.noise.par_iter().map(run).collect::<Result<_>>()?;
        let mut loss = 0.0;
        let mut by = Vec::new();
        for (i, norm) in self.norms.iter().enumerate() {
            let mut sums = Sums::default();
            runs.iter().for_each(|(each, _)| sums.add(&each[i]));
            let (own, slopes) = norm.compare(&sums);
            loss += own;
            by.push((norm.x, slopes));
        }
        let (mut by_mean, mut by_deviation) = (vec![0.0; self.channels], vec![0.0; self.channels]);
        if !slopes || !loss.is_finite() {
            return Ok((loss, by_mean, by_deviation));
        }
        let back = |((_, run), z): ((_, _), &Vec<f32>)| -> Result<_> {
            let gradient = self.gradient.back(run, &|value, x, adjoint| {
                for (_, slopes) in by.iter().filter(|(at, _)| *at == value) {
                    super::batch::add_slopes(&x.view(), slopes, adjoint);
                }
            })?;
            Ok((gradient, z.clone()))
        };
        let runs: Vec<_> = runs.into_iter().zip(&self.noise).collect();
        let backs: Vec<_> = runs.into_par_iter().map(back).collect::<Result<Vec<_>>>()?;
        let plane = self.shape[1..].iter().product::<usize>() / self.channels.max(1);
        for (gradient, z) in &backs {
            let planes = gradient.chunks(plane.max(1)).zip(z.chunks(plane.max(1)));
            for (i, (gradient, z)) in planes.enumerate() {
                for (g, z) in gradient.iter().zip(z) {
                    by_mean[i % self.channels] += f64::from(*g);
                    by_deviation[i % self.channels] += f64::from(*g) * f64::from(*z);
                }
            }
        }
        Ok((loss, by_mean, by_deviation))
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
