//! TorchScript: the archives of `torch.jit.save`, traced, scripted or frozen.
//!
//! - `pickle`: the objects in the archive; `code`: its Python, parsed;
//! - `eval` runs that code with the input's values unknown, `scalar` does Python's own arithmetic, `lower` and `aten` turn
//!   operators into graph nodes, `alias` follows what is written in place;
//! - `write_code`, `write_pickle` and `write` make an archive of a graph.

mod alias;
mod aten;
mod code;
mod eval;
mod interface;
mod lower;
mod objects;
mod pickle;
mod read;
mod scalar;
mod value;
mod write;
mod write_code;
mod write_pickle;

pub(crate) use read::{read, read_bytes};
pub(crate) use write::write;

pub use interface::Source;
