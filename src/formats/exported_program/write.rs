//! Writing: a program and its archive from a graph, with what the original holds beside it.

mod nodes;
mod payload;
mod program;
mod sizes;
mod state;

use std::io::{Seek, Write};

use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Map, Value as Json, json};

use super::numbers;
use super::package::{CONSTANTS, Container, FLAT, WEIGHTS};
use super::schema::{Node, Program, STRIDED, TensorMeta, name_of, tag, tensor};
use super::source::{Placeholder, ResultSlot, Source};
use super::symbolic::{Symbols, constructor};
use crate::error::FormatError;
use crate::files::archive::ArchiveWriter;
use crate::formats::dtypes::names;
use crate::formats::identifiers::{RESERVED, identifier};
use crate::ir::{Dim, Graph, NodeId, Type, Value};
use payload::{payloads, saved};
use state::{Entry, Layout};

/// What messages call the format.
pub(super) const FORMAT: &str = "an ExportedProgram";
/// Writes a graph as the archive of an exported program whose root folder has the given name; in place of `source`, if it was
/// read from one.
pub(crate) fn write(
    graph: &Graph,
    source: Option<&Source>,
    root: &str,
    out: impl Write + Seek,
) -> Result<(), FormatError> {
    let mut writer = Writer::new(graph, source);
    writer.inputs()?;
    writer.nodes()?;
    let outputs = writer.outputs()?;
    let layout = std::mem::take(&mut writer.layout);
    let program = writer.program(&layout, outputs);
    let model = source.map_or("model", |source| &source.model);
    let container = source.map_or(Container::Entries { weights: "weights" }, |source| {
        source.container
    });
    let flat = container == Container::Flat;
    let mut archive = ArchiveWriter::new(out, if flat { "" } else { root });
    let lists = container.lists(model);
    for (list, folder, prefix, is_constant) in [
        (&lists[0], WEIGHTS, "weight_", false),
        (&lists[1], CONSTANTS, "tensor_", true),
    ] {
        let kept = |entry: &&Entry| entry.state.kind.is_constant() == is_constant;
        let entries = || layout.entries.iter().filter(kept);
        if !matches!(container, Container::Entries { .. }) {
            archive.entry(list, &saved(entries())?)?;
            continue;
        }
        let (config, tensors) = payloads(entries(), prefix, &writer);
        for (i, tensor) in tensors.iter().enumerate() {
            archive.entry(&format!("{folder}{prefix}{i}"), &tensor.bytes())?;
        }
        archive.entry(list, &json_bytes(&config)?)?;
    }
    let extra = source.map_or(&[][..], |source| &source.extra);
    for (name, bytes) in extra {
        archive.entry(name, bytes.as_ref())?;
    }
    if flat {
        archive.entry(FLAT, &numbers::unquoted(&json_bytes(&program)?))?;
        return archive.finish();
    }
    archive.entry(&format!("models/{model}.json"), &json_bytes(&program)?)?;
    if source.is_none() {
        // No example of an input.
        archive.entry(&format!("data/sample_inputs/{model}.pt"), b"")?;
    }
    archive.entry("archive_format", b"pt2")?;
    archive.entry("archive_version", b"0")?;
    archive.entry(".data/version", b"6\n")?;
    archive.entry("byteorder", b"little")?;
    archive.finish()
}

fn json_bytes(value: &impl serde::Serialize) -> Result<Vec<u8>, FormatError> {
    serde_json::to_vec(value).map_err(|error| unwritable(error.to_string()))
}

fn unwritable(what: String) -> FormatError {
    FormatError::unwritable(FORMAT, what)
}

fn mistake(what: String) -> FormatError {
    FormatError::mistake(FORMAT, what)
}

/// Functions of Python's that operators are called like; PyTorch makes code of the nodes, which may call them.
const BUILTINS: &str = "
    abs all any complex filter hash id input iter map max min next object pow range repr round set slice sorted sum type vars
    zip";

/// Fields that earlier versions do not know, and refuse.
#[derive(Clone, Copy)]
struct Fields {
    /// `kind` of arguments.
    kind: bool,
    /// `name` of nodes.
    name: bool,
    /// `is_hop_single_tensor_return` of nodes.
    single: bool,
}

impl Fields {
    const ALL: Fields = Fields {
        kind: true,
        name: true,
        single: true,
    };

    /// The fields that a program has.
    fn of(program: &Program) -> Fields {
        let nodes = &program.graph_module.graph.nodes;
        let has = |field: &str| nodes.iter().any(|node| node.other.contains_key(field));
        let mut arguments = nodes.iter().flat_map(|node| &node.inputs);
        Fields {
            kind: arguments.any(|argument| argument.other.contains_key("kind")),
            name: has("name"),
            single: has("is_hop_single_tensor_return"),
        }
    }
}

