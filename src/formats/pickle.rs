//! The pickle machine: the subset of protocol 2 that PyTorch writes, and no code ever runs.
//!
//! Objects live in an arena and refer to each other by index, so that sharing and cycles cost nothing and no nesting can
//! overflow the stack. Each opcode adds at most one object: memory is bounded by the pickle's own size.

mod machine;
mod write;

use std::sync::Arc;

use crate::error::FormatError;
use machine::Machine;
pub(in crate::formats) use write::Pickler;

/// An object of the arena.
pub(in crate::formats) type Id = u32;

/// Element type of a storage class, named as PyTorch names it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::formats) struct Storage {
    /// `FloatStorage`, `LongStorage` ...
    pub class: Arc<str>,
    /// Name of the entry under `data/` or `constants/`.
    pub key: Arc<str>,
    /// Elements, as declared.
    pub len: u64,
}

/// A tensor before its bytes are looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::formats) struct PickledTensor {
    pub storage: Storage,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
    pub requires_grad: bool,
}

/// What a pickle can hold.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::formats) enum Object {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Arc<str>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// An instance of a class of the archive's code; its attributes are in the dictionary `state`.
    Instance {
        class: Arc<str>,
        state: Option<Id>,
    },
    Tensor(Box<PickledTensor>),
    Storage(Box<Storage>),
    /// A device, by its name.
    Device(Arc<str>),
    /// A class or function on the list of what may be named.
    Global(Global),
    Mark,
}

/// The globals a model may name.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::formats) enum Global {
    RebuildTensor,
    RebuildParameter,
    OrderedDict,
    Storage(Arc<str>),
    /// `build_intlist` and its kin: the list itself.
    BuildList,
    /// `restore_type_tag`: the value without its tag.
    RestoreTypeTag,
    Device,
    /// Tensors of a kind that is refused when it is built, with the parameter's name.
    Refused(&'static str),
    /// A class of the archive's code.
    Class(Arc<str>),
}

/// A finished pickle: its arena and its root.
#[derive(Debug)]
pub(in crate::formats) struct Pickle {
    objects: Vec<Object>,
    root: Id,
}

impl Pickle {
    pub fn root(&self) -> Id {
        self.root
    }

    pub fn get(&self, id: Id) -> &Object {
        // Ids come from this arena only; `Mark` is what no finished pickle holds.
        self.objects.get(id as usize).unwrap_or(&Object::Mark)
    }

    /// An attribute of an instance, by name.
    pub fn attr(&self, instance: Id, name: &str) -> Option<Id> {
        self.attrs(instance)
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// An instance's attributes, in the order of the file.
    pub fn attrs(&self, instance: Id) -> impl Iterator<Item = (&str, Id)> {
        let items = match self.get(instance) {
            Object::Instance {
                state: Some(state), ..
            } => match self.get(*state) {
                Object::Dict(items) => items.as_slice(),
                _ => &[],
            },
            _ => &[],
        };
        items
            .iter()
            .filter_map(|&(key, value)| match self.get(key) {
                Object::Str(key) => Some((&**key, value)),
                _ => None,
            })
    }

    /// Runs a pickle.
    pub fn parse(bytes: &[u8], entry: &str) -> Result<Self, FormatError> {
        Machine::new(bytes, entry).run()
    }
}
