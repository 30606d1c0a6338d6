//! Reading: from the program to a graph and the [`Source`] to write it back.

mod interface;

use indexmap::IndexMap;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value as Json;

use super::package::{Package, dtype, dtype_name, is_package};
use super::schema::{NamedArgument, Node, Program, TensorMeta, name_of};
use super::source::{Placeholder, ResultSlot, Source, State};
use super::symbolic::Symbols;
use crate::error::FormatError;
use crate::files::archive::{Archive, other_zip};
use crate::formats::aten::{Eval, Stop, TensorRef, is_written};
use crate::ir::{self, Bytes, DType, Dim, Dims, Graph, NodeId, Symbol, Type};

/// Whether these bytes are an archive of `torch.export.save`, or of what else PyTorch keeps in the same format.
pub(crate) fn recognises(bytes: &Bytes) -> bool {
    Archive::open(bytes.clone()).is_ok_and(|archive| is_package(&archive))
}

/// Reads an exported program.
pub(crate) fn read_bytes(bytes: Bytes) -> Result<(Graph, Source), FormatError> {
    let archive = Archive::open(bytes)?;
    if !is_package(&archive)
        && let Some(foreign) = other_zip(&archive)
    {
        return Err(FormatError::Foreign(foreign));
    }
    let package = Package::open(&archive)?;
    let mut reader = Reader::new(&package);
    match reader.all() {
        Ok(()) => reader.finish(),
        Err(Stop::Error(error)) => Err(error),
        // Nothing is learned of inputs whose types the file gives.
        Err(Stop::Restart) => Err(reader.error("it cannot be read in one go".to_owned(), DAMAGED)),
    }
}

/// What to do about a program that does not hold together.
pub(super) const DAMAGED: &str = "the file is damaged; export the model again";

/// What a name of the program stands for.
#[derive(Clone)]
pub(super) enum Slot {
    Tensor(TensorRef),
    /// A size of the inputs, or a number.
    Size(Dim),
    /// A number known only at run time: the result of an opaque operator.
    Run(ir::Value),
}

/// The state of reading one program.
pub(super) struct Reader<'p> {
    package: &'p Package<'p>,
    pub program: &'p Program,
    pub graph: Graph,
    pub symbols: Symbols,
    pub scalars: FxHashMap<(u64, DType), ir::Value>,
    slots: FxHashMap<&'p str, Slot>,
    /// The inputs as the program sees them.
    inputs: Vec<(NodeId, TensorRef)>,
    /// Symbols that are sizes of inputs, or follow from one.
    known: FxHashSet<Symbol>,
    /// Names that some node or output reads.
    read: FxHashSet<&'p str>,
    /// Modules that have modules inside.
    inner_modules: FxHashSet<&'p str>,
    /// The node being read.
    pub at: Option<usize>,
    origins: FxHashMap<NodeId, usize>,
    names: FxHashMap<ir::Value, &'p str>,
    /// How many nodes were to have a name.
    counts: FxHashMap<String, usize>,
    /// Nodes that did not get the name that they were to have, as it was taken.
    unnamed: Vec<(NodeId, String)>,
    placeholders: Vec<Placeholder>,
    state: IndexMap<String, State>,
    constants: Vec<(String, ir::Tensor)>,
    results: Vec<ResultSlot>,
}

impl<'p> Reader<'p> {
    fn new(package: &'p Package<'p>) -> Self {
        let program = &package.program;
        let calls = &program.graph_module.module_call_graph;
        let parent = |fqn: &'p str| fqn.rsplit_once('.').map_or("", |(parent, _)| parent);
        Reader {
            package,
            program,
            graph: Graph::new(network_name(program)),
            symbols: Symbols::default(),
            scalars: FxHashMap::default(),
            slots: FxHashMap::default(),
            inputs: Vec::new(),
            known: FxHashSet::default(),
            read: read_names(program),
            inner_modules: calls
                .iter()
                .filter(|call| !call.fqn.is_empty())
                .map(|call| parent(&call.fqn))
                .collect(),
            at: None,
            origins: FxHashMap::default(),
            names: FxHashMap::default(),
            counts: FxHashMap::default(),
            unnamed: Vec::new(),
            placeholders: Vec::new(),
            state: IndexMap::new(),
            constants: Vec::new(),
            results: Vec::new(),
        }
    }

