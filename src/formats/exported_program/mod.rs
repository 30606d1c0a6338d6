//! `.pt2`: the ExportedPrograms of `torch.export.save`, as exported or decomposed.
//!
//! - `package`: the archive, its tensors; `schema`: its JSON; `symbolic`: sizes as SymPy's expressions;
//! - `read` makes a graph of a program, `node` of each of its nodes by the table of `aten`, `opaque` keeps
//!   those that the IR does not know;
//! - `write` and what is in it make a program of a graph, from scratch or in place of the one that was read.

mod builder;
mod node;
mod numbers;
mod opaque;
mod package;
mod read;
mod schema;
mod source;
mod symbolic;
mod write;

pub(crate) use read::{read, read_bytes, recognises};
pub use source::Source;
pub(crate) use write::write;
