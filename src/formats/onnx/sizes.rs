//! Sizes as nodes that compute them: each is a list of one number, so that lists of sizes are put together by `Concat`.

use super::attributes::int;
use super::write::Writer;
use crate::ir::{DType, Dim, DimBuilder, Symbol};

/// A size that is computed: the value's name, and whether it is surely not negative.
pub(super) struct Size {
    name: String,
    never_negative: bool,
}

impl Writer<'_> {
    /// The name of a size, as a list of one.
    pub(super) fn size(&mut self, dim: &Dim) -> String {
        if let Some(name) = self.sizes.get(dim) {
            return name.clone();
        }
        let name = dim.fold(self).name;
        self.sizes.insert(dim.clone(), name.clone());
        name
    }

    /// The name of a list of sizes.
    pub(super) fn size_list(&mut self, dims: &[Dim]) -> String {
        let mut parts = Vec::new();
        let mut numbers = Vec::new();
        for dim in dims {
            match dim.as_number() {
                Some(n) => numbers.push(n),
                None => {
                    if !numbers.is_empty() {
                        parts.push(self.int_list(std::mem::take(&mut numbers)));
                    }
                    parts.push(self.size(dim));
                }
            }
        }
        if parts.is_empty() || !numbers.is_empty() {
            parts.push(self.int_list(numbers));
        }
        match parts.as_slice() {
            [only] => only.clone(),
            _ => {
                let name = self.fresh("sizes");
                self.emit("Concat", &parts, vec![int("axis", 0)], &name);
                name
            }
        }
    }

    /// A node on two sizes, once for all that need it.
    fn on_sizes(&mut self, op: &'static str, a: &str, b: &str) -> String {
        let key = (op, a.to_owned(), b.to_owned());
        if let Some(name) = self.size_nodes.get(&key) {
            return name.clone();
        }
        let name = self.fresh("size");
        self.emit(op, &[a.to_owned(), b.to_owned()], vec![], &name);
        self.size_nodes.insert(key, name.clone());
        name
    }

    /// The quotient rounded down, where a division would round towards 0.
    fn floored(&mut self, a: &str, b: &str) -> String {
        if self.opset >= 10 {
            let rest = self.on_sizes("Mod", a, b);
            let whole = self.on_sizes("Sub", a, &rest);
            return self.on_sizes("Div", &whole, b);
        }
        let mut cast = |name: &str, dtype: DType| {
            let cast = self.fresh("size");
            let to = int("to", super::tensor::code(dtype).into());
            self.emit("Cast", &[name.to_owned()], vec![to], &cast);
            cast
        };
        let (a, b) = (cast(a, DType::F64), cast(b, DType::F64));
        let quotient = self.on_sizes("Div", &a, &b);
        let floor = self.fresh("size");
        self.emit("Floor", &[quotient], vec![], &floor);
        let name = self.fresh("size");
        let to = int("to", super::tensor::code(DType::I64).into());
        self.emit("Cast", &[floor], vec![to], &name);
        name
    }

    /// The size of an input of which not even the rank is known: its name says which.
    fn of_unknown_rank(&self, symbol: &Symbol) -> Option<(String, usize)> {
        self.graph.inputs().iter().find_map(|input| {
            let name = &self.graph.node(*input).name;
            let axis = symbol.strip_prefix(&**name)?.strip_prefix('.')?;
            Some((name.to_string(), axis.parse().ok()?))
        })
    }
}

impl DimBuilder<Size> for Writer<'_> {
    fn number(&mut self, n: i64) -> Size {
        Size {
            name: self.int_list([n]),
            never_negative: n >= 0,
        }
    }

    fn symbol(&mut self, symbol: &Symbol) -> Size {
        let dim = Dim::symbol(symbol.clone());
        let known = self.sizes.get(&dim).cloned();
        let name = known.unwrap_or_else(|| {
            let place = self.symbols.get(symbol).cloned();
            let Some((value, axis)) = place.or_else(|| self.of_unknown_rank(symbol)) else {
                self.missing = Some(symbol.clone());
                return String::new();
            };
            let shape = match self
                .size_nodes
                .get(&("Shape", value.clone(), String::new()))
            {
                Some(shape) => shape.clone(),
                None => {
                    let shape = self.fresh(&format!("{value}/shape"));
                    self.emit("Shape", std::slice::from_ref(&value), vec![], &shape);
                    let key = ("Shape", value, String::new());
                    self.size_nodes.insert(key, shape.clone());
                    shape
                }
            };
            let index = self.int_list([axis as i64]);
            let name = self.fresh(&format!("size/{symbol}"));
            self.emit("Gather", &[shape, index], vec![], &name);
            self.sizes.insert(dim, name.clone());
            name
        });
        Size {
            name,
            never_negative: true,
        }
    }

    fn add(&mut self, a: Size, b: Size) -> Size {
        Size {
            name: self.on_sizes("Add", &a.name, &b.name),
            never_negative: a.never_negative && b.never_negative,
        }
    }

    fn mul(&mut self, a: Size, b: Size) -> Size {
        Size {
            name: self.on_sizes("Mul", &a.name, &b.name),
            never_negative: a.never_negative && b.never_negative,
        }
    }

    fn floor_div(&mut self, a: Size, b: Size) -> Size {
        let never_negative = a.never_negative && b.never_negative;
        let name = if never_negative {
            self.on_sizes("Div", &a.name, &b.name)
        } else {
            self.floored(&a.name, &b.name)
        };
        Size {
            name,
            never_negative,
        }
    }

    fn max(&mut self, a: Size, b: Size) -> Size {
        // `Max` takes whole numbers since version 12 only.
        let name = if self.opset >= 12 {
            self.on_sizes("Max", &a.name, &b.name)
        } else {
            let larger = self.on_sizes("Greater", &a.name, &b.name);
            let name = self.fresh("size");
            self.emit("Where", &[larger, a.name, b.name], vec![], &name);
            name
        };
        Size {
            name,
            never_negative: a.never_negative || b.never_negative,
        }
    }
}
