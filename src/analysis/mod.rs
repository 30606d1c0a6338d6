//! What passes ask about a graph: cost, and who is coupled to whom.

pub mod cost;
pub mod coupling;

pub use cost::{Stats, op_flops};
