//! What layers lose for what they cost, and how a budget is spent on all of them.

use crate::{Error, Result};

/// How far a pass goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// The fraction of the network's multiply-adds to keep.
    Macs(f64),
    /// The most that a layer's result may change, relative to its norm.
    Error(f64),
}

/// Refuses a fraction of a network's multiply-adds that is less than `least`, the fraction that is left by `how`.
///
/// # Errors
/// [`Error::Usage`], which names what can be reached.
pub fn refuse_unreachable(target: f64, least: f64, how: &str) -> Result<()> {
    if least <= target {
        return Ok(());
    }
    // Rounded up, so that what is named can be reached.
    let least = (1000.0 * least).ceil() / 1000.0;
    Err(Error::Usage {
        what: format!("flops={target} cannot be reached"),
        help: format!("{how} leave {least:.3} of the multiply-adds: ask for no less"),
    })
}

/// One way to do a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Multiply-adds.
    pub macs: u64,
    /// What the result loses, squared and relative to its energy.
    pub error: f64,
}

/// The ways to do a layer.
#[derive(Clone, Debug)]
pub struct Tradeoff {
    points: Vec<Point>,
    /// Those of the lower convex hull.
    hull: Vec<usize>,
}

impl Tradeoff {
    /// Of points, cheapest first; the last is the layer as it is, without error.
    pub fn new(points: Vec<Point>) -> Tradeoff {
        let mut hull: Vec<usize> = Vec::new();
        for (i, point) in points.iter().enumerate() {
            while let [.., a, b] = hull.as_slice()
                && gain(&points[*a], &points[*b]) <= gain(&points[*b], point)
            {
                hull.pop();
            }
            hull.push(i);
        }
        Tradeoff { points, hull }
    }

    /// The same points with other errors: `error` of what each had.
    pub fn with_errors(&self, error: impl Fn(f64) -> f64) -> Tradeoff {
        let of = |point: &Point| Point {
            error: error(point.error),
            ..*point
        };
        Tradeoff::new(self.points.iter().map(of).collect())
    }

    /// The points, cheapest first.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The position of the cheapest point whose error, not squared, is at most this.
    pub fn within(&self, error: f64) -> usize {
        let fits = |point: &Point| point.error <= error * error;
        let found = self.points.iter().position(fits);
        found.unwrap_or(self.points.len().saturating_sub(1))
    }
}

/// The error saved for each multiply-add that `b` costs more than `a`.
fn gain(a: &Point, b: &Point) -> f64 {
    (a.error - b.error) / (b.macs - a.macs).max(1) as f64
}

/// A point of each layer, so that all together take at most `room` multiply-adds, or the least that they can, and lose as
/// little as possible. Layers that are `fixed` stay as they are.
pub fn within_macs(layers: &[&Tradeoff], fixed: &[bool], room: u64) -> Vec<usize> {
    let start = |(layer, fixed): (&&Tradeoff, &bool)| {
        if *fixed { layer.points.len() - 1 } else { 0 }
    };
    let mut chosen: Vec<usize> = layers.iter().zip(fixed).map(start).collect();
    let least: u64 = layers
        .iter()
        .zip(&chosen)
        .map(|(layer, point)| layer.points[*point].macs)
        .sum();
    let mut room = room.saturating_sub(least);
    let mut steps: Vec<(f64, usize, [usize; 2])> = Vec::new();
    for (i, layer) in layers.iter().enumerate().filter(|(i, _)| !fixed[*i]) {
        let gain = |a: usize, b: usize| gain(&layer.points[a], &layer.points[b]);
        let pairs = layer.hull.windows(2);
        steps.extend(pairs.map(|pair| (gain(pair[0], pair[1]), i, [pair[0], pair[1]])));
    }
    // Within a layer gains fall, so its steps stay in order.
    steps.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    for (_, layer, [from, to]) in steps {
        let points = &layers[layer].points;
        let price = points[to].macs - points[from].macs;
        if chosen[layer] == from && price <= room {
            chosen[layer] = to;
            room -= price;
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(points: &[(u64, f64)]) -> Tradeoff {
        let point = |(macs, error): &(u64, f64)| Point {
            macs: *macs,
            error: *error,
        };
        Tradeoff::new(points.iter().map(point).collect())
    }

    #[test]
    fn an_error_is_kept_to_as_cheaply_as_can_be_on_the_hull_or_off_it() {
        // The middle is above the line from the first to the last.
        let layer = layer(&[(1, 1.0), (5, 0.81), (9, 0.0)]);
        assert_eq!(layer.hull, [0, 2]);
        let within = [1.0, 0.9, 0.5].map(|error| layer.within(error));
        assert_eq!(within, [0, 1, 2]);
    }

    #[test]
    fn a_budget_goes_where_it_saves_most() {
        let layers = [
            layer(&[(1, 1.0), (3, 0.2), (9, 0.0)]),
            layer(&[(1, 1.0), (3, 0.9), (9, 0.0)]),
        ];
        let layers: Vec<&Tradeoff> = layers.iter().collect();
        assert_eq!(within_macs(&layers, &[false; 2], 4), [1, 0]);
        assert_eq!(within_macs(&layers, &[false; 2], 12), [1, 2]);
        assert_eq!(within_macs(&layers, &[true, false], 10), [2, 0]);
        assert_eq!(within_macs(&layers, &[false; 2], 0), [0, 0]);
    }
}
