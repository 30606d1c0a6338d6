//! Nodes of the program to nodes of the graph: operators the IR knows by the table of [`aten`], all others opaque.

use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value as Json;
use smallvec::SmallVec;

use super::numbers::float;
use super::opaque::Template;
use super::package::dtype_of;
use super::read::{DAMAGED, Reader, Slot};
use super::schema::{NamedArgument, Node, name_of, tagged};
use crate::formats::aten::{
    self, Argument, Arguments, Builder, Call, Entry, Eval, Lowered, Sharing, TensorRef, dtype_code,
    fresh, view, view_or_copy,
};
use crate::formats::words::among;
use crate::ir::{self, Dim, Op, Opaque, Type};

/// The namespace of PyTorch's own operators.
const ATEN: &str = "torch.ops.aten.";

impl<'p> Reader<'p> {
    /// Reads one node.
    pub(super) fn node(&mut self, node: &'p Node) -> Eval<()> {
        if self.sizes(node)? || is_assertion(node) {
            return Ok(());
        }
        let Some(name) = node
            .target
            .strip_prefix(ATEN)
            .and_then(|rest| rest.split('.').next())
        else {
            return self.opaque(node, &node.target);
        };
        match name
            .strip_suffix('_')
            .filter(|base| !base.ends_with('_') && !base.is_empty())
        {
            Some(base) => self.in_place(node, base),
            None => self.operator(node, name),
        }
    }

    /// Numbers that are known from the inputs' sizes: they are computed anew where they are needed.
    fn sizes(&mut self, node: &'p Node) -> Eval<bool> {
        let [output] = node.outputs.as_slice() else {
            return Ok(false);
        };
        let (Some(("as_sym_int", _)), Some(name)) = (tagged(output), name_of(output)) else {
            return Ok(false);
        };
        let values = &self.program.graph_module.graph.sym_int_values;
        let dim = values.get(name).and_then(|value| self.size(value));
        match dim.filter(|dim| self.is_known(dim)) {
            Some(dim) => self.bind(name, Slot::Size(dim)).map(|()| true),
            None => Ok(false),
        }
    }

    fn operator(&mut self, node: &'p Node, name: &str) -> Eval<()> {
        let names = results(node);
        let lowered = match aten::find(name) {
            Some(_) if names.is_none() => None,
            Some(entry) if !takes_all(&entry, node) => None,
            Some(entry) => {
                let args = self.arguments(node, &entry)?;
                let call = Call {
                    name,
                    args: &args,
                    parameters: entry.parameters,
                };
                (entry.lower)(self, &call)?
            }
            None => None,
        };
        let names = names.unwrap_or_default();
        let values = match lowered {
            Some(Lowered::One(value)) => vec![Some(value)],
            Some(Lowered::List(values)) => values.into_iter().map(Some).collect(),
            // Of the other results nothing is known: nobody may read them.
            Some(Lowered::First(value, _))
                if names.iter().skip(1).all(|name| !self.is_read(name)) =>
            {
                let others = std::iter::repeat_n(None, names.len().saturating_sub(1));
                std::iter::once(Some(value)).chain(others).collect()
            }
            Some(Lowered::Same) => return self.same(node, name, &names),
            Some(Lowered::First(..)) | None => return self.opaque(node, &node.target),
        };
        if values.len() != names.len() {
            return self.opaque(node, &node.target);
        }
        for (value, result) in values.iter().zip(&names) {
            if let Some(value) = value {
                self.settle(*value, result)?;
            }
            if let Some(value) = value
                && !self.fits(*value, result)?
            {
                return self.opaque(node, &node.target);
            }
        }
        let base = self.first_tensor(node)?;
        for (value, result) in values.into_iter().zip(names) {
            if let Some(value) = value {
                self.note_name(value, result);
                self.bind(result, Slot::Tensor(share(name, base.as_ref(), value)))?;
            }
        }
        Ok(())
    }

