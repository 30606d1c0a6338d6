//! Sizes as expressions of the code: what they are read from, and in which order.

use std::fmt::Write as _;

use rustc_hash::FxHashMap;

use crate::ir::{Dim, DimBuilder, Graph, Symbol};

/// Expressions of sizes: each is computed once, by a statement before its first use.
pub(super) struct Sizes<'w> {
    pub graph: &'w Graph,
    pub known: FxHashMap<Dim, String>,
    pub missing: Option<Symbol>,
    /// The expressions of the inputs.
    pub inputs: Vec<String>,
    /// What their variables' names begin with.
    pub prefix: String,
    /// Statements not written yet.
    pub pending: String,
}

impl Sizes<'_> {
    pub(super) fn expression(&mut self, dim: &Dim) -> String {
        if let Some(n) = dim.as_number() {
            return n.to_string();
        }
        if let Some(name) = self.known.get(dim) {
            return name.clone();
        }
        let text = dim.fold(&mut *self);
        if let Some(symbol) = dim.as_symbol() {
            return self
                .known
                .get(&Dim::symbol(symbol.clone()))
                .cloned()
                .unwrap_or(text);
        }
        self.bind(dim.clone(), &text)
    }

    fn bind(&mut self, dim: Dim, text: &str) -> String {
        let name = format!("{}{}", self.prefix, self.known.len());
        let _ = writeln!(self.pending, "    {name} = {text}");
        self.known.insert(dim, name.clone());
        name
    }

    /// Which input has this symbol as one of its sizes, and where.
    pub(super) fn find(&self, symbol: &Symbol) -> Option<(usize, usize)> {
        self.graph
            .inputs()
            .iter()
            .enumerate()
            .find_map(|(i, &input)| {
                if let Some(shape) = self.graph.ty(input.into()).shape() {
                    return shape
                        .iter()
                        .position(|dim| dim.as_symbol() == Some(symbol))
                        .map(|axis| (i, axis));
                }
                let axis = symbol
                    .strip_prefix(&*self.graph.node(input).name)?
                    .strip_prefix('.')?;
                Some((i, axis.parse().ok()?))
            })
    }

    /// A symbol that is no size of an input by itself, from one that is a multiple of it.
    fn divided_out(&self, symbol: &Symbol) -> Option<String> {
        let inputs = self.graph.inputs().iter().zip(&self.inputs);
        for (&input, name) in inputs {
            let shape = self.graph.ty(input.into()).shape();
            for (axis, size) in shape.into_iter().flatten().enumerate() {
                if let Some((found, factor, constant)) = size.as_linear()
                    && found == *symbol
                {
                    let rest = format!("torch.sub(torch.size({name}, {axis}), {constant})");
                    return Some(format!("torch.floordiv({rest}, {factor})"));
                }
            }
        }
        None
    }
}

impl DimBuilder<String> for Sizes<'_> {
    fn number(&mut self, n: i64) -> String {
        n.to_string()
    }
    fn symbol(&mut self, name: &Symbol) -> String {
        let dim = Dim::symbol(name.clone());
        if let Some(known) = self.known.get(&dim) {
            return known.clone();
        }
        match self.find(name) {
            Some((input, axis)) => {
                let text = format!("torch.size({}, {axis})", self.inputs[input]);
                self.bind(dim, &text)
            }
            None => match self.divided_out(name) {
                Some(text) => self.bind(dim, &text),
                None => {
                    self.missing = Some(name.clone());
                    name.to_string()
                }
            },
        }
    }
    fn add(&mut self, a: String, b: String) -> String {
        format!("torch.add({a}, {b})")
    }
    fn mul(&mut self, a: String, b: String) -> String {
        format!("torch.mul({a}, {b})")
    }
    fn floor_div(&mut self, a: String, b: String) -> String {
        format!("torch.floordiv({a}, {b})")
    }
    fn max(&mut self, a: String, b: String) -> String {
        format!("ops.prim.max({a}, {b})")
    }
}
