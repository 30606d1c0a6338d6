//! TorchScript: the archives of `torch.jit.save`, traced, scripted or frozen.
//!
//! - `objects`: what the archive's pickles hold; `code`: its Python, parsed;
//! - `eval` runs that code with the input's values unknown, `scalar` does Python's own arithmetic, `lower` turns operators
//!   into graph nodes by the table of `aten`;
//! - `write_code`, `write_pickle` and `write` make an archive of a graph.

mod code;
mod eval;
mod interface;
mod lower;
mod objects;
mod read;
mod scalar;
mod value;
mod write;
mod write_code;
mod write_pickle;

pub(crate) use read::{read, read_bytes};
pub(crate) use write::write;

pub use interface::Source;
