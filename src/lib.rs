//! Graph passes that make trained networks smaller and faster, and write the same kind of file.
//!
//! ```no_run
//! # fn main() -> optc::Result<()> {
//! let mut model = optc::read("model.pt")?;
//! let report = optc::Pipeline::parse("red{hash=none}")?.run(&mut model)?;
//! optc::write(&model, "smaller.pt")?;
//! println!("{} -> {} weights", report.before.params, report.after.params);
//! # Ok(())
//! # }
//! ```
//!
//! The command `optc` is these three calls. Where to read on:
//!
//! - [`ir`]: the graph, its operators and sizes, the verifier, the text form; a compiler with a graph of its own builds one here;
//! - [`pipeline`]: what a pass is, pipelines and what runs them, and how to add a pass of one's own;
//! - [`Report`]: what was done, and what not, and why.
//!
//! What is documented is meant to stay. The other modules are there for the command, for tests and for the curious, and change
//! with any release: `formats`, model files, and `files`, how they appear whole; `data`, samples for calibration and evaluation,
//! and `dream`, which makes some of the network itself;
//! `passes`, and `egraph`, equality saturation, which some are made of; `analysis`, what passes ask about a graph; `exec`, the
//! reference interpreter, and `judge`, runtimes, which compare what was written with what was read; `profile`, how long a runtime
//! takes for operators; `job`, runs whose settings are text, for other languages. Methods and fields that only those use, and what
//! concerns training, are not documented either.
//!
//! Without the default features this crate reads and writes model files, and has the graph and the passes. The feature `cli` adds
//! the command, `images` data that has to be decoded, `onnxruntime` what loads ONNX Runtime to be measured; `torch` links libtorch,
//! to be measured and to run and differentiate graphs.

// The command is a program like others, which sees what the library shows.
#[cfg(feature = "cli")]
extern crate self as optc;

#[doc(hidden)]
pub mod analysis;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod data;
#[doc(hidden)]
pub mod dream;
#[doc(hidden)]
pub mod egraph;
mod error;
#[doc(hidden)]
pub mod exec;
#[doc(hidden)]
pub mod files;
#[doc(hidden)]
pub mod formats;
#[doc(hidden)]
pub mod fuzzing;
pub mod ir;
#[doc(hidden)]
pub mod job;
#[doc(hidden)]
pub mod judge;
#[doc(hidden)]
#[path = "../passes/mod.rs"]
pub mod passes;
pub mod pipeline;
#[doc(hidden)]
pub mod profile;
mod random;
#[doc(hidden)]
pub mod report;

pub use data::{Data, DataSpec, Samples};
pub use error::{Error, Result};
#[doc(hidden)]
pub use exec::Device;
pub use formats::{
    InputShape, Model, ReadOptions, read, read_bytes, read_with, write, write_bytes,
};
pub use pipeline::Pipeline;
pub use report::Report;
