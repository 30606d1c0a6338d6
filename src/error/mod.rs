//! What can go wrong, and what to do about it.

mod format;
mod nearest;
pub(crate) mod onnx;

use std::io;
use std::path::{Path, PathBuf};

pub use format::{Foreign, FormatError, Location};
pub(crate) use nearest::nearest;

/// A result with optc's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong. The display of each says what, where, and what to do.
///
/// The variant says what kind of mistake it is, [`Error::path`] in which file, and [`source`](std::error::Error::source) what the
/// system found. The other fields are parts of the text, and change as texts do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused a file.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried, such as "read".
        #[doc(hidden)]
        doing: &'static str,
        /// The file.
        #[doc(hidden)]
        path: PathBuf,
        /// The system's reason.
        #[doc(hidden)]
        source: io::Error,
    },
    /// A model file cannot be taken.
    #[error("{}: {what}{}", path.display(), help_line(help))]
    Model {
        /// The file.
        #[doc(hidden)]
        path: PathBuf,
        /// What is wrong, and where in the file.
        #[doc(hidden)]
        what: String,
        /// What to do about it; may be empty.
        #[doc(hidden)]
        help: String,
    },
    /// A model file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Format {
        /// The file.
        #[doc(hidden)]
        path: PathBuf,
        /// What is wrong, and where in the file.
        #[doc(hidden)]
        source: Box<FormatError>,
    },
    /// Samples cannot be taken.
    #[error("{}: {what}{}", path.display(), help_line(help))]
    Data {
        /// The file or the folder.
        #[doc(hidden)]
        path: PathBuf,
        /// What is wrong, and where.
        #[doc(hidden)]
        what: String,
        /// What to do about it; may be empty.
        #[doc(hidden)]
        help: String,
    },
    /// A text (the IR's text form, a pipeline, a shape) cannot be read.
    #[error("{}", pointed(what, text, *at, help))]
    Text {
        /// What is wrong.
        #[doc(hidden)]
        what: String,
        /// The whole text.
        #[doc(hidden)]
        text: String,
        /// Byte offset of the mistake.
        at: usize,
        /// What to do about it; may be empty.
        #[doc(hidden)]
        help: String,
    },
    /// An input shape, an option or a target that does not fit the model.
    #[error("{what}{}", help_line(help))]
    Usage {
        /// What does not fit.
        #[doc(hidden)]
        what: String,
        /// What to do about it; may be empty.
        #[doc(hidden)]
        help: String,
    },
    /// A table of latencies cannot be used.
    #[doc(hidden)]
    #[error("{}: {what}{}", path.display(), help_line(help))]
    Latency {
        /// The file.
        #[doc(hidden)]
        path: PathBuf,
        /// What is wrong with it.
        #[doc(hidden)]
        what: String,
        /// What to do about it.
        #[doc(hidden)]
        help: String,
    },
    /// A checkpoint cannot be used.
    #[doc(hidden)]
    #[error("{}: {what}{}", path.display(), help_line(help))]
    Checkpoint {
        /// The file.
        #[doc(hidden)]
        path: PathBuf,
        /// What is wrong with it.
        #[doc(hidden)]
        what: String,
        /// What to do about it; may be empty.
        #[doc(hidden)]
        help: String,
    },
    /// The run was asked to end before it was done; the text says where it can go on.
    #[error("{0}")]
    Interrupted(String),
    /// A pass failed.
    #[error("pass `{pass}`: {source}")]
    Pass {
        /// The pass.
        pass: String,
        /// Why.
        #[doc(hidden)]
        source: Box<Error>,
    },
    /// A pass, or a reader, made a graph that breaks the rules of the IR.
    #[error("{stage} gave an invalid graph:{}", violations.iter().map(|v| format!("\n  {v}")).collect::<String>())]
    Invalid {
        /// Who made it.
        #[doc(hidden)]
        stage: String,
        /// Every rule broken, each with its node.
        violations: Vec<String>,
    },
    /// The outputs after an exact pass are not those before it.
    #[error("{stage} changed the outputs: {what}")]
    Verification {
        /// The pass, or the pipeline.
        #[doc(hidden)]
        stage: String,
        /// By how much, and the tolerance.
        #[doc(hidden)]
        what: String,
    },
    /// A runtime found that a written file does not compute what it must.
    #[doc(hidden)]
    #[error(
        "{by} refuses the result: {what}\n  help: nothing was written; please report this with the model if you can, or take --judge none"
    )]
    Refused {
        /// The runtime.
        #[doc(hidden)]
        by: String,
        /// What is wrong.
        #[doc(hidden)]
        what: String,
    },
    /// The outputs moved by more than was allowed.
    #[doc(hidden)]
    #[error("{what}{}", help_line(help))]
    Moved {
        /// Which, and by how much.
        #[doc(hidden)]
        what: String,
        /// What to do about it.
        #[doc(hidden)]
        help: String,
    },
    /// The graph cannot be evaluated: an opaque operator, a size without a number, a type that is not a float.
    #[error("cannot run `{node}`: {what}")]
    Run {
        /// The node.
        #[doc(hidden)]
        node: String,
        /// Why.
        #[doc(hidden)]
        what: String,
    },
}

impl Error {
    /// What stands for the file in messages about a model that is in memory.
    pub(crate) const IN_MEMORY: &str = "<memory>";

    /// The file or folder that is at fault, where it is one.
    pub fn path(&self) -> Option<&Path> {
        let path = match self {
            Error::Io { path, .. }
            | Error::Model { path, .. }
            | Error::Format { path, .. }
            | Error::Data { path, .. }
            | Error::Latency { path, .. }
            | Error::Checkpoint { path, .. } => Some(path.as_path()),
            Error::Pass { source, .. } => source.path(),
            _ => None,
        };
        path.filter(|path| *path != Path::new(Error::IN_MEMORY))
    }

    /// A mistake in, or of, the file at `path`.
    pub(crate) fn format(path: &Path, source: FormatError) -> Error {
        Error::Format {
            path: path.to_path_buf(),
            source: Box::new(source),
        }
    }
}

fn help_line(help: &str) -> String {
    if help.is_empty() {
        String::new()
    } else {
        format!("\n  {}", help.replace('\n', "\n  "))
    }
}

/// The line of `text` with the mistake, and a caret under it.
fn pointed(what: &str, text: &str, at: usize, help: &str) -> String {
    let at = (0..=at.min(text.len()))
        .rev()
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(0);
    let start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let end = text[at..].find('\n').map_or(text.len(), |i| at + i);
    let place = match text[..at].matches('\n').count() {
        0 if end == text.len() => String::new(),
        lines => format!("line {}: ", lines + 1),
    };
    let column = text[start..at].chars().count();
    format!(
        "{place}{what}\n  {}\n  {}^{}",
        &text[start..end],
        " ".repeat(column),
        help_line(help)
    )
}
