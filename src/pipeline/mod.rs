//! Passes, and what composes, runs, checks and measures them.
//!
//! A [`Pass`] changes a graph. Its [`PassInfo`] says everything else about it: name, summary, kind and options; the list of
//! passes, the parser's error messages and the printed form all come from there. [`Registry`] holds the known passes;
//! [`passes::ALL`](crate::passes::ALL) is what this crate brings along.

mod context;
mod options;
mod pass;
mod registry;

pub use context::{Cost, PassContext, Remark, RemarkKind};
pub use options::{OptionSpec, OptionValue, Options, Values};
pub use pass::{Changed, Kind, Pass, PassInfo};
pub use registry::Registry;
