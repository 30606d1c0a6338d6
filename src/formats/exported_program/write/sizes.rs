//! Sizes as nodes that compute them: from the inputs' own, each once, before its first use.

use serde_json::{Value as Json, json};

use super::{Writer, mistake};
use crate::error::FormatError;
use crate::formats::exported_program::schema::{Node, tag, tensor};
use crate::ir::{Dim, DimBuilder, Symbol, Value};

impl Writer<'_> {
    /// A size as an argument: a number, or the name of the node that computes it.
    pub(super) fn size_argument(&mut self, dim: &Dim, user: &str) -> Result<Json, FormatError> {
        Ok(match self.size(dim, user)? {
            Size::Number(n) => tag("as_int", n),
            Size::Name(name, _) => tag("as_sym_int", tag("as_name", name)),
        })
    }

    pub(super) fn size(&mut self, dim: &Dim, user: &str) -> Result<Size, FormatError> {
        if let Some(name) = self.sizes.get(dim) {
            return Ok(Size::Name(name.clone(), dim.clone()));
        }
        if let Some(size) = self.input_size(dim) {
            return Ok(size);
        }
        let mut builder = Nodes {
            writer: self,
            missing: None,
        };
        let size = dim.fold(&mut builder);
        match builder.missing {
            None => Ok(size),
            Some(symbol) => Err(mistake(format!(
                "`{user}` needs the size {symbol}, which is no size of an input"
            ))),
        }
    }

    /// A size that an input has.
    fn input_size(&mut self, dim: &Dim) -> Option<Size> {
        let (input, axis) = *self.input_sizes.get(dim)?;
        let name = self.names.get(&Value::from(input))?.clone();
        let arguments = [("self", tensor(name)), ("dim", tag("as_int", axis))];
        Some(self.size_node(
            "torch.ops.aten.sym_size.int",
            "sym_size_int",
            &arguments,
            dim.clone(),
        ))
    }

    fn size_node(
        &mut self,
        target: &str,
        name: &str,
        arguments: &[(&str, Json)],
        dim: Dim,
    ) -> Size {
        if let Some(n) = dim.as_number() {
            return Size::Number(n);
        }
        if let Some(name) = self.sizes.get(&dim) {
            return Size::Name(name.clone(), dim);
        }
        let name = self.fresh(name);
        let inputs = arguments
            .iter()
            .map(|(name, arg)| self.named(name, arg.clone(), true));
        let node = Node {
            target: target.to_owned(),
            inputs: inputs.collect(),
            outputs: vec![tag("as_sym_int", tag("as_name", name.as_str()))],
            metadata: json!({}),
            other: self.node_fields(&name),
        };
        self.nodes.push(node);
        self.sym_int_values
            .insert(name.clone(), self.size_json(&dim));
        self.sizes.insert(dim.clone(), name.clone());
        Size::Name(name, dim)
    }
}

/// A size that is written.
pub(super) enum Size {
    Number(i64),
    /// The name of a node, and what it computes.
    Name(String, Dim),
}

impl Size {
    fn dim(&self) -> Dim {
        match self {
            Size::Number(n) => Dim::from(*n),
            Size::Name(_, dim) => dim.clone(),
        }
    }

    fn argument(&self) -> Json {
        match self {
            Size::Number(n) => tag("as_int", *n),
            Size::Name(name, _) => tag("as_sym_int", tag("as_name", name.as_str())),
        }
    }
}

struct Nodes<'n, 'w> {
    writer: &'n mut Writer<'w>,
    missing: Option<Symbol>,
}

impl Nodes<'_, '_> {
    fn binary(&mut self, target: &str, a: Size, b: Size, dim: Dim) -> Size {
        let name = target.rsplit('.').next().unwrap_or(target);
        let arguments = [("a", a.argument()), ("b", b.argument())];
        self.writer.size_node(target, name, &arguments, dim)
    }
}

impl DimBuilder<Size> for Nodes<'_, '_> {
    fn number(&mut self, n: i64) -> Size {
        Size::Number(n)
    }

    /// An input's size, or what follows from one that is `factor * symbol + constant`.
    fn symbol(&mut self, name: &Symbol) -> Size {
        let dim = Dim::symbol(name.clone());
        if let Some(known) = self.writer.sizes.get(&dim) {
            return Size::Name(known.clone(), dim);
        }
        if let Some(size) = self.writer.input_size(&dim) {
            return size;
        }
        let found = self.writer.input_sizes.keys().filter_map(|size| {
            let (symbol, factor, constant) = size.as_linear()?;
            (symbol == *name).then(|| (size.clone(), factor, constant))
        });
        // The same one on every run.
        let found = found.min();
        let Some((size, factor, constant)) = found else {
            self.missing = Some(name.clone());
            return Size::Number(0);
        };
        let Some(whole) = self.writer.input_size(&size) else {
            self.missing = Some(name.clone());
            return Size::Number(0);
        };
        let rest = match constant {
            0 => whole,
            _ => {
                let dim = size - Dim::from(constant);
                self.binary("_operator.sub", whole, Size::Number(constant), dim)
            }
        };
        self.binary("_operator.floordiv", rest, Size::Number(factor), dim)
    }

    fn add(&mut self, a: Size, b: Size) -> Size {
        let dim = a.dim() + b.dim();
        self.binary("_operator.add", a, b, dim)
    }

    fn mul(&mut self, a: Size, b: Size) -> Size {
        let dim = a.dim() * b.dim();
        self.binary("_operator.mul", a, b, dim)
    }

    fn floor_div(&mut self, a: Size, b: Size) -> Size {
        let dim = a.dim().floor_div(&b.dim());
        self.binary("_operator.floordiv", a, b, dim)
    }

    fn max(&mut self, a: Size, b: Size) -> Size {
        let dim = a.dim().maximum(&b.dim());
        self.binary("torch.sym_max", a, b, dim)
    }
}
