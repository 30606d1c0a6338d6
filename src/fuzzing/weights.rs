//! Random weights in which redundancy is planted.

use super::choices::Choices;
use crate::ir::Tensor;
use crate::ir::text::normal;

/// What channels have in common with an earlier one, for every channel: which, and its factor.
///
/// A layer's weight and bias, or a batch norm's parameters, are filled by one such plan, so that they are redundant together.
pub(super) struct Plan(Vec<(usize, f32)>);

impl Plan {
    /// A plan for `channels` channels, of which some are equal, proportional (by powers of two, so that products are exact), or zero.
    pub(super) fn new(choices: &mut Choices<'_>, channels: usize) -> Plan {
        let mut plan: Vec<(usize, f32)> = (0..channels).map(|i| (i, 1.0)).collect();
        for i in 1..channels {
            let earlier = plan[choices.below(i)];
            plan[i] = match choices.below(8) {
                0 | 1 => (earlier.0, earlier.1),
                2 => (earlier.0, earlier.1 * 2.0),
                3 => (earlier.0, earlier.1 * -0.5),
                4 => (i, 0.0),
                _ => plan[i],
            };
        }
        Plan(plan)
    }

    /// Every channel its own.
    pub(super) fn distinct(channels: usize) -> Plan {
        Plan((0..channels).map(|i| (i, 1.0)).collect())
    }

    /// Normally distributed elements, channels along axis 0 as planned.
    pub(super) fn rows(&self, seed: u64, deviation: f64, shape: &[usize]) -> Vec<f32> {
        let row: usize = shape[1..].iter().product();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut elements: Vec<f32> = Vec::with_capacity(row * self.0.len());
        for (i, (source, factor)) in self.0.iter().enumerate() {
            let fresh: Vec<f32> = (0..row)
                .map(|_| (deviation * normal(&mut random)) as f32)
                .collect();
            if *source == i {
                elements.extend(fresh.iter().map(|x| x * factor))
            } else {
                // Sources keep a factor of 1 or 0; what copies a zero channel is zero.
                elements.extend_from_within(source * row..(source + 1) * row)
            }
            if *source != i {
                elements[i * row..].iter_mut().for_each(|x| *x *= factor);
            }
        }
        elements
    }
}

/// The weight of a convolution or a linear layer, `[outputs, inputs, ..]`: rows by `plan`, and some inputs that nothing reads or
/// that are read by proportional kernels.
pub(super) fn weight(choices: &mut Choices<'_>, plan: &Plan, shape: &[usize]) -> Tensor {
    let fan_in: usize = shape[1..].iter().product();
    let deviation = 1.0 / (fan_in.max(1) as f64).sqrt();
    let mut elements = plan.rows(seed(choices), deviation, shape);
    let (inputs, kernel) = (shape[1], shape[2..].iter().product::<usize>());
    if inputs > 1 && choices.one_in(3) {
        let input = choices.below(inputs);
        let factors: &[f32] = choices.pick(&[&[0.0][..], &[1.0, -2.0, 0.5]]);
        for (o, row) in elements.chunks_mut(inputs * kernel).enumerate() {
            let first: Vec<f32> = row[..kernel].to_vec();
            let slice = &mut row[input * kernel..][..kernel];
            match factors {
                [0.0] => slice.fill(0.0),
                factors => slice
                    .iter_mut()
                    .zip(first)
                    .for_each(|(x, y)| *x = y * factors[o % factors.len()]),
            }
        }
    }
    Tensor::from_vec(shape, elements)
}

/// One number a channel: equal and proportional where `plan` says so, or each its own.
pub(super) fn vector(choices: &mut Choices<'_>, plan: &Plan, mean: f32, deviation: f64) -> Tensor {
    let channels = plan.0.len();
    let own = Plan::distinct(channels);
    let plan = choices.pick(&[plan, plan, &own]);
    let elements = plan.rows(seed(choices), deviation, &[channels]);
    Tensor::from_vec(
        &[channels],
        elements.into_iter().map(|x| x + mean).collect(),
    )
}

/// Positive numbers, equal where `plan` has equal channels.
pub(super) fn positive(choices: &mut Choices<'_>, plan: &Plan) -> Tensor {
    let elements = plan.rows(seed(choices), 0.5, &[plan.0.len()]);
    let positive = elements.into_iter().map(|x| 0.5 + x.abs());
    Tensor::from_vec(&[plan.0.len()], positive.collect())
}

fn seed(choices: &mut Choices<'_>) -> u64 {
    choices.below(256) as u64
}
