//! Operators that the IR does not know: nodes that carry the program's own, as JSON with places.
//!
//! Where the program has the name of a value, the template has a place: `{0}` for an operand, `{$0}` for a size that is computed
//! from the inputs' sizes, `{=0}` for a result. Braces of JSON are followed by a quote or close, so the two are not confused.

use serde_json::{Map, Value as Json, json};

use super::read::{DAMAGED, Reader, Slot};
use super::schema::{NamedArgument, Node, tag, tensor};
use crate::formats::aten::{Caller, Eval, Template};
use crate::ir::{self, Dim};

/// What stands where the program has a name.
pub(super) enum Place {
    Operand(usize),
    Size(usize),
    Result(usize),
}

impl Place {
    /// The place that a text is, if it is one.
    pub fn parse(text: &str) -> Option<Place> {
        let inner = text.strip_prefix('{')?.strip_suffix('}')?;
        let number = |text: &str| text.parse().ok();
        match inner.as_bytes().first()? {
            b'$' => number(&inner[1..]).map(Place::Size),
            b'=' => number(&inner[1..]).map(Place::Result),
            _ => number(inner).map(Place::Operand),
        }
    }
}

/// The template of a node, its operator being `target`.
pub(super) fn template(reader: &Reader<'_>, node: &Node, target: &str) -> Eval<Template> {
    let mut template = Template::default();
    // A `contiguous` before it is gone.
    let view = [
        "torch.ops.aten.view.default",
        "torch.ops.aten._unsafe_view.default",
    ]
    .contains(&target);
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for input in &node.inputs {
        let name = match (view, input.name.as_str()) {
            (true, "size") => "shape",
            (_, name) => name,
        };
        inputs.push(NamedArgument {
            name: name.to_owned(),
            arg: argument(&mut template, reader, &input.arg)?,
            other: input.other.clone(),
        });
    }
    let target = if view {
        "torch.ops.aten.reshape.default"
    } else {
        target
    };
    let fields = [
        ("target", json!(target)),
        ("inputs", json!(inputs)),
        ("outputs", outputs(&node.outputs)?),
    ];
    let fields = fields.map(|(key, value)| (key.to_owned(), value));
    // The name of the node is that of its result.
    let others = node
        .other
        .iter()
        .filter(|(key, value)| *key != "name" && !value.is_null());
    let others = others.map(|(key, value)| (key.clone(), value.clone()));
    template.text = Json::Object(fields.into_iter().chain(others).collect()).to_string();
    Ok(template)
}

/// `slice_scatter(whole, part, axis, start, end, step)`.
pub(super) fn slice_scatter(
    operands: [ir::Value; 2],
    axis: usize,
    bounds: [&Dim; 2],
    step: usize,
) -> Template {
    let mut template = Template::default();
    let [whole, part] = operands.map(|value| tensor(template.operand(value)));
    let mut bound = |dim: &Dim| match dim.as_number() {
        Some(n) => tag("as_int", n),
        None => tag("as_sym_int", tag("as_name", template.size(dim))),
    };
    let [start, end] = bounds.map(&mut bound);
    let arguments = [
        ("self", whole),
        ("src", part),
        ("dim", tag("as_int", axis)),
        ("start", start),
        ("end", end),
        ("step", tag("as_int", step)),
    ];
    let inputs = arguments.map(|(name, arg)| json!({"name": name, "arg": arg}));
    let node = json!({
        "target": "torch.ops.aten.slice_scatter.default",
        "inputs": inputs,
        "outputs": [tensor("{=0}")],
    });
    template.text = node.to_string();
    template
}

/// An argument with places for the names in it.
fn argument(template: &mut Template, reader: &Reader<'_>, json: &Json) -> Eval<Json> {
    replaced(json, &mut |key, value| {
        Ok(Some(match (key, value) {
            ("name" | "as_name", Json::String(name)) => json!(match reader.slot(name)? {
                Slot::Tensor(cell) => template.operand(reader.read(cell)?),
                Slot::Run(value) => template.operand(*value),
                Slot::Size(dim) => template.size(dim),
            }),
            // A subgraph's names are its own.
            ("as_graph", graph) => graph.clone(),
            ("as_custom_obj", _) => {
                let help = "objects of classes in C++ are not read; export the model without them";
                return reader.fail("it takes a custom object", help);
            }
            _ => return Ok(None),
        }))
    })
}

/// Results with places for the names in them.
fn outputs(json: &[Json]) -> Eval<Json> {
    let mut results = 0usize..;
    replaced(&json!(json), &mut |key, value| match (key, value) {
        ("name" | "as_name", Json::String(_)) => {
            Ok(results.next().map(|n| json!(format!("{{={n}}}"))))
        }
        _ => Ok(None),
    })
}

/// What holds lists and fields, with some of the fields replaced, however deep.
fn replaced(json: &Json, field: &mut dyn FnMut(&str, &Json) -> Eval<Option<Json>>) -> Eval<Json> {
    Ok(match json {
        Json::Array(items) => {
            let items = items.iter().map(|item| replaced(item, field));
            Json::Array(items.collect::<Eval<_>>()?)
        }
        Json::Object(fields) => {
            let mut copy = Map::new();
            for (key, value) in fields {
                let value = match field(key, value)? {
                    Some(value) => value,
                    None => replaced(value, field)?,
                };
                copy.insert(key.clone(), value);
            }
            Json::Object(copy)
        }
        other => other.clone(),
    })
}

/// A template with its places filled: `name` gives what stands at one; `None` where there is no such place.
pub(super) fn fill(template: &str, name: &mut dyn FnMut(Place) -> Option<Json>) -> Option<Json> {
    fn walk(json: &mut Json, name: &mut dyn FnMut(Place) -> Option<Json>) -> Option<()> {
        match json {
            Json::Array(items) => items.iter_mut().try_for_each(|item| walk(item, name)),
            Json::Object(fields) => {
                // A size that became a number is no longer a name.
                if let Some(Json::String(text)) = fields.get("as_name")
                    && let Some(place) = Place::parse(text)
                {
                    let (key, value) = match name(place)? {
                        Json::String(name) => ("as_name", Json::String(name)),
                        number => ("as_int", number),
                    };
                    *fields = Map::from_iter([(key.to_owned(), value)]);
                    return Some(());
                }
                for (key, value) in fields.iter_mut() {
                    match (key.as_str(), &*value) {
                        ("name", Json::String(text)) => {
                            if let Some(place) = Place::parse(text) {
                                *value = name(place)?;
                            }
                        }
                        ("as_graph", _) => {}
                        _ => walk(value, name)?,
                    }
                }
                Some(())
            }
            _ => Some(()),
        }
    }
    let mut json = serde_json::from_str(template).ok()?;
    walk(&mut json, name)?;
    Some(json)
}

/// What to do about a template that is none.
pub(super) const NO_TEMPLATE: &str = DAMAGED;
