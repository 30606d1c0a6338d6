//! Nodes that the IR does not know: kept as they are, as text that can be read.
//!
//! The template is JSON: `{"op":"TopK","inputs":[0,1],"outputs":2,"attributes":{"axis":1}}`. Inputs are operands of the graph's
//! node, `null` where one is left out; outputs are a number, or such a list where one is left out. Values that subgraphs read
//! from outside are operands, too: `captures` says under which name. What is no number, text, or list of these is an attribute in
//! ONNX's own encoding, in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Map, Number, Value as Json, json};

use super::attributes::attribute;
use super::captures::{captured, graphs, graphs_mut};
use super::error::OnnxError;
use super::files::External;
use super::import::Importer;
use super::proto::{
    AttributeProto, AttributeType, EXTERNAL, GraphProto, NodeProto, SparseTensorProto, TensorProto,
};
use super::view::{View, decimal};
use super::{tensor, types};
use crate::formats::aten::Template;
use crate::ir::{Dialect, Value};

/// Adds a node as it is.
pub(super) fn import<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Result<(), OnnxError> {
    let node = view.node;
    let mut call = Template::default();
    let mut inputs = Vec::with_capacity(node.input.len());
    for name in &node.input {
        inputs.push(match name.as_str() {
            "" => Json::Null,
            name => json!(call.place(known(im, view, name)?)),
        });
    }
    let mut captures = Map::new();
    for name in captured(node) {
        let value = known(im, view, name)?;
        captures.insert(name.to_owned(), json!(call.place(value)));
    }
    let mut attributes = Map::new();
    for attribute in &node.attribute {
        let name = attribute.name.clone().unwrap_or_default();
        let inlined = inline_attribute(attribute, view.name(), &mut im.external)?;
        let text = print_attribute(inlined.as_ref().unwrap_or(attribute));
        if attributes.insert(name.clone(), text).is_some() {
            let what = format!("`{}` has the attribute `{name}` twice", view.name());
            return Err(OnnxError::damaged(what));
        }
    }
    let mut ports = 0u32..;
    let output = |name: &String| match name.as_str() {
        "" => Json::Null,
        _ => json!(ports.next()),
    };
    let outputs: Vec<Json> = node.output.iter().map(output).collect();
    let outputs = if outputs.iter().any(Json::is_null) {
        Json::Array(outputs)
    } else {
        json!(outputs.len())
    };
    let template = [
        ("op", json!(view.op())),
        ("domain", json!(node.domain())),
        ("overload", json!(node.overload())),
        ("inputs", Json::Array(inputs)),
        ("outputs", outputs),
        ("attributes", Json::Object(attributes)),
        ("captures", Json::Object(captures)),
    ];
    let left_out = |json: &Json| *json == json!("") || *json == json!({});
    let template = template.into_iter();
    let template = template.filter(|(key, json)| *key == "op" || !left_out(json));
    let template: Map<_, _> = template.map(|(key, json)| (key.to_owned(), json)).collect();
    call.text = Json::Object(template).to_string();
    let outputs = types::results(im, view, &call.operands);
    let domain = match node.domain() {
        "" | "ai.onnx" => "onnx",
        domain => domain,
    };
    let name = format!("{domain}::{}", view.op());
    let (op, operands) = call.opaque(Dialect::Onnx, &name, outputs.clone());
    let added = im.graph.add_typed_op(view.name(), op, &operands, outputs);
    let names = node.output.iter().filter(|name| !name.is_empty());
    im.values
        .extend(names.map(String::as_str).zip(im.graph.results(added)));
    Ok(())
}

/// A value that an opaque node reads: there, as what it reads was read before it.
fn known<'m>(im: &mut Importer<'m>, view: &View<'m>, name: &str) -> Result<Value, OnnxError> {
    im.value(name).ok_or_else(|| OnnxError::Undefined {
        reader: format!("`{}`", view.name()),
        name: name.to_owned(),
    })
}

/// A tensor that the graph cannot hold, as a node without operands.
pub(super) fn weight<'m>(
    im: &mut Importer<'m>,
    name: &'m str,
    proto: &TensorProto,
) -> Result<(), OnnxError> {
    let mut own = tensor::inlined(proto, name, &mut im.external)?;
    own.name = None;
    let attribute = AttributeProto {
        t: Some(Box::new(own)),
        ..attribute("value", AttributeType::Tensor)
    };
    constant(im, name, attribute, proto.data_type());
    Ok(())
}

