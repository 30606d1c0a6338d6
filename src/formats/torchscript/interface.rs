//! What a TorchScript file holds beside its graph: the interface of `forward`, the tree of modules, extra files.

use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxHashSet;

use crate::ir::{Bytes, Dim, Role, Tensor};

/// What is needed to write a graph back as the TorchScript file that it came from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file, which is never overwritten; `None` for bytes.
    pub(crate) path: Option<PathBuf>,
    /// `version`, as the file has it.
    pub(super) version: String,
    /// Modules by attribute path, the root's empty, in the order of the file.
    pub(super) modules: IndexMap<String, ModuleInfo>,
    /// Attribute paths of parameters and buffers, in the order of the file.
    pub(super) order: IndexMap<String, Role>,
    /// Parameters that are not trained.
    pub(super) untrained: FxHashSet<String>,
    /// State that `forward` does not read, such as a batch norm's counter: it stays while its module does.
    pub(super) unread: Vec<(String, Role, Tensor)>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) result: ResultText,
    /// Named tuples that the result is made of: name, and the class's body.
    pub(super) named_tuples: IndexMap<String, String>,
    /// Inputs into which the network writes.
    pub(crate) written_inputs: Vec<String>,
    /// `extra/` files.
    pub(super) extra: Vec<(String, Bytes)>,
}

impl Source {
    /// The version of PyTorch's operators that the file asks for.
    pub(crate) fn version(&self) -> &str {
        self.version.trim()
    }

    /// The names of the state that nothing reads.
    pub(crate) fn unread(&self) -> impl Iterator<Item = &str> {
        self.unread.iter().map(|(path, ..)| path.as_str())
    }
}

/// A module as an object.
#[derive(Clone, Debug)]
pub(super) struct ModuleInfo {
    /// The last part of its class's name.
    pub class: String,
    /// Whether it has the attribute `training`, as all but frozen ones do.
    pub has_training: bool,
}

/// A parameter of `forward`.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub name: String,
    /// The declared type.
    pub ty: String,
    /// Its default, as text.
    pub default: Option<String>,
    /// How the graph's inputs make it up.
    pub content: Content,
}

/// What a parameter of `forward` consists of.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// Input `i` of the graph.
    Input(usize),
    /// A tuple of these.
    Tuple(Vec<Content>),
    /// Taken to have its default: a check, as text, that it does.
    Fixed(String),
}

/// The expression that `forward` returns, over the graph's outputs.
#[derive(Clone, Debug)]
pub(super) struct ResultText {
    /// As an opaque operator's template: `{0}` is the graph's first output.
    pub template: Arc<str>,
    pub sizes: Vec<Dim>,
    /// The declared type.
    pub ty: String,
}

impl Default for ResultText {
    fn default() -> Self {
        ResultText {
            template: "{0}".into(),
            sizes: Vec::new(),
            ty: "Tensor".into(),
        }
    }
}
