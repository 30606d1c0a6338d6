//! What becomes of a call, whatever the format: an operator of the IR, its first argument itself, or that with a new value.

use std::rc::Rc;

use super::alias::{fresh, overwrite, view, view_or_copy};
use super::{Arguments, Builder, Call, Entry, Eval, Read, Sharing, Stop, TensorRef, find, sharing};
use crate::ir::{self, Graph};

/// A reader of programs that call operators.
pub(in crate::formats) trait Caller: Builder + Sized {
    /// A call as the program has it.
    type Call;

    /// What to do about a tensor that cannot be read any more.
    const STALE: &'static str;

    /// The arguments as every format has them; `None` if one of them is none that the operator is known by.
    fn arguments<'c>(&self, call: &'c Self::Call, entry: &Entry) -> Eval<Option<Arguments<'c>>>;

    /// The operator `name` in place, which the IR cannot say, as an opaque one that returns what it would write.
    fn opaque_in_place(
        &mut self,
        name: &str,
        call: &Self::Call,
        before: ir::Value,
    ) -> Eval<ir::Value>;

    /// The error of a call that cannot be read.
    fn refuse(&self, what: String, help: &str) -> Stop;

    /// The operator `name` in place, and where it is called, for messages.
    fn describe(&self, name: &str) -> String;

    /// A call by the table of operators.
    fn lower(&mut self, name: &str, call: &Self::Call) -> Read {
        let Some(entry) = find(name) else {
            return Ok(None);
        };
        let Some(args) = self.arguments(call, &entry)? else {
            return Ok(None);
        };
        let call = Call {
            name,
            args: &args,
            parameters: entry.parameters,
        };
        (entry.lower)(self, &call)
    }

    /// The same of an operator in place, which writes over `_before`.
    fn lower_in_place(&mut self, name: &str, call: &Self::Call, _before: ir::Value) -> Read {
        self.lower(name, call)
    }

    /// `relu_(x)`: computes the new value, and gives it to every name that holds the tensor `cell`.
    fn in_place(&mut self, name: &str, call: &Self::Call, cell: &TensorRef) -> Eval<ir::Value> {
        let before = self.read(cell)?;
        if cell.borrow().state {
            let name = &self.graph().node(before.node).name;
            return Err(self.refuse(
                format!("the model writes to `{name}`, its own state"),
                "a network that keeps state between calls cannot be rewritten; return the state instead",
            ));
        }
        let lowered = self.lower_in_place(name, call, before)?;
        let after = match self.written_over(before, lowered)? {
            Some(after) => after,
            None => self.opaque_in_place(name, call, before)?,
        };
        let why: Rc<str> = self.describe(name).into();
        overwrite(self, cell, after, &why)?;
        Ok(after)
    }

    /// The value that a tensor holds now.
    fn read(&self, cell: &TensorRef) -> Eval<ir::Value> {
        let cell = cell.borrow();
        match &cell.stale {
            Some(why) => Err(self.refuse(
                format!("a tensor is read after memory it shares was written through another view by {why}"),
                Self::STALE,
            )),
            None => Ok(cell.value),
        }
    }

    /// What an operator gives that gives its first argument.
    fn same(&self, name: &str, first: &TensorRef) -> Eval<TensorRef> {
        match sharing(name) {
            Sharing::Either => Ok(view_or_copy(first, self.read(first)?)),
            _ => Ok(first.clone()),
        }
    }
}

/// The operator that `name` is in place: `relu` for `relu_`.
pub(in crate::formats) fn in_place_of(name: &str) -> Option<&str> {
    let base = name.strip_suffix('_')?;
    (!base.ends_with('_') && !base.is_empty()).then_some(base)
}

/// The result of an operator, as a tensor that shares memory with its first argument or not.
pub(in crate::formats) fn share(
    name: &str,
    first: Option<&TensorRef>,
    value: ir::Value,
) -> TensorRef {
    match (sharing(name), first) {
        (Sharing::View, Some(first)) => view(first, value),
        (Sharing::Either, Some(first)) => view_or_copy(first, value),
        _ => fresh(value),
    }
}

/// Makes the network return these values.
pub(in crate::formats) fn add_outputs(graph: &mut Graph, values: &[ir::Value]) {
    for (i, value) in values.iter().enumerate() {
        let name = match values.len() {
            1 => "output".to_owned(),
            _ => format!("output.{i}"),
        };
        graph.add_output(name, *value);
    }
}