/// A sparse tensor, as a node without operands.
pub(super) fn sparse_weight<'m>(im: &mut Importer<'m>, name: &'m str, proto: &SparseTensorProto) {
    let code = proto.values.as_ref().and_then(|v| v.data_type);
    let mut own = proto.clone();
    if let Some(values) = &mut own.values {
        values.name = None;
    }
    let attribute = AttributeProto {
        sparse_tensor: Some(Box::new(own)),
        ..attribute("sparse_value", AttributeType::SparseTensor)
    };
    constant(im, name, attribute, code.unwrap_or(0));
}

fn constant<'m>(im: &mut Importer<'m>, name: &'m str, attribute: AttributeProto, code: i32) {
    let key = attribute.name.clone().unwrap_or_default();
    let value = print_attribute(&attribute);
    let template =
        json!({"op": "Constant", "inputs": [], "outputs": 1, "attributes": {key: value}});
    let dims = attribute.sparse_tensor.as_ref().map(|t| &t.dims);
    let ty = match (tensor::dtype(code), dims) {
        (Some(dtype), Some(dims)) => {
            let shape = dims.iter().map(|n| crate::ir::Dim::from((*n).max(0)));
            crate::ir::Type::tensor(dtype, shape)
        }
        _ => crate::ir::Type::Other(tensor::other_name(code).into()),
    };
    let outputs: smallvec::SmallVec<[_; 1]> = smallvec::smallvec![ty];
    let call = Template {
        text: template.to_string(),
        ..Template::default()
    };
    let (op, _) = call.opaque(Dialect::Onnx, "onnx::Constant", outputs.clone());
    let node = im.graph.add_typed_op(name, op, &[], outputs);
    im.values.insert(name, node.into());
}

/// The attribute with the data of its tensors in itself; `None` if it has them all already.
fn inline_attribute(
    attribute: &AttributeProto,
    node: &str,
    external: &mut External,
) -> Result<Option<AttributeProto>, OnnxError> {
    if !has_elsewhere(attribute) {
        return Ok(None);
    }
    let mut own = attribute.clone();
    inline(&mut own, node, external)?;
    Ok(Some(own))
}

/// Whether a tensor among the attributes of a node, or within its subgraphs, has its data in another file.
pub(super) fn has_data_elsewhere(node: &NodeProto) -> bool {
    node.attribute.iter().any(has_elsewhere)
}

fn has_elsewhere(attribute: &AttributeProto) -> bool {
    let elsewhere = |t: &TensorProto| t.data_location == Some(EXTERNAL);
    let within = |graph: &GraphProto| {
        graph.initializer.iter().any(elsewhere) || graph.node.iter().any(has_data_elsewhere)
    };
    let mut tensors = attribute.t.as_deref().into_iter().chain(&attribute.tensors);
    tensors.any(elsewhere) || graphs(attribute).any(within)
}

fn inline(
    attribute: &mut AttributeProto,
    node: &str,
    external: &mut External,
) -> Result<(), OnnxError> {
    let tensors = attribute.t.iter_mut().map(|t| &mut **t);
    for proto in tensors.chain(&mut attribute.tensors) {
        *proto = tensor::inlined(proto, node, external)?;
    }
    for graph in graphs_mut(attribute) {
        for proto in &mut graph.initializer {
            let name = proto.name.clone().unwrap_or_default();
            *proto = tensor::inlined(proto, &name, external)?;
        }
        for attribute in graph.node.iter_mut().flat_map(|n| &mut n.attribute) {
            inline(attribute, node, external)?;
        }
    }
    Ok(())
}

/// An attribute as JSON: readable where that is exact.
fn print_attribute(attribute: &AttributeProto) -> Json {
    let number = |x: f32| Number::from_f64(decimal(x)).map(Json::Number);
    let text = |bytes: &bytes::Bytes| std::str::from_utf8(bytes).ok().map(|t| json!(t));
    let kind = attribute
        .r#type
        .and_then(|t| AttributeType::try_from(t).ok());
    let readable = match kind {
        Some(AttributeType::Int) => attribute.i.map(|n| json!(n)),
        Some(AttributeType::Float) => attribute.f.and_then(number),
        Some(AttributeType::String) => attribute.s.as_ref().and_then(text),
        Some(AttributeType::Ints) => Some(json!(attribute.ints)),
        Some(AttributeType::Floats) => { attribute.floats.iter() }
            .map(|x| number(*x))
            .collect::<Option<Vec<_>>>()
            .map(Json::Array),
        Some(AttributeType::Strings) => { attribute.strings.iter() }
            .map(text)
            .collect::<Option<Vec<_>>>()
            .map(Json::Array),
        _ => None,
    };
    let name = attribute.name();
    match readable {
        Some(json) if parse_attribute(name, &json).as_ref() == Ok(attribute) => json,
        _ => json!({"proto": STANDARD.encode(attribute.encode_to_vec())}),
    }
}

