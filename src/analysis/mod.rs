//! What passes ask about a graph: cost, who is coupled to whom, and what its activations are like.

pub mod calibration;
pub mod candidate;
pub mod channel_groups;
pub mod cost;
mod cost_model;
pub mod dependencies;
pub mod elimination;
pub mod forecast;
pub mod kernels;
pub mod latency;
pub mod liveness;
pub mod moments;
mod opaque;
pub mod price;
pub mod prior;
pub mod pruning;
pub mod refinement;
mod sparsity;
mod statistics;
pub mod tradeoff;

pub use cost::{Macs, Stats, node_macs, op_macs};
pub use cost_model::{Cost, CostModel};
pub use sparsity::{Masked, Sparsity};
pub use statistics::Statistics;
