//! Adaptive hashing of a layer's scalar weights: the first step of RED (Yvinec et al., NeurIPS 2021, section 3.1).
//!
//! A Gaussian kernel density estimate over the weights has modes; every weight becomes the mode of its bin, the bins being
//! delimited by the density's minima. The paper leaves the bandwidth open, and the textbook ones destroy a network, so it is
//! found by bisection: the widest one whose relative error `||w - w'|| / ||w||` stays within a budget.
//!
//! The estimate is binned. The weights are read twice: once to count them in narrow cells, once to replace them. In between
//! each bandwidth is tried on the cells alone, joined to bins of a sixth of the bandwidth, so its cost does not depend on the
//! number of weights.

use rayon::prelude::*;

use crate::ir::{DType, Real, Tensor};

/// What hashing made of a tensor.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Every weight has become a mode.
    Hashed {
        /// The weights, of the same type and shape.
        tensor: Tensor,
        /// The number of distinct values, a kept zero not counted.
        modes: usize,
        /// `||w - w'|| / ||w||`.
        relative_error: f64,
        /// The bandwidth found, in units of the weights.
        bandwidth: f64,
    },
    /// The weights stay as they are.
    Unchanged {
        /// Why.
        reason: String,
    },
}

/// Fewer weights than this say nothing about a density.
const MIN_WEIGHTS: usize = 32;
/// The most cells that weights are counted in; a range so wide that its cells miss the budget is given up.
const MAX_CELLS: usize = 1 << 18;
/// The finest bandwidth tried first, in Silverman's and for an error of 1: ordinary layers need five times as much for theirs.
const FINEST: f64 = 0.5;
/// Bins of the estimate a bandwidth.
const BINS: usize = 6;
/// How far the kernel reaches, in bins: four bandwidths.
const REACH: usize = 4 * BINS;
/// Halvings of the interval in which the bandwidth is looked for: it is found to within 1 %.
const BISECTIONS: usize = 10;
/// In how many parts weights are counted. Fixed, so that sums do not depend on the number of threads.
const PARTS: usize = 8;

/// Replaces every weight by a mode of the density of all weights, with the widest kernel that keeps the relative error of the
/// tensor within `error`. Weights that are exactly zero, pruned ones that is, stay so and do not count.
pub fn hash_weights(tensor: &Tensor, error: f64) -> Outcome {
    let hashed = match tensor.dtype() {
        DType::F64 => hash::<f64>(tensor, error),
        dtype if dtype.is_float() => hash::<f32>(tensor, error),
        dtype => Err(format!("{dtype} weights are not hashed")),
    };
    hashed.unwrap_or_else(|reason| Outcome::Unchanged { reason })
}

fn hash<T: Real>(tensor: &Tensor, error: f64) -> Result<Outcome, String> {
    let weights = tensor.elements::<T>();
    let range = Range::of(&weights)?;
    let mut cells = Cells::count(&weights, &range, error);
    let mut found = widest(&cells, error);
    if found.is_none() && cells.counts.len() < MAX_CELLS {
        cells = Cells::count(&weights, &range, 0.0);
        found = widest(&cells, error);
    }
    let (bandwidth, modes) = found.ok_or_else(|| {
        format!(
            "the weights spread too far: {MAX_CELLS} cells do not keep the error within {error}"
        )
    })?;
    if modes.len() < 2 {
        return Err("all weights would become one".to_string());
    }
    // What a weight in each cell becomes, rounded to the tensor's type.
    let targets = modes
        .iter()
        .flat_map(|mode| std::iter::repeat_n(mode.at, mode.cells));
    let targets = Tensor::from_f64(tensor.dtype(), &[cells.counts.len()], targets);
    let targets = targets.elements::<T>();
    let mut hashed = vec![T::zero(); weights.len()];
    let part = weights.len().div_ceil(PARTS);
    let squares: Vec<f64> = hashed
        .par_chunks_mut(part)
        .zip(weights.par_chunks(part))
        .map(|(hashed, weights)| {
            let mut sum = 0.0;
            for (target, w) in hashed.iter_mut().zip(weights) {
                if *w != T::zero() {
                    *target = targets[cells.of(*w)];
                    sum += (*w - *target).to_f64().powi(2);
                }
            }
            sum
        })
        .collect();
    let relative_error = (squares.iter().sum::<f64>() / range.square_sum).sqrt();
    // Rounding to a narrow type comes on top of what was estimated.
    if relative_error.is_nan() || relative_error > error {
        return Err(format!(
            "the error is {relative_error:.2e} after rounding to {}, over the budget of {error}",
            tensor.dtype()
        ));
    }
    Ok(Outcome::Hashed {
        tensor: match tensor.dtype() == T::DTYPE {
            true => Tensor::from_vec(tensor.shape(), hashed),
            false => {
                let hashed = hashed.into_iter().map(Real::to_f64);
                Tensor::from_f64(tensor.dtype(), tensor.shape(), hashed)
            }
        },
        modes: modes.iter().filter(|mode| mode.weights > 0.0).count(),
        relative_error,
        bandwidth,
    })
}