/// The attribute that a JSON value stands for.
fn parse_attribute(name: &str, json: &Json) -> Result<AttributeProto, String> {
    let mut attribute = AttributeProto {
        name: Some(name.to_owned()),
        ..AttributeProto::default()
    };
    let float = |n: &Json| n.as_f64().map(|x| x as f32);
    let kind = match json {
        Json::Number(n) if n.is_f64() => {
            attribute.f = float(json);
            AttributeType::Float
        }
        Json::Number(n) => {
            attribute.i = n.as_i64();
            AttributeType::Int
        }
        Json::String(text) => {
            attribute.s = Some(text.clone().into_bytes().into());
            AttributeType::String
        }
        Json::Array(items) if !items.is_empty() && items.iter().all(Json::is_f64) => {
            attribute.floats = items.iter().filter_map(float).collect();
            AttributeType::Floats
        }
        Json::Array(items) if items.iter().all(Json::is_i64) => {
            attribute.ints = items.iter().filter_map(Json::as_i64).collect();
            AttributeType::Ints
        }
        Json::Array(items) if items.iter().all(Json::is_string) => {
            let texts = items.iter().filter_map(Json::as_str);
            attribute.strings = texts.map(|t| t.to_owned().into_bytes().into()).collect();
            AttributeType::Strings
        }
        Json::Object(map) => {
            let proto = map.get("proto").and_then(Json::as_str);
            let bytes = proto.and_then(|text| STANDARD.decode(text).ok());
            let decoded = bytes.and_then(|bytes| AttributeProto::decode(&*bytes).ok());
            return decoded.ok_or_else(|| format!("the attribute `{name}` is not encoded as ONNX"));
        }
        _ => {
            return Err(format!(
                "the attribute `{name}` is of no type that ONNX has"
            ));
        }
    };
    attribute.r#type = Some(kind.into());
    Ok(attribute)
}

/// A node read from its template.
pub(super) struct Parsed {
    /// Without the names of operands and results.
    pub node: NodeProto,
    pub inputs: Vec<Option<usize>>,
    /// Which port each result is.
    pub outputs: Vec<Option<usize>>,
    /// Under which name subgraphs read which operand.
    pub captures: Vec<(String, usize)>,
}

/// Reads the template of an opaque node.
pub(super) fn parse(template: &str) -> Result<Parsed, String> {
    let json: Json = serde_json::from_str(template).map_err(|e| e.to_string())?;
    let text = |key: &str| json.get(key).and_then(Json::as_str).map(str::to_owned);
    let place = |json: &Json| match json {
        Json::Null => Ok(None),
        json => json
            .as_u64()
            .map(|n| Some(n as usize))
            .ok_or_else(|| format!("`{json}` is no operand")),
    };
    let list = |key: &str| match json.get(key) {
        Some(Json::Array(items)) => items.iter().map(place).collect(),
        Some(Json::Number(n)) => {
            let count = n.as_u64().filter(|n| *n < 1 << 16);
            let count = count.ok_or_else(|| format!("`{key}` is {n}"))?;
            Ok((0..count as usize).map(Some).collect())
        }
        _ => Err(format!("there are no `{key}`")),
    };
    let mut attribute = Vec::new();
    if let Some(Json::Object(map)) = json.get("attributes") {
        for (name, json) in map {
            attribute.push(parse_attribute(name, json)?);
        }
    }
    let mut captures = Vec::new();
    if let Some(Json::Object(map)) = json.get("captures") {
        for (name, json) in map {
            let operand = place(json)?.ok_or("a captured value is no operand")?;
            captures.push((name.clone(), operand));
        }
    }
    Ok(Parsed {
        node: NodeProto {
            op_type: Some(text("op").ok_or("there is no `op`")?),
            domain: text("domain"),
            overload: text("overload"),
            attribute,
            ..NodeProto::default()
        },
        inputs: list("inputs")?,
        outputs: list("outputs")?,
        captures,
    })
}
