//! A node of the file, asked for its attributes.

use super::captures::graphs;
use super::proto::{AttributeProto, GraphProto, NodeProto};

/// A node, and the version of the operators that it is of.
#[derive(Clone, Copy)]
pub(super) struct View<'m> {
    pub node: &'m NodeProto,
    pub opset: i64,
}

impl<'m> View<'m> {
    pub(super) fn op(&self) -> &'m str {
        self.node.op_type()
    }

    /// The name of operand `i`; `None` if it is left out.
    pub(super) fn input(&self, i: usize) -> Option<&'m str> {
        let name = self.node.input.get(i).map(String::as_str);
        name.filter(|name| !name.is_empty())
    }

    /// The name of result `i`; `None` if it is left out.
    pub(super) fn output(&self, i: usize) -> Option<&'m str> {
        let name = self.node.output.get(i).map(String::as_str);
        name.filter(|name| !name.is_empty())
    }

    /// The name of the first result that has one.
    pub(super) fn name(&self) -> &'m str {
        let mut outputs = self.node.output.iter().map(String::as_str);
        outputs.find(|name| !name.is_empty()).unwrap_or_default()
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&'m AttributeProto> {
        let mut attributes = self.node.attribute.iter();
        attributes.find(|a| a.name.as_deref() == Some(name))
    }

    /// Whether all attributes are among these, and none is a function's parameter.
    pub(super) fn only(&self, allowed: &[&str]) -> bool {
        self.node.attribute.iter().all(|a| {
            let plain = a.ref_attr_name().is_empty();
            plain && a.name.as_deref().is_some_and(|n| allowed.contains(&n))
        })
    }

    pub(super) fn int(&self, name: &str, default: i64) -> i64 {
        let found = self.attribute(name).and_then(|a| a.i);
        found.unwrap_or(default)
    }

    pub(super) fn ints(&self, name: &str) -> Option<&'m [i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    /// A number, as its shortest decimal says it: 1e-05 and not the nearest `f32` to it.
    pub(super) fn float(&self, name: &str, default: f64) -> f64 {
        let found = self.attribute(name).and_then(|a| a.f);
        found.map_or(default, decimal)
    }

    pub(super) fn string(&self, name: &str) -> Option<&'m str> {
        let bytes = self.attribute(name)?.s.as_ref()?;
        std::str::from_utf8(bytes).ok()
    }

    /// The graphs that the node runs: branches of `If`, bodies of `Loop` and `Scan`.
    pub(super) fn graphs(&self) -> impl Iterator<Item = &'m GraphProto> {
        self.node.attribute.iter().flat_map(graphs)
    }
}

/// The number that an `f32` is written as.
pub(super) fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or_else(|_| f64::from(x))
}
