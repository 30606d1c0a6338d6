//! The arguments of a call, free of the format that it was read from.

use std::rc::Rc;

use crate::formats::sizes::position;
use crate::formats::spelling;
use crate::ir::{self, Dim, Dims, Ints, Op};

/// An argument of a call.
#[derive(Clone)]
pub(in crate::formats) enum Argument {
    None,
    Bool(bool),
    /// A number, or PyTorch's number for an element type.
    Int(i64),
    /// An integer that is known when the network runs.
    Size(Dim),
    Float(f64),
    Str(Rc<str>),
    Tensor(ir::Value),
    List(Vec<Argument>),
    /// Something that decides nothing here, such as a device.
    Other,
}

impl Argument {
    /// The elements of a list.
    pub fn items(&self) -> Option<&[Argument]> {
        match self {
            Argument::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_tensor(&self) -> Option<ir::Value> {
        match self {
            Argument::Tensor(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_dim(&self) -> Option<Dim> {
        match self {
            Argument::Int(n) => Some(Dim::from(*n)),
            Argument::Bool(b) => Some(Dim::from(i64::from(*b))),
            Argument::Size(dim) => Some(dim.clone()),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        self.as_dim()?.as_number()
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Argument::Float(x) => Some(*x),
            other => other.as_int().map(|n| n as f64),
        }
    }
}

/// The arguments of a call.
#[derive(Clone)]
pub(in crate::formats) struct Arguments<'a, V = Argument> {
    pub positional: Vec<V>,
    pub keyword: Vec<(&'a str, V)>,
}

impl<'a, V> Arguments<'a, V> {
    /// Arguments by position alone.
    pub fn of<const N: usize>(positional: [V; N]) -> Self {
        Arguments {
            positional: positional.into(),
            keyword: Vec::new(),
        }
    }

    /// Position `i`, or keyword `name`.
    pub fn get(&self, i: usize, name: &str) -> Option<&V> {
        let keyword = || self.keyword.iter().find(|(k, _)| *k == name);
        self.positional.get(i).or_else(|| keyword().map(|(_, v)| v))
    }

    pub fn all(&self) -> impl Iterator<Item = &V> {
        self.positional
            .iter()
            .chain(self.keyword.iter().map(|(_, v)| v))
    }

    /// The same arguments, each as something else, if all can be that.
    pub fn map<W, E>(&self, as_other: impl Fn(&V) -> Result<W, E>) -> Result<Arguments<'a, W>, E> {
        let positional = self.positional.iter().map(&as_other);
        let keyword = self.keyword.iter().map(|(k, v)| Ok((*k, as_other(v)?)));
        Ok(Arguments {
            positional: positional.collect::<Result<_, E>>()?,
            keyword: keyword.collect::<Result<_, E>>()?,
        })
    }
}

/// The arguments of a call by the names of its parameters.
pub(in crate::formats) struct Call<'c> {
    pub name: &'c str,
    pub args: &'c Arguments<'c>,
    pub parameters: &'static [&'static str],
}

impl Call<'_> {
    /// The argument; `None` if it is left out or is `None`.
    pub fn get(&self, name: &str) -> Option<&Argument> {
        let position = self
            .parameters
            .iter()
            .position(|p| *p == name)
            .unwrap_or(usize::MAX);
        self.args
            .get(position, name)
            .filter(|v| !matches!(v, Argument::None))
    }

    /// The operator that the table of all formats has for it.
    pub fn spelled(&self) -> Option<Op> {
        let value = |name: &str| {
            self.get(name).map(|argument| match argument {
                Argument::Str(text) => spelling::Value::Text(text),
                other => spelling::Value::Real(other.as_f64().unwrap_or(f64::NAN)),
            })
        };
        spelling::of_aten(self.name).find_map(|row| row.read(row.aten.attributes, value))
    }

    /// Whether a parameter is left out or `None`.
    pub fn lacks(&self, name: &str) -> bool {
        self.get(name).is_none()
    }

    /// The tensor argument, or `None` if it is left out or no tensor.
    pub fn tensor(&self, name: &str) -> Option<ir::Value> {
        self.get(name)?.as_tensor()
    }

    /// The tensor that is argument `i`.
    pub fn tensor_at(&self, i: usize) -> Option<ir::Value> {
        self.tensor(self.parameters.get(i)?)
    }

    /// A list of tensors.
    pub fn tensors(&self, name: &str) -> Option<Vec<ir::Value>> {
        let items = self.get(name)?.items()?;
        items.iter().map(Argument::as_tensor).collect()
    }

    pub fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_int()
    }

    pub fn int_or(&self, name: &str, default: i64) -> Option<i64> {
        self.get(name).map_or(Some(default), Argument::as_int)
    }

    pub fn float_or(&self, name: &str, default: f64) -> Option<f64> {
        self.get(name).map_or(Some(default), Argument::as_f64)
    }

    pub fn bool_or(&self, name: &str, default: bool) -> Option<bool> {
        match self.get(name) {
            None => Some(default),
            Some(Argument::Bool(b)) => Some(*b),
            Some(value) => value.as_int().map(|n| n != 0),
        }
    }

    pub fn str(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Argument::Str(text) => Some(text),
            _ => None,
        }
    }

    /// A list of sizes; a lone number counts as a list of one.
    pub fn dims(&self, name: &str) -> Option<Dims> {
        let value = self.get(name)?;
        match value.items() {
            Some(items) => items.iter().map(Argument::as_dim).collect(),
            None => value.as_dim().map(|dim| Dims::from_iter([dim])),
        }
    }

    /// `n` sizes, a single one standing for all; `default` if left out or empty.
    pub fn spatial_dims(&self, name: &str, n: usize, default: &Dims) -> Option<Dims> {
        let dims = if self.lacks(name) {
            Dims::new()
        } else {
            self.dims(name)?
        };
        match dims.len() {
            0 => Some(default.clone()),
            1 => Some(std::iter::repeat_n(dims[0].clone(), n).collect()),
            len if len == n => Some(dims),
            _ => None,
        }
    }

    /// The same with numbers.
    pub fn spatial(&self, name: &str, n: usize, default: usize) -> Option<Ints> {
        let default: Dims = std::iter::repeat_n(Dim::from(default), n).collect();
        self.spatial_dims(name, n, &default)?
            .iter()
            .map(Dim::as_len)
            .collect()
    }

    /// Axes of a tensor of `rank` dimensions; a lone number counts as a list of one.
    pub fn axes(&self, name: &str, rank: usize) -> Option<Ints> {
        self.dims(name)?
            .iter()
            .map(|dim| position(dim.as_number()?, rank))
            .collect()
    }

    pub fn axis(&self, name: &str, rank: usize, default: i64) -> Option<usize> {
        position(self.int_or(name, default)?, rank)
    }
}