    /// An operator whose result is its first argument.
    fn same(&mut self, node: &'p Node, name: &str, names: &[&'p str]) -> Eval<()> {
        let (Some(base), [result]) = (self.first_tensor(node)?, names) else {
            return self.opaque(node, &node.target);
        };
        let cell = match aten::sharing(name) {
            Sharing::Either => {
                let value = self.read(&base)?;
                view_or_copy(&base, value)
            }
            _ => base,
        };
        self.bind(result, Slot::Tensor(cell))
    }

    /// `relu_(x)`: computes the new value and gives it to every name that holds the tensor.
    fn in_place(&mut self, node: &'p Node, base: &str) -> Eval<()> {
        let Some(cell) = self.first_tensor(node)? else {
            return self.opaque(node, &node.target);
        };
        let before = self.read(&cell)?;
        if cell.borrow().state {
            let name = self.graph.node(before.node).name.clone();
            return self.fail(
                format!("the model writes to `{name}`, its own state"),
                "a network that keeps state between calls cannot be rewritten; return the state instead",
            );
        }
        let lowered = match aten::find(base) {
            Some(entry) if takes_all(&entry, node) => {
                let args = self.arguments(node, &entry)?;
                let call = Call {
                    name: base,
                    args: &args,
                    parameters: entry.parameters,
                };
                (entry.lower)(self, &call)?
            }
            _ => None,
        };
        let after = match self.written_over(before, lowered)? {
            Some(after) => after,
            None => {
                // The operator of the same name that returns what this one writes.
                let target = node.target.replacen(&format!("{base}_"), base, 1);
                let ty = self.graph.ty(before).clone();
                self.opaque_value(node, &target, [ty].into_iter().collect())?
                    .into()
            }
        };
        let names = results(node).unwrap_or_default();
        if let [result] = names.as_slice() {
            self.note_name(after, result);
        }
        let why: Rc<str> = self.place().into();
        aten::overwrite(self, &cell, after, &why)?;
        match names.as_slice() {
            [result] => self.bind(result, Slot::Tensor(cell)),
            _ => Ok(()),
        }
    }

    /// Gives a slice the end that the program says: `x[:1]` of `s0` rows has one row, as `s0` is at least 1.
    fn settle(&mut self, value: ir::Value, name: &str) -> Eval<()> {
        let Some(Op::Slice {
            axis, start, step, ..
        }) = self.graph.op(value.node)
        else {
            return Ok(());
        };
        let (axis, start, step) = (*axis, start.clone(), *step);
        let declared = self.ty(name)?.len(axis);
        if let (Some(n), None) = (declared, self.graph.ty(value).len(axis)) {
            let end = start.clone() + Dim::from(n) * Dim::from(step);
            let op = Op::Slice {
                axis,
                start,
                end,
                step,
            };
            let operands = self.graph.operands(value.node);
            // If it does not fit, it stays as it was.
            let _ = self.graph.replace_op(value.node, op, &operands);
        }
        Ok(())
    }

    /// Whether a value is what the program says of it, as far as that shows.
    fn fits(&mut self, value: ir::Value, name: &str) -> Eval<bool> {
        let declared = self.ty(name)?;
        let computed = self.graph.ty(value);
        if declared.dtype() != computed.dtype() {
            return Ok(false);
        }
        let (Some(a), Some(b)) = (declared.shape(), computed.shape()) else {
            return Ok(false);
        };
        let differs = |(a, b): (&Dim, &Dim)| {
            (a.clone() - b.clone())
                .as_number()
                .is_some_and(|difference| difference != 0)
        };
        Ok(a.len() == b.len() && !a.iter().zip(b).any(differs))
    }

    /// The tensor that is the first argument.
    fn first_tensor(&self, node: &'p Node) -> Eval<Option<TensorRef>> {
        let first = node.inputs.first().map(|input| &input.arg);
        match first.map(|arg| (tagged(arg), name_of(arg))) {
            Some((Some(("as_tensor", _)), Some(name))) => match self.slot(name)? {
                Slot::Tensor(cell) => Ok(Some(cell.clone())),
                _ => self.fail(format!("`{name}` is no tensor"), DAMAGED),
            },
            _ => Ok(None),
        }
    }

    /// The arguments of a node by name, as every format has them.
    fn arguments(&self, node: &'p Node, entry: &Entry) -> Eval<Arguments<'p>> {
        let mut arguments = Arguments::default();
        for NamedArgument { name, arg, .. } in &node.inputs {
            let name = parameter(entry, name);
            arguments.keyword.push((name, self.argument(arg)?));
        }
        Ok(arguments)
    }

    fn argument(&self, json: &Json) -> Eval<Argument> {
        let Some((kind, content)) = tagged(json) else {
            return self.fail("an argument is of no kind", DAMAGED);
        };
        let list = |tag: &str| -> Eval<Argument> {
            let items = content.as_array().into_iter().flatten();
            let items = items.map(|item| match (tag, item) {
                ("", item) => self.argument(item),
                (tag, item) => self.argument(&super::schema::tag(tag, item.clone())),
            });
            items.collect::<Eval<_>>().map(Argument::List)
        };
        Ok(match kind {
            "as_none" => Argument::None,
            "as_bool" => content.as_bool().map_or(Argument::Other, Argument::Bool),
            "as_int" => content.as_i64().map_or(Argument::Other, Argument::Int),
            "as_float" => float(content).map_or(Argument::Other, Argument::Float),
            "as_string" => content
                .as_str()
                .map_or(Argument::Other, |text| Argument::Str(text.into())),
            "as_tensor" | "as_sym_int" | "as_sym_float" | "as_sym_bool" => match name_of(json) {
                Some(name) => match self.slot(name)? {
                    Slot::Tensor(cell) => Argument::Tensor(self.read(cell)?),
                    Slot::Size(dim) => dim
                        .as_number()
                        .map_or_else(|| Argument::Size(dim.clone()), Argument::Int),
                    Slot::Run(_) => Argument::Other,
                },
                None => match tagged(content) {
                    Some((inner @ ("as_int" | "as_float" | "as_bool"), n)) => {
                        return self.argument(&super::schema::tag(inner, n.clone()));
                    }
                    _ => Argument::Other,
                },
            },
            "as_optional_tensor" => return self.argument(content),
            "as_optional_tensors" => list("")?,
            "as_tensors" => list("as_tensor")?,
            "as_ints" => list("as_int")?,
            "as_floats" => list("as_float")?,
            "as_bools" => list("as_bool")?,
            "as_sym_ints" => list("as_sym_int")?,
            "as_scalar_type" => {
                let dtype = content.as_i64().and_then(dtype_of);
                dtype.map_or(Argument::Other, |dtype| Argument::Int(dtype_code(dtype)))
            }
            _ => Argument::Other,
        })
    }

    /// A node that is kept as it is; `target` is the operator to write.
    fn opaque(&mut self, node: &'p Node, target: &str) -> Eval<()> {
        let names = all_results(node);
        let mut types: SmallVec<[Type; 1]> = SmallVec::new();
        for (tag, name) in &names {
            types.push(match *tag {
                "as_tensor" => self.ty(name)?,
                tag => Type::Other(tag.trim_start_matches("as_").into()),
            });
        }
        let id = self.opaque_value(node, target, types)?;
        for (port, (tag, name)) in names.into_iter().enumerate() {
            let value = ir::Value {
                node: id,
                port: port as u32,
            };
            self.note_name(value, name);
            let slot = match tag {
                "as_tensor" => Slot::Tensor(self.shared(node, value)?),
                _ => Slot::Run(value),
            };
            self.bind(name, slot)?;
        }
        Ok(())
    }

    /// The result of an opaque operator, which may be a view of its first argument.
    fn shared(&self, node: &'p Node, value: ir::Value) -> Eval<TensorRef> {
        let name = node
            .target
            .strip_prefix(ATEN)
            .and_then(|rest| rest.split('.').next());
        let base = self.first_tensor(node)?;
        Ok(share(name.unwrap_or_default(), base.as_ref(), value))
    }

    fn opaque_value(
        &mut self,
        node: &'p Node,
        target: &str,
        outputs: SmallVec<[Type; 1]>,
    ) -> Eval<ir::NodeId> {
        let template = Template::of(self, node, target)?;
        let label = target
            .trim_start_matches(ATEN)
            .split('.')
            .next()
            .unwrap_or(target);
        let name = self.node_name(label);
        let opaque = Opaque {
            dialect: ir::Dialect::ExportedProgram,
            name: target
                .trim_start_matches("torch.ops.")
                .replacen('.', "::", 1)
                .into(),
            template: template.text.into(),
            sizes: template.sizes.into(),
            outputs: outputs.clone(),
        };
        let op = Op::Opaque(Arc::new(opaque));
        let unique = self.unique(&name);
        let operands = &template.operands;
        let id = self.graph.add_typed_op(&unique, op, operands, outputs);
        self.note(id, name);
        Ok(id)
    }

    /// The name of the next node: the module's path, and the operator's unless the module is nothing but that.
    pub(super) fn node_name(&self, label: &str) -> String {
        let node = self
            .at
            .and_then(|at| self.program.graph_module.graph.nodes.get(at));
        let stack = node.and_then(|node| node.metadata.get("nn_module_stack")?.as_str());
        // `key,path,class;key,path,class`
        let inner = stack
            .and_then(|stack| stack.rsplit(';').next())
            .unwrap_or_default();
        let path = inner
            .split_once(',')
            .and_then(|(_, rest)| rest.rsplit_once(','))
            .map_or("", |(path, _)| path);
        let path = path.trim_start_matches("L['self']").trim_start_matches('.');
        let name = match (path.is_empty(), self.has_modules(path)) {
            (true, _) => label.to_owned(),
            (false, true) => format!("{path}.{label}"),
            (false, false) => path.to_owned(),
        };
        // Parameters keep their names, whoever comes first.
        match self.is_state(&name) {
            true => name + ".op",
            false => name,
        }
    }
}