/// The state of writing one program.
struct Writer<'w> {
    graph: &'w Graph,
    source: Option<&'w Source>,
    /// Whether the program is one of the operators that decomposition leads to.
    core: bool,
    symbols: Symbols,
    /// Fields of nodes that not every version has, as of the program that was read.
    fields: Fields,
    /// Where the tensors are.
    device: Json,
    layout: Layout,
    /// The name of each value that has one.
    names: FxHashMap<Value, String>,
    taken: FxHashSet<String>,
    /// How many names were made of a name.
    counts: FxHashMap<String, usize>,
    /// Sizes that inputs have: which, and where.
    input_sizes: FxHashMap<Dim, (NodeId, usize)>,
    sizes: FxHashMap<Dim, String>,
    tensor_values: IndexMap<String, TensorMeta>,
    sym_int_values: IndexMap<String, Json>,
    nodes: Vec<Node>,
}

impl<'w> Writer<'w> {
    fn new(graph: &'w Graph, source: Option<&'w Source>) -> Self {
        let symbols =
            source.map_or_else(|| numbered_symbols(graph), |source| source.symbols.clone());
        let metas = source.map(|source| &source.program.graph_module.graph.tensor_values);
        let device = metas
            .and_then(|metas| metas.values().next())
            .map(|meta| meta.device.clone());
        let is_training = |name: &String| name == "TRAINING";
        let is_core = |source: &Source| !source.program.verifiers.iter().any(is_training);
        let reserved = RESERVED.split_ascii_whitespace();
        let reserved = reserved.chain(BUILTINS.split_ascii_whitespace());
        let mut taken: FxHashSet<String> = reserved.map(str::to_owned).collect();
        // Names that nodes keep are theirs.
        taken.extend(
            source
                .iter()
                .flat_map(|source| source.names.values().cloned()),
        );
        Writer {
            graph,
            source,
            core: source.is_some_and(is_core),
            symbols,
            fields: source.map_or(Fields::ALL, |source| Fields::of(&source.program)),
            device: device.unwrap_or_else(|| json!({"type": "cpu", "index": null})),
            layout: Layout::new(graph, source),
            names: FxHashMap::default(),
            taken,
            counts: FxHashMap::default(),
            input_sizes: input_sizes(graph),
            sizes: FxHashMap::default(),
            tensor_values: IndexMap::new(),
            sym_int_values: IndexMap::new(),
            nodes: Vec::new(),
        }
    }

    /// A name that nothing has yet.
    fn fresh(&mut self, name: &str) -> String {
        let base = identifier(name);
        let mut name = base.clone();
        let count = self.counts.entry(base.clone()).or_default();
        while !self.taken.insert(name.clone()) {
            *count += 1;
            name = format!("{base}_{count}");
        }
        name
    }

    /// What the program says of a tensor.
    fn meta(&self, ty: &Type, requires_grad: bool) -> Result<TensorMeta, FormatError> {
        let (Some(dtype), Some(shape)) = (ty.dtype(), ty.shape()) else {
            return Err(unwritable(format!(
                "the sizes of a tensor of type {ty} are not known"
            )));
        };
        let mut strides = Vec::new();
        let mut stride = Dim::from(1);
        for size in shape.iter().rev() {
            strides.push(self.size_json(&stride));
            // Other sizes are at least 1.
            if size.as_number() != Some(0) {
                stride = stride * size.clone();
            }
        }
        strides.reverse();
        Ok(TensorMeta {
            dtype: names(dtype).program,
            sizes: shape.iter().map(|size| self.size_json(size)).collect(),
            requires_grad,
            device: self.device.clone(),
            strides,
            storage_offset: tag("as_int", 0),
            layout: STRIDED,
            other: Map::new(),
        })
    }

    /// A size as a number or an expression, with its value in the example where that is known.
    fn size_json(&self, dim: &Dim) -> Json {
        if let Some(n) = dim.as_number() {
            return tag("as_int", n);
        }
        let mut expression = Map::new();
        expression.insert("expr_str".to_owned(), self.symbols.print(dim).into());
        if let Some(hint) = self.symbols.hint(dim) {
            expression.insert("hint".to_owned(), tag("as_int", hint));
        }
        tag("as_expr", expression)
    }

