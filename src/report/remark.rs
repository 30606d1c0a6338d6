//! What passes promise, and what they have to say.

use std::fmt;

use serde::Serialize;

/// What a pass promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The same function, up to rounding.
    Exact,
    /// An approximation within a budget, made without training.
    Lossy,
    /// An approximation that needs data and libtorch.
    Trained,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Exact => "exact",
            Kind::Lossy => "lossy",
            Kind::Trained => "trained",
        })
    }
}

/// Something a pass did, did not do and why, or found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Remark {
    /// Which of the three.
    pub kind: RemarkKind,
    /// The name of the node it is about; empty for the whole graph.
    pub node: String,
    /// What there is to say, such as "coupled to a graph output".
    pub text: String,
}

/// The three kinds of remark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RemarkKind {
    /// A change was made.
    Applied,
    /// A change was not made, for the reason given.
    Missed,
    /// A fact that explains the others.
    Analysis,
}

impl fmt::Display for RemarkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RemarkKind::Applied => "applied",
            RemarkKind::Missed => "missed",
            RemarkKind::Analysis => "analysis",
        })
    }
}