    fn all(&mut self) -> Eval<()> {
        self.inputs()?;
        let program = self.program;
        for (i, node) in program.graph_module.graph.nodes.iter().enumerate() {
            self.at = Some(i);
            self.node(node)?;
        }
        self.at = None;
        self.outputs()
    }

    fn finish(mut self) -> Result<(Graph, Source), FormatError> {
        self.graph.remove_dead();
        for (id, name) in std::mem::take(&mut self.unnamed) {
            // What had it may be gone.
            if self.graph.get(id).is_some() && !self.graph.has_name(&name) {
                self.graph.rename(id, &name);
            }
        }
        let mut nodes = FxHashMap::default();
        let mut read = FxHashSet::default();
        for id in self.graph.nodes() {
            let name = &self.graph.node(id).name;
            if let Some(constant) = self.graph.constant(id) {
                read.insert(name.clone());
                read.extend(constant.aliases.iter().cloned());
            }
            if let Some(node) = self.origins.get(&id) {
                nodes.insert(name.clone(), *node);
            }
        }
        let mut names = FxHashMap::default();
        for (value, name) in self.names {
            if let Some(node) = self.graph.get(value.node) {
                names.insert((node.name.clone(), value.port), name.to_owned());
            }
        }
        let unread = self
            .constants
            .into_iter()
            .filter(|(name, _)| !read.contains(name.as_str()));
        let written = self.inputs.iter();
        let written = written.filter(|(node, cell)| is_written(cell, (*node).into()));
        let written_inputs = written
            .map(|(node, _)| self.graph.node(*node).name.to_string())
            .collect();
        let source = Source {
            path: Default::default(),
            container: self.package.container,
            model: self.package.model.clone(),
            program: self.program.clone(),
            placeholders: self.placeholders,
            state: self.state,
            unread: unread.collect(),
            results: self.results,
            symbols: self.symbols,
            nodes,
            names,
            written_inputs,
            extra: self.package.extra()?,
        };
        Ok((self.graph, source))
    }

    /// Where reading is, for messages.
    pub fn place(&self) -> String {
        let node = self
            .at
            .and_then(|at| self.program.graph_module.graph.nodes.get(at));
        match node {
            Some(node) => {
                let name = node
                    .outputs
                    .first()
                    .and_then(name_of)
                    .unwrap_or("without a name");
                format!("node `{name}` ({})", node.target)
            }
            None => "the graph's inputs and outputs".to_owned(),
        }
    }

    pub fn error(&self, what: String, help: &str) -> FormatError {
        FormatError::Program {
            what,
            at: self.place(),
            help: help.to_owned(),
        }
    }

    pub fn fail<T>(&self, what: impl Into<String>, help: &str) -> Eval<T> {
        Err(self.error(what.into(), help).into())
    }

    /// What a name stands for.
    pub fn slot(&self, name: &str) -> Eval<&Slot> {
        match self.slots.get(name) {
            Some(slot) => Ok(slot),
            None => self.fail(
                format!("it reads `{name}`, which nothing before it computes"),
                DAMAGED,
            ),
        }
    }

    /// Gives a name its meaning.
    pub fn bind(&mut self, name: &'p str, slot: Slot) -> Eval<()> {
        match self.slots.insert(name, slot) {
            None => Ok(()),
            Some(_) => self.fail(format!("`{name}` is computed twice"), DAMAGED),
        }
    }

    /// Whether some node or output reads this name.
    pub fn is_read(&self, name: &str) -> bool {
        self.read.contains(name)
    }

    /// Whether a parameter, buffer or constant has this name.
    pub fn is_state(&self, name: &str) -> bool {
        self.state.contains_key(name)
    }

    /// Whether a module has modules inside.
    pub fn has_modules(&self, path: &str) -> bool {
        self.inner_modules.contains(path)
    }

