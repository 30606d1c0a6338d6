//! What a node of the program is called with, and what it gives.

use serde_json::Value as Json;

use crate::formats::aten::{Argument, Arguments, Caller, Entry, Eval, TensorRef};
use crate::formats::dtypes::{called, names};
use crate::formats::exported_program::numbers::float;
use crate::formats::exported_program::read::{DAMAGED, Reader, Slot};
use crate::formats::exported_program::schema::{NamedArgument, Node, name_of, tag, tagged};
use crate::formats::words::among;

impl Reader<'_> {
    /// The tensor that is the first argument.
    pub(super) fn first_tensor(&self, node: &Node) -> Eval<Option<TensorRef>> {
        let first = node.inputs.first().map(|input| &input.arg);
        match first.map(|arg| (tagged(arg), name_of(arg))) {
            Some((Some(("as_tensor", _)), Some(name))) => match self.slot(name)? {
                Slot::Tensor(cell) => Ok(Some(cell.clone())),
                _ => self.fail(format!("`{name}` is no tensor"), DAMAGED),
            },
            _ => Ok(None),
        }
    }

    /// The arguments of a node by name; `None` if there is one that the table does not have.
    pub(super) fn arguments_of<'n>(
        &self,
        node: &'n Node,
        entry: &Entry,
    ) -> Eval<Option<Arguments<'n>>> {
        if !takes_all(entry, node) {
            return Ok(None);
        }
        let mut arguments = Arguments::of([]);
        for NamedArgument { name, arg, .. } in &node.inputs {
            let name = parameter(entry, name);
            arguments.keyword.push((name, self.argument(arg)?));
        }
        Ok(Some(arguments))
    }

    fn argument(&self, json: &Json) -> Eval<Argument> {
        let Some((kind, content)) = tagged(json) else {
            return self.fail("an argument is of no kind", DAMAGED);
        };
        let list = |kind: &str| -> Eval<Argument> {
            let items = content.as_array().into_iter().flatten();
            let items = items.map(|item| match kind {
                "" => self.argument(item),
                kind => self.argument(&tag(kind, item.clone())),
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
                        return self.argument(&tag(inner, n.clone()));
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
                let code = content.as_i64();
                let dtype = code.and_then(|code| called(|names| names.program == code));
                dtype.map_or(Argument::Other, |dtype| Argument::Int(names(dtype).aten))
            }
            _ => Argument::Other,
        })
    }
}

/// Whether an operator that is called with these arguments is the one of the table: an argument that is not looked at decides
/// nothing.
fn takes_all(entry: &Entry, node: &Node) -> bool {
    const PLACEMENT: &str = "memory_format layout device pin_memory non_blocking implicit";
    let known = |name: &str| entry.parameters.contains(&name) || among(PLACEMENT, name);
    let mut names = node
        .inputs
        .iter()
        .map(|input| parameter(entry, &input.name));
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
pub(super) fn results(node: &Node) -> Option<Vec<&str>> {
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
pub(super) fn all_results(node: &Node) -> Vec<(&str, &str)> {
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
