//! The archive's objects: modules, their attributes and tensors.

use indexmap::IndexMap;

use crate::error::FormatError;
use crate::files::archive::Archive;
use crate::formats::pickle::{Id, Object, Pickle, PickledTensor};
use crate::formats::storage::{Storages, check_byte_order};
use crate::ir::Tensor;

/// Attribute paths a module tree may have in all; shared modules are counted once a path.
const MAX_PATHS: usize = 1 << 20;
/// How deeply modules may nest.
const MAX_MODULE_DEPTH: usize = 256;

/// A tensor's place in the archive: what makes two attributes the same weight.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct TensorKey {
    folder: &'static str,
    storage: std::sync::Arc<str>,
    class: std::sync::Arc<str>,
    offset: u64,
    shape: Vec<u64>,
    strides: Vec<u64>,
}

impl TensorKey {
    pub(super) fn new(tensor: &PickledTensor, folder: &'static str) -> Self {
        let PickledTensor {
            storage,
            offset,
            shape,
            strides,
            ..
        } = tensor;
        TensorKey {
            folder,
            storage: storage.key.clone(),
            class: storage.class.clone(),
            offset: *offset,
            shape: shape.clone(),
            strides: strides.clone(),
        }
    }
}

/// What the archive's pickles hold.
pub(super) struct Objects<'a> {
    pub data: Pickle,
    pub constants: Option<Pickle>,
    storages: Storages<'a>,
}

impl<'a> Objects<'a> {
    pub(super) fn load(archive: &'a Archive) -> Result<Self, FormatError> {
        check_byte_order(archive, "data/0")?;
        let data = Pickle::parse(&archive.read_text("data.pkl")?, "data.pkl")?;
        let constants = if archive.contains("constants.pkl") {
            Some(Pickle::parse(
                &archive.read_text("constants.pkl")?,
                "constants.pkl",
            )?)
        } else {
            None
        };
        Ok(Objects {
            data,
            constants,
            storages: Storages::new(archive),
        })
    }

    /// `CONSTANTS.cN`, if there is such a tensor.
    pub(super) fn constant(&self, index: usize) -> Option<&PickledTensor> {
        let pickle = self.constants.as_ref()?;
        let Object::Tuple(items) = pickle.get(pickle.root()) else {
            return None;
        };
        match pickle.get(*items.get(index)?) {
            Object::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// Every attribute path that leads to a tensor, by tensor, in the order of the file; and the modules by path.
    pub(super) fn walk(&self) -> Result<Tree, FormatError> {
        let mut tree = Tree::default();
        self.walk_module(self.data.root(), String::new(), 0, &mut tree)?;
        Ok(tree)
    }

    fn walk_module(
        &self,
        id: Id,
        path: String,
        depth: usize,
        tree: &mut Tree,
    ) -> Result<(), FormatError> {
        if depth > MAX_MODULE_DEPTH || tree.modules.len() + tree.count > MAX_PATHS {
            let what = if depth > MAX_MODULE_DEPTH {
                format!(
                    "modules nest more than {MAX_MODULE_DEPTH} deep at `{}`",
                    shorten(&path)
                )
            } else {
                format!("the module tree has over {MAX_PATHS} attributes")
            };
            let help =
                "a module that contains itself is no network; save the model again".to_owned();
            return Err(FormatError::Limit { what, help });
        }
        tree.modules.insert(path.clone(), id);
        for (name, value) in self.data.attrs(id) {
            let path = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            match self.data.get(value) {
                Object::Tensor(tensor) => {
                    tree.count += 1;
                    tree.tensors
                        .entry(TensorKey::new(tensor, "data"))
                        .or_default()
                        .push((path, id));
                }
                Object::Instance { .. } => self.walk_module(value, path, depth + 1, tree)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The elements of a tensor: a slice of the map where they lie there in order.
    pub(super) fn tensor(
        &self,
        tensor: &PickledTensor,
        folder: &str,
        name: &str,
    ) -> Result<Tensor, FormatError> {
        self.storages.pickled(tensor, folder, name)
    }
}

/// The module tree as attribute paths.
#[derive(Default)]
pub(super) struct Tree {
    /// Paths that lead to each tensor, with the module that holds it.
    pub tensors: IndexMap<TensorKey, Vec<(String, Id)>>,
    /// Module by path; the root's is empty.
    pub modules: IndexMap<String, Id>,
    count: usize,
}

fn shorten(path: &str) -> String {
    path.chars().take(60).collect::<String>() + "..."
}
