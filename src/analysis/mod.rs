//! What passes ask about a graph: cost, and who is coupled to whom.

pub mod cost;
mod cost_model;
pub mod coupling;
pub mod latency;

pub use cost::{Stats, op_flops};
pub use cost_model::CostModel;
