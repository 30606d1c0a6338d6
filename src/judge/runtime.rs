//! What opens and runs model files: which runtime is for which.

use std::path::Path;
use std::time::Duration;

use super::{LARGEST, Options};
use crate::formats;
use crate::ir::{Dialect, Tensor};

/// Who judges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Whoever opens such files, if it is here and the files are not too large.
    #[default]
    Auto,
    /// ONNX Runtime.
    OnnxRuntime,
    /// libtorch.
    Torch,
}

/// What a runtime makes of a network before it runs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimisations {
    /// All that it does by default, as users run it.
    #[default]
    All,
    /// None: each operator is run as it stands in the file.
    Off,
}

/// An output of a network.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub name: String,
    /// `None` for what is no array of numbers.
    pub tensor: Option<Tensor>,
}

impl Output {
    pub(super) fn byte_len(&self) -> usize {
        self.tensor.as_ref().map_or(0, Tensor::byte_len)
    }
}

/// A network that is open in a runtime.
pub(super) trait Session {
    /// Runs it on its inputs, given in the order of the graph's.
    fn run(&mut self, feed: &[(String, Tensor)]) -> Result<Vec<Output>, String>;
    /// How long it takes to run it so many times, without what only a comparison needs.
    fn repeat(&mut self, feed: &[(String, Tensor)], runs: usize) -> Result<Duration, String>;
}

/// A runtime that opens files of one format.
pub(super) trait Runtime {
    /// Its name and version.
    fn title(&self) -> String;
    /// Opens a file.
    fn open(&self, path: &Path, optimisations: Optimisations) -> Result<Box<dyn Session>, String>;
}

/// Why there is no runtime for a file, and what to do about it.
pub(super) struct Absent {
    pub what: String,
    pub help: String,
}

/// The runtime of one file.
pub(super) struct Judge {
    runtime: Box<dyn Runtime>,
    optimisations: Optimisations,
}

impl Judge {
    /// The runtime that opens the file at `path`, whose weights take so many bytes.
    pub(super) fn of(path: &Path, bytes: u64, options: &Options) -> Result<Judge, Absent> {
        let Some(dialect) = formats::dialect_of(path) else {
            return Err(absent("no runtime opens the text form".to_string(), ""));
        };
        let wanted = match options.by {
            Choice::Auto => dialect,
            Choice::OnnxRuntime => Dialect::Onnx,
            Choice::Torch => Dialect::TorchScript,
        };
        if dialect != wanted {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let what = format!(
                "{name} is of the format {}, and the judge that was asked for opens {}",
                dialect.title(),
                wanted.title()
            );
            return Err(absent(what, "take --judge auto"));
        }
        if options.by == Choice::Auto && bytes > LARGEST {
            return Err(absent(
                format!("the model takes over {} GB", LARGEST >> 30),
                "--judge onnxruntime or --judge torch does it all the same",
            ));
        }
        let runtime = match dialect {
            Dialect::Onnx => onnxruntime(options)?,
            Dialect::TorchScript => torch(options)?,
            Dialect::ExportedProgram => {
                return Err(absent(
                    "what opens ExportedPrograms, torch.export.load, is Python".to_string(),
                    "compare there",
                ));
            }
        };
        Ok(Judge {
            runtime,
            optimisations: options.optimisations,
        })
    }

    pub(super) fn title(&self) -> String {
        match self.optimisations {
            Optimisations::All => self.runtime.title(),
            Optimisations::Off => format!("{} without its optimisations", self.runtime.title()),
        }
    }

    pub(super) fn open(&self, path: &Path) -> Result<Box<dyn Session>, String> {
        self.runtime.open(path, self.optimisations)
    }

    /// The same with the other optimisations.
    pub(super) fn open_otherwise(&self, path: &Path) -> Result<Box<dyn Session>, String> {
        let other = match self.optimisations {
            Optimisations::All => Optimisations::Off,
            Optimisations::Off => Optimisations::All,
        };
        self.runtime.open(path, other)
    }
}

fn absent(what: String, help: &str) -> Absent {
    Absent {
        what,
        help: help.to_string(),
    }
}

#[cfg(feature = "onnxruntime")]
fn onnxruntime(options: &Options) -> Result<Box<dyn Runtime>, Absent> {
    use crate::Error;
    match super::onnxruntime::load(options) {
        Ok(runtime) => Ok(Box::new(runtime)),
        Err(Error::Usage { what, help }) => Err(Absent { what, help }),
        Err(error) => Err(absent(error.to_string(), "")),
    }
}

#[cfg(not(feature = "onnxruntime"))]
fn onnxruntime(_: &Options) -> Result<Box<dyn Runtime>, Absent> {
    Err(absent(
        "this optc was built without onnxruntime".to_string(),
        "build one with it: cargo install --path . in a checkout",
    ))
}

#[cfg(feature = "torch")]
fn torch(options: &Options) -> Result<Box<dyn Runtime>, Absent> {
    Ok(Box::new(super::torch::LibTorch {
        threads: options.threads,
    }))
}

#[cfg(not(feature = "torch"))]
fn torch(_: &Options) -> Result<Box<dyn Runtime>, Absent> {
    Err(absent(
        "this optc was built without libtorch".to_string(),
        "build one with it: cargo install --features torch --path . in a checkout",
    ))
}
