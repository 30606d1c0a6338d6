//! The intermediate representation: a graph of operators on tensors whose sizes may be expressions.
//!
//! A [`Graph`] holds nodes; a node is an input, a constant or an operation ([`Op`]) on the results of others. Values have a
//! [`Type`]: element type and shape, the shape's sizes being numbers or expressions ([`Dim`]) over the inputs' sizes.
//! [`infer`] gives the types of an operator's results, [`verify()`] checks all rules, [`text`] prints and parses.

pub mod attribute;
mod bytes;
mod certain;
pub mod channels;
pub mod dim;
mod edit;
pub(crate) mod functions;
pub mod graph;
pub mod infer;
mod mask;
mod names;
pub mod op;
mod query;
pub mod regroup;
mod table;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;

pub use attribute::{Float, Index, Ints, PadMode, Padding, ResizeMode};
pub use bytes::{Bytes, Memory};
pub use dim::{Bindings, Dim, Dims, Symbol};
pub use graph::{Constant, Graph, Node, NodeId, NodeKind, Output, Role, Value};
pub use mask::Mask;
pub use op::{Class, Dialect, Op, Opaque};
pub(crate) use op::{binaries, functions, no_products};
pub(crate) use table::operators;
pub use tensor::{DType, Real, Tensor};
pub use types::Type;
pub use verify::{Interface, Rule, Validated, Violation, verify};