/// Where the weights other than zero lie.
#[derive(Clone, Copy)]
struct Range {
    count: usize,
    sum: f64,
    square_sum: f64,
    min: f64,
    max: f64,
}

impl Range {
    /// The range of weights whose density says something.
    fn of<T: Real>(weights: &[T]) -> Result<Range, String> {
        let part = weights.len().div_ceil(PARTS).max(MIN_WEIGHTS);
        let parts: Vec<Range> = weights.par_chunks(part).map(Range::of_part).collect();
        let all = parts.into_iter().reduce(Range::joined);
        let Some(all) = all.filter(|all| all.count >= MIN_WEIGHTS) else {
            return Err(format!("fewer than {MIN_WEIGHTS} weights"));
        };
        // A NaN is in the sums, though not in the extremes.
        if !(all.square_sum.is_finite() && all.sum.is_finite()) {
            return Err("a weight is NaN, infinite or huge".to_string());
        }
        if all.square_sum <= 0.0 || (all.max - all.min) / MAX_CELLS as f64 <= 0.0 {
            return Err("all weights are equal".to_string());
        }
        Ok(all)
    }

    fn of_part<T: Real>(weights: &[T]) -> Range {
        let empty = Range {
            count: 0,
            sum: 0.0,
            square_sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        };
        let weights = weights.iter().map(|w| Real::to_f64(*w));
        weights.filter(|w| *w != 0.0).fold(empty, |all, w| Range {
            count: all.count + 1,
            sum: all.sum + w,
            square_sum: all.square_sum + w * w,
            min: all.min.min(w),
            max: all.max.max(w),
        })
    }

