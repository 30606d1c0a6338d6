//! Questions about tensors, such as their sizes.

use crate::formats::aten::{Builder, Caller};
use crate::formats::sizes::position;
use crate::formats::torchscript::eval::{Args, Eval, Evaluator};
use crate::formats::torchscript::value::Value;
use crate::formats::words::among;
use crate::ir::{self, Dim};

impl<'a> Evaluator<'a> {
    /// Questions about a tensor that its type answers.
    pub(super) fn query(
        &mut self,
        name: &str,
        args: &Args<'a>,
        arity: Option<usize>,
    ) -> Eval<Option<Value<'a>>> {
        let Some(Value::Tensor(cell)) = args.positional.first() else {
            return Ok(None);
        };
        const QUERIES: &str = "size dim len numel is_floating_point is_complex sym_size ndimension";
        if !among(QUERIES, name) {
            return Ok(None);
        }
        let value = self.read(cell)?;
        // `n, c, h, w = x.shape` says how many dimensions there are.
        if let ("size", Some(rank @ 1..)) = (name, arity) {
            self.demand(value, &vec![None; rank], None)?;
        }
        let shape = self.shape(value);
        Ok(match (name, shape) {
            ("size" | "sym_size", shape) if args.get(1, "dim").is_some() => {
                let Some(axis) = args.get(1, "dim").and_then(Value::as_int) else {
                    return Ok(None);
                };
                match shape {
                    Some(shape) => match position(axis, shape.len()) {
                        Some(axis) => Some(Value::size(shape[axis].clone())),
                        None => return self.fail(
                            format!("size {axis} is asked of a tensor of {} dimensions", shape.len()),
                            "check the shape given with --input, and the order of the model's layers",
                        ),
                    },
                    None => self.unknown_size(value, axis),
                }
            }
            ("size" | "sym_size", Some(shape)) => {
                Some(Value::list(shape.into_iter().map(Value::size).collect()))
            }
            ("dim" | "ndimension", Some(shape)) => Some(Value::Int(shape.len() as i64)),
            ("dim" | "ndimension" | "numel", None) => {
                let tensor = &self.graph.node(value.node).name;
                let why = format!(
                    "a condition needs the number of dimensions of `{tensor}`, which --input can give"
                );
                Some(self.unknown(why.into(), name, args, "int"))
            }
            ("len", Some(shape)) => shape.first().cloned().map(Value::size),
            ("numel", Some(shape)) => Dim::product(&shape).map(Value::size),
            ("is_floating_point", _) => self
                .graph
                .ty(value)
                .dtype()
                .map(|d| Value::Bool(d.is_float())),
            ("is_complex", _) => Some(Value::Bool(false)),
            _ => None,
        })
    }

    /// A size of an input whose rank nothing has told yet.
    fn unknown_size(&self, value: ir::Value, axis: i64) -> Option<Value<'a>> {
        let input = self.graph.inputs().contains(&value.node);
        (input && axis >= 0).then(|| {
            Value::Size(Dim::symbol(format!(
                "{}.{axis}",
                self.graph.node(value.node).name
            )))
        })
    }
}
