//! Calls that the IR cannot say, as text.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::ir::{self, Dialect, Dim, Op, Opaque, Type};

/// The text of a call with places for operands (`{0}`) and for sizes that are computed from the inputs' sizes (`{$0}`).
#[derive(Default)]
pub(in crate::formats) struct Template {
    pub text: String,
    pub operands: Vec<ir::Value>,
    pub sizes: Vec<Dim>,
}

impl Template {
    /// The place of an operand.
    pub fn operand(&mut self, value: ir::Value) -> String {
        format!("{{{}}}", self.place(value))
    }

    /// Which operand a value is.
    pub fn place(&mut self, value: ir::Value) -> usize {
        index(&mut self.operands, value)
    }

    /// The place of a size.
    pub fn size(&mut self, dim: &Dim) -> String {
        format!("{{${}}}", index(&mut self.sizes, dim.clone()))
    }

    /// The operator of this name that the call is, and its operands.
    pub fn opaque(
        self,
        dialect: Dialect,
        name: &str,
        outputs: SmallVec<[Type; 1]>,
    ) -> (Op, Vec<ir::Value>) {
        let opaque = Opaque {
            dialect,
            name: name.into(),
            template: self.text.into(),
            sizes: self.sizes.into(),
            outputs,
        };
        (Op::Opaque(Arc::new(opaque)), self.operands)
    }
}

/// Where an item is in a list, to which it is added if it is not there.
fn index<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    let known = list.iter().position(|known| *known == item);
    known.unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}
