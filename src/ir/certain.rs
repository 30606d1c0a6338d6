//! Which element types are known, and which are only thought to be.

use rustc_hash::FxHashSet;

use super::{Dialect, Graph, NodeId, NodeKind, Op, Value};

impl Graph {
    /// Says that the element type of an input is a guess: a caller may give another one.
    pub(crate) fn guess_dtype(&mut self, input: NodeId) {
        self.guessed.insert(input);
    }

    /// Whether `value` has its element type for sure. Of an operator of TorchScript or ONNX that the IR does not know, the type is
    /// thought to be its operands'; so is what follows from it, and from an input whose type is a guess. `false` too where the
    /// way to what decides it is long.
    pub(crate) fn is_dtype_certain(&self, value: Value) -> bool {
        const FURTHEST: usize = 256;
        let mut seen = FxHashSet::default();
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            if !seen.insert(value) {
                continue;
            }
            if seen.len() > FURTHEST {
                return false;
            }
            let op = match &self.node(value.node).kind {
                NodeKind::Op(op) => op,
                NodeKind::Input if self.guessed.contains(&value.node) => return false,
                _ => continue,
            };
            match op {
                Op::Opaque(opaque) if opaque.dialect == Dialect::ExportedProgram => {}
                Op::Opaque(_) => return false,
                Op::Cast { .. } => {}
                // They take nothing that is not of their weight's type.
                Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear {} => {
                    open.extend(self.operands(value.node).get(1));
                }
                _ => open.extend(self.operands(value.node)),
            }
        }
        true
    }
}
