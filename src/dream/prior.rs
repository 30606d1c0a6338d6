//! What is likely of a sample whatever the network: neighbouring positions are alike.

/// Adds to `gradient` that of the mean difference of neighbours, in all spatial dimensions of `[C, ...]`, times `weight`.
pub fn add_variation(x: &[f32], shape: &[usize], weight: f32, gradient: &mut [f32]) {
    let spatial = shape.get(1..).unwrap_or_default();
    let weight = weight / x.len().max(1) as f32;
    for axis in 0..spatial.len() {
        let step: usize = spatial[axis + 1..].iter().product();
        let run = spatial[axis] * step;
        for start in (0..x.len()).step_by(run.max(1)) {
            for at in start..(start + run).saturating_sub(step) {
                let difference = x[at + step] - x[at];
                // The absolute value, rounded off where it is small.
                let slope = weight * difference / (difference * difference + 1e-4).sqrt();
                gradient[at + step] += slope;
                gradient[at] -= slope;
            }
        }
    }
}

/// Adds the gradient of the cross-entropy to a class, times `weight`; gives the loss.
pub fn add_cross_entropy(logits: &[f32], class: usize, weight: f64, gradient: &mut [f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shares: Vec<f64> = logits.iter().map(|x| f64::from(x - max).exp()).collect();
    let sum: f64 = shares.iter().sum();
    for (i, (gradient, share)) in gradient.iter_mut().zip(&shares).enumerate() {
        let wanted = if i == class { 1.0 } else { 0.0 };
        *gradient += (weight * (share / sum - wanted)) as f32;
    }
    -weight
        * (shares.get(class).copied().unwrap_or(1.0) / sum)
            .max(1e-30)
            .ln()
}
