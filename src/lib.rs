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
//! - [`ir`]: the graph, its operators and sizes, the verifier, the text form;
//! - [`pipeline`]: what a pass is, pipelines and what runs them; [`passes`]: those that exist;
//! - [`egraph`]: equality saturation, which some passes are made of, and [`passes::rules`], its equalities;
//! - [`analysis`]: what passes ask about a graph; [`exec`]: the reference interpreter, which judges them;
//! - [`judge`]: runtimes, which compare what was written with what was read;
//! - [`formats`]: model files; [`files`]: how they appear whole; [`data`]: samples for calibration and evaluation;
//! - [`profile`]: how long a runtime takes for operators, for a cost of time.
//!
//! Without the default feature `cli` there is no command, and nothing of what only it needs. The default feature `onnxruntime`
//! can load ONNX Runtime, to be measured; the feature `torch` links libtorch, to be measured and to run and differentiate graphs.

pub mod analysis;
pub mod data;
pub mod egraph;
mod error;
pub mod exec;
pub mod files;
pub mod formats;
#[doc(hidden)]
pub mod fuzzing;
pub mod ir;
pub mod judge;
#[path = "../passes/mod.rs"]
pub mod passes;
pub mod pipeline;
pub mod profile;
mod random;
pub mod report;

pub use error::{Error, Result};
pub use formats::{Model, read, write};
pub use pipeline::Pipeline;
pub use report::Report;
