//! Types and sizes as the file declares them.

use super::Importer;
use crate::formats::onnx::proto::{
    Dimension, DimensionValue, TensorShapeProto, TypeProto, TypeValue,
};
use crate::formats::onnx::{tensor, types};
use crate::ir::{Dim, Dims, Type, is_symbol};

impl Importer<'_> {
    /// The type that the file declares for a value; `None` if it declares none.
    pub fn declared_type(&mut self, name: &str) -> Option<Type> {
        let proto = *self.declared.get(name)?;
        Some(self.type_of(proto, name))
    }

    /// A type of the file. Sizes without name or number get a name of their own.
    pub fn type_of(&mut self, proto: &TypeProto, name: &str) -> Type {
        let tensor_type = match &proto.value {
            Some(TypeValue::Tensor(ty)) => ty,
            Some(TypeValue::Sequence(_)) => return Type::Other("sequence".into()),
            Some(TypeValue::Optional(_)) => return Type::Other("optional".into()),
            Some(TypeValue::Map(_)) => return Type::Other("map".into()),
            Some(TypeValue::SparseTensor(_)) => return Type::Other("sparse_tensor".into()),
            _ => return Type::Other(types::UNKNOWN.into()),
        };
        let code = tensor_type.elem_type();
        match tensor::dtype(code) {
            Some(dtype) => {
                let shape = tensor_type.shape.as_ref();
                let shape = shape.and_then(|shape| self.dims(shape, name));
                Type::Tensor(dtype, shape)
            }
            None => Type::Other(tensor::other_name(code).into()),
        }
    }

    fn dims(&mut self, shape: &TensorShapeProto, name: &str) -> Option<Dims> {
        let dims = shape.dim.iter().enumerate();
        let dim = |(axis, dim): (usize, &Dimension)| match &dim.value {
            Some(DimensionValue::DimValue(n)) if *n >= 0 => Dim::from(*n),
            Some(DimensionValue::DimParam(text)) if self.is_name(text) => self.parameter(text),
            _ => self.fresh_size(&format!("{name}.{axis}")),
        };
        let dims: Dims = dims.map(dim).collect();
        // A shape of thousands of dimensions is no shape.
        (dims.len() <= Dim::MAX_RANK).then_some(dims)
    }

    /// Whether a `dim_param` names a size: exporters also write the same placeholder for every size that they do not know.
    fn is_name(&self, text: &str) -> bool {
        let word = text.to_ascii_lowercase();
        let placeholder = !text.contains(char::is_alphabetic)
            || matches!(
                &*word,
                "none" | "null" | "unk" | "unknown" | "dynamic" | "any"
            );
        !placeholder && !self.loose.contains(text)
    }

    /// How many symbols there are.
    pub fn symbol_count(&self) -> usize {
        self.taken_symbols.len()
    }

    /// Whether a size is a symbol that came after the first `count`.
    pub fn is_newer(&self, dim: &Dim, count: usize) -> bool {
        let at = dim
            .as_symbol()
            .and_then(|s| self.taken_symbols.get_index_of(s));
        at.is_some_and(|at| at >= count)
    }

    /// A size with a name of its own that has this number, unless the file is wrong: enough to count and to compare with.
    pub fn probable_size(&mut self, text: &str, n: i64) -> Dim {
        let dim = self.fresh_size(text);
        if let Some(symbol) = dim.as_symbol() {
            self.graph.bindings.insert(symbol.clone(), n);
        }
        dim
    }

    /// The size that a `dim_param` names.
    fn parameter(&mut self, text: &str) -> Dim {
        if let Some(dim) = self.parameters.get(text) {
            return dim.clone();
        }
        let dim = match text.parse::<Dim>() {
            Ok(dim) if is_symbol(text) => dim,
            // An expression, if it is of sizes that are known.
            Ok(dim) if self.is_of_inputs(&dim) => dim,
            _ => self.fresh_size(text),
        };
        if let Some(symbol) = dim.as_symbol() {
            self.taken_symbols.insert(symbol.clone());
        }
        self.parameters.insert(text.to_owned(), dim.clone());
        dim
    }

    fn is_of_inputs(&self, dim: &Dim) -> bool {
        let mut symbols = dim.symbols().into_iter();
        dim.as_number().is_none() && symbols.all(|symbol| self.input_symbols.contains(symbol))
    }

    /// A size with a name of its own, made of this text.
    pub fn fresh_size(&mut self, text: &str) -> Dim {
        let word = |c: char| {
            if c.is_alphanumeric() || c == '_' || c == '.' {
                c
            } else {
                '_'
            }
        };
        let mut name: String = text.chars().take(64).map(word).collect();
        if !is_symbol(&name) {
            name.insert(0, '_');
        }
        let base = name.clone();
        let mut n = 1;
        while !is_symbol(&name) || !self.taken_symbols.insert(name.as_str().into()) {
            n += 1;
            name = format!("{base}_{n}");
        }
        Dim::symbol(name)
    }
}
