//! Model files: read and write.
//!
//! A file's content decides which `Format` reads it; what it came from, or the name's suffix, which writes it.

mod aten;
mod dtypes;
pub mod exported_program;
mod facts;
mod faults;
mod identifiers;
mod input;
mod masks;
mod model;
pub mod onnx;
mod pickle;
mod sizes;
mod spelling;
mod storage;
mod text;
pub mod torchscript;
mod unread;
mod words;

pub use facts::FileFacts;
#[doc(hidden)]
pub use faults::VARIABLE as PLANTED_FAULT;
pub use input::{InputShape, bind_inputs};
pub use masks::write_masks;
pub use model::Model;

use std::ffi::OsStr;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use crate::error::FormatError;
use crate::files::{PendingFile, Staged};
use crate::ir::{Dialect, Graph, Op, Validated, verify};
use crate::{Error, Result};
use exported_program::ExportedProgram;
use onnx::Onnx;
use text::TextForm;
use torchscript::TorchScript;
use unread::Live;

/// What to know about a model before it is read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Shapes of inputs: they give a rank where the file does not, and numbers to sizes. They freeze no size.
    pub inputs: Vec<InputShape>,
}

/// Reads a model file.
///
/// # Errors
/// See [`read_with`].
pub fn read(path: impl AsRef<Path>) -> Result<Model> {
    read_with(path, &ReadOptions::default())
}

/// Reads a model file. What it is is told by its content, or by the suffix of the text form.
///
/// # Errors
/// [`Error::Io`] or [`Error::Format`] when the file is not a model that can be taken, and [`Error::Usage`] when an input shape
/// does not fit the model.
pub fn read_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Model> {
    let path = path.as_ref();
    let mut model = recognise(path).read(path, options)?;
    faults::of_reader(&mut model.graph);
    bind_inputs(&mut model.graph, &options.inputs)?;
    Ok(model)
}

/// Writes a model file, and where it has one the file with its weights: whole or not at all.
///
/// # Errors
/// As [`stage`].
pub fn write(model: &Model, path: impl AsRef<Path>) -> Result<()> {
    stage(model, path)?.commit()
}

/// Writes a model file that is not there under its name before somebody has looked at it.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written, [`Error::Format`] when the format cannot hold the model or the path is the
/// model's own file, [`Error::Usage`] when the suffix is of no format, and [`Error::Invalid`] for a graph that breaks the IR's rules.
pub fn stage(model: &Model, path: impl AsRef<Path>) -> Result<Staged> {
    let path = path.as_ref();
    if let Some(graph) = faults::of_writer(&model.graph) {
        let wrong = Model {
            graph,
            origin: model.origin.clone(),
        };
        return staged(&wrong, path);
    }
    staged(model, path)
}

fn staged(model: &Model, path: &Path) -> Result<Staged> {
    let own = model.origin.path();
    let writer = writer(path, own)?;
    if own.is_some_and(|own| same_file(own, path)) {
        return Err(Error::format(path, FormatError::OverwritesInput));
    }
    refuse_foreign(&model.graph, writer).map_err(|e| Error::format(path, e))?;
    let graph = verify(&model.graph).map_err(|violations| Error::Invalid {
        stage: "the program that built it".into(),
        violations: violations.iter().map(ToString::to_string).collect(),
    })?;
    let mut files = Vec::new();
    let file = PendingFile::new(path, |out| {
        files = writer.write(graph, &model.origin, path, out)?;
        Ok(())
    })?;
    files.push(file);
    Ok(Staged(files))
}

/// Which format the file at `path` is of; `None` for the text form.
pub fn dialect_of(path: &Path) -> Option<Dialect> {
    recognise(path).dialect()
}

/// Refuses a graph with opaque operators of which only another format knows what they are.
fn refuse_foreign(graph: &Graph, writer: &dyn Format) -> std::result::Result<(), FormatError> {
    let Some(dialect) = writer.dialect() else {
        return Ok(());
    };
    let mut foreign = std::collections::BTreeSet::new();
    for node in graph.nodes() {
        if let Some(Op::Opaque(opaque)) = graph.op(node)
            && opaque.dialect != dialect
        {
            foreign.insert(opaque.name.to_string());
        }
    }
    if foreign.is_empty() {
        Ok(())
    } else {
        Err(FormatError::ForeignOperators {
            operators: foreign.into_iter().collect(),
        })
    }
}

