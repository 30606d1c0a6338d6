//! How far the outputs of one file are from those of another.

use std::fmt;

use ndarray::{ArrayViewD, IxDyn};
use serde::Serialize;

use super::runtime::Output;
use crate::exec::Small;
use crate::exec::difference::Difference;
use crate::ir::Tensor;

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

/// Differences of outputs, over inputs; `None` for an output that is no array of numbers.
pub(super) struct Differences(Vec<(String, Option<Difference>)>);

impl Differences {
    /// For a network with such outputs.
    pub(super) fn new(outputs: &[Output]) -> Differences {
        let none = |output: &Output| {
            let none = output.tensor.is_some().then(Difference::default);
            (output.name.clone(), none)
        };
        Differences(outputs.iter().map(none).collect())
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
        for ((name, difference), (a, b)) in self.0.iter_mut().zip(before.iter().zip(after)) {
            if a.name != b.name {
                return Err(format!("its output `{}` was called `{}`", b.name, a.name));
            }
            match (difference, &a.tensor, &b.tensor) {
                (Some(difference), Some(a), Some(b)) => {
                    if a.dtype() != b.dtype() || a.shape() != b.shape() {
                        return Err(format!(
                            "its output `{name}` is {}{:?}, and was {}{:?}",
                            b.dtype(),
                            b.shape(),
                            a.dtype(),
                            a.shape()
                        ));
                    }
                    add(difference, a, b).map_err(|what| format!("its output `{name}`: {what}"))?;
                }
                (None, None, None) => {}
                _ => return Err(format!("its output `{name}` is of another kind")),
            }
        }
        Ok(())
    }

    pub(super) fn not_compared(&self) -> Vec<String> {
        let without = self.0.iter().filter(|(_, difference)| difference.is_none());
        without.map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn changes(self) -> Vec<OutputChange> {
        let change = |(name, difference): (String, Option<Difference>)| {
            let difference = difference?;
            Some(OutputChange {
                name,
                max_rel: difference.max_rel,
                change: difference.change(),
                cosine: difference.cosine(),
                agreement: difference.agreement(),
            })
        };
        self.0.into_iter().filter_map(change).collect()
    }
}

/// Adds an output of both files. A list has no axis of classes.
fn add(difference: &mut Difference, before: &Tensor, after: &Tensor) -> Result<(), String> {
    let (a, b) = (before.elements::<f64>(), after.elements::<f64>());
    let view = |tensor: &Tensor, elements| {
        ArrayViewD::from_shape(IxDyn(tensor.shape()), elements).map_err(|e| e.to_string())
    };
    let (a, b) = (view(before, &a)?, view(after, &b)?);
    difference.add(a.clone(), b.clone())?;
    if !before.dtype().is_float() {
        difference.add_equal(a, b);
    } else if a.ndim() > 1 {
        difference.add_classes(a, b);
    }
    Ok(())
}