    /// Notes which node of the program one of the graph came from, and the name that it was to have.
    pub fn note(&mut self, id: NodeId, name: String) {
        if *self.graph.node(id).name != *name {
            self.unnamed.push((id, name));
        }
        if let Some(at) = self.at {
            self.origins.insert(id, at);
        }
    }

    /// A name that no node has had; a graph finds one too, but looks at all that were made of the same.
    pub fn unique(&mut self, name: &str) -> String {
        match self.counts.get_mut(name) {
            Some(count) => {
                *count += 1;
                format!("{name}.{}", *count - 1)
            }
            None => {
                self.counts.insert(name.to_owned(), 1);
                name.to_owned()
            }
        }
    }

    /// Notes under which name the program has a value.
    pub fn note_name(&mut self, value: ir::Value, name: &'p str) {
        if self.origins.get(&value.node).copied() == self.at {
            self.names.entry(value).or_insert(name);
        }
    }

    /// A size as the program writes it.
    pub fn size(&mut self, json: &Json) -> Option<Dim> {
        self.symbols.read_json(json)
    }

    /// Whether a size can be computed from the inputs' sizes.
    pub fn is_known(&self, dim: &Dim) -> bool {
        dim.symbols()
            .into_iter()
            .all(|symbol| self.known.contains(symbol))
    }

    /// What the program says that a tensor is.
    pub fn meta(&self, name: &str) -> Eval<&'p TensorMeta> {
        self.described(name).map(|(_, meta)| meta)
    }

    /// A name as the program itself holds it, and what it says of the tensor.
    fn described(&self, name: &str) -> Eval<(&'p str, &'p TensorMeta)> {
        let values = &self.program.graph_module.graph.tensor_values;
        match values.get_key_value(name) {
            Some((name, meta)) => Ok((name, meta)),
            None => self.fail(format!("nothing is said of the sizes of `{name}`"), DAMAGED),
        }
    }

    /// The type of a tensor of the program; one of an element type that there is not here is no tensor.
    pub fn ty(&mut self, name: &str) -> Eval<Type> {
        let meta = self.meta(name)?;
        let shape: Option<Dims> = meta.sizes.iter().map(|size| self.size(size)).collect();
        let Some(shape) = shape else {
            return self.fail(format!("the sizes of `{name}` are no sizes"), DAMAGED);
        };
        Ok(match dtype(meta) {
            Some(dtype) => Type::Tensor(dtype, Some(shape)),
            None => Type::Other(dtype_name(meta.dtype).into()),
        })
    }
}

/// The class of the network, from what the nodes say of the modules that they came from: `key,path,class;key,path,class`.
fn network_name(program: &Program) -> &str {
    fn class(node: &Node) -> Option<&str> {
        let stack = node.metadata.get("nn_module_stack")?.as_str()?;
        // The network itself has no path.
        let (_, class) = stack.split(';').next()?.split_once(",,")?;
        class.rsplit('.').next()
    }
    let nodes = &program.graph_module.graph.nodes;
    nodes.iter().find_map(class).unwrap_or("program")
}

/// All names that nodes and outputs read.
fn read_names(program: &Program) -> FxHashSet<&str> {
    fn visit<'p>(json: &'p Json, names: &mut FxHashSet<&'p str>) {
        match json {
            Json::Array(items) => items.iter().for_each(|item| visit(item, names)),
            Json::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), value) {
                        ("name" | "as_name", Json::String(name)) => {
                            names.insert(name);
                        }
                        // A subgraph's names are its own.
                        ("graph", _) => {}
                        _ => visit(value, names),
                    }
                }
            }
            _ => {}
        }
    }
    let mut names = FxHashSet::default();
    let graph = &program.graph_module.graph;
    for Node { inputs, .. } in &graph.nodes {
        for NamedArgument { arg, .. } in inputs {
            visit(arg, &mut names);
        }
    }
    graph
        .outputs
        .iter()
        .for_each(|output| visit(output, &mut names));
    names
}
