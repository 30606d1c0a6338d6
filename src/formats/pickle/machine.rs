//! The machine that runs a pickle.

use rustc_hash::FxHashMap;

use super::{Global, Id, Object, Pickle, PickledTensor, Storage};
use crate::error::FormatError;

/// PyTorch's own bound on a tensor's dimensions.
const MAX_RANK: usize = 64;

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    entry: &'a str,
    objects: Vec<Object>,
    stack: Vec<Id>,
    memo: FxHashMap<u32, Id>,
}

type Step<T> = Result<T, FormatError>;

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8], entry: &'a str) -> Self {
        Machine {
            bytes,
            at: 0,
            entry,
            objects: Vec::new(),
            stack: Vec::new(),
            memo: FxHashMap::default(),
        }
    }

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

    fn tuple(&mut self, n: usize) -> Step<Object> {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        Ok(Object::Tuple(items))
    }

    /// Runs the pickle to its end.
    pub fn run(mut self) -> Step<Pickle> {
        loop {
            match self.u8()? {
                b'.' => {
                    let root = self.pop()?;
                    let objects = self.objects;
                    return Ok(Pickle { objects, root });
                }
                op => self.step(op)?,
            }
        }
    }

    fn step(&mut self, op: u8) -> Step<()> {
        let made = match op {
            0x80 => match self.u8()? {
                0..=2 => return Ok(()),
                protocol => {
                    return self.fail(format!("protocol {protocol}, where PyTorch writes 2"));
                }
            },
            b'(' => Object::Mark,
            b'N' => Object::None,
            0x88 => Object::Bool(true),
            0x89 => Object::Bool(false),
            b'K' => Object::Int(self.u8()?.into()),
            b'M' => Object::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Object::Int(i32::from_le_bytes(self.array()?).into()),
            0x8a => Object::Int(self.long()?),
            b'G' => Object::Float(f64::from_be_bytes(self.array()?)),
            b'X' => {
                let length = self.u32()? as usize;
                Object::Str(self.text(length)?.into())
            }
            b')' => Object::Tuple(Vec::new()),
            b']' => Object::List(Vec::new()),
            b'}' => Object::Dict(Vec::new()),
            b't' => Object::Tuple(self.pop_to_mark()?),
            0x85..=0x87 => self.tuple(usize::from(op - 0x84))?,
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                Object::Global(self.global(&module, &name)?)
            }
            0x81 => self.new_object()?,
            b'Q' => self.persistent()?,
            op => return self.change(op),
        };
        self.push(made);
        Ok(())
    }

    /// An opcode that changes what is there, or calls a function on it.
    fn change(&mut self, op: u8) -> Step<()> {
        match op {
            b'0' => self.pop().map(|_| ()),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)
            }
            b'q' | b'r' => {
                let (key, top) = (self.key(op == b'r')?, self.top()?);
                self.memo.insert(key, top);
                Ok(())
            }
            b'h' | b'j' => {
                let key = self.key(op == b'j')?;
                match self.memo.get(&key) {
                    Some(&id) => self.stack.push(id),
                    None => return self.fail(format!("memo {key} was never set")),
                }
                Ok(())
            }
            b'b' => self.build(),
            b'R' => self.reduce(),
            op => self.fail(format!("opcode {op:#04x} is none that PyTorch writes")),
        }
    }

    /// A place of the memo.
    fn key(&mut self, long: bool) -> Step<u32> {
        if long {
            self.u32()
        } else {
            self.u8().map(u32::from)
        }
    }

    fn long(&mut self) -> Step<i64> {
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
        Ok(i64::from_le_bytes(bytes))
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

    fn new_object(&mut self) -> Step<Object> {
        let (_args, class) = (self.pop()?, self.pop()?);
        let Object::Global(Global::Class(class)) = &self.objects[class as usize] else {
            return self.fail("an instance of what is no class");
        };
        let class = class.clone();
        Ok(Object::Instance { class, state: None })
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
                    ..Storage::default()
                };
                Object::Tensor(Box::new(PickledTensor {
                    storage,
                    ..PickledTensor::default()
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
    fn persistent(&mut self) -> Step<Object> {
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
        Ok(Object::Storage(Box::new(storage)))
    }
}