/// Whether an operator that is called with these arguments is the one of the table: an argument that is not looked at decides
/// nothing.
fn takes_all(entry: &Entry, node: &Node) -> bool {
    const PLACEMENT: &str = "memory_format layout device pin_memory non_blocking implicit";
    let known = |name: &str| entry.parameters.contains(&name) || among(PLACEMENT, name);
    let mut names = { node.inputs.iter() }.map(|input| parameter(entry, &input.name));
    names.all(known)
}

/// The name of a parameter in the table: operators that write in place call `self` what others have another name for.
fn parameter<'n>(entry: &Entry, name: &'n str) -> &'n str {
    match (name, entry.parameters.first()) {
        ("self", Some(first)) => first,
        _ => name,
    }
}

/// The names of a node's results, if they are tensors, one or several, or one list of tensors.
fn results(node: &Node) -> Option<Vec<&str>> {
    if let [list] = node.outputs.as_slice()
        && let Some(("as_tensors", items)) = tagged(list)
    {
        let items = items.as_array()?;
        return items
            .iter()
            .map(|item| item.get("name")?.as_str())
            .collect();
    }
    let tensor = |output| match tagged(output) {
        Some(("as_tensor", _)) => name_of(output),
        _ => None,
    };
    node.outputs.iter().map(tensor).collect()
}

/// Tag and name of each of a node's results, lists in a row.
fn all_results(node: &Node) -> Vec<(&str, &str)> {
    let mut names = Vec::new();
    for output in &node.outputs {
        match tagged(output) {
            Some(("as_tensors", items)) => {
                let items = items.as_array().into_iter().flatten();
                names.extend(
                    items.filter_map(|item| Some(("as_tensor", item.get("name")?.as_str()?))),
                );
            }
            Some((tag, _)) => names.extend(name_of(output).map(|name| (tag, name))),
            None => {}
        }
    }
    names
}

/// Whether a node only checks something: it has no result, and what it checked was true of the example.
fn is_assertion(node: &Node) -> bool {
    let name = node.target.strip_prefix(ATEN).unwrap_or_default();
    name.starts_with("_assert")
        || name.starts_with("sym_constrain_range")
        || name.starts_with("_functional_assert")
}

/// The result of an operator, as a tensor that shares memory with its first argument or not.
fn share(name: &str, base: Option<&TensorRef>, value: ir::Value) -> TensorRef {
    match (aten::sharing(name), base) {
        (Sharing::View, Some(base)) => view(base, value),
        (Sharing::Either, Some(base)) => view_or_copy(base, value),
        _ => fresh(value),
    }
}
