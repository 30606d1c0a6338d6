//! Python's side of TorchScript: numbers, sizes, strings, lists and dictionaries, evaluated here and now.
//!
//! An operator is tried on containers (`containers`), then on numbers (`arithmetic`, `compare`), and is one of tensors if it is
//! neither; `builtins` are the functions outside `torch`.

mod arithmetic;
mod builtins;
mod compare;
mod containers;
mod dicts;
mod lists;
mod strings;

use std::rc::Rc;

use super::eval::{Args, Eval, Evaluator};
use super::value::Value;
use crate::formats::aten::{TensorRef, fresh};
use crate::ir::{DType, Dims, Type};
use arithmetic::{Made, is_number_type, number_operator};

/// What to do about too much.
const OUTSIDE: &str = "trace the model, or compute this outside it";

impl<'a> Evaluator<'a> {
    /// An operator of the `aten` namespace, on whatever it is called with.
    pub(super) fn call_torch(
        &mut self,
        name: &str,
        args: Args<'a>,
        arity: Option<usize>,
    ) -> Eval<Value<'a>> {
        if let Some(value) = self.structural(name, &args)? {
            return Ok(value);
        }
        // Traces compute sizes with tensors that hold one number, some of them constants of the archive.
        let plain = if args.all().any(Value::is_run) {
            self.without_scalar_tensors(&args)
        } else {
            Some(args.clone())
        };
        if let Some(plain) = plain
            && let Some(value) = self.arithmetic(name, &plain)?
        {
            return Ok(value);
        }
        if let Some(ty) = self.number_type(name, &args) {
            return self.opaque(&format!("torch.{name}"), args, vec![ty]);
        }
        self.call_tensor(name, args, arity)
    }

    /// The type of what an operator makes of numbers; `None` if it is none of numbers.
    fn number_type(&self, name: &str, args: &Args<'a>) -> Option<Type> {
        let of = |value: &Value<'a>| match value.unwrap_zero_dim() {
            Value::Str(_) => Some("str".to_owned()),
            value => self.type_name(value).filter(|ty| is_number_type(ty)),
        };
        let types = args.all().map(of).collect::<Option<Vec<_>>>()?;
        let made = number_operator(name).filter(|_| !args.positional.is_empty())?;
        let has = |name: &str| types.iter().any(|ty| ty == name);
        let ty = match made {
            Made::Like if has("Scalar") || has("number") => "Scalar",
            Made::Like if has("float") => "float",
            Made::Like => "int",
            Made::As(ty) => ty,
        };
        let zero_dim = args.all().any(|v| matches!(v, Value::ZeroDim(_)));
        Some(match (zero_dim, ty) {
            (true, "float") => Type::Tensor(DType::F32, Some(Dims::new())),
            (true, "bool") => Type::Tensor(DType::Bool, Some(Dims::new())),
            (true, _) => Type::Tensor(DType::I64, Some(Dims::new())),
            (false, ty) => Type::Other(ty.into()),
        })
    }

    /// The arguments with every constant tensor of no dimensions replaced by its number, if no other tensor remains.
    fn without_scalar_tensors(&self, args: &Args<'a>) -> Option<Args<'a>> {
        let convert = |value: &Value<'a>| match value {
            Value::Tensor(cell) => self
                .scalar_constant(cell)
                .map(|v| Value::ZeroDim(Rc::new(v))),
            value if value.is_run() => None,
            value => Some(value.clone()),
        };
        args.map(|value| convert(value).ok_or(())).ok()
    }

    /// The number in a constant tensor of no dimensions.
    pub(super) fn scalar_constant(&self, cell: &TensorRef) -> Option<Value<'a>> {
        let value = cell.borrow().value;
        let tensor = &self.graph.constant(value.node)?.tensor;
        if !tensor.shape().is_empty() {
            return None;
        }
        let number = *tensor.elements::<f64>().first()?;
        Some(match tensor.dtype() {
            DType::Bool => Value::Bool(number != 0.0),
            dtype if dtype.is_float() => Value::Float(number),
            // Within the integers that a double holds exactly; beyond, the tensor stays a tensor.
            _ if number.abs() < 9e15 => Value::Int(number as i64),
            _ => return None,
        })
    }

    fn dtype_of(&self, value: &Value<'a>) -> Option<DType> {
        match value {
            Value::Tensor(cell) => self.graph.ty(cell.borrow().value).dtype(),
            Value::ZeroDim(inner) => match &**inner {
                Value::Float(_) => Some(DType::F32),
                Value::Bool(_) => Some(DType::Bool),
                _ => Some(DType::I64),
            },
            _ => None,
        }
    }

    /// Splits the result of an opaque operator into `n` results.
    pub(super) fn unpack_run(&mut self, value: crate::ir::Value, n: usize) -> Eval<Vec<Value<'a>>> {
        if n > 1024 {
            let what = format!("{n} results of one operator");
            return self.limit(what, OUTSIDE);
        }
        let (node, port) = (value.node, value.port as usize);
        let outputs = self.graph.node(node).outputs.len();
        if outputs == n && port == 0 {
            return Ok(self.results(node));
        }
        let args = Args::of([Value::Run(value)]);
        self.opaque_unpack(args, n)
    }

    /// A result of an opaque operator as a value of the program.
    pub(super) fn run_value(&self, value: crate::ir::Value) -> Value<'a> {
        match self.graph.ty(value) {
            Type::Tensor(..) => Value::Tensor(fresh(value)),
            Type::Other(_) => Value::Run(value),
        }
    }
}
