//! The pickle machine: the subset of protocol 2 that PyTorch writes, and no code ever runs.
//!
//! Objects live in an arena and refer to each other by index, so that sharing and cycles cost nothing and no nesting can
//! overflow the stack. Each opcode adds at most one object: memory is bounded by the pickle's own size.

mod write;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::error::FormatError;
pub(in crate::formats) use write::Pickler;

/// PyTorch's own bound on a tensor's dimensions.
const MAX_RANK: usize = 64;

/// An object of the arena.
pub(in crate::formats) type Id = u32;

/// Element type of a storage class, named as PyTorch names it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::formats) struct Storage {
    /// `FloatStorage`, `LongStorage` ...
    pub class: Arc<str>,
    /// Name of the entry under `data/` or `constants/`.
    pub key: Arc<str>,
    /// Elements, as declared.
    pub len: u64,
}

/// A tensor before its bytes are looked at.
#[derive(Clone, Debug, PartialEq)]
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
    pub(in crate::formats) fn root(&self) -> Id {
        self.root
    }

    pub(in crate::formats) fn get(&self, id: Id) -> &Object {
        // Ids come from this arena only; `Mark` is what no finished pickle holds.
        self.objects.get(id as usize).unwrap_or(&Object::Mark)
    }

    /// An attribute of an instance, by name.
    pub(in crate::formats) fn attr(&self, instance: Id, name: &str) -> Option<Id> {
        self.attrs(instance)
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// An instance's attributes, in the order of the file.
    pub(in crate::formats) fn attrs(&self, instance: Id) -> impl Iterator<Item = (&str, Id)> {
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
    pub(in crate::formats) fn parse(bytes: &[u8], entry: &str) -> Result<Self, FormatError> {
        Machine {
            bytes,
            at: 0,
            entry,
            objects: Vec::new(),
            stack: Vec::new(),
            memo: FxHashMap::default(),
        }
        .run()
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    entry: &'a str,
    objects: Vec<Object>,
    stack: Vec<Id>,
    memo: FxHashMap<u32, Id>,
}

type Step<T> = Result<T, FormatError>;

impl Machine<'_> {
    fn fail<T>(&self, detail: impl Into<String>) -> Step<T> {
        Err(FormatError::Pickle {
            entry: self.entry.to_owned(),
            offset: self.at,
            detail: detail.into(),
        })
    }

    fn take(&mut self, n: usize) -> Step<&[u8]> {
        let end = self
            .at
            .checked_add(n)
            .filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return self.fail("it ends in the middle of an object");
        };
        let start = std::mem::replace(&mut self.at, end);
        Ok(&self.bytes[start..end])
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn u8(&mut self) -> Step<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn u32(&mut self) -> Step<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn text(&mut self, n: usize) -> Step<String> {
        match std::str::from_utf8(self.take(n)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => self.fail("a string is not UTF-8"),
        }
    }

    fn line(&mut self) -> Step<String> {
        let Some(n) = self.bytes[self.at..].iter().position(|&b| b == b'\n') else {
            return self.fail("a name has no end");
        };
        let line = self.text(n)?;
        self.at += 1;
        Ok(line)
    }

    fn push(&mut self, object: Object) {
        self.stack.push(self.objects.len() as Id);
        self.objects.push(object);
    }

    fn pop(&mut self) -> Step<Id> {
        match self.stack.pop() {
            Some(id) if self.objects[id as usize] != Object::Mark => Ok(id),
            _ => self.fail("an operand is missing"),
        }
    }

    fn top(&self) -> Step<Id> {
        match self.stack.last() {
            Some(&id) => Ok(id),
            None => self.fail("an operand is missing"),
        }
    }

    fn pop_to_mark(&mut self) -> Step<Vec<Id>> {
        let Some(at) = self
            .stack
            .iter()
            .rposition(|&id| self.objects[id as usize] == Object::Mark)
        else {
            return self.fail("a mark is missing");
        };
        let items = self.stack.split_off(at + 1);
        self.stack.pop();
        Ok(items)
    }

    fn tuple(&mut self, n: usize) -> Step<()> {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Object::Tuple(items));
        Ok(())
    }

    fn remember(&mut self, key: u32) -> Step<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Step<()> {
        match self.memo.get(&key) {
            Some(&id) => self.stack.push(id),
            None => return self.fail(format!("memo {key} was never set")),
        }
        Ok(())
    }

    fn run(mut self) -> Step<Pickle> {
        loop {
            match self.u8()? {
                0x80 => {
                    let protocol = self.u8()?;
                    if protocol > 2 {
                        return self.fail(format!("protocol {protocol}, where PyTorch writes 2"));
                    }
                }
                b'.' => {
                    let root = self.pop()?;
                    return Ok(Pickle {
                        objects: self.objects,
                        root,
                    });
                }
                b'(' => self.push(Object::Mark),
                b'0' => {
                    self.pop()?;
                }
                b'N' => self.push(Object::None),
                0x88 => self.push(Object::Bool(true)),
                0x89 => self.push(Object::Bool(false)),
                b'K' => {
                    let value = self.u8()?;
                    self.push(Object::Int(value.into()));
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.push(Object::Int(value.into()));
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.push(Object::Int(value.into()));
                }
                0x8a => self.long()?,
                b'G' => {
                    let value = f64::from_be_bytes(self.array()?);
                    self.push(Object::Float(value));
                }
                b'X' => {
                    let n = self.u32()?;
                    let text = self.text(n as usize)?;
                    self.push(Object::Str(text.into()));
                }
                b')' => self.push(Object::Tuple(Vec::new())),
                b']' => self.push(Object::List(Vec::new())),
                b'}' => self.push(Object::Dict(Vec::new())),
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Object::Tuple(items));
                }
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b'a' => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.append(items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set_items(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.set_items(&items)?;
                }
                b'q' => {
                    let key = self.u8()?;
                    self.remember(key.into())?;
                }
                b'r' => {
                    let key = self.u32()?;
                    self.remember(key)?;
                }
                b'h' => {
                    let key = self.u8()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = self.u32()?;
                    self.recall(key)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    let global = self.global(&module, &name)?;
                    self.push(Object::Global(global));
                }
                0x81 => self.new_object()?,
                b'b' => self.build()?,
                b'R' => self.reduce()?,
                b'Q' => self.persistent()?,
                op => return self.fail(format!("opcode {op:#04x} is none that PyTorch writes")),
            }
        }
    }

    fn long(&mut self) -> Step<()> {
        let n = usize::from(self.u8()?);
        if n > 8 {
            return self.fail(format!("an integer of {n} bytes"));
        }
        let mut bytes = [0u8; 8];
        bytes[..n].copy_from_slice(self.take(n)?);
        let negative = n > 0 && bytes[n - 1] & 0x80 != 0;
        if negative {
            bytes[n..].fill(0xff);
        }
        self.push(Object::Int(i64::from_le_bytes(bytes)));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Step<()> {
        let list = self.top()?;
        match &mut self.objects[list as usize] {
            Object::List(list) => list.extend(items),
            _ => return self.fail("append to what is no list"),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Step<()> {
        let dict = self.top()?;
        match &mut self.objects[dict as usize] {
            Object::Dict(dict) if items.len().is_multiple_of(2) => {
                dict.extend(items.chunks(2).map(|p| (p[0], p[1])))
            }
            _ => return self.fail("item set in what is no dictionary"),
        }
        Ok(())
    }

    fn global(&self, module: &str, name: &str) -> Step<Global> {
        Ok(match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            // What else somebody stored beside a parameter is not read.
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Global::RebuildParameter
            }
            ("torch._utils", "_rebuild_qtensor") => Global::Refused("quantized"),
            ("torch._utils", "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor") => {
                Global::Refused("sparse")
            }
            ("torch._utils", "_rebuild_meta_tensor_no_storage") => {
                Global::Refused("a meta tensor without data")
            }
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch", "device") => Global::Device,
            ("torch", storage) if storage.ends_with("Storage") => Global::Storage(storage.into()),
            (
                "torch.jit._pickle",
                "build_intlist" | "build_tensorlist" | "build_doublelist" | "build_boollist",
            ) => Global::BuildList,
            ("torch.jit._pickle", "restore_type_tag") => Global::RestoreTypeTag,
            (module, name) if module == "__torch__" || module.starts_with("__torch__.") => {
                Global::Class(format!("{module}.{name}").into())
            }
            _ => {
                let global = format!("{module}.{name}");
                return Err(FormatError::ForbiddenGlobal {
                    entry: self.entry.to_owned(),
                    global,
                });
            }
        })
    }

    fn new_object(&mut self) -> Step<()> {
        let (_args, class) = (self.pop()?, self.pop()?);
        let Object::Global(Global::Class(class)) = &self.objects[class as usize] else {
            return self.fail("an instance of what is no class");
        };
        let class = class.clone();
        self.push(Object::Instance { class, state: None });
        Ok(())
    }

    fn build(&mut self) -> Step<()> {
        let (value, target) = (self.pop()?, self.top()?);
        match &mut self.objects[target as usize] {
            Object::Instance { state, .. } => *state = Some(value),
            // Attributes of a tensor's OrderedDict of hooks and the like: nothing a network computes with.
            Object::Dict(_) => {}
            _ => return self.fail("a state for what is no instance"),
        }
        Ok(())
    }

    fn reduce(&mut self) -> Step<()> {
        let (args, function) = (self.pop()?, self.pop()?);
        let Object::Tuple(args) = &self.objects[args as usize] else {
            return self.fail("the arguments of a call are no tuple");
        };
        let Object::Global(function) = &self.objects[function as usize] else {
            return self.fail("a call of what is no function");
        };
        let object = match (function, args.as_slice()) {
            (Global::OrderedDict, []) => Object::Dict(Vec::new()),
            (Global::BuildList, &[list])
            | (Global::RestoreTypeTag, &[list, _])
            | (Global::RebuildParameter, &[list, ..]) => {
                self.stack.push(list);
                return Ok(());
            }
            (Global::Device, &[name, ..]) => match &self.objects[name as usize] {
                Object::Str(name) => Object::Device(name.clone()),
                _ => return self.fail("a device without a name"),
            },
            (Global::RebuildTensor, &[storage, offset, shape, strides, requires_grad, ..]) => {
                let [storage, requires_grad] =
                    [storage, requires_grad].map(|id| &self.objects[id as usize]);
                let (Object::Storage(storage), &Object::Bool(requires_grad)) =
                    (storage, requires_grad)
                else {
                    return self.fail("a tensor without a storage");
                };
                let storage = (**storage).clone();
                let offset = self.size(offset)?;
                let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
                if shape.len() != strides.len() {
                    return self.fail("a tensor has not as many strides as dimensions");
                }
                Object::Tensor(Box::new(PickledTensor {
                    storage,
                    offset,
                    shape,
                    strides,
                    requires_grad,
                }))
            }
            (Global::Refused(kind), _) => {
                let class = format!("<{kind}>");
                let storage = Storage {
                    class: class.into(),
                    key: "".into(),
                    len: 0,
                };
                let (shape, strides) = (Vec::new(), Vec::new());
                Object::Tensor(Box::new(PickledTensor {
                    storage,
                    offset: 0,
                    shape,
                    strides,
                    requires_grad: false,
                }))
            }
            _ => return self.fail("a call with the wrong arguments"),
        };
        self.push(object);
        Ok(())
    }

    fn size(&self, id: Id) -> Step<u64> {
        match self.objects[id as usize] {
            Object::Int(value) if value >= 0 => Ok(value as u64),
            _ => self.fail("a size is negative or no integer"),
        }
    }

    fn sizes(&self, id: Id) -> Step<Vec<u64>> {
        match &self.objects[id as usize] {
            // One shape may be named by many tensors: without a bound on the rank their copies would grow as a square.
            Object::Tuple(items) | Object::List(items) if items.len() > MAX_RANK => {
                self.fail(format!("a tensor of {} dimensions", items.len()))
            }
            Object::Tuple(items) | Object::List(items) => {
                items.iter().map(|&id| self.size(id)).collect()
            }
            _ => self.fail("a shape is no tuple"),
        }
    }

    /// `("storage", torch.FloatStorage, "0", "cpu", 16)`.
    fn persistent(&mut self) -> Step<()> {
        let id = self.pop()?;
        let Object::Tuple(parts) = &self.objects[id as usize] else {
            return self.fail("a persistent id that is no tuple");
        };
        let parts: Vec<&Object> = parts.iter().map(|&id| &self.objects[id as usize]).collect();
        let [
            Object::Str(tag),
            Object::Global(Global::Storage(class)),
            Object::Str(key),
            _,
            Object::Int(len),
            ..,
        ] = parts.as_slice()
        else {
            return self.fail("a persistent id that is no storage");
        };
        if &**tag != "storage" || *len < 0 {
            return self.fail("a persistent id that is no storage");
        }
        let storage = Storage {
            class: class.clone(),
            key: key.clone(),
            len: *len as u64,
        };
        self.push(Object::Storage(Box::new(storage)));
        Ok(())
    }
}
