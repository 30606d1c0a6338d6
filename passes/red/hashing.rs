//! Adaptive hashing of a layer's scalar weights: the first step of RED (Yvinec et al., NeurIPS 2021, section 3.1).
//!
//! A Gaussian kernel density estimate over the weights has modes; every weight becomes the mode of its bin, the bins being
//! delimited by the density's minima. The paper leaves the bandwidth open, and the textbook ones destroy a network, so it is
//! found by bisection: the widest one whose relative error `||w - w'|| / ||w||` stays within a budget.
//!
//! The estimate is binned. The weights are read twice: once to count them in narrow cells, once to replace them. In between
//! each bandwidth is tried on the cells alone, joined to bins of a sixth of the bandwidth, so its cost does not depend on the
//! number of weights.

#[cfg(test)]
mod tests;

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
/// Bins that are smoothed at a time.
const BLOCK: usize = 2048;
/// In how many parts weights are counted. Fixed, so that sums do not depend on the number of threads.
const PARTS: usize = 8;

/// Replaces every weight by a mode of the density of all weights, with the widest kernel that keeps the relative error of the
/// tensor within `error`. Weights that are exactly zero, pruned ones that is, stay so and do not count; those around zero
/// become zero.
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
    let mut grid = Grid::count(&weights, &range, error);
    let mut found = widest(&grid, error);
    if found.is_none() && grid.cells < MAX_CELLS {
        grid = Grid::count(&weights, &range, 0.0);
        found = widest(&grid, error);
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
    let targets = Tensor::from_f64(tensor.dtype(), &[grid.cells], targets);
    let targets = targets.elements::<T>();
    let mut hashed = vec![T::zero(); weights.len()];
    let part = weights.len().div_ceil(PARTS);
    let squares: Vec<f64> = hashed
        .par_chunks_mut(part)
        .zip(weights.par_chunks(part))
        .map(|(hashed, weights)| {
            let (cell_of, mut sum) = (grid.finder(), 0.0);
            for (target, w) in hashed.iter_mut().zip(weights) {
                if *w != T::zero() {
                    *target = targets[cell_of(*w)];
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
        tensor: if tensor.dtype() == T::DTYPE {
            Tensor::from_vec(tensor.shape(), hashed)
        } else {
            let hashed = hashed.into_iter().map(Real::to_f64);
            Tensor::from_f64(tensor.dtype(), tensor.shape(), hashed)
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
struct Grid {
    range: Range,
    width: f64,
    cells: usize,
    /// Of the weights in cells before each one, and at last of all weights.
    before: Vec<Tally>,
}

/// How many weights there are, and their sum.
#[derive(Clone, Copy, Default)]
struct Tally {
    count: f64,
    sum: f64,
}

impl Grid {
    /// As many cells as this error should need.
    fn count<T: Real>(weights: &[T], range: &Range, error: f64) -> Grid {
        let finest = FINEST * error * range.silverman() / BINS as f64;
        let wanted = (range.max - range.min) / finest;
        let cells = (wanted as usize).clamp(MIN_WEIGHTS, MAX_CELLS);
        let mut grid = Grid {
            range: *range,
            width: (range.max - range.min) / cells as f64,
            cells,
            before: vec![Tally::default(); cells + 1],
        };
        let part = weights.len().div_ceil(PARTS).max(cells);
        let parts: Vec<Vec<Tally>> = weights
            .par_chunks(part)
            .map(|weights| {
                let cell_of = grid.finder();
                let mut tallies = vec![Tally::default(); cells];
                for w in weights.iter().filter(|w| **w != T::zero()) {
                    let tally = &mut tallies[cell_of(*w)];
                    tally.count += 1.0;
                    tally.sum += Real::to_f64(*w);
                }
                tallies
            })
            .collect();
        let mut total = Tally::default();
        for (cell, before) in grid.before.iter_mut().enumerate() {
            *before = total;
            for tally in parts.iter().filter_map(|part| part.get(cell)) {
                total.count += tally.count;
                total.sum += tally.sum;
            }
        }
        grid
    }

    /// Says which cell a weight is in.
    fn finder<T: Real>(&self) -> impl Fn(T) -> usize + use<T> {
        let (min, per_cell, last) = (self.range.min, self.width.recip(), self.cells - 1);
        move |weight| (((weight.to_f64() - min) * per_cell) as usize).min(last)
    }

    /// The weights in cells `first..end`.
    fn tally(&self, first: usize, end: usize) -> Tally {
        let (before, until) = (self.before[first], self.before[end]);
        Tally {
            count: until.count - before.count,
            sum: until.sum - before.sum,
        }
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
fn widest(grid: &Grid, error: f64) -> Option<(f64, Vec<Mode>)> {
    let budget = error * error * grid.range.square_sum;
    let attempt = |bandwidth: f64| {
        let (modes, loss) = modes(grid, bandwidth);
        (loss <= budget).then_some((bandwidth, modes))
    };
    // A bin is no narrower than a cell.
    let mut low = grid.width * BINS as f64;
    let mut high = (4.0 * grid.range.silverman()).max(low);
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
fn modes(grid: &Grid, bandwidth: f64) -> (Vec<Mode>, f64) {
    let width = bandwidth / BINS as f64;
    let cells_per_bin = width / grid.width;
    let bins = (grid.cells as f64 / cells_per_bin) as usize + 1 + 2 * REACH;
    // A cell is in the bin in which its middle is.
    let first_cell = |bin: usize| {
        let cell = ((bin as f64 - REACH as f64) * cells_per_bin - 0.5).ceil();
        (cell.max(0.0) as usize).min(grid.cells)
    };
    let edges: Vec<usize> = (0..=bins).map(first_cell).collect();
    let histogram: Vec<f64> = edges
        .windows(2)
        .map(|edge| grid.tally(edge[0], edge[1]).count)
        .collect();
    let density = smoothed(&histogram);
    let position = |bin: f64| grid.range.min + (bin + 0.5 - REACH as f64) * width;

    let mut first = 0;
    let mut loss = grid.range.square_sum;
    let mode = |(peak, end): (f64, usize)| {
        let (at, end) = (position(peak), edges[end]);
        let tally = grid.tally(first, end);
        // A mode that zero belongs to, and that is at zero as far as the kernel can tell, is zero: neurons of such weights are
        // then dead, not merely equal.
        let edge = |cell: usize| grid.range.min + cell as f64 * grid.width;
        let around_zero = edge(first) <= 0.0 && edge(end) > 0.0 && at.abs() <= bandwidth;
        let at = if around_zero { 0.0 } else { at };
        loss += at * (at * tally.count - 2.0 * tally.sum);
        let cells = end - first;
        first = end;
        Mode {
            at,
            cells,
            weights: tally.count,
        }
    };
    let modes = bin_ends(&density).into_iter().map(mode).collect();
    (modes, loss.max(0.0))
}

/// The histogram convolved with a Gaussian of [`BINS`] bins' deviation, up to a factor.
fn smoothed(histogram: &[f64]) -> Vec<f64> {
    let kernel = (0..=2 * REACH).map(|i| {
        let deviations = (i as f64 - REACH as f64) / BINS as f64;
        (-0.5 * deviations.powi(2)).exp()
    });
    let kernel: Vec<f64> = kernel.collect();
    let margin = vec![0.0; REACH];
    let padded = [&margin[..], histogram, &margin].concat();
    let mut density = vec![0.0; histogram.len()];
    // A block at a time, so that it stays in the cache.
    for (block, density) in density.chunks_mut(BLOCK).enumerate() {
        for (i, k) in kernel.iter().enumerate() {
            for (d, h) in density.iter_mut().zip(&padded[block * BLOCK + i..]) {
                *d += k * h;
            }
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
    if curvature < 0.0 {
        middle + 0.5 * (left - right) / curvature
    } else {
        middle
    }
}
