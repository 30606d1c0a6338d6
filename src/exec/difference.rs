//! How far arrays are from others, over any number of pairs.

use ndarray::{ArrayViewD, Axis, Zip};

use crate::ir::Real;

/// The differences of pairs of arrays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Difference {
    /// The largest difference of two elements.
    pub max_abs: f64,
    /// That of each pair relative to the largest element of its first array; the largest of these.
    pub max_rel: f64,
    /// The sum of squared differences, and that of the squared elements of the first arrays.
    squares: f64,
    energy: f64,
    /// The cosine of the pair where it is smallest.
    cosine: Option<f64>,
    /// The places at which a class, or a whole number, was compared, and those at which it is the same.
    positions: usize,
    same: usize,
}

impl Difference {
    /// Adds a pair of arrays. Numbers that are not finite are equal, or else further apart than all others.
    ///
    /// # Errors
    /// That their shapes are not the same.
    pub(crate) fn add<T: Real>(
        &mut self,
        before: ArrayViewD<T>,
        after: ArrayViewD<T>,
    ) -> Result<(), String> {
        if before.shape() != after.shape() {
            return Err(format!(
                "its shape is {:?} instead of {:?}",
                after.shape(),
                before.shape()
            ));
        }
        let (mut max_abs, mut largest) = (0.0f64, 0.0f64);
        let (mut aa, mut bb, mut ab) = (0.0f64, 0.0f64, 0.0f64);
        Zip::from(before).and(after).for_each(|&a, &b| {
            let (a, b) = (a.to_f64(), b.to_f64());
            let difference = if a == b || a.is_nan() && b.is_nan() {
                0.0
            } else if a.is_finite() && b.is_finite() {
                (a - b).abs()
            } else {
                f64::INFINITY
            };
            max_abs = max_abs.max(difference);
            self.squares += difference * difference;
            if a.is_finite() {
                largest = largest.max(a.abs());
                aa += a * a;
            }
            if a.is_finite() && b.is_finite() {
                (bb, ab) = (bb + b * b, ab + a * b);
            }
        });
        self.max_abs = self.max_abs.max(max_abs);
        self.max_rel = self.max_rel.max(ratio(max_abs, largest));
        self.energy += aa;
        let cosine = match (aa == 0.0, bb == 0.0) {
            (true, true) => 1.0,
            (false, false) => (ab / (aa * bb).sqrt()).min(1.0), // Rounding may take it past 1.
            _ => 0.0,
        };
        self.cosine = Some(self.cosine.map_or(cosine, |least| least.min(cosine)));
        Ok(())
    }

    /// Compares the largest class at each position of a pair of one shape.
    pub(crate) fn add_classes<T: Real>(&mut self, before: ArrayViewD<T>, after: ArrayViewD<T>) {
        let Some(axis) = class_axis(before.ndim()).filter(|axis| before.len_of(*axis) > 1) else {
            return;
        };
        for (a, b) in before.lanes(axis).into_iter().zip(after.lanes(axis)) {
            self.positions += 1;
            self.same += usize::from(argmax(a.iter()) == argmax(b.iter()));
        }
    }

    /// Compares each element of a pair of one shape: classes, or other whole numbers.
    pub(crate) fn add_equal<T: Real>(&mut self, before: ArrayViewD<T>, after: ArrayViewD<T>) {
        self.positions += before.len();
        self.same += before.iter().zip(&after).filter(|(a, b)| a == b).count();
    }

    /// The root of the mean squared difference, relative to that of the first arrays.
    pub(crate) fn change(&self) -> f64 {
        ratio(self.squares, self.energy).sqrt()
    }

    /// The cosine of the angle between the arrays of a pair, of the pair where it is smallest.
    pub(crate) fn cosine(&self) -> f64 {
        self.cosine.unwrap_or(1.0)
    }

    /// The share of places at which the class is the same; `None` if there was none.
    pub(crate) fn agreement(&self) -> Option<f64> {
        (self.positions > 0).then(|| self.same as f64 / self.positions as f64)
    }
}

/// The axis of classes, if there are any: 1 for images, the last one otherwise.
pub(crate) fn class_axis(rank: usize) -> Option<Axis> {
    match rank {
        0 => None,
        1..=3 => Some(Axis(rank - 1)),
        _ => Some(Axis(1)),
    }
}

/// 0 where nothing moved, also relative to nothing.
fn ratio(moved: f64, of: f64) -> f64 {
    if moved == 0.0 { 0.0 } else { moved / of }
}

/// The position of the largest number; the first of several that are equally large.
pub(super) fn argmax<'x, T: Real>(xs: impl Iterator<Item = &'x T>) -> Option<usize> {
    let larger = |best: Option<(usize, T)>, (i, x): (usize, &T)| match best {
        Some((_, max)) if max >= *x => best,
        _ => Some((i, *x)),
    };
    xs.enumerate().fold(None, larger).map(|(i, _)| i)
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, arr2};

    use super::*;

    fn difference(before: [[f64; 2]; 2], after: [[f64; 2]; 2]) -> Difference {
        let (a, b): (ArrayD<f64>, ArrayD<f64>) =
            (arr2(&before).into_dyn(), arr2(&after).into_dyn());
        let mut difference = Difference::default();
        difference.add(a.view(), b.view()).unwrap();
        difference.add_classes(a.view(), b.view());
        difference
    }

    #[test]
    fn numbers_are_those_worked_out_by_hand() {
        let found = difference([[3.0, 4.0], [0.0, 0.0]], [[4.0, 3.0], [0.0, 0.0]]);
        assert_eq!((found.max_abs, found.max_rel), (1.0, 0.25));
        assert!((found.change() - (2.0f64 / 25.0).sqrt()).abs() < 1e-12);
        assert!((found.cosine() - 24.0 / 25.0).abs() < 1e-12);
        assert_eq!(found.agreement(), Some(0.5));
    }

    #[test]
    fn what_is_not_finite_is_equal_or_furthest() {
        let nan = [[f64::NAN, f64::INFINITY], [1.0, 2.0]];
        assert_eq!(difference(nan, nan).max_rel, 0.0);
        let found = difference([[1.0, 2.0], [1.0, 2.0]], [[1.0, f64::NAN], [1.0, 2.0]]);
        assert_eq!(
            (found.max_rel, found.change()),
            (f64::INFINITY, f64::INFINITY)
        );
    }

    #[test]
    fn a_change_of_nothing_is_infinite_and_no_change_is_none() {
        let zero = [[0.0; 2]; 2];
        assert_eq!(difference(zero, zero).cosine(), 1.0);
        let found = difference(zero, [[0.0, 1.0], [0.0, 0.0]]);
        assert_eq!((found.max_rel, found.cosine()), (f64::INFINITY, 0.0));
    }
}