/// Checks that what is read from the file `from` can be written to `path`, before there is a model to write.
///
/// # Errors
/// [`Error::Usage`] when the suffix is of no format, and not that of `from` either.
pub fn check_name(path: &Path, from: &Path) -> Result<()> {
    writer(path, Some(from)).map(|_| ())
}

/// A kind of file.
trait Format {
    /// The suffixes of such files.
    fn suffixes(&self) -> &'static [&'static str];
    /// The opaque operators that such files can hold; `None` for all.
    fn dialect(&self) -> Option<Dialect>;
    /// The model in the file.
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Model>;
    /// Writes the graph, with what its file had beside it; `path` is where the file will stand. Gives the files that will stand beside it.
    fn write(
        &self,
        graph: Validated<'_>,
        origin: &Origin,
        path: &Path,
        out: &mut BufWriter<&mut File>,
    ) -> Result<Vec<PendingFile>>;
}

/// Every format.
const FORMATS: [&dyn Format; 4] = [&TorchScript, &ExportedProgram, &Onnx, &TextForm];

/// What reads a file: its content says so, but for the text form.
fn recognise(path: &Path) -> &'static dyn Format {
    match suffix(path) {
        text::SUFFIX => &TextForm,
        _ if exported_program::recognises(path) => &ExportedProgram,
        _ if onnx::recognises(path) => &Onnx,
        // What is not TorchScript either is told by this reader, with what it is instead.
        _ => &TorchScript,
    }
}

/// The writer of files with this name, for a model that was read from the file `from`.
fn writer(path: &Path, from: Option<&Path>) -> Result<&'static dyn Format> {
    let suffix = suffix(path);
    let known = FORMATS
        .into_iter()
        .find(|format| format.suffixes().contains(&suffix));
    match known {
        Some(format) => Ok(format),
        // Whatever the user calls such files.
        None => match from.filter(|from| !suffix.is_empty() && self::suffix(from) == suffix) {
            Some(from) => Ok(recognise(from)),
            None => Err(unknown_format(path)),
        },
    }
}

/// What a model was read from, for writing it back.
#[derive(Clone, Debug, Default)]
pub(crate) enum Origin {
    /// Nothing but its graph.
    #[default]
    None,
    /// A TorchScript archive.
    TorchScript(Arc<torchscript::Source>),
    /// An archive of an exported program.
    ExportedProgram(Arc<exported_program::Source>),
    /// An ONNX file.
    Onnx(Arc<onnx::Source>),
}

impl Origin {
    /// What the file says of itself.
    pub(crate) fn facts(&self) -> FileFacts {
        match self {
            Origin::None => FileFacts {
                format: "text form",
                ..FileFacts::default()
            },
            Origin::TorchScript(source) => FileFacts {
                format: Dialect::TorchScript.title(),
                producer: None,
                versions: [("operators".into(), source.version().to_string())].into(),
            },
            Origin::ExportedProgram(source) => source.facts(),
            Origin::Onnx(source) => source.facts(),
        }
    }

    /// Inputs into which the network writes.
    pub(crate) fn written_inputs(&self) -> &[String] {
        match self {
            Origin::TorchScript(source) => &source.written_inputs,
            Origin::ExportedProgram(source) => &source.written_inputs,
            Origin::None | Origin::Onnx(_) => &[],
        }
    }

    /// The names of state that nothing reads, and that its format leaves out of what is written of a graph.
    pub(crate) fn left_out(&self, graph: &Graph) -> Vec<&str> {
        let live = Live::of(graph);
        let mut names: Vec<&str> = match self {
            Origin::TorchScript(source) => source.unread().collect(),
            Origin::ExportedProgram(source) => source.unread().collect(),
            Origin::None | Origin::Onnx(_) => Vec::new(),
        };
        names.retain(|name| !live.keeps(name));
        names.sort_unstable();
        names
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Origin::None => None,
            Origin::TorchScript(source) => Some(&source.path),
            Origin::ExportedProgram(source) => Some(&source.path),
            Origin::Onnx(source) => Some(&source.path),
        }
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

fn suffix(path: &Path) -> &str {
    path.extension().and_then(OsStr::to_str).unwrap_or_default()
}

fn unknown_format(path: &Path) -> Error {
    let path_text = path.display();
    Error::Usage {
        what: match suffix(path) {
            "" => format!("{path_text}: the name has no suffix to tell the format by"),
            suffix => format!("{path_text}: `.{suffix}` is no model format"),
        },
        help: "the formats are .pt (TorchScript), .pt2 (ExportedProgram), .onnx and .ir (text)"
            .to_string(),
    }
}
