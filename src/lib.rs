//! Graph passes that make trained networks smaller and faster, and write the same kind of file.

pub mod analysis;
pub mod egraph;
mod error;
pub mod exec;
pub mod formats;
#[doc(hidden)]
pub mod fuzzing;
pub mod ir;
mod model;
#[path = "../passes/mod.rs"]
pub mod passes;
pub mod pipeline;
pub mod report;

pub use error::{Error, Result};
pub use formats::{read, write};
pub use model::Model;
pub use pipeline::Pipeline;
pub use report::Report;