    fn joined(self, other: Range) -> Range {
        Range {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            square_sum: self.square_sum + other.square_sum,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// Silverman's bandwidth, `1.06 sigma n^(-1/5)`.
    fn silverman(&self) -> f64 {
        let count = self.count as f64;
        let variance = self.square_sum / count - (self.sum / count).powi(2);
        1.06 * variance.max(0.0).sqrt() * count.powf(-0.2)
    }
}

/// Weights other than zero, counted in cells of equal width.
struct Cells {
    range: Range,
    width: f64,
    counts: Vec<f64>,
    /// Sums of the weights in each cell.
    sums: Vec<f64>,
}

impl Cells {
    /// As many cells as this error should need.
    fn count<T: Real>(weights: &[T], range: &Range, error: f64) -> Cells {
        let finest = FINEST * error * range.silverman() / BINS as f64;
        let wanted = (range.max - range.min) / finest;
        let len = (wanted as usize).clamp(MIN_WEIGHTS, MAX_CELLS);
        let mut cells = Cells {
            range: *range,
            width: (range.max - range.min) / len as f64,
            counts: vec![0.0; len],
            sums: vec![0.0; len],
        };
        let part = weights.len().div_ceil(PARTS).max(len);
        let parts: Vec<(Vec<f64>, Vec<f64>)> = weights
            .par_chunks(part)
            .map(|weights| {
                let (mut counts, mut sums) = (vec![0.0; len], vec![0.0; len]);
                for w in weights.iter().filter(|w| **w != T::zero()) {
                    let cell = cells.of(*w);
                    counts[cell] += 1.0;
                    sums[cell] += Real::to_f64(*w);
                }
                (counts, sums)
            })
            .collect();
        for (counts, sums) in parts {
            cells
                .counts
                .iter_mut()
                .zip(counts)
                .for_each(|(a, b)| *a += b);
            cells.sums.iter_mut().zip(sums).for_each(|(a, b)| *a += b);
        }
        cells
    }

    /// The cell of a weight.
    fn of<T: Real>(&self, weight: T) -> usize {
        let cell = (weight.to_f64() - self.range.min) / self.width;
        (cell as usize).min(self.counts.len() - 1)
    }
}

/// A mode of the density, and the cells whose weights become it.
struct Mode {
    at: f64,
    /// How many cells, after those of the mode before.
    cells: usize,
    weights: f64,
}

/// The widest bandwidth whose error is within the budget, and its modes; `None` if the cells are too wide for it.
fn widest(cells: &Cells, error: f64) -> Option<(f64, Vec<Mode>)> {
    let budget = error * error * cells.range.square_sum;
    let attempt = |bandwidth: f64| {
        let (modes, loss) = modes(cells, bandwidth);
        (loss <= budget).then_some((bandwidth, modes))
    };
    // A bin is no narrower than a cell.
    let mut low = cells.width * BINS as f64;
    let mut high = (4.0 * cells.range.silverman()).max(low);
    if let Some(found) = attempt(high) {
        return Some(found);
    }
    let mut best = attempt(low)?;
    for _ in 0..BISECTIONS {
        let middle = (low * high).sqrt();
        match attempt(middle) {
            Some(found) => (best, low) = (found, middle),
            None => high = middle,
        }
    }
    Some(best)
}

/// The modes of the density under this bandwidth, and the sum of squared differences if every weight becomes its mode.
fn modes(cells: &Cells, bandwidth: f64) -> (Vec<Mode>, f64) {
    let width = bandwidth / BINS as f64;
    let cells_per_bin = width / cells.width;
    let bin_of = |cell: usize| REACH + ((cell as f64 + 0.5) / cells_per_bin) as usize;
    let bins = bin_of(cells.counts.len() - 1) + 1 + REACH;
    let mut histogram = vec![0.0; bins];
    for (cell, count) in cells.counts.iter().enumerate() {
        histogram[bin_of(cell)] += count;
    }
    let density = smoothed(&histogram);
    let position = |bin: f64| cells.range.min + (bin + 0.5 - REACH as f64) * width;

    let mut modes = Vec::new();
    let mut loss = cells.range.square_sum;
    let (mut cell, mut ends) = (0, bin_ends(&density).into_iter().peekable());
    while let Some((peak, end)) = ends.next() {
        let at = position(peak);
        let first = cell;
        let (mut weights, mut sum) = (0.0, 0.0);
        while cell < cells.counts.len() && (ends.peek().is_none() || bin_of(cell) < end) {
            weights += cells.counts[cell];
            sum += cells.sums[cell];
            cell += 1;
        }
        loss += at * (at * weights - 2.0 * sum);
        modes.push(Mode {
            at,
            cells: cell - first,
            weights,
        });
    }
    (modes, loss.max(0.0))
}

/// The histogram convolved with a Gaussian of [`BINS`] bins' deviation, up to a factor.
fn smoothed(histogram: &[f64]) -> Vec<f64> {
    let kernel: Vec<f64> = (0..=REACH)
        .map(|i| (-0.5 * (i as f64 / BINS as f64).powi(2)).exp())
        .collect();
    let mut density = histogram.to_vec();
    for (i, k) in kernel.iter().enumerate().skip(1) {
        let len = histogram.len().saturating_sub(i);
        for (d, h) in density[..len].iter_mut().zip(&histogram[i..]) {
            *d += k * h;
        }
        for (d, h) in density[i..].iter_mut().zip(histogram) {
            *d += k * h;
        }
    }
    density
}

/// Every maximum of the density, as a position that may lie between two bins, and the minimum after it, where its bin ends.
fn bin_ends(density: &[f64]) -> Vec<(f64, usize)> {
    let mut ends: Vec<(f64, usize)> = Vec::new();
    let (mut rising, mut run) = (true, 0);
    // `run` is where the current stretch of equal values began: a flat top's or bottom's middle is taken.
    for i in 1..density.len() {
        let (before, here) = (density[i - 1], density[i]);
        if here == before {
            continue;
        }
        match (rising, here > before) {
            (true, false) => {
                ends.push((peak(density, run, i - 1), density.len()));
                rising = false;
            }
            (false, true) => {
                if let Some((_, end)) = ends.last_mut() {
                    *end = (run + i).div_ceil(2);
                }
                rising = true;
            }
            _ => {}
        }
        run = i;
    }
    ends
}

/// The top of the density around equal bins `first..=last`: of a parabola through three bins if it is a single one.
fn peak(density: &[f64], first: usize, last: usize) -> f64 {
    let middle = (first + last) as f64 / 2.0;
    if first != last || first == 0 || last + 1 >= density.len() {
        return middle;
    }
    let (left, top, right) = (density[first - 1], density[first], density[first + 1]);
    let curvature = left - 2.0 * top + right;
    match curvature < 0.0 {
        true => middle + 0.5 * (left - right) / curvature,
        false => middle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look normal, the same on every run.
    fn normal(n: usize) -> Vec<f32> {
        let mut random = fastrand::Rng::with_seed(n as u64);
        (0..n)
            .map(|_| (0..12).map(|_| random.f32()).sum::<f32>() - 6.0)
            .collect()
    }

    fn hashed(weights: Vec<f32>, error: f64) -> (Vec<f32>, usize, f64) {
        let shape = [weights.len()];
        match hash_weights(&Tensor::from_vec(&shape, weights), error) {
            Outcome::Hashed {
                tensor,
                modes,
                relative_error,
                ..
            } => (tensor.elements().to_vec(), modes, relative_error),
            Outcome::Unchanged { reason } => panic!("{reason}"),
        }
    }

    fn reason(weights: Vec<f32>, error: f64) -> String {
        let shape = [weights.len()];
        match hash_weights(&Tensor::from_vec(&shape, weights), error) {
            Outcome::Unchanged { reason } => reason,
            Outcome::Hashed { modes, .. } => panic!("hashed to {modes} modes"),
        }
    }

    fn distinct(weights: &[f32]) -> usize {
        let mut bits: Vec<u32> = weights.iter().map(|w| w.to_bits()).collect();
        bits.sort();
        bits.dedup();
        bits.len()
    }

    #[test]
    fn clear_modes_are_found() {
        let centres = [-2.0, 0.5, 3.0];
        let noise = normal(3000);
        let weights: Vec<f32> = noise
            .iter()
            .enumerate()
            .map(|(i, x)| centres[i % 3] + 0.01 * x)
            .collect();
        let (hashed, modes, error) = hashed(weights, 0.02);
        assert_eq!(modes, 3);
        assert!(error <= 0.02, "{error}");
        for (i, w) in hashed.iter().enumerate() {
            assert!(
                (w - centres[i % 3]).abs() < 0.1,
                "{w} for {}",
                centres[i % 3]
            );
        }
    }

    #[test]
    fn the_error_is_within_the_budget_and_uses_it() {
        for n in [64, 1000, 100_000] {
            for budget in [0.3, 0.02, 0.005] {
                let weights = normal(n);
                let (after, modes, error) = hashed(weights.clone(), budget);
                let (mut difference, mut norm) = (0.0, 0.0);
                for (a, b) in weights.iter().zip(&after) {
                    difference += f64::from(a - b).powi(2);
                    norm += f64::from(*a).powi(2);
                }
                let measured = (difference / norm).sqrt();
                assert!((measured - error).abs() < 1e-6 && error <= budget);
                assert!(n < 1000 || error > 0.6 * budget, "{n} {budget}: {error}");
                assert_eq!(distinct(&after), modes);
            }
        }
    }

    #[test]
    fn zeros_stay_zero_and_do_not_count() {
        let mut weights = normal(2000);
        weights.iter_mut().step_by(2).for_each(|w| *w = 0.0);
        let (after, ..) = hashed(weights.clone(), 0.02);
        for (w, h) in weights.iter().zip(&after) {
            assert_eq!(*w == 0.0, *h == 0.0);
        }
        weights.iter_mut().for_each(|w| *w = 0.0);
        assert_eq!(reason(weights, 0.02), "fewer than 32 weights");
    }

    #[test]
    fn what_has_no_modes_is_left_alone() {
        assert_eq!(reason(normal(20), 0.02), "fewer than 32 weights");
        assert_eq!(reason(Vec::new(), 0.02), "fewer than 32 weights");
        assert_eq!(reason(vec![0.7; 100], 0.02), "all weights are equal");
        assert_eq!(
            reason(vec![f32::NAN; 100], 0.02),
            "a weight is NaN, infinite or huge"
        );
        let mut infinite = normal(100);
        infinite[3] = f32::INFINITY;
        assert_eq!(reason(infinite, 0.02), "a weight is NaN, infinite or huge");
        assert_eq!(reason(normal(1000), 2.0), "all weights would become one");
        let mut far = normal(1000);
        far.iter_mut().for_each(|w| *w *= 1e-12);
        far[0] = 1.0;
        far[1] = 2.0;
        assert_eq!(
            reason(far, 1e-13),
            "the weights spread too far: 262144 cells do not keep the error within 0.0000000000001"
        );
    }

    #[test]
    fn an_outlier_does_not_hide_the_rest() {
        let mut weights = normal(10_000);
        weights[17] = 40.0;
        let (after, modes, error) = hashed(weights, 0.02);
        assert!(modes > 20 && error <= 0.02);
        assert!((after[17] - 40.0).abs() < 0.1);
    }

    #[test]
    fn weights_of_half_precision_stay_so() {
        let weights = normal(1000).into_iter().map(f64::from);
        let tensor = Tensor::from_f64(DType::F16, &[1000], weights);
        let Outcome::Hashed { tensor, modes, .. } = hash_weights(&tensor, 0.02) else {
            panic!("not hashed");
        };
        assert_eq!(tensor.dtype(), DType::F16);
        assert_eq!(distinct(&tensor.elements::<f32>()), modes);
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let tensor = Tensor::from_vec(&[50_000], normal(50_000));
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            match pool.unwrap().install(|| hash_weights(&tensor, 0.02)) {
                Outcome::Hashed { tensor, .. } => tensor.bytes().to_vec(),
                Outcome::Unchanged { reason } => panic!("{reason}"),
            }
        };
        assert_eq!(on(1), on(3));
    }
}
