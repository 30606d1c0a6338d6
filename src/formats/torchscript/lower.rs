//! From calls to graph nodes: operators the IR knows by the table of [`aten`](crate::formats::aten), all others opaque.

mod builder;
mod opaque;
mod query;
mod shapes;
mod unknown;

use std::fmt::Write as _;

use super::eval::{Args, Eval, Evaluator};
use super::value::Value;
use crate::error::FormatError;
use crate::formats::aten::{
    Argument, Arguments, Builder, Caller, Entry, Lowered, Read, Stop, Template, in_place_of, share,
};
use crate::ir::{self, Op, Type};

impl<'a> Evaluator<'a> {
    /// An operator on tensors.
    pub(super) fn call_tensor(
        &mut self,
        name: &str,
        args: Args<'a>,
        arity: Option<usize>,
    ) -> Eval<Value<'a>> {
        if let (Some(base), Some(Value::Tensor(cell))) =
            (in_place_of(name), args.positional.first())
        {
            self.changes_something()?;
            let cell = cell.clone();
            self.in_place(base, &args, &cell)?;
            return Ok(Value::Tensor(cell));
        }
        if let Some(value) = self.query(name, &args, arity)? {
            return Ok(value);
        }
        match self.lower(name, &args)? {
            Some(Lowered::First(value, others)) => {
                return self.first_of(name, value, others, &args);
            }
            Some(lowered) => return self.lowered(name, lowered, &args),
            None => {}
        }
        let outputs = self.opaque_types(name, &args, arity);
        // A `contiguous` before it is gone.
        let written = if name == "view" { "reshape" } else { name };
        let value = self.opaque(&format!("torch.{written}"), args.clone(), outputs)?;
        Ok(match (value, args.positional.first()) {
            (Value::Tensor(result), Some(Value::Tensor(base))) => {
                let result = result.borrow().value;
                Value::Tensor(share(name, Some(base), result))
            }
            (value, _) => value,
        })
    }

    /// All results of a call of which the graph says the first. Whether others are read shows at the end: the whole call is there
    /// beside `value` until then.
    fn first_of(
        &mut self,
        name: &str,
        value: ir::Value,
        others: Vec<Type>,
        args: &Args<'a>,
    ) -> Eval<Value<'a>> {
        let first = self.lowered(name, Lowered::One(value), args)?;
        let all = [self.graph.ty(value).clone()].into_iter().chain(others);
        let call = self.opaque(&format!("torch.{name}"), args.clone(), all.collect())?;
        let mut results = call.items().unwrap_or_default();
        if let (Some(place), Value::Tensor(whole)) = (results.first_mut(), &first)
            && let Value::Tensor(call) = &*place
        {
            let pair = (whole.borrow().value, call.borrow().value);
            self.firsts.push(pair);
            *place = first;
        }
        Ok(Value::tuple(results))
    }

    fn argument(&self, value: &Value<'a>, outermost: bool) -> Eval<Argument> {
        Ok(match value.unwrap_zero_dim() {
            Value::None => Argument::None,
            Value::Bool(b) => Argument::Bool(*b),
            Value::Int(n) => Argument::Int(*n),
            Value::Size(dim) => Argument::Size(dim.clone()),
            Value::Float(x) => Argument::Float(*x),
            Value::Str(text) => Argument::Str(text.clone()),
            Value::Tensor(cell) => Argument::Tensor(self.read(cell)?),
            // No operator of the table takes lists of lists.
            list if outermost => match list.items() {
                Some(items) => {
                    let items = items.iter().map(|item| self.argument(item, false));
                    Argument::List(items.collect::<Eval<_>>()?)
                }
                None => Argument::Other,
            },
            _ => Argument::Other,
        })
    }

    fn lowered(&mut self, name: &str, lowered: Lowered, args: &Args<'a>) -> Eval<Value<'a>> {
        let base = match args.positional.first() {
            Some(Value::Tensor(cell)) => Some(cell.clone()),
            _ => None,
        };
        let cell = |value| Value::Tensor(share(name, base.as_ref(), value));
        Ok(match (lowered, &base) {
            (Lowered::One(value) | Lowered::First(value, _), _) => cell(value),
            (Lowered::List(values), _) => Value::list(values.into_iter().map(cell).collect()),
            (Lowered::Same, Some(base)) => Value::Tensor(self.same(name, base)?),
            (Lowered::Same, _) => args.positional.first().cloned().unwrap_or(Value::None),
        })
    }

    /// `copy_(x, y)`: y, in x's shape and type.
    fn copy(&mut self, before: ir::Value, args: &Args<'a>) -> Read {
        let Some(Value::Tensor(source)) = args.positional.get(1) else {
            return Ok(None);
        };
        let source = self.read(source)?;
        match (self.shape(before), self.shape(source)) {
            (Some(a), Some(b)) if a == b => Ok(Some(Lowered::One(source))),
            (Some(shape), Some(_)) => {
                let value = self.emit("expand", Op::Expand { shape }, &[source])?;
                Ok(value.map(Lowered::One))
            }
            _ => Ok(None),
        }
    }

    /// An operator of another library, such as `ops.torchvision.nms`.
    pub(super) fn call_library(
        &mut self,
        path: &str,
        args: Args<'a>,
        arity: Option<usize>,
    ) -> Eval<Value<'a>> {
        let name = path.rsplit('.').next().unwrap_or(path).to_owned();
        let outputs = self.opaque_types(&name, &args, arity);
        self.opaque(path, args, outputs)
    }
}

impl<'a> Caller for Evaluator<'a> {
    type Call = Args<'a>;

    const STALE: &'static str =
        "replace the in-place operator by one that returns a new tensor, or clone() the view";

    fn arguments<'c>(&self, args: &'c Args<'a>, _: &Entry) -> Eval<Option<Arguments<'c>>> {
        args.map(|value| self.argument(value, true)).map(Some)
    }

    fn lower_in_place(&mut self, name: &str, args: &Args<'a>, before: ir::Value) -> Read {
        match name {
            "copy" => self.copy(before, args),
            _ => self.lower(name, args),
        }
    }

    fn opaque_in_place(
        &mut self,
        name: &str,
        args: &Args<'a>,
        before: ir::Value,
    ) -> Eval<ir::Value> {
        let mut template = Template::default();
        let _ = write!(template.text, "torch.{name}_(torch.clone(");
        self.render(&args.positional[0], &mut template)?;
        template.text.push(')');
        self.render_args(args, 1, &mut template)?;
        let ty = self.graph.ty(before).clone();
        let node = self.add_opaque(&format!("aten::{name}_"), template, vec![ty])?;
        Ok(node.into())
    }

    fn refuse(&self, what: String, help: &str) -> Stop {
        let at = self.location();
        let help = help.to_owned();
        Stop::Error(FormatError::Code { what, at, help })
    }

    fn describe(&self, name: &str) -> String {
        format!("torch.{name}_ ({})", self.location().brief())
    }
}
