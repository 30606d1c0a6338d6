//! What can be wrong with a model file: each message says what, where, and what to do.

use std::fmt;

/// A place in a model's code: file and line inside the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Path of the code file inside the archive.
    pub file: String,
    /// Line, counted from one.
    pub line: usize,
    /// The line's own text, trimmed.
    pub text: String,
}

impl Location {
    /// File and line, without the line's text.
    pub(crate) fn brief(&self) -> String {
        format!("{}, line {}", self.file, self.line)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file, self.line)?;
        if !self.text.is_empty() {
            write!(f, "\n     | {}", self.text)?;
        }
        Ok(())
    }
}

/// The Python that turns a model object into a file this library reads.
const EXPORT: &str = "  export the network with three lines of Python:
    model = MyModel(); model.load_state_dict(torch.load(\"weights.pt\"))
    traced = torch.jit.trace(model.eval(), torch.randn(1, 3, 224, 224))
    traced.save(\"model.pt\")";

/// What a file is when it is not a format that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// `torch.save(model.state_dict())`: tensors by name, no code.
    StateDict,
    /// `torch.save(model)`: Python objects that only their own classes can restore.
    PickledModule,
    /// `torch.save` from before PyTorch 1.6.
    LegacyPickle,
    /// The tar format of 2017.
    LegacyTar,
    /// `torch.export.save`.
    ExportedProgram,
    /// Tensors by name, no graph.
    Safetensors,
    /// An ONNX protobuf.
    Onnx,
    /// Some zip archive.
    Zip,
    /// Nothing known.
    Unknown,
}

impl Foreign {
    fn text(self) -> &'static str {
        match self {
            Foreign::StateDict => {
                "it holds tensors only (a state dict written by torch.save), not the network that uses them"
            }
            Foreign::PickledModule => {
                "it is a module pickled by torch.save: Python objects that only their own source code can restore"
            }
            Foreign::LegacyPickle => {
                "it is a pickle written by torch.save before PyTorch 1.6 (a state dict or a module), without the network's code"
            }
            Foreign::LegacyTar => {
                "it is a tar archive as torch.save wrote them until 2017, without the network's code"
            }
            Foreign::ExportedProgram => {
                "it is an ExportedProgram (torch.export.save), but its entries are in other folders than PyTorch's"
            }
            Foreign::Safetensors => {
                "it is a safetensors file: tensors only, not the network that uses them"
            }
            Foreign::Onnx => "it is an ONNX model",
            Foreign::Zip => {
                "it is a zip archive, but neither TorchScript nor anything else PyTorch writes"
            }
            Foreign::Unknown => {
                "it is neither a zip archive, so not TorchScript and no ExportedProgram, nor ONNX"
            }
        }
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Why a model file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The file has no bytes.
    #[error(
        "the file is empty\n  the copy or download that made it did not finish; fetch the file again"
    )]
    Empty,
    /// Another kind of file.
    #[error("not a model that optc reads: {0}\n{EXPORT}")]
    Foreign(Foreign),
    /// The zip structure does not hold together.
    #[error(
        "the zip archive is damaged: {detail}\n  the file was cut short or altered; fetch or save it again"
    )]
    Damaged {
        /// What does not fit.
        detail: String,
    },
    /// Encrypted entries cannot be read.
    #[error("entry `{entry}` of the archive is encrypted\n  save it without a password")]
    Encrypted {
        /// The entry.
        entry: String,
    },
    /// An entry would land outside the archive's own folder.
    #[error(
        "entry `{entry}` of the archive names a path outside it\n  neither PyTorch nor NumPy writes such a name; do not trust this file"
    )]
    UnsafePath {
        /// The entry.
        entry: String,
    },
    /// Two entries claim the same name.
    #[error(
        "the archive holds `{entry}` twice\n  save the model again; which of the two is meant is unknown"
    )]
    Duplicate {
        /// The entry.
        entry: String,
    },
    /// Compression method other than stored and deflate.
    #[error(
        "entry `{entry}` of the archive is compressed by method {method}, which is not read\n  repack the archive without compression (zip -0)"
    )]
    Compression {
        /// The entry.
        entry: String,
        /// The method, as zip names it.
        method: String,
    },
    /// An entry declares, or unpacks to, more than its size allows.
    #[error(
        "entry `{entry}` of the archive would unpack from {packed} to {unpacked} bytes, over the limit of {limit}\n  this is a decompression bomb or a damaged file; do not trust it"
    )]
    Bomb {
        /// The entry.
        entry: String,
        /// Bytes in the file.
        packed: u64,
        /// Bytes declared or found.
        unpacked: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Something the format requires is absent.
    #[error("the archive has no {entry}\n  the file is incomplete; save the model again")]
    Missing {
        /// The entry.
        entry: String,
    },
    /// The pickle names something that is not on the list of what a model may hold.
    #[error(
        "`{entry}` refers to `{global}`, which a model has no need of\n  nothing was executed; do not trust this file unless you know why it is there"
    )]
    ForbiddenGlobal {
        /// The pickle.
        entry: String,
        /// The name refused.
        global: String,
    },
    /// The pickle is malformed.
    #[error(
        "`{entry}` is not a valid pickle: {detail} at byte {offset}\n  the file is damaged; save the model again"
    )]
    Pickle {
        /// The pickle.
        entry: String,
        /// Where.
        offset: usize,
        /// What.
        detail: String,
    },
    /// A tensor of a kind the intermediate representation does not hold.
    #[error("tensor `{name}` is {kind}, which is not supported\n  {help}")]
    TensorKind {
        /// Parameter, buffer or constant.
        name: String,
        /// Quantized, sparse, complex ...
        kind: String,
        /// What to do.
        help: String,
    },
    /// A tensor reaches past its storage.
    #[error(
        "tensor `{name}` of shape {shape:?} needs {needed} bytes of storage `{storage}`, which has {available}\n  the file is damaged; save the model again"
    )]
    ShortStorage {
        /// Parameter, buffer or constant.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
        /// Entry of the archive.
        storage: String,
        /// Bytes the shape, strides and offset ask for.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// The code does not parse, or uses Python beyond TorchScript's subset.
    #[error("the model's code is not understood: {what}\n  at {at}\n  {help}")]
    Code {
        /// What.
        what: String,
        /// Where.
        at: Location,
        /// What to do.
        help: String,
    },
    /// A branch whose condition is known only when the model runs.
    #[error(
        "the model branches on data: {what}\n  at {at}\n  trace the model (torch.jit.trace) with an example of the input it will see, or move the branch out of the model"
    )]
    DataBranch {
        /// What the condition depends on.
        what: String,
        /// Where.
        at: Location,
    },
    /// The model's own check failed.
    #[error("the model raises `{message}`\n  at {at}\n  {help}")]
    Raised {
        /// The model's message.
        message: String,
        /// Where.
        at: Location,
        /// What to do.
        help: String,
    },
    /// Saved in training mode.
    #[error(
        "the model was saved in training mode: {what}\n  at {at}\n  call model.eval() before torch.jit.trace or torch.jit.script, and save it again"
    )]
    Training {
        /// The operator that behaves differently in training.
        what: String,
        /// Where.
        at: Location,
    },
    /// An entry of an exported program is not the JSON that it is to be.
    #[error(
        "`{entry}` is not what torch.export writes: {detail}\n  the file is damaged, or of a version that is not known; export the model again"
    )]
    Json {
        /// The entry.
        entry: String,
        /// What the parser says.
        detail: String,
    },
    /// An exported program that does not hold together, or is of a kind that is not taken.
    #[error("the exported program cannot be taken: {what}\n  at {at}\n  {help}")]
    Program {
        /// What.
        what: String,
        /// The node, input or output.
        at: String,
        /// What to do.
        help: String,
    },
    /// A bound on work or size was reached.
    #[error("reading the model stopped at a limit: {what}\n  {help}")]
    Limit {
        /// Which, and how much.
        what: String,
        /// What to do.
        help: String,
    },
    /// `--input` does not fit the model's interface.
    #[error("--input {given}: {problem}\n  the model takes {takes}")]
    Input {
        /// The text given.
        given: String,
        /// What does not fit.
        problem: String,
        /// What the model takes.
        takes: String,
    },
    /// The output would overwrite the input.
    #[error(
        "the output is the input file itself\n  give another path with -o; the input is never overwritten"
    )]
    OverwritesInput,
    /// Operators that the IR does not know, which only the format they came from can hold.
    #[error(
        "cannot be converted: these operators are known to the model's own format only: {}\n  write the kind of file that was read", operators.join(", ")
    )]
    ForeignOperators {
        /// Their names, sorted.
        operators: Vec<String>,
    },
    /// The model holds what the format cannot say.
    #[error("cannot be written as {format}: {what}\n  {help}")]
    Unwritable {
        /// The format.
        format: &'static str,
        /// What.
        what: String,
        /// What to do.
        help: String,
    },
    /// An ONNX file.
    #[error(transparent)]
    Onnx(#[from] super::onnx::OnnxError),
    /// The system refused.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl FormatError {
    /// What a format has no way to say.
    pub(crate) fn unwritable(format: &'static str, what: impl Into<String>) -> FormatError {
        FormatError::Unwritable {
            format,
            what: what.into(),
            help: "leave this operator out of the pipeline, or write another format".to_owned(),
        }
    }

    /// A graph that nothing could be made of.
    pub(crate) fn mistake(format: &'static str, what: impl Into<String>) -> FormatError {
        FormatError::Unwritable {
            format,
            what: what.into(),
            help: "this is a mistake of the pass that made it".to_owned(),
        }
    }
}
