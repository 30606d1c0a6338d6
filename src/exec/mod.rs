//! Running a graph: the reference interpreter, the comparison of two graphs with it, and libtorch.
//!
//! The interpreter is written to be right first: every operator does what libtorch's does in evaluation mode, in `f32` or
//! `f64` as the caller chooses, and a result does not depend on the number of threads. Integer and boolean tensors are held
//! in the same floating-point type. With the feature `torch`, the module `torch` runs and differentiates the same graphs.

mod array;
mod attention;
mod compare;
mod conv;
mod device;
pub(crate) mod difference;
mod elementwise;
mod evaluate;
mod evaluation;
mod foreign;
mod frontier;
mod gradient;
pub(crate) mod inputs;
mod interpreter;
mod matmul;
mod movement;
mod norm;
mod pool;
mod reduce;
mod resize;
mod state;
mod store;
#[cfg(feature = "torch")]
pub mod torch;
mod verification;
mod window;

pub(crate) use array::element_count;
pub use array::{Array, MAX_ARRAY_BYTES};
pub use compare::{Reference, compare};
pub(crate) use conv::patches;
pub use device::Device;
pub(crate) use elementwise::broadcast_shape;
pub use elementwise::scalar;
pub use evaluate::evaluate;
pub use evaluation::{Evaluated, Top1, agree, top1};
pub use foreign::{Foreign, Operand, Sampled, unknown_operators};
pub use frontier::Frontier;
pub(crate) use frontier::learn_sizes;
pub use gradient::{Gradient, Run, Seed, reachable};
pub use interpreter::Interpreter;
pub use state::State;
pub use store::Stored;
pub(crate) use verification::Small;
pub use verification::{Behind, Moved, Verification};
