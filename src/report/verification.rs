//! How far outputs moved.

use std::fmt;

use serde::Serialize;

use crate::{Error, Result};

/// How far the outputs of one graph are from those of another.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Verification {
    /// Both graphs ran.
    Measured {
        /// The number of random inputs.
        inputs: usize,
        /// Their shapes, one of each input; sizes without a number got one that works.
        shapes: Vec<String>,
        /// The largest difference of two elements.
        max_abs: f64,
        /// That difference, relative to the largest element of the output it is in.
        max_rel: f64,
        /// The share of positions whose largest class is the same.
        argmax_agreement: f64,
    },
    /// The original cannot be run, so there is nothing to compare with.
    Skipped {
        /// Why.
        skipped: String,
    },
}

impl Verification {
    /// Refuses a measured error over `tolerance`, or one that is not a number.
    ///
    /// # Errors
    /// [`Error::Verification`] with `stage`, which moved the outputs.
    pub fn within(&self, tolerance: f64, stage: &str) -> Result<()> {
        match self {
            Verification::Measured { max_rel, .. } if max_rel.is_nan() || *max_rel > tolerance => {
                Err(Error::Verification {
                    stage: stage.to_string(),
                    what: format!("{self}; the tolerance is {}", Small(tolerance)),
                })
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verification::Measured {
                inputs,
                shapes,
                max_abs,
                max_rel,
                argmax_agreement,
            } => write!(
                f,
                "max_rel {}, max_abs {}, same argmax {:.1} %, on {inputs} random input{} of {}",
                Small(*max_rel),
                Small(*max_abs),
                argmax_agreement * 100.0,
                if *inputs == 1 { "" } else { "s" },
                shapes.join(", ")
            ),
            Verification::Skipped { skipped } => write!(f, "not verified: {skipped}"),
        }
    }
}

/// `0`, or two digits and an exponent where that is shorter.
struct Small(f64);

impl fmt::Display for Small {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0.0 => f.write_str("0"),
            x if (0.01..1000.0).contains(&x) => write!(f, "{x:.2}"),
            x => write!(f, "{x:.1e}"),
        }
    }
}
