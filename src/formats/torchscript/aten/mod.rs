//! PyTorch's operators: how each is read and, beside it, how each is written.
//!
//! A file a kind of operator. [`find`] leads from a call's name to the function that reads it; [`write`] from an operator of the
//! IR to the text of the call. An operator whose arguments go beyond what the IR can say is left to be opaque.

mod arithmetic;
mod convolution;
mod layout;
mod normalisation;
mod pointwise;
mod pool;
mod reduce;

use super::eval::{Args, Eval, Evaluator};
use super::value::Value;
use crate::ir::{self, DType, Dim, Dims, Float, Ints, Op, Type};

/// What reading a call gives.
pub(super) enum Lowered {
    /// One tensor.
    One(ir::Value),
    /// A list of tensors.
    List(Vec<ir::Value>),
    /// The first argument itself.
    Same,
}

/// `None`: the IR cannot say this call.
type Read = Eval<Option<Lowered>>;

/// An operator as it is called.
pub(super) struct Entry {
    names: &'static [&'static str],
    /// The names of its parameters, in order.
    pub parameters: &'static [&'static str],
    pub lower: for<'e, 'a, 'c> fn(&'e mut Evaluator<'a>, &'c Call<'c, 'a>) -> Read,
}

/// The entry of an operator.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    let tables = [
        pointwise::TABLE,
        arithmetic::TABLE,
        convolution::TABLE,
        normalisation::TABLE,
        pool::TABLE,
        reduce::TABLE,
        layout::TABLE,
    ];
    tables
        .into_iter()
        .flatten()
        .find(|entry| entry.names.contains(&name))
}

/// What a writer knows of the node that it writes.
pub(super) struct Written<'w> {
    pub op: &'w Op,
    /// The operands as expressions.
    pub operands: &'w [String],
    pub types: &'w [&'w Type],
    /// The numbers of those operands that are constants without dimensions.
    pub scalars: &'w [Option<f64>],
    /// Gives the expression of a size.
    pub size: &'w mut dyn FnMut(&Dim) -> String,
    /// Gives the expression of a constant made for this node.
    pub constant: &'w mut dyn FnMut(ir::Tensor) -> String,
}

impl Written<'_> {
    fn x(&self) -> &str {
        self.operands.first().map_or("", String::as_str)
    }

    /// An operand that may be left out.
    fn optional(&self, i: usize) -> &str {
        self.operands.get(i).map_or("None", String::as_str)
    }

    fn sizes(&mut self, dims: &[Dim]) -> String {
        let items: Vec<String> = dims.iter().map(|d| (self.size)(d)).collect();
        format!("[{}]", items.join(", "))
    }

    /// The shape of operand `i`.
    fn shape(&self, i: usize) -> Result<&[Dim], String> {
        self.types
            .get(i)
            .and_then(|ty| ty.shape())
            .ok_or_else(|| "its shape is not known".to_owned())
    }
}

/// The text of the call that computes an operator; `Err` says why TorchScript cannot.
pub(super) fn write(written: &mut Written<'_>) -> Result<String, String> {
    let writers = [
        pointwise::write,
        arithmetic::write,
        convolution::write,
        normalisation::write,
        pool::write,
        reduce::write,
        layout::write,
    ];
    for writer in writers {
        if let Some(text) = writer(written)? {
            return Ok(text);
        }
    }
    Err(format!(
        "there is no such operator as {} in PyTorch",
        written.op.name()
    ))
}

/// The arguments of a call by the names of its parameters.
pub(super) struct Call<'c, 'a> {
    pub name: &'c str,
    pub args: &'c Args<'a>,
    pub parameters: &'static [&'static str],
}

