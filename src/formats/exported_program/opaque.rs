//! Operators that the IR does not know: nodes that carry the program's own, as JSON with places.
//!
//! Where the program has the name of a value, the template has a place: `{0}` for an operand, `{$0}` for a size that is computed
//! from the inputs' sizes, `{=0}` for a result. Braces of JSON are followed by a quote or close, so the two are not confused.

use serde_json::{Map, Value as Json};

use super::read::{DAMAGED, Reader, Slot};
use super::schema::{Node, tag};
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
        let mut fields = Map::new();
        let name = match (view, input.name.as_str()) {
            (true, "size") => "shape",
            (_, name) => name,
        };
        fields.insert("name".to_owned(), name.into());
        fields.insert(
            "arg".to_owned(),
            argument(&mut template, reader, &input.arg)?,
        );
        fields.extend(input.other.clone());
        inputs.push(Json::Object(fields));
    }
    let mut results = 0;
    let outputs = node.outputs.iter().map(|json| output(json, &mut results));
    let outputs = outputs.collect();
    let mut fields = Map::new();
    let target = if view {
        "torch.ops.aten.reshape.default"
    } else {
        target
    };
    fields.insert("target".to_owned(), target.into());
    fields.insert("inputs".to_owned(), Json::Array(inputs));
    fields.insert("outputs".to_owned(), Json::Array(outputs));
    // The name of the node is that of its result.
    let others = node
        .other
        .iter()
        .filter(|(key, value)| *key != "name" && !value.is_null());
    fields.extend(others.map(|(key, value)| (key.clone(), value.clone())));
    template.text = Json::Object(fields).to_string();
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
    let mut tensor = |value| tag("as_tensor", tag("name", template.operand(value)));
    let [whole, part] = operands.map(&mut tensor);
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
    let inputs = arguments.map(|(name, arg)| serde_json::json!({"name": name, "arg": arg}));
    let node = serde_json::json!({
        "target": "torch.ops.aten.slice_scatter.default",
        "inputs": inputs,
        "outputs": [tag("as_tensor", tag("name", "{=0}"))],
    });
    template.text = node.to_string();
    template
}

/// An argument with places for the names in it.
fn argument(template: &mut Template, reader: &Reader<'_>, json: &Json) -> Eval<Json> {
    Ok(match json {
        Json::Array(items) => {
            let items = items.iter().map(|item| argument(template, reader, item));
            Json::Array(items.collect::<Eval<_>>()?)
        }
        Json::Object(fields) => {
            let mut copy = Map::new();
            for (key, value) in fields {
                let value = match (key.as_str(), value) {
                    ("name" | "as_name", Json::String(name)) => match reader.slot(name)? {
                        Slot::Tensor(cell) => template.operand(reader.read(cell)?).into(),
                        Slot::Run(value) => template.operand(*value).into(),
                        Slot::Size(dim) => template.size(dim).into(),
                    },
                    // A subgraph's names are its own.
                    ("as_graph", graph) => graph.clone(),
                    ("as_custom_obj", _) => {
                        let help =
                            "objects of classes in C++ are not read; export the model without them";
                        return reader.fail("it takes a custom object", help);
                    }
                    (_, value) => argument(template, reader, value)?,
                };
                copy.insert(key.clone(), value);
            }
            Json::Object(copy)
        }
        other => other.clone(),
    })
}

/// A result with places for the names in it.
fn output(json: &Json, results: &mut usize) -> Json {
    match json {
        Json::Array(items) => Json::Array(items.iter().map(|item| output(item, results)).collect()),
        Json::Object(fields) => {
            let mut result = |(key, value): (&String, &Json)| {
                let value = match (key.as_str(), value) {
                    ("name" | "as_name", Json::String(_)) => {
                        *results += 1;
                        format!("{{={}}}", *results - 1).into()
                    }
                    (_, value) => output(value, results),
                };
                (key.clone(), value)
            };
            Json::Object(fields.iter().map(&mut result).collect())
        }
        other => other.clone(),
    }
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
