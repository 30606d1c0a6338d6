//! What training needs to go on where it was.

use std::collections::BTreeMap;

use crate::ir::Tensor;

/// What a pass needs to go on where it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Numbers and texts by name.
    pub notes: BTreeMap<String, String>,
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
}
