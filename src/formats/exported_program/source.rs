//! What a `.pt2` file holds beside its graph.

use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxHashMap;
use serde_json::Value as Json;

use super::package::Container;
use super::schema::Program;
use super::symbolic::Symbols;
use crate::formats::FileFacts;
use crate::ir::{Bytes, Dialect, Dim, Tensor};

/// What is needed to write a graph back as the ExportedProgram that it came from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file, which is never overwritten; `None` for bytes.
    pub(crate) path: Option<PathBuf>,
    /// How the archive keeps its tensors.
    pub(super) container: Container,
    /// The program's name in the archive.
    pub(super) model: String,
    /// The program as it was read.
    pub(super) program: Program,
    /// What each input of the program is, in order.
    pub(super) placeholders: Vec<Placeholder>,
    /// Parameters, buffers and constants by their full names.
    pub(super) state: IndexMap<String, State>,
    /// State that the graph does not read, such as a batch norm's counter: it stays while its module does.
    pub(super) unread: FxHashMap<String, Tensor>,
    /// What each output of the program is, in order.
    pub(super) results: Vec<ResultSlot>,
    pub(super) symbols: Symbols,
    /// Node of the graph -> the position of the node of the program that it came from.
    pub(super) nodes: FxHashMap<Arc<str>, usize>,
    /// Node of the graph and which of its results -> the name that the program has for it.
    pub(super) names: FxHashMap<(Arc<str>, u32), String>,
    /// Inputs into which the program writes.
    pub(crate) written_inputs: Vec<String>,
    /// Sample inputs and extra files.
    pub(super) extra: Vec<(String, Bytes)>,
}

impl Source {
    /// The names of the state that nothing reads.
    pub(crate) fn unread(&self) -> impl Iterator<Item = &str> {
        self.unread.keys().map(String::as_str)
    }

    /// What the file says of itself.
    pub(crate) fn facts(&self) -> FileFacts {
        let Program {
            schema_version,
            other,
            ..
        } = &self.program;
        let torch = other.get("torch_version").and_then(Json::as_str);
        let schema = format!("{}.{}", schema_version.major, schema_version.minor);
        FileFacts {
            format: Dialect::ExportedProgram.title(),
            producer: torch.map(|version| format!("PyTorch {version}")),
            versions: [("schema".into(), schema)].into(),
        }
    }
}

/// An input of the program.
#[derive(Clone, Debug)]
pub(super) enum Placeholder {
    /// A parameter, buffer or constant.
    State,
    /// Input `i` of the graph.
    Input(usize),
    /// A number, or something else that is no tensor.
    Other,
}

/// A parameter, buffer or constant.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub kind: StateKind,
    /// The name of its placeholder; empty if it has none.
    pub placeholder: String,
    pub requires_grad: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateKind {
    Parameter,
    Buffer {
        persistent: bool,
    },
    /// A tensor without a name in the state dict.
    Constant,
}

impl StateKind {
    /// Whether the tensor is kept with the constants, as it is not in the state dict.
    pub fn is_constant(self) -> bool {
        matches!(
            self,
            StateKind::Constant | StateKind::Buffer { persistent: false }
        )
    }
}

/// An output of the program.
#[derive(Clone, Debug)]
pub(super) enum ResultSlot {
    /// The next output of the graph.
    Value,
    /// A size of the inputs.
    Size(Dim),
    /// A number or nothing.
    Other(Json),
}
