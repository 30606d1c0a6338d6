//! Pickles as PyTorch reads them: the tree of modules, and a tuple of constants.

use rustc_hash::FxHashMap;

use super::write_code::{Layout, Module};
use crate::formats::pickle::Pickler;
use crate::ir::Tensor;

/// `data.pkl`, and the tensors that are its storages, each once however many attributes hold it.
pub(super) fn write_modules(
    layout: &Layout,
    classes: &FxHashMap<String, String>,
) -> (Vec<u8>, Vec<Tensor>) {
    let mut state = State {
        pickler: Pickler::new(),
        layout,
        classes,
    };
    if let Some(root) = layout.modules.get("") {
        state.module("", root);
    }
    state.pickler.finish()
}

struct State<'s> {
    pickler: Pickler,
    layout: &'s Layout,
    classes: &'s FxHashMap<String, String>,
}

impl State<'_> {
    fn module(&mut self, path: &str, module: &Module) {
        self.pickler.global(
            "__torch__",
            self.classes.get(path).map_or("Module", String::as_str),
        );
        self.pickler.ops(b")\x81}(");
        for (name, attribute) in &module.tensors {
            self.pickler.str(name);
            self.pickler
                .shared(&attribute.tensor, attribute.requires_grad);
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
        self.pickler.ops(b"ub");
    }
}

/// `constants.pkl`.
pub(super) fn write_constants(constants: &[Tensor]) -> Vec<u8> {
    let mut pickler = Pickler::new();
    pickler.ops(b"(");
    for tensor in constants {
        pickler.tensor(tensor, false);
    }
    pickler.ops(b"t");
    pickler.finish().0
}
