//! The intermediate representation: a graph of operators on tensors whose sizes may be expressions.
//!
//! A [`Graph`] holds nodes; a node is an input, a constant or an operation ([`Op`]) on the results of others. Values have a
//! [`Type`]: element type and shape, the shape's sizes being numbers or expressions ([`Dim`]) over the inputs' sizes.
//! [`infer`] gives the types of an operator's results, [`verify()`] checks all rules, [`text`] prints and parses.

mod attribute;
mod bytes;
mod certain;
pub(crate) mod channels;
mod dim;
mod edit;
pub(crate) mod functions;
mod graph;
#[doc(hidden)]
pub mod infer;
mod mask;
mod names;
mod op;
mod query;
pub(crate) mod regroup;
mod table;
mod tensor;
pub mod text;
mod types;
mod verify;

#[doc(hidden)]
pub(crate) use attribute::extent;
// What attributes are made of: of operators' fields, which are not documented either.
#[doc(hidden)]
pub use attribute::{Float, Index, Ints, PadMode, Padding, ResizeMode};
pub use bytes::{Bytes, Memory};
#[doc(hidden)]
pub use dim::Dims;
pub use dim::{Bindings, Dim, Symbol};
pub(crate) use dim::{DimBuilder, is_symbol};
pub use graph::{Constant, Graph, Node, NodeId, NodeKind, Output, Role, Value};
pub use mask::Mask;
pub use op::Op;
#[doc(hidden)]
pub use op::{Class, Dialect, Opaque};
pub(crate) use op::{binaries, functions, movements, no_products};
pub(crate) use table::operators;
#[doc(hidden)]
pub use tensor::Real;
pub(crate) use tensor::byte_len;
pub use tensor::{DType, Tensor};
pub use types::{Type, TypeError};
#[doc(hidden)]
pub use verify::{Interface, Rule};
pub use verify::{Validated, Violation, verify};
