//! PyTorch's operators: how each is read and, beside it, how each is written, for every format that calls them.
//!
//! A file a kind of operator. `table` has all of them by name: [`find`] leads from a call to the function that reads it; [`write`]
//! from an operator of the IR to the call. An operator whose arguments go beyond what the IR can say is left to be opaque. `call`
//! has the arguments of a call that is read, `dispatch` what becomes of it, `expression` the call that is written; `alias` follows
//! what is written in place.

mod alias;
mod arithmetic;
mod call;
mod convolution;
mod dispatch;
mod expression;
mod layout;
mod normalisation;
mod pointwise;
mod pool;
mod reduce;
mod slices;
mod table;
mod template;

pub(in crate::formats) use alias::{TensorRef, fresh, is_written, state, view_or_copy};
pub(in crate::formats) use call::{Argument, Arguments, Call};
pub(in crate::formats) use dispatch::{Caller, add_outputs, in_place_of, share};
pub(in crate::formats) use expression::{Expression, Invocation, Written, number, operands, write};
pub(in crate::formats) use table::{Entry, find};
use table::{Sharing, sharing};
pub(in crate::formats) use template::Template;

use rustc_hash::FxHashMap;

use crate::error::FormatError;
use crate::ir::{self, DType, Dim, Dims, Float, Graph, Op, Opaque, Tensor};

/// Why reading stopped.
pub(in crate::formats) enum Stop {
    /// The model cannot be read.
    Error(FormatError),
    /// An operator told something about an input that earlier ones would have used: read again, knowing it.
    Restart,
}

impl From<FormatError> for Stop {
    fn from(error: FormatError) -> Self {
        Stop::Error(error)
    }
}

pub(in crate::formats) type Eval<T> = Result<T, Stop>;

/// What a format's reader offers to the functions that read its calls.
pub(in crate::formats) trait Builder {
    /// The graph as far as it is built.
    fn graph(&self) -> &Graph;

    /// Adds an operation; `None` where its operands' types are such that only the source format knows what it does.
    fn emit(&mut self, label: &str, op: Op, operands: &[ir::Value]) -> Eval<Option<ir::Value>>;

    /// The constants of no dimensions that are there already, by their bits.
    fn scalars(&mut self) -> &mut FxHashMap<(u64, DType), ir::Value>;

    /// A constant of no dimensions.
    fn scalar(&mut self, x: f64, dtype: DType) -> ir::Value {
        let key = (x.to_bits(), dtype);
        if let Some(value) = self.scalars().get(&key) {
            return *value;
        }
        let value = self.literal("scalar", Tensor::from_f64(dtype, &[], [x]));
        self.scalars().insert(key, value);
        value
    }

    /// A constant without a name in the source.
    fn literal(&mut self, name: &str, tensor: Tensor) -> ir::Value;

    /// What an operator demands of its operand: `rank` sizes, some of them numbers, and an element type.
    fn demand(&mut self, value: ir::Value, sizes: &[Option<i64>], dtype: Option<DType>)
    -> Eval<()>;

    /// The error of an operator that behaves differently in training, called as in training.
    fn training(&self, what: &str) -> Stop;

    /// `whole` with positions `start`, `start + step` .. before `end` of an axis replaced by `part`, as an opaque operator.
    fn slice_scatter(
        &mut self,
        whole_and_part: [ir::Value; 2],
        axis: usize,
        bounds: [&Dim; 2],
        step: usize,
    ) -> Eval<ir::Value>;

    /// What is in place of `before` once an operator that gives `lowered` has written there; `None` if that is not known. The
    /// result takes the place, so also the element type, of what it overwrites.
    fn written_over(
        &mut self,
        before: ir::Value,
        lowered: Option<Lowered>,
    ) -> Eval<Option<ir::Value>> {
        let after = match lowered {
            Some(Lowered::One(value) | Lowered::First(value, _)) => value,
            Some(Lowered::Same) => before,
            Some(Lowered::List(_)) | None => return Ok(None),
        };
        let dtype = |value| self.graph().ty(value).dtype();
        match (dtype(before), dtype(after)) {
            (Some(old), Some(new)) if old != new => Ok(Some(self.cast_like(after, before)?)),
            _ => Ok(Some(after)),
        }
    }

    /// What an unknown operator views of its first operand replaced by `part`; `None` if it is not known how.
    fn scatter(
        &mut self,
        _view: &Opaque,
        _operands: &[ir::Value],
        _part: ir::Value,
    ) -> Eval<Option<ir::Value>> {
        Ok(None)
    }

    /// `x` in the element type of another tensor.
    fn cast_like(&mut self, x: ir::Value, other: ir::Value) -> Eval<ir::Value> {
        match self.graph().ty(other).dtype() {
            Some(dtype) if self.graph().is_dtype_certain(other) => {
                let cast = self.emit("cast", Op::Cast { dtype }, &[x])?;
                Ok(cast.unwrap_or(x))
            }
            _ => self.type_as(x, other),
        }
    }

    /// `x` in the element type that another tensor has when the model runs; for formats that do not say which it is.
    fn type_as(&mut self, x: ir::Value, _other: ir::Value) -> Eval<ir::Value> {
        Ok(x)
    }

    /// The shape of a value, if it is a tensor's and known.
    fn shape(&self, value: ir::Value) -> Option<Dims> {
        self.graph().ty(value).shape().map(Dims::from)
    }
}

/// What reading a call gives.
pub(in crate::formats) enum Lowered {
    /// One tensor.
    One(ir::Value),
    /// The first of several results; of the others, which the IR cannot say, the types.
    First(ir::Value, Vec<ir::Type>),
    /// A list of tensors.
    List(Vec<ir::Value>),
    /// The first argument itself.
    Same,
}

/// `None`: the IR cannot say this call.
pub(in crate::formats) type Read = Eval<Option<Lowered>>;

fn one(value: Option<ir::Value>) -> Read {
    Ok(value.map(Lowered::One))
}

/// The same call where it has `others` beside the one result.
fn first(read: Option<Lowered>, others: impl IntoIterator<Item = ir::Type>) -> Read {
    Ok(match read {
        Some(Lowered::One(value)) => Some(Lowered::First(value, others.into_iter().collect())),
        other => other,
    })
}

fn float(x: f64) -> Float {
    x.into()
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