    /// Gives the inputs their names, those of the program first.
    fn inputs(&mut self) -> Result<(), FormatError> {
        let graph = self.graph;
        let mut names: Vec<Option<String>> = vec![None; graph.inputs().len()];
        if let Some(source) = self.source {
            let inputs = &source.program.graph_module.graph.inputs;
            for (placeholder, input) in source.placeholders.iter().zip(inputs) {
                let Some(name) = name_of(input).map(str::to_owned) else {
                    continue;
                };
                self.taken.insert(name.clone());
                match placeholder {
                    Placeholder::Input(i) => {
                        if let Some(slot) = names.get_mut(*i) {
                            *slot = Some(name);
                        }
                    }
                    Placeholder::Other => {
                        let values = &source.program.graph_module.graph.sym_int_values;
                        if let Some(value) = values.get(&name) {
                            let mut symbols = self.symbols.clone();
                            if let Some(dim) = symbols.read_json(value) {
                                self.sizes.insert(dim, name.clone());
                            }
                            self.sym_int_values.insert(name, value.clone());
                        }
                    }
                    Placeholder::State => {}
                }
            }
        }
        for (i, &input) in graph.inputs().iter().enumerate() {
            let name = match names[i].take() {
                Some(name) => name,
                None => self.fresh(&graph.node(input).name),
            };
            let meta = match self.original_meta(&name) {
                Some(meta) => meta.clone(),
                None => self.meta(graph.ty(input.into()), false)?,
            };
            self.tensor_values.insert(name.clone(), meta);
            self.names.insert(input.into(), name);
        }
        for i in 0..self.layout.entries.len() {
            let entry = &self.layout.entries[i];
            let (node, known) = (entry.node, entry.state.placeholder.clone());
            let (ty, grad) = (entry.tensor.ty(), entry.state.requires_grad);
            let wanted = format!("{}_{}", entry.letter(), entry.fqn);
            let name = match (known.is_empty(), entry.is_input) {
                (_, false) => continue,
                (false, true) => {
                    self.taken.insert(known.clone());
                    known
                }
                (true, true) => self.fresh(&wanted),
            };
            let meta = self.meta(&ty, grad)?;
            self.tensor_values.insert(name.clone(), meta);
            if let Some(node) = node {
                self.names.entry(node.into()).or_insert(name.clone());
            }
            self.layout.entries[i].state.placeholder = name;
        }
        Ok(())
    }

    fn original_meta(&self, name: &str) -> Option<&'w TensorMeta> {
        self.source?
            .program
            .graph_module
            .graph
            .tensor_values
            .get(name)
    }

    /// What the program returns, and what its signature says of it.
    fn outputs(&mut self) -> Result<Vec<Json>, FormatError> {
        let mut values = self.graph.outputs().iter();
        let own: Vec<ResultSlot> = self
            .graph
            .outputs()
            .iter()
            .map(|_| ResultSlot::Value)
            .collect();
        let slots = self.source.map_or(own, |source| source.results.clone());
        let mut outputs = Vec::new();
        for slot in slots {
            outputs.push(match slot {
                ResultSlot::Value => {
                    let output = values
                        .next()
                        .ok_or_else(|| mistake("an output is gone".to_owned()))?;
                    self.value_argument(output.value)?
                }
                ResultSlot::Size(dim) => self.size_argument(&dim, "the result")?,
                ResultSlot::Other(json) => json,
            });
        }
        Ok(outputs)
    }

    /// A value as an argument.
    fn value_argument(&self, value: Value) -> Result<Json, FormatError> {
        let name = self.name(value)?;
        Ok(match self.graph.ty(value) {
            Type::Other(kind) if kind.starts_with("sym_") => {
                tag(&format!("as_{kind}"), tag("as_name", name))
            }
            _ => tensor(name),
        })
    }

    fn name(&self, value: Value) -> Result<&str, FormatError> {
        self.names.get(&value).map(String::as_str).ok_or_else(|| {
            let name = &self.graph.node(value.node).name;
            mistake(format!("`{name}` is read before it is computed"))
        })
    }
}

/// The sizes of the inputs that are no numbers, and where each is found.
fn input_sizes(graph: &Graph) -> FxHashMap<Dim, (NodeId, usize)> {
    let mut sizes = FxHashMap::default();
    for &input in graph.inputs() {
        let shape = graph.ty(input.into()).shape();
        for (axis, dim) in shape.into_iter().flatten().enumerate() {
            if dim.as_number().is_none() {
                sizes.entry(dim.clone()).or_insert((input, axis));
            }
        }
    }
    sizes
}

/// The symbols of the inputs' sizes, under names as PyTorch has for them.
fn numbered_symbols(graph: &Graph) -> Symbols {
    let mut symbols = Symbols::default();
    let shapes = graph
        .inputs()
        .iter()
        .filter_map(|input| graph.ty((*input).into()).shape());
    for symbol in shapes.flatten().flat_map(Dim::symbols) {
        let name = constructor(&format!("s{}", symbols.constructors.len()));
        symbols.constructors.entry(symbol.clone()).or_insert(name);
    }
    symbols
}
