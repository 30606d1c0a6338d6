//! Reading: from the mapped file to a graph and the [`Source`] to write it back.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

use prost::Message;
use rustc_hash::{FxHashMap, FxHashSet};

use super::captures::{captured, inner_names};
use super::error::OnnxError;
use super::files::{External, Mapped};
use super::import::Importer;
use super::proto::{
    DimensionValue, GraphProto, ModelProto, NodeProto, SparseTensorProto, TypeValue, ValueInfoProto,
};
use super::source::{Source, WeightInfo};
use super::{limits, opaque, tensor};
use crate::error::FormatError;
use crate::formats::{InputShape, ReadOptions};
use crate::ir::{Bytes, Dim, Graph, Type};

/// The oldest and the newest version of the operators that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 1..=28;

/// The suffix of such files.
pub(crate) const SUFFIX: &str = "onnx";

/// Whether these bytes are an ONNX model, by how they begin; a file that is called so is, unless it is an archive.
pub(crate) fn recognises(bytes: &[u8], suffix: &str) -> bool {
    is_onnx(bytes) || (suffix == SUFFIX && !bytes.starts_with(b"PK"))
}

/// Whether bytes look like an ONNX model: a message whose first field is the version of the format.
fn is_onnx(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [
            0x08,
            1..=30,
            0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72,
            ..
        ]
    )
}

/// Reads an ONNX file that is mapped.
pub(crate) fn read(
    map: Bytes,
    path: &Path,
    options: &ReadOptions,
) -> Result<(Graph, Source), FormatError> {
    let (graph, mut source) = read_with(&map, External::beside(path), options)?;
    source.path = Some(path.to_path_buf());
    source.files.insert(0, Mapped::over(map, path)?);
    Ok((graph, source))
}

/// Reads an ONNX model from memory, all of whose weights are in it.
pub(crate) fn read_bytes(
    bytes: Bytes,
    options: &ReadOptions,
) -> Result<(Graph, Source), FormatError> {
    Ok(read_with(&bytes, External::default(), options)?)
}

fn read_with(
    map: &Bytes,
    external: External,
    options: &ReadOptions,
) -> Result<(Graph, Source), OnnxError> {
    limits::check(map.as_ref())?;
    // Messages share the map, so that weights are never copied.
    let shared = bytes::Bytes::from_owner(map.clone());
    let mut model = ModelProto::decode(shared).map_err(|error| {
        let text = error.to_string();
        OnnxError::damaged(if text.contains("recursion limit") {
            "messages lie within each other more deeply than any model needs".to_owned()
        } else {
            text
        })
    })?;
    let Some(graph) = model.graph.take() else {
        return Err(OnnxError::damaged("it has no graph"));
    };
    let opset = opset(&model, &graph)?;
    let (result, mut source) = import_model(&model, &graph, opset, map, external, options)?;
    source.opset = opset;
    model.graph = Some(GraphProto {
        node: Vec::new(),
        initializer: Vec::new(),
        sparse_initializer: Vec::new(),
        value_info: Vec::new(),
        ..graph
    });
    source.model = model;
    Ok((result, source))
}

fn import_model(
    model: &ModelProto,
    graph: &GraphProto,
    opset: i64,
    map: &Bytes,
    external: External,
    options: &ReadOptions,
) -> Result<(Graph, Source), OnnxError> {
    let name = graph.name();
    let mut im = Importer::new(name, opset, external);
    for function in &model.functions {
        let domain = function.domain();
        let name = function.name();
        im.functions.insert((domain, name));
        let named = function.node.iter().flat_map(|n| &n.output);
        im.source
            .inner
            .extend(named.chain(&function.input).cloned());
    }
    inner_names(&graph.node, &mut im.source.inner);
    // Before, every initializer had to be an input, too.
    let overridable = model.ir_version() >= 4;
    import(&mut im, graph, map, overridable, options)?;
    im.graph.remove_dead();
    im.keep_constants();
    im.external.check_overlaps()?;
    for info in graph
        .value_info
        .iter()
        .chain(&graph.input)
        .chain(&graph.output)
    {
        let name = info.name();
        let value = im.values.get(name);
        let ty = value.and_then(|v| im.graph.get(v.node)?.outputs.get(v.port as usize));
        if let Some(ty) = ty.cloned() {
            im.source.values.insert(name.into(), (info.clone(), ty));
        }
    }
    let mut source = im.source;
    source.external = !im.external.files.is_empty();
    source.files = im
        .external
        .files
        .into_iter()
        .map(|(_, file)| file)
        .collect();
    Ok((im.graph, source))
}

