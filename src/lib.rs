//! Graph passes that make trained networks smaller and faster, and write the same kind of file.
//!
//! ```no_run
//! # fn main() -> optc::Result<()> {
//! let mut model = optc::read("model.pt")?;
//! let report = optc::Pipeline::parse("red{hash=none}")?.run(&mut model)?;
//! optc::write(&model, "smaller.pt")?;
//! # Ok(())
//! # }
//! ```
//!
//! The command `optc` is these three calls.
//!
//! # Tutorial
//!
//! A network need not come from a file. This one is written as [text](ir::text): two convolutions, and of the first one's four
//! filters two are the others again. Exact passes compute each once:
//!
//! ```
//! # use std::sync::Arc;
//! use optc::ir::{Bytes, Graph};
//! use optc::{Model, Pipeline, ReadOptions};
//!
//! # fn main() -> optc::Result<()> {
//! let graph: Graph = "
//!     graph net(%x: f32[N,3,8,8]) {
//!       @a.weight = parameter rows(normal(1), [0, 1, 0, 1]) : f32[4,3,3,3]
//!       @b.weight = parameter normal(2) : f32[10,4,1,1]
//!       %a = conv(%x, @a.weight) {pad=[1,1]}
//!       %relu = relu(%a)
//!       %b = conv(%relu, @b.weight)
//!       return %b
//!     }"
//! .parse()?;
//! let mut model = Model::new(graph);
//! let report = Pipeline::parse("canonicalize,red{hash=none}")?.run(&mut model)?;
//!
//! // The report says what was done, why, and whether anything was given up.
//! assert_eq!((report.before.params, report.after.params), (148, 74));
//! assert!(report.exact);
//! let red = &report.passes[1];
//! assert!(red.remarks.iter().any(|remark| {
//!     remark.node == "a" && remark.text.contains("3 -> 4 channels became 3 -> 2")
//! }));
//!
//! // The same names, inputs and outputs as before, and a batch of any size.
//! let weight = model.graph.find("a.weight").expect("it keeps its name");
//! assert_eq!(model.graph.ty(weight.into()).to_string(), "f32[2,3,3,3]");
//!
//! // A model is written as the kind that it was read from; this one as whatever is asked for.
//! let bytes = optc::write_bytes(&model, Some("onnx"))?;
//! let again = optc::read_bytes(Bytes::new(Arc::new(bytes)), &ReadOptions::default())?;
//! assert_eq!(again.graph.inputs().len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embed` in the repository builds its graph by [`Graph::add`](ir::Graph::add), node by node, and walks the result back. A
//! run with settings, such as samples to calibrate on or a way to end it, is
//! [`Pipeline::run_with`] with [`RunOptions`](pipeline::RunOptions).
//!
//! # Where to read on
//!
//! The book in `book/src` has each pass with its mathematics, budgets, reports, data, formats and messages. Here are:
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
