//! How far the outputs of one file are from those of another.

use std::fmt;

use serde::Serialize;

use super::runtime::Output;
use crate::ir::Tensor;
use crate::report::Small;

/// How far one output moved, over all inputs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputChange {
    /// The output.
    pub name: String,
    /// The largest difference of two elements, relative to the largest element of the output.
    pub max_rel: f64,
    /// The root of the mean squared difference, relative to that of the output: 0.1 for a change of 10 %.
    pub change: f64,
    /// The cosine of the angle between both, of the input where it is smallest.
    pub cosine: f64,
    /// The share of positions whose largest class is the same, where there is an axis of classes; of whole numbers the share
    /// that is equal.
    pub agreement: Option<f64>,
}

impl fmt::Display for OutputChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "max_rel {}, cosine {:.6}",
            Small(self.max_rel),
            self.cosine
        )?;
        match self.agreement {
            Some(agreement) => write!(f, ", same argmax {:.1} %", 100.0 * agreement),
            None => Ok(()),
        }
    }
}

/// Differences of outputs, added up over inputs.
pub(super) struct Differences(Vec<(String, Option<Sum>)>);

#[derive(Default)]
struct Sum {
    max_rel: f64,
    squares: f64,
    energy: f64,
    cosine: Option<f64>,
    positions: usize,
    same: usize,
}

impl Differences {
    /// For a network with such outputs.
    pub(super) fn new(outputs: &[Output]) -> Differences {
        let sum = |output: &Output| {
            let sum = output.tensor.is_some().then(Sum::default);
            (output.name.clone(), sum)
        };
        Differences(outputs.iter().map(sum).collect())
    }

    /// Adds what both files return for one input.
    ///
    /// # Errors
    /// What is not as it was: the number of outputs, the name, type or shape of one.
    pub(super) fn add(&mut self, before: &[Output], after: &[Output]) -> Result<(), String> {
        if before.len() != after.len() {
            return Err(format!(
                "it has {} outputs, and the original {}",
                after.len(),
                before.len()
            ));
        }
        for ((name, sum), (a, b)) in self.0.iter_mut().zip(before.iter().zip(after)) {
            if a.name != b.name {
                return Err(format!("its output `{}` was called `{}`", b.name, a.name));
            }
            match (sum, &a.tensor, &b.tensor) {
                (Some(sum), Some(a), Some(b)) => {
                    if a.dtype() != b.dtype() || a.shape() != b.shape() {
                        return Err(format!(
                            "its output `{name}` is {}{:?}, and was {}{:?}",
                            b.dtype(),
                            b.shape(),
                            a.dtype(),
                            a.shape()
                        ));
                    }
                    sum.add(a, b);
                }
                (None, None, None) => {}
                _ => return Err(format!("its output `{name}` is of another kind")),
            }
        }
        Ok(())
    }

    pub(super) fn not_compared(&self) -> Vec<String> {
        let without = self.0.iter().filter(|(_, sum)| sum.is_none());
        without.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn changes(self) -> Vec<OutputChange> {
        let change = |(name, sum): (String, Option<Sum>)| {
            let sum = sum?;
            Some(OutputChange {
                name,
                max_rel: sum.max_rel,
                change: ratio(sum.squares, sum.energy).sqrt(),
                cosine: sum.cosine.unwrap_or(1.0),
                agreement: (sum.positions > 0).then(|| sum.same as f64 / sum.positions as f64),
            })
        };
        self.0.into_iter().filter_map(change).collect()
    }
}

/// 0 where nothing moved, also relative to nothing.
fn ratio(moved: f64, of: f64) -> f64 {
    if moved == 0.0 { 0.0 } else { moved / of }
}

impl Sum {
    fn add(&mut self, before: &Tensor, after: &Tensor) {
        let (a, b) = (before.elements::<f64>(), after.elements::<f64>());
        let (mut largest, mut max_abs, mut squares) = (0.0f64, 0.0f64, 0.0f64);
        let (mut aa, mut bb, mut ab) = (0.0f64, 0.0f64, 0.0f64);
        for (&a, &b) in a.iter().zip(b.iter()) {
            if a == b || a.is_nan() && b.is_nan() {
                if a.is_finite() {
                    (aa, bb, ab) = (aa + a * a, bb + b * b, ab + a * b);
                    largest = largest.max(a.abs());
                }
                continue;
            }
            if !a.is_finite() || !b.is_finite() {
                // What became infinite, or was, moved further than every number.
                (max_abs, squares) = (f64::INFINITY, f64::INFINITY);
                continue;
            }
            (aa, bb, ab) = (aa + a * a, bb + b * b, ab + a * b);
            largest = largest.max(a.abs());
            max_abs = max_abs.max((a - b).abs());
            squares += (a - b) * (a - b);
        }
        self.max_rel = self.max_rel.max(ratio(max_abs, largest));
        self.squares += squares;
        self.energy += aa;
        let cosine = match aa == 0.0 && bb == 0.0 {
            true => 1.0,
            false if aa == 0.0 || bb == 0.0 => 0.0,
            // Rounding may take it past 1.
            false => (ab / (aa * bb).sqrt()).min(1.0),
        };
        self.cosine = Some(self.cosine.map_or(cosine, |least| least.min(cosine)));
        if before.dtype().is_float() {
            self.add_classes(before.shape(), &a, &b);
        } else {
            self.positions += a.len();
            self.same += a.iter().zip(b.iter()).filter(|(a, b)| a == b).count();
        }
    }

    /// Compares the largest class at each position: axis 1 is that of classes for images, the last one otherwise.
    fn add_classes(&mut self, shape: &[usize], a: &[f64], b: &[f64]) {
        let axis = match shape.len() {
            0 | 1 => return,
            rank @ 2..=3 => rank - 1,
            _ => 1,
        };
        let (classes, inner) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
        if classes < 2 {
            return;
        }
        let largest = |x: &[f64], start: usize| {
            let at = |k: usize| x[start + k * inner];
            (1..classes).fold(0, |best, k| if at(k) > at(best) { k } else { best })
        };
        for outer in 0..a.len() / (classes * inner).max(1) {
            for i in 0..inner {
                let start = outer * classes * inner + i;
                self.positions += 1;
                self.same += usize::from(largest(a, start) == largest(b, start));
            }
        }
    }
}