/// The version of ONNX's own operators.
fn opset(model: &ModelProto, graph: &GraphProto) -> Result<i64, OnnxError> {
    let own = |domain: Option<&str>| matches!(domain, None | Some("" | "ai.onnx"));
    let imports = model.opset_import.iter();
    let version = imports
        .filter(|import| own(import.domain.as_deref()))
        .filter_map(|import| import.version)
        .max();
    let version = match version {
        Some(version) => version,
        None if graph.node.iter().any(|n| own(n.domain.as_deref())) => {
            return Err(OnnxError::NoOpset);
        }
        None => 1,
    };
    let (least, most) = (*OPSETS.start(), *OPSETS.end());
    if OPSETS.contains(&version) {
        Ok(version)
    } else {
        Err(OnnxError::Opset {
            version,
            least,
            most,
            help: "convert the model: onnx.version_converter.convert_version(model, 20)",
        })
    }
}

fn import<'m>(
    im: &mut Importer<'m>,
    graph: &'m GraphProto,
    map: &Bytes,
    overridable: bool,
    options: &ReadOptions,
) -> Result<(), OnnxError> {
    let weights = weight_names(graph)?;
    let defined = defined_names(graph, &weights)?;
    im.names.clone_from(&defined);
    note_use(im, graph);
    inputs(im, graph, &weights, options);
    for proto in &graph.initializer {
        let name = proto.name();
        im.source.weights.insert(name.into(), WeightInfo::of(proto));
        match tensor::tensor(proto, name, Some(map), &mut im.external)? {
            Some(tensor) if overridable && im.source.weight_inputs.contains_key(name) => {
                im.overridable(name, tensor);
            }
            Some(tensor) => {
                if !im.read.contains(name) {
                    im.source.unread.push(name.into());
                }
                im.weight(name, tensor);
            }
            None => opaque::weight(im, name, proto)?,
        }
    }
    for proto in &graph.sparse_initializer {
        opaque::sparse_weight(im, sparse_name(proto), proto);
    }
    for node in ordered(&graph.node, &defined)? {
        im.node(node)?;
    }
    let mut outputs: FxHashSet<&str> = FxHashSet::default();
    for info in &graph.output {
        let name = info.name();
        let value = im.value(name).ok_or_else(|| OnnxError::Undefined {
            reader: "the model".to_owned(),
            name: name.to_owned(),
        })?;
        add_name(&mut outputs, name)?;
        im.graph.add_output(name, value);
    }
    Ok(())
}

/// Adds a name that no value may have yet.
fn add_name<'m>(names: &mut FxHashSet<&'m str>, name: &'m str) -> Result<(), OnnxError> {
    if names.insert(name) {
        Ok(())
    } else {
        Err(OnnxError::Duplicate {
            name: name.to_owned(),
        })
    }
}

fn sparse_name(proto: &SparseTensorProto) -> &str {
    proto.values.as_ref().map_or("", |values| values.name())
}

/// The names of initializers.
fn weight_names(graph: &GraphProto) -> Result<FxHashSet<&str>, OnnxError> {
    let mut weights = FxHashSet::default();
    let tensors = graph.initializer.iter().map(|proto| proto.name());
    let sparse = graph.sparse_initializer.iter().map(sparse_name);
    for name in tensors.chain(sparse) {
        add_name(&mut weights, name)?;
    }
    Ok(weights)
}

/// The names of all values.
fn defined_names<'m>(
    graph: &'m GraphProto,
    weights: &FxHashSet<&'m str>,
) -> Result<FxHashSet<&'m str>, OnnxError> {
    let mut defined = FxHashSet::default();
    for info in &graph.input {
        add_name(&mut defined, info.name())?;
    }
    defined.extend(weights);
    let results = graph.node.iter().flat_map(|node| &node.output);
    for name in results.filter(|name| !name.is_empty()) {
        add_name(&mut defined, name)?;
    }
    Ok(defined)
}

/// Notes what the file says of the types of values, and who reads which.
fn note_use<'m>(im: &mut Importer<'m>, graph: &'m GraphProto) {
    for info in graph.value_info.iter().chain(&graph.output) {
        if let (Some(name), Some(ty)) = (info.name.as_deref(), &info.r#type) {
            im.declared.insert(name, ty);
        }
    }
    im.returned
        .extend(graph.output.iter().filter_map(|o| o.name.as_deref()));
    for node in &graph.node {
        let inputs = node.input.iter().map(String::as_str);
        for name in inputs.chain(captured(node)) {
            if !im.read.insert(name) || im.returned.contains(name) {
                im.shared.insert(name);
            }
        }
    }
    im.read.extend(&im.returned);
}

