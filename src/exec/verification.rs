//! How far outputs moved, as the reference interpreter computes it: a forecast of what a runtime will find.

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
        /// How far the outputs moved that no opaque operator leads to.
        #[serde(flatten)]
        moved: Moved,
        /// The other outputs; null where there are none.
        #[serde(rename = "not_compared")]
        behind: Option<Behind>,
    },
    /// The original cannot be run, so there is nothing to compare with.
    Skipped {
        /// Why.
        skipped: String,
    },
}

/// How far arrays moved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// The largest difference of two elements.
    pub max_abs: f64,
    /// That difference, relative to the largest element of the array it is in.
    pub max_rel: f64,
    /// The root of the mean squared difference, relative to that of the array.
    pub change: f64,
    /// The share of positions whose largest class is the same.
    pub argmax_agreement: f64,
}

/// Outputs that say nothing of what a network computes, since an operator that optc does not know leads to them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Behind {
    /// Their names.
    pub outputs: Vec<String>,
    /// Whether these are all.
    #[serde(skip)]
    pub all: bool,
    /// The names of the operators, such as `onnx::LSTM`.
    pub operators: Vec<String>,
    /// How far moved what those operators read, and the outputs if their results are the same noise: an exact pass moves neither.
    #[serde(skip)]
    pub moved: Moved,
}

impl Verification {
    /// Refuses a measured error over `tolerance`, or one that is not a number; also of what opaque operators read.
    ///
    /// # Errors
    /// [`Error::Verification`] with `stage`, which moved the outputs.
    pub fn within(&self, tolerance: f64, stage: &str) -> Result<()> {
        let Some(largest) = self.largest() else {
            return Ok(());
        };
        if largest.max_rel <= tolerance {
            return Ok(());
        }
        let what = match self {
            Verification::Measured {
                behind: Some(behind),
                ..
            } if behind.moved.max_rel > tolerance => format!(
                "what {} read moved: max_rel {}, max_abs {}",
                behind.operators.join(", "),
                Small(behind.moved.max_rel),
                Small(behind.moved.max_abs)
            ),
            _ => self.to_string(),
        };
        Err(Error::Verification {
            stage: stage.to_string(),
            what: format!("{what}; the tolerance is {}", Small(tolerance)),
        })
    }

    /// The largest differences, of outputs and of what opaque operators read; `None` if nothing was compared.
    pub fn largest(&self) -> Option<Moved> {
        match self {
            Verification::Measured { moved, behind, .. } => Some(match behind {
                None => *moved,
                Some(behind) => Moved {
                    max_abs: moved.max_abs.max(behind.moved.max_abs),
                    max_rel: moved.max_rel.max(behind.moved.max_rel),
                    ..*moved
                },
            }),
            Verification::Skipped { .. } => None,
        }
    }

    /// What can be said to a user: nothing, where every output is behind an operator that optc does not know.
    pub fn seen(self) -> Verification {
        match self {
            Verification::Measured {
                behind: Some(behind),
                ..
            } if behind.all => Verification::Skipped {
                skipped: behind.to_string(),
            },
            seen => seen,
        }
    }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMED: usize = 3;
        let listed = |names: &[String]| {
            let mut text = names[..names.len().min(NAMED)].join(", ");
            if names.len() > NAMED {
                text += &format!(" and {} more", names.len() - NAMED);
            }
            text
        };
        let outputs = if self.all {
            "every output".to_string()
        } else {
            listed(&self.outputs)
        };
        write!(
            f,
            "{} leads to {outputs}, and optc does not know what that computes",
            listed(&self.operators)
        )
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verification::Measured {
                inputs,
                shapes,
                moved,
                behind,
            } => {
                if let Some(behind) = behind.as_ref().filter(|behind| behind.all) {
                    return write!(f, "not compared: {behind}");
                }
                write!(
                    f,
                    "max_rel {}, max_abs {}, same argmax {:.1} %, on {inputs} random input{} of {}",
                    Small(moved.max_rel),
                    Small(moved.max_abs),
                    moved.argmax_agreement * 100.0,
                    if *inputs == 1 { "" } else { "s" },
                    shapes.join(", ")
                )?;
                match behind {
                    Some(behind) => write!(f, " (not compared: {behind})"),
                    None => Ok(()),
                }
            }
            Verification::Skipped { skipped } => write!(f, "not verified: {skipped}"),
        }
    }
}

/// `0`, or two digits and an exponent where that is shorter.
pub(crate) struct Small(pub f64);

impl fmt::Display for Small {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0.0 => f.write_str("0"),
            x if (0.01..1000.0).contains(&x) => write!(f, "{x:.2}"),
            x => write!(f, "{x:.1e}"),
        }
    }
}
