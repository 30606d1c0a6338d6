//! Samples that are optimised together: their statistics are those of all of them.

use std::ops::Range as Positions;

use ndarray::ArrayViewD;
use rayon::prelude::*;

use super::noise;
use super::norms::{Norms, Slopes, Sums};
use super::prior::{add_cross_entropy, add_variation};
use super::range::{Range, array};
use super::shift::Shift;
use crate::Result;
use crate::exec::{Gradient, Run};
use crate::ir::Graph;
use crate::random::random;

/// The first learning rate, in deviations of the input.
const RATE: f64 = 0.1;
/// Decay of the means of gradients and of their squares (Kingma and Ba, 2015).
const DECAY: [f64; 2] = [0.9, 0.999];
/// What counts beside batch norms.
const CROSS_ENTROPY: f64 = 0.1;
const VARIATION: f32 = 0.02;
/// Elements of the input that are run together: enough for long loops, few enough for a cache.
const ELEMENTS: usize = 1 << 14;
const MOST: usize = 64;

/// How many samples are run together.
pub fn chunk(graph: &Graph, sample: &[usize]) -> usize {
    let input = graph.sole_input().map(|input| graph.ty(input.into()));
    // Where the network says how many it takes, it takes no others.
    let fixed = input.and_then(|ty| ty.len(0));
    let elements: usize = sample.iter().product();
    fixed
        .unwrap_or_else(|| (ELEMENTS / elements.max(1)).clamp(1, MOST))
        .max(1)
}

/// Bytes that the values of one sample take between the ways there and back.
pub fn bytes_of_sample(
    gradient: &Gradient<f32>,
    range: &Range,
    sample: &[usize],
    chunk: usize,
) -> Result<usize> {
    let shape = [&[chunk], sample].concat();
    let zeros = vec![0.0; shape.iter().product()];
    let run = gradient.run(array(&shape, range.apply(&zeros)))?;
    Ok(run.elements() * size_of::<f32>() / chunk)
}

/// Half a cosine from 1 to 0.
fn cosine(step: usize, steps: usize) -> f64 {
    0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos())
}

/// Adds `constant + slope x` of each channel of `x [n, C, ...]`.
fn add_slopes(x: &ArrayViewD<f32>, slopes: &Slopes, adjoint: &mut [f32]) {
    let plane: usize = x.shape().get(2..).unwrap_or_default().iter().product();
    let x = x.as_standard_layout();
    let planes = x.as_slice().unwrap_or_default().chunks_exact(plane.max(1));
    for ((x, adjoint), [constant, slope]) in planes
        .zip(adjoint.chunks_exact_mut(plane.max(1)))
        .zip(slopes.iter().cycle())
    {
        for (adjoint, x) in adjoint.iter_mut().zip(x) {
            *adjoint += constant + slope * x;
        }
    }
}

/// Samples, in chunks that are run one by one.
pub struct Batch<'n> {
    norms: &'n Norms,
    range: &'n Range,
    /// The shape of a chunk.
    shape: Vec<usize>,
    chunks: Vec<Chunk>,
    /// Samples, without those that fill the last chunk.
    count: usize,
}

struct Chunk {
    /// In deviations from the mean, `[n, C, ...]`.
    z: Vec<f32>,
    /// Adam's means of the gradient and of its square.
    moments: [Vec<f32>; 2],
    classes: Vec<usize>,
    /// What its random numbers begin with.
    seed: [u64; 2],
}

