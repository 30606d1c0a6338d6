//! Pickles as PyTorch reads them.

use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::formats::dtypes::names;
use crate::ir::Tensor;

/// A pickle being written.
#[derive(Default)]
pub(in crate::formats) struct Pickler {
    out: Vec<u8>,
    /// The tensors that are the storages, by their keys.
    storages: Vec<Tensor>,
    /// Address and length of what is written already -> its storage.
    memo: FxHashMap<(usize, Range<usize>), Vec<usize>>,
}

impl Pickler {
    pub fn new() -> Self {
        Pickler {
            out: vec![0x80, 2],
            ..Pickler::default()
        }
    }

    /// Adds opcodes without operands.
    pub fn ops(&mut self, ops: &[u8]) {
        self.out.extend_from_slice(ops);
    }

    pub fn global(&mut self, module: &str, name: &str) {
        self.ops(b"c");
        self.out
            .extend_from_slice(format!("{module}\n{name}\n").as_bytes());
    }

    pub fn str(&mut self, text: &str) {
        self.ops(b"X");
        self.out
            .extend_from_slice(&(text.len() as u32).to_le_bytes());
        self.out.extend_from_slice(text.as_bytes());
    }

    fn int(&mut self, n: usize) {
        match (u8::try_from(n), i32::try_from(n)) {
            (Ok(n), _) => self.out.extend_from_slice(&[b'K', n]),
            (_, Ok(n)) => {
                self.ops(b"J");
                self.out.extend_from_slice(&n.to_le_bytes());
            }
            _ => {
                self.out.extend_from_slice(&[0x8a, 8]);
                self.out.extend_from_slice(&(n as i64).to_le_bytes());
            }
        }
    }

    pub fn bool(&mut self, b: bool) {
        self.ops(if b { b"\x88" } else { b"\x89" });
    }

    fn ints(&mut self, items: &[usize]) {
        self.ops(b"(");
        items.iter().for_each(|n| self.int(*n));
        self.ops(b"t");
    }

    /// `torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, requires_grad, OrderedDict())`.
    pub fn tensor(&mut self, tensor: &Tensor, requires_grad: bool) {
        let key = self.storages.len();
        self.storages.push(tensor.clone());
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.ops(b"((");
        self.str("storage");
        self.global("torch", names(tensor.dtype()).storage);
        self.str(&key.to_string());
        self.str("cpu");
        self.int(tensor.len());
        self.ops(b"tQ");
        self.int(0);
        self.ints(tensor.shape());
        let mut strides = vec![1; tensor.shape().len()];
        for i in (1..strides.len()).rev() {
            strides[i - 1] = strides[i] * tensor.shape()[i].max(1);
        }
        self.ints(&strides);
        self.bool(requires_grad);
        self.global("collections", "OrderedDict");
        self.ops(b")RtR");
    }

    /// A tensor; one that is there already by reference, so that tied weights are one object when loaded.
    pub fn shared(&mut self, tensor: &Tensor, requires_grad: bool) {
        let place = tensor.place();
        let known = self
            .memo
            .get(&place)
            .and_then(|list| list.iter().find(|i| self.storages[**i].same_memory(tensor)));
        if let Some(&key) = known.filter(|_| !tensor.is_empty()) {
            self.ops(b"j");
            self.out.extend_from_slice(&(key as u32).to_le_bytes());
            return;
        }
        let key = self.storages.len();
        self.tensor(tensor, requires_grad);
        self.ops(b"r");
        self.out.extend_from_slice(&(key as u32).to_le_bytes());
        self.memo.entry(place).or_default().push(key);
    }

    /// The pickle, and the tensors that are its storages.
    pub fn finish(mut self) -> (Vec<u8>, Vec<Tensor>) {
        self.ops(b".");
        (self.out, self.storages)
    }
}
