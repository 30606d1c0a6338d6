//! Model files: read and write.
//!
//! A file's content decides which `Format` reads it; what it came from, or the name's suffix, which writes it.

mod aten;
mod content;
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

use std::borrow::Cow;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use crate::error::FormatError;
use crate::files::{PendingFile, Staged};
use crate::ir::{Bytes, Dialect, Graph, Op, Validated, verify};
use crate::{Error, Result};
use content::{Content, suffix};
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

impl ReadOptions {
    /// The shapes that are given to inputs of these names: by name, the others in order.
    fn shapes_of<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<Option<&InputShape>> {
        let named = |name| { self.inputs.iter() }.find(|given| given.name.as_deref() == Some(name));
        let mut unnamed = self.inputs.iter().filter(|given| given.name.is_none());
        let shape = |name| named(name).or_else(|| unnamed.next());
        names.map(shape).collect()
    }
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
    read_content(&Content::open(path.as_ref())?, options)
}

/// Reads a model from the bytes of its file, which the model goes on to share: weights are not copied where they lie in the bytes
/// as they are needed. What it is is told by the content.
///
/// An ONNX model whose weights are in files beside it has to be read from its path.
///
/// # Errors
/// As [`read_with`].
pub fn read_bytes(bytes: Bytes, options: &ReadOptions) -> Result<Model> {
    read_content(&Content { bytes, path: None }, options)
}

fn read_content(content: &Content<'_>, options: &ReadOptions) -> Result<Model> {
    if content.bytes.is_empty() && content.path.is_none() {
        return Err(content.wrong(FormatError::Empty));
    }
    let mut model = recognise(content).read(content, options)?;
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

/// The bytes of a model file: of the format with this suffix, such as `onnx`, or of the one that the model is from, which for a graph
/// without a file is the text form.
///
/// # Errors
/// [`Error::Format`] when the format cannot hold the model, [`Error::Usage`] when the suffix is of no format, and
/// [`Error::Invalid`] for a graph that breaks the IR's rules.
pub fn write_bytes(model: &Model, suffix: Option<&str>) -> Result<Vec<u8>> {
    let model = &*as_written(model);
    let memory = Path::new(Error::IN_MEMORY);
    let own = || FORMATS.into_iter().find(|f| f.dialect() == model.dialect());
    let writer = match suffix {
        Some(suffix) => with_suffix(suffix),
        None => own(),
    };
    let writer = writer.ok_or_else(|| unknown_format(suffix.unwrap_or_default(), ""))?;
    let graph = writable(&model.graph, writer, memory)?;
    writer
        .write_bytes(graph, &model.origin)
        .map_err(|e| Error::format(memory, e))
}

/// Writes a model file that is not there under its name before somebody has looked at it.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written, [`Error::Format`] when the format cannot hold the model or the path is the
/// model's own file, [`Error::Usage`] when the suffix is of no format, and [`Error::Invalid`] for a graph that breaks the IR's rules.
pub fn stage(model: &Model, path: impl AsRef<Path>) -> Result<Staged> {
    let path = path.as_ref();
    let model = &*as_written(model);
    let own = model.origin.path();
    let writer = writer(path, own)?;
    if own.is_some_and(|own| same_file(own, path)) {
        return Err(Error::format(path, FormatError::OverwritesInput));
    }
    let graph = writable(&model.graph, writer, path)?;
    let mut files = Vec::new();
    let file = PendingFile::new(path, |out| {
        files = writer.write(graph, &model.origin, path, out)?;
        Ok(())
    })?;
    files.push(file);
    Ok(Staged(files))
}

/// The model, with the fault that a test of the tests may have planted.
fn as_written(model: &Model) -> Cow<'_, Model> {
    match faults::of_writer(&model.graph) {
        None => Cow::Borrowed(model),
        Some(graph) => Cow::Owned(Model {
            graph,
            origin: model.origin.clone(),
        }),
    }
}

/// The graph, if this format can hold it.
fn writable<'g>(graph: &'g Graph, writer: &dyn Format, path: &Path) -> Result<Validated<'g>> {
    refuse_foreign(graph, writer).map_err(|e| Error::format(path, e))?;
    verify(graph).map_err(|violations| Error::Invalid {
        stage: "the program that built it".into(),
        violations: violations.iter().map(ToString::to_string).collect(),
    })
}

/// Which format the file at `path` is of; `None` for the text form.
pub fn dialect_of(path: &Path) -> Option<Dialect> {
    format_of(path).dialect()
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
    /// The model in such a file.
    fn read(&self, content: &Content<'_>, options: &ReadOptions) -> Result<Model>;
    /// Writes the graph, with what its file had beside it; `path` is where the file will stand. Gives the files that will stand beside it.
    fn write(
        &self,
        graph: Validated<'_>,
        origin: &Origin,
        path: &Path,
        out: &mut BufWriter<&mut File>,
    ) -> Result<Vec<PendingFile>>;
    /// The same as bytes, with all weights in them.
    fn write_bytes(
        &self,
        graph: Validated<'_>,
        origin: &Origin,
    ) -> std::result::Result<Vec<u8>, FormatError>;
}

/// Every format.
const FORMATS: [&dyn Format; 4] = [&TorchScript, &ExportedProgram, &Onnx, &TextForm];

/// What reads a model: its content says so, but for files of the text form.
fn recognise(content: &Content<'_>) -> &'static dyn Format {
    match content.suffix() {
        text::SUFFIX => &TextForm,
        _ if exported_program::recognises(&content.bytes) => &ExportedProgram,
        suffix if onnx::recognises(content.bytes.as_ref(), suffix) => &Onnx,
        _ if content.path.is_none() && text::recognises(content.bytes.as_ref()) => &TextForm,
        // What is not TorchScript either is told by this reader, with what it is instead.
        _ => &TorchScript,
    }
}

/// The format of a file; where it cannot be opened, that of the reader who says why.
fn format_of(path: &Path) -> &'static dyn Format {
    match suffix(path) {
        text::SUFFIX => &TextForm,
        _ => Content::open(path).map_or(&TorchScript, |content| recognise(&content)),
    }
}

fn with_suffix(suffix: &str) -> Option<&'static dyn Format> {
    let mut formats = FORMATS.into_iter();
    formats.find(|format| format.suffixes().contains(&suffix))
}

/// The writer of files with this name, for a model that was read from the file `from`.
fn writer(path: &Path, from: Option<&Path>) -> Result<&'static dyn Format> {
    let suffix = suffix(path);
    match with_suffix(suffix) {
        Some(format) => Ok(format),
        // Whatever the user calls such files.
        None => match from.filter(|from| !suffix.is_empty() && self::suffix(from) == suffix) {
            Some(from) => Ok(format_of(from)),
            None => Err(unknown_format(suffix, &format!("{}: ", path.display()))),
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

    /// The file; `None` for a model that was read from bytes.
    fn path(&self) -> Option<&Path> {
        match self {
            Origin::None => None,
            Origin::TorchScript(source) => source.path.as_deref(),
            Origin::ExportedProgram(source) => source.path.as_deref(),
            Origin::Onnx(source) => source.path.as_deref(),
        }
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

/// That no format has such files; `place` says which file.
fn unknown_format(suffix: &str, place: &str) -> Error {
    Error::Usage {
        what: match suffix {
            "" => format!("{place}the name has no suffix to tell the format by"),
            suffix => format!("{place}`.{suffix}` is no model format"),
        },
        help: "the formats are .pt (TorchScript), .pt2 (ExportedProgram), .onnx and .ir (text)"
            .to_string(),
    }
}