impl<'n> Batch<'n> {
    /// The samples of these positions, as noise.
    pub fn new(
        positions: Positions<usize>,
        norms: &'n Norms,
        range: &'n Range,
        sample: &[usize],
        chunk: usize,
        seed: u64,
    ) -> Batch<'n> {
        let count = positions.len();
        let starts: Vec<usize> = positions.step_by(chunk).collect();
        let made = starts.par_iter().map(|start| {
            let positions = || (*start..start + chunk).map(|i| i as u64);
            let z: Vec<f32> = positions()
                .flat_map(|i| noise::sample(sample, &[seed, 0, i]))
                .collect();
            Chunk {
                seed: [seed, *start as u64],
                moments: [vec![0.0; z.len()], vec![0.0; z.len()]],
                z,
                classes: positions()
                    .map(|i| random(&[seed, 2, i]).usize(0..norms.classes.max(1)))
                    .collect(),
            }
        });
        Batch {
            norms,
            range,
            shape: [&[chunk], sample].concat(),
            chunks: made.collect(),
            count,
        }
    }

    /// One step of so many towards what batch norms recorded; gives the loss before it.
    ///
    /// # Errors
    /// When the network cannot be run.
    pub fn step<'g>(
        &mut self,
        gradient: &Gradient<'g, f32>,
        step: usize,
        steps: usize,
    ) -> Result<f64> {
        let sample = &self.shape[1..];
        let run = |chunk: &Chunk| -> Result<(Run<'g, f32>, Vec<Sums>)> {
            let mut x = self.range.apply(&chunk.z);
            chunk.shift(sample, step).apply(sample, &mut x);
            let run = gradient.run(array(&self.shape, x))?;
            let sums = self.norms.all.iter().map(|norm| {
                run.value(norm.x)
                    .map(|x| Sums::of(&x.view()))
                    .unwrap_or_default()
            });
            let sums = sums.collect();
            Ok((run, sums))
        };
        let runs: Vec<(Run<'g, f32>, Vec<Sums>)> =
            self.chunks.par_iter().map(run).collect::<Result<_>>()?;
        let (loss, slopes) = self.compare(&runs);
        let samples = self.chunks.len() * self.shape[0];
        let (norms, range, shape) = (self.norms, self.range, &self.shape);
        let move_on = |(chunk, (run, _)): (&mut Chunk, (Run<'g, f32>, Vec<Sums>))| -> Result<()> {
            let classes = &chunk.classes;
            let mut found = gradient.back(run, &|value, x, adjoint| {
                let own = norms.all.iter().zip(&slopes);
                for (_, slopes) in own.filter(|(norm, _)| norm.x == value) {
                    add_slopes(&x.view(), slopes, adjoint);
                }
                if norms.logits == Some(value) {
                    let x = x.contiguous();
                    let rows = x
                        .as_slice()
                        .unwrap_or_default()
                        .chunks_exact(norms.classes.max(1));
                    let weight = CROSS_ENTROPY / samples as f64;
                    for ((row, adjoint), class) in rows
                        .zip(adjoint.chunks_exact_mut(norms.classes.max(1)))
                        .zip(classes)
                    {
                        add_cross_entropy(row, *class, weight, adjoint);
                    }
                }
            })?;
            chunk.shift(&shape[1..], step).undo(&shape[1..], &mut found);
            chunk.update(found, range, shape, samples, (step, steps));
            Ok(())
        };
        self.chunks.par_iter_mut().zip(runs).try_for_each(move_on)?;
        Ok(loss)
    }

    /// The loss of the whole batch, and what each batch norm adds to derivatives; sums are made in order.
    fn compare(&self, runs: &[(Run<f32>, Vec<Sums>)]) -> (f64, Vec<Slopes>) {
        let mut loss = 0.0;
        let each = self.norms.all.iter().enumerate().map(|(i, norm)| {
            let mut sums = Sums::default();
            runs.iter().for_each(|(_, each)| sums.add(&each[i]));
            let (own, slopes) = norm.compare(&sums);
            loss += own;
            slopes
        });
        let slopes = each.collect();
        (loss, slopes)
    }

    /// The samples as the network takes them.
    pub fn samples(&self) -> Vec<f32> {
        let sample: usize = self.shape[1..].iter().product();
        let all = self
            .chunks
            .iter()
            .flat_map(|chunk| self.range.apply(&chunk.z));
        all.take(self.count * sample).collect()
    }
}

impl Chunk {
    /// How its samples are moved in this step.
    fn shift(&self, sample: &[usize], step: usize) -> Shift {
        let [seed, start] = self.seed;
        Shift::random(sample, &mut random(&[seed, 3, start, step as u64]))
    }

    /// A step of Adam, within the limits.
    fn update(
        &mut self,
        mut gradient: Vec<f32>,
        range: &Range,
        shape: &[usize],
        samples: usize,
        (step, steps): (usize, usize),
    ) {
        let sample: usize = shape[1..].iter().product();
        let plane = (sample / range.mean.len().max(1)).max(1);
        for (gradient, deviation) in gradient
            .chunks_mut(plane)
            .zip(range.deviation.iter().cycle())
        {
            gradient.iter_mut().for_each(|g| *g *= deviation);
        }
        let weight = VARIATION / samples as f32;
        for (z, gradient) in self
            .z
            .chunks_exact(sample)
            .zip(gradient.chunks_exact_mut(sample))
        {
            add_variation(z, &shape[1..], weight, gradient);
        }
        let rate = (RATE * cosine(step, steps)) as f32;
        let [b1, b2] = DECAY.map(|decay| decay as f32);
        let unbiased = DECAY.map(|decay| (1.0 - decay.powi(step as i32 + 1)) as f32);
        let [means, squares] = &mut self.moments;
        let states = means.iter_mut().zip(squares.iter_mut());
        for (i, ((z, g), (mean, square))) in self.z.iter_mut().zip(gradient).zip(states).enumerate()
        {
            if !g.is_finite() {
                continue;
            }
            *mean = b1 * *mean + (1.0 - b1) * g;
            *square = b2 * *square + (1.0 - b2) * g * g;
            let [least, largest] = range.limits[i / plane % range.limits.len()];
            let direction = *mean / unbiased[0] / ((*square / unbiased[1]).sqrt() + 1e-12);
            *z = (*z - rate * direction).clamp(least, largest);
        }
    }
}