impl<'a> Call<'_, 'a> {
    /// The argument; `None` if it is left out or is `None`.
    fn get(&self, name: &str) -> Option<&Value<'a>> {
        let position = self
            .parameters
            .iter()
            .position(|p| *p == name)
            .unwrap_or(usize::MAX);
        self.args
            .get(position, name)
            .filter(|v| !matches!(v, Value::None))
    }

    /// Whether a parameter is left out or `None`.
    fn lacks(&self, name: &str) -> bool {
        self.get(name).is_none()
    }

    /// The tensor argument, or `None` if it is left out or no tensor.
    fn tensor(&self, ev: &Evaluator<'_>, name: &str) -> Eval<Option<ir::Value>> {
        match self.get(name) {
            Some(Value::Tensor(cell)) => ev.read(cell).map(Some),
            _ => Ok(None),
        }
    }

    /// A list of tensors.
    fn tensors(&self, ev: &Evaluator<'_>, name: &str) -> Eval<Option<Vec<ir::Value>>> {
        let Some(items) = self.get(name).and_then(Value::items) else {
            return Ok(None);
        };
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let Value::Tensor(cell) = item else {
                return Ok(None);
            };
            values.push(ev.read(&cell)?);
        }
        Ok(Some(values))
    }

    fn int(&self, name: &str) -> Option<i64> {
        self.get(name)?.as_int()
    }

    fn int_or(&self, name: &str, default: i64) -> Option<i64> {
        self.get(name).map_or(Some(default), Value::as_int)
    }

    fn float_or(&self, name: &str, default: f64) -> Option<f64> {
        self.get(name).map_or(Some(default), Value::as_f64)
    }

    fn bool_or(&self, name: &str, default: bool) -> Option<bool> {
        match self.get(name) {
            None => Some(default),
            Some(Value::Bool(b)) => Some(*b),
            Some(value) => value.as_int().map(|n| n != 0),
        }
    }

    fn str(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// A list of sizes; a lone number counts as a list of one.
    fn dims(&self, name: &str) -> Option<Dims> {
        let value = self.get(name)?;
        match value.items() {
            Some(items) => items.iter().map(Value::as_dim).collect(),
            None => value.as_dim().map(|dim| Dims::from_iter([dim])),
        }
    }

    /// `n` sizes, a single one standing for all; `default` if left out or empty.
    fn spatial_dims(&self, name: &str, n: usize, default: &Dims) -> Option<Dims> {
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
    fn spatial(&self, name: &str, n: usize, default: usize) -> Option<Ints> {
        let default: Dims = std::iter::repeat_n(Dim::from(default), n).collect();
        self.spatial_dims(name, n, &default)?
            .iter()
            .map(Dim::as_len)
            .collect()
    }

    /// Axes of a tensor of `rank` dimensions; a lone number counts as a list of one.
    fn axes(&self, name: &str, rank: usize) -> Option<Ints> {
        self.dims(name)?
            .iter()
            .map(|dim| axis(dim.as_number()?, rank))
            .collect()
    }

    fn axis(&self, name: &str, rank: usize, default: i64) -> Option<usize> {
        axis(self.int_or(name, default)?, rank)
    }
}

/// An axis counted from the front.
pub(super) fn axis(axis: i64, rank: usize) -> Option<usize> {
    let from_front = if axis < 0 {
        axis.checked_add(i64::try_from(rank).ok()?)?
    } else {
        axis
    };
    usize::try_from(from_front).ok().filter(|axis| *axis < rank)
}

fn one(value: Option<ir::Value>) -> Read {
    Ok(value.map(Lowered::One))
}

fn float(x: f64) -> Float {
    x.into()
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    format!(
        "[{}]",
        items
            .into_iter()
            .map(|i| i.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    )
}

/// Returns from a reader what the IR cannot say.
macro_rules! need {
    ($value:expr) => {
        match $value {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}
use need;

/// How the result of an operator shares its first argument's memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Not at all.
    Copy,
    /// Always.
    View,
    /// It shows at run time.
    Either,
}

/// How the result of an operator shares its first argument's memory.
pub(super) fn sharing(name: &str) -> Sharing {
    const VIEWS: &[&str] = &[
        "view",
        "unflatten",
        "transpose",
        "swapaxes",
        "swapdims",
        "t",
        "numpy_T",
        "mT",
        "mH",
        "adjoint",
        "permute",
        "movedim",
        "moveaxis",
        "select",
        "slice",
        "narrow",
        "squeeze",
        "unsqueeze",
        "expand",
        "expand_as",
        "view_as",
        "chunk",
        "split",
        "split_with_sizes",
        "tensor_split",
        "hsplit",
        "vsplit",
        "dsplit",
        "unbind",
        "unfold",
        "diagonal",
        "as_strided",
        "detach",
        "alias",
        "to",
        "type_as",
        "dropout",
        "feature_dropout",
        "alpha_dropout",
        "feature_alpha_dropout",
        "real",
        "imag",
        "view_as_real",
        "view_as_complex",
        "unsafe_chunk",
        "unsafe_split",
        "positive",
        "_reshape_alias",
        "lift_fresh",
        "data",
    ];
    const EITHER: &[&str] = &[
        "reshape",
        "reshape_as",
        "flatten",
        "ravel",
        "contiguous",
        "atleast_1d",
        "atleast_2d",
        "atleast_3d",
        "_unsafe_view",
    ];
    match name {
        name if VIEWS.contains(&name) => Sharing::View,
        name if EITHER.contains(&name) => Sharing::Either,
        _ => Sharing::Copy,
    }
}

/// Whether an operator that the IR does not know keeps its first argument's shape; `beside`: it has another tensor argument.
pub(super) fn keeps_shape(name: &str, beside: bool) -> bool {
    const ALONE: &[&str] = &[
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "asinh",
        "acosh",
        "atanh",
        "log2",
        "log10",
        "log1p",
        "expm1",
        "exp2",
        "floor",
        "ceil",
        "round",
        "trunc",
        "frac",
        "sign",
        "square",
        "erfc",
        "erfinv",
        "logical_not",
        "bitwise_not",
        "isnan",
        "isinf",
        "isfinite",
        "celu",
        "selu",
        "hardshrink",
        "softshrink",
        "tanhshrink",
        "softsign",
        "log_sigmoid",
        "threshold",
        "cumsum",
        "cumprod",
        "flip",
        "roll",
        "tril",
        "triu",
        "zeros_like",
        "ones_like",
        "full_like",
        "empty_like",
        "rand_like",
        "randn_like",
        "nan_to_num",
        "channel_shuffle",
        "local_response_norm",
        "fill",
        "zero",
        "rrelu",
        "sgn",
        "deg2rad",
        "rad2deg",
        "lgamma",
        "digamma",
        "sinc",
        "logit",
        "rsub",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "clamp",
        "add",
        "sub",
        "mul",
        "div",
        "pow",
        "remainder",
        "fmod",
        "floor_divide",
        "__and__",
        "__or__",
        "__xor__",
    ];
    const BESIDE: &[&str] = &[
        "instance_norm",
        "fill",
        "scatter",
        "scatter_add",
        "index_fill",
        "index_add",
        "index_copy",
        "index_put",
        "slice_scatter",
    ];
    if beside {
        BESIDE.contains(&name)
    } else {
        ALONE.contains(&name)
    }
}

/// Which argument of an operator lists the shape of the tensor that it makes.
pub(super) fn shape_argument(name: &str) -> Option<usize> {
    match name {
        "zeros" | "ones" | "full" | "empty" | "rand" | "randn" => Some(0),
        "new_zeros" | "new_ones" | "new_full" | "new_empty" => Some(1),
        _ => None,
    }
}

/// The element type of an unknown operator's result, where it is not that of its argument.
pub(super) fn result_dtype(name: &str) -> Option<DType> {
    match name {
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "isnan" | "isinf" | "isfinite"
        | "logical_not" | "logical_and" | "logical_or" | "logical_xor" | "isin" => {
            Some(DType::Bool)
        }
        "argmax" | "argmin" | "argsort" | "nonzero" | "bincount" | "searchsorted" | "arange" => {
            Some(DType::I64)
        }
        _ => None,
    }
}

/// What an operator returns that is no tensor.
pub(super) fn result_type(name: &str) -> Option<&'static str> {
    Some(match name {
        "len" | "dim" | "numel" | "sym_size" | "Int" | "IntImplicit" | "floordiv" => "int",
        "item" | "Float" | "FloatImplicit" => "Scalar",
        "Bool" | "is_nonzero" | "equal" | "allclose" => "bool",
        "chunk" | "split" | "split_with_sizes" | "unbind" | "tensor_split" | "hsplit"
        | "vsplit" | "dsplit" | "broadcast_tensors" | "meshgrid" | "unsafe_chunk"
        | "unsafe_split" | "where_list" => "List[Tensor]",
        _ => return None,
    })
}