/// Adds the inputs that are no initializers.
fn inputs<'m>(
    im: &mut Importer<'m>,
    graph: &'m GraphProto,
    weights: &FxHashSet<&str>,
    options: &ReadOptions,
) {
    let is_weight = |info: &&ValueInfoProto| weights.contains(info.name());
    let (weight_inputs, inputs): (Vec<_>, Vec<_>) = graph.input.iter().partition(is_weight);
    for info in weight_inputs {
        im.source
            .weight_inputs
            .insert(info.name().into(), info.clone());
    }
    let given = options.shapes_of(inputs.iter().map(|info| info.name()));
    im.loose = loose_names(&inputs, &given);
    for (info, given) in inputs.into_iter().zip(given) {
        let name = info.name();
        let ty = match &info.r#type {
            Some(ty) => im.type_of(ty, name),
            None => Type::Other(super::types::UNKNOWN.into()),
        };
        let ty = given_rank(im, name, ty, given);
        im.input(name, ty);
    }
}

/// The type of an input without a shape, with as many dimensions as `--input` gives it.
fn given_rank<'m>(im: &mut Importer<'m>, name: &str, ty: Type, given: Option<&InputShape>) -> Type {
    let (Type::Tensor(dtype, None), Some(given)) = (&ty, given) else {
        return ty;
    };
    let size = |axis| im.fresh_size(&format!("{name}.{axis}"));
    let dims: Vec<Dim> = (0..given.shape.len()).map(size).collect();
    Type::tensor(*dtype, dims)
}

/// The texts of sizes to which `given` gives several numbers: a runtime takes a shared name for no more than a hint.
fn loose_names<'m>(
    inputs: &[&'m ValueInfoProto],
    given: &[Option<&InputShape>],
) -> FxHashSet<&'m str> {
    let mut numbers: FxHashMap<&str, usize> = FxHashMap::default();
    let mut loose = FxHashSet::default();
    for (info, given) in inputs.iter().zip(given) {
        let ty = info.r#type.as_ref().and_then(|ty| ty.value.as_ref());
        let (Some(TypeValue::Tensor(ty)), Some(given)) = (ty, given) else {
            continue;
        };
        let dims = ty.shape.iter().flat_map(|shape| &shape.dim);
        for (dim, n) in dims.zip(&given.shape) {
            if let Some(DimensionValue::DimParam(text)) = &dim.value
                && *numbers.entry(text).or_insert(*n) != *n
            {
                loose.insert(text.as_str());
            }
        }
    }
    loose
}

/// The nodes in an order in which each comes after what it reads; the file's own, where it is one.
fn ordered<'m>(
    nodes: &'m [NodeProto],
    defined: &FxHashSet<&'m str>,
) -> Result<Vec<&'m NodeProto>, OnnxError> {
    let mut makers: FxHashMap<&str, usize> = FxHashMap::default();
    for (i, node) in nodes.iter().enumerate() {
        makers.extend(node.output.iter().map(|name| (name.as_str(), i)));
    }
    let mut waits = vec![0usize; nodes.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        let inputs = node.input.iter().map(String::as_str).chain(captured(node));
        for name in inputs.filter(|name| !name.is_empty()) {
            if !defined.contains(name) {
                let mut reader = [&node.name, &node.op_type].into_iter().flatten();
                let reader = reader.find(|text| !text.is_empty());
                return Err(OnnxError::Undefined {
                    reader: reader.map_or("a node".to_owned(), |text| format!("`{text}`")),
                    name: name.to_owned(),
                });
            }
            if let Some(maker) = makers.get(name) {
                waits[i] += 1;
                readers[*maker].push(i);
            }
        }
    }
    let ready = waits.iter().enumerate().filter(|(_, n)| **n == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = ready.map(|(i, _)| Reverse(i)).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = ready.pop() {
        order.push(&nodes[i]);
        for reader in std::mem::take(&mut readers[i]) {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    match waits.iter().position(|n| *n > 0) {
        Some(i) => Err(OnnxError::Cycle {
            name: nodes[i]
                .output
                .iter()
                .find(|n| !n.is_empty())
                .cloned()
                .unwrap_or_default(),
        }),
        None => Ok(order),
    }
}
