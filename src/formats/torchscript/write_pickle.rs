//! Pickles as PyTorch reads them: the tree of modules, and a tuple of constants.

use rustc_hash::FxHashMap;

use super::objects::STORAGES;
use super::write_code::{Layout, Module};
use crate::ir::{DType, Tensor};

/// A pickle being written.
#[derive(Default)]
struct Pickler {
    out: Vec<u8>,
}

impl Pickler {
    fn new() -> Self {
        Pickler { out: vec![0x80, 2] }
    }

    fn op(&mut self, op: u8) {
        self.out.push(op);
    }

    fn global(&mut self, module: &str, name: &str) {
        self.op(b'c');
        self.out
            .extend_from_slice(format!("{module}\n{name}\n").as_bytes());
    }

    fn str(&mut self, text: &str) {
        self.op(b'X');
        self.out
            .extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.out.extend_from_slice(text.as_bytes());
    }

    fn int(&mut self, n: usize) {
        match (u8::try_from(n), i32::try_from(n)) {
            (Ok(n), _) => self.out.extend_from_slice(&[b'K', n]),
            (_, Ok(n)) => {
                self.op(b'J');
                self.out.extend_from_slice(&n.to_le_bytes());
            }
            _ => {
                self.out.extend_from_slice(&[0x8a, 8]);
                self.out.extend_from_slice(&(n as i64).to_le_bytes());
            }
        }
    }

    fn bool(&mut self, b: bool) {
        self.op(if b { 0x88 } else { 0x89 });
    }

    fn ints(&mut self, items: &[usize]) {
        self.op(b'(');
        items.iter().for_each(|n| self.int(*n));
        self.op(b't');
    }

    /// `torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, requires_grad, OrderedDict())`.
    fn tensor(&mut self, tensor: &Tensor, key: usize, requires_grad: bool) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.op(b'(');
        self.op(b'(');
        self.str("storage");
        self.global("torch", storage_class(tensor.dtype()));
        self.str(&key.to_string());
        self.str("cpu");
        self.int(tensor.len());
        self.op(b't');
        self.op(b'Q');
        self.int(0);
        self.ints(tensor.shape());
        let mut strides = vec![1; tensor.shape().len()];
        for i in (1..strides.len()).rev() {
            strides[i - 1] = strides[i] * tensor.shape()[i].max(1);
        }
        self.ints(&strides);
        self.bool(requires_grad);
        self.global("collections", "OrderedDict");
        self.op(b')');
        self.op(b'R');
        self.op(b't');
        self.op(b'R');
    }
}

fn storage_class(dtype: DType) -> &'static str {
    STORAGES
        .iter()
        .find(|(_, d)| *d == dtype)
        .map_or("FloatStorage", |(name, _)| name)
}

/// `data.pkl`, and the tensors that are its storages, each once however many attributes hold it.
pub(super) fn write_modules(
    layout: &Layout,
    classes: &FxHashMap<String, String>,
) -> (Vec<u8>, Vec<Tensor>) {
    let mut state = State {
        pickler: Pickler::new(),
        storages: Vec::new(),
        memo: FxHashMap::default(),
        layout,
        classes,
    };
    if let Some(root) = layout.modules.get("") {
        state.module("", root);
    }
    state.pickler.op(b'.');
    (state.pickler.out, state.storages)
}

struct State<'s> {
    pickler: Pickler,
    storages: Vec<Tensor>,
    /// Address and length of what is written already -> its storage.
    memo: FxHashMap<(usize, usize), Vec<usize>>,
    layout: &'s Layout,
    classes: &'s FxHashMap<String, String>,
}

impl State<'_> {
    fn module(&mut self, path: &str, module: &Module) {
        self.pickler.global(
            "__torch__",
            self.classes.get(path).map_or("Module", String::as_str),
        );
        self.pickler.op(b')');
        self.pickler.op(0x81);
        self.pickler.op(b'}');
        self.pickler.op(b'(');
        for (name, attribute) in &module.tensors {
            self.pickler.str(name);
            self.attribute(&attribute.tensor, attribute.requires_grad);
        }
        if module.has_training {
            self.pickler.str("training");
            self.pickler.bool(false);
        }
        for (name, path) in &module.children {
            if let Some(child) = self.layout.modules.get(path) {
                self.pickler.str(name);
                self.module(path, child);
            }
        }
        self.pickler.op(b'u');
        self.pickler.op(b'b');
    }

    /// A tensor; one that is there already by reference, so that tied weights are one object when loaded.
    fn attribute(&mut self, tensor: &Tensor, requires_grad: bool) {
        let address = (tensor.bytes().as_ptr() as usize, tensor.bytes().len());
        let known = self
            .memo
            .get(&address)
            .and_then(|list| list.iter().find(|i| self.storages[**i].same_memory(tensor)));
        if let Some(&key) = known.filter(|_| !tensor.is_empty()) {
            self.pickler.op(b'j');
            self.pickler
                .out
                .extend_from_slice(&(key as u32).to_le_bytes());
            return;
        }
        let key = self.storages.len();
        self.pickler.tensor(tensor, key, requires_grad);
        self.pickler.op(b'r');
        self.pickler
            .out
            .extend_from_slice(&(key as u32).to_le_bytes());
        self.memo.entry(address).or_default().push(key);
        self.storages.push(tensor.clone());
    }
}

/// `constants.pkl`.
pub(super) fn write_constants(constants: &[Tensor]) -> Vec<u8> {
    let mut pickler = Pickler::new();
    pickler.op(b'(');
    for (key, tensor) in constants.iter().enumerate() {
        pickler.tensor(tensor, key, false);
    }
    pickler.op(b't');
    pickler.op(b'.');
    pickler.out
}
