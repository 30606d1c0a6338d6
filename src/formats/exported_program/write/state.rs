//! Parameters, buffers and constants: which are written, under which names.

use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{Value as Json, json};

use crate::formats::exported_program::source::{Source, State, StateKind};
use crate::formats::identifiers::identifier;
use crate::formats::unread::Live;
use crate::ir::{Graph, NodeId, Role, Tensor};

/// What is in the archive.
#[derive(Default)]
pub(super) struct Layout {
    /// In the order of the program's inputs.
    pub entries: Vec<Entry>,
    /// Those that no constant of the graph is, by a hash of their content.
    unread: FxHashMap<u64, usize>,
    tensors: FxHashSet<String>,
    modules: FxHashSet<String>,
}

/// A tensor in the archive.
pub(super) struct Entry {
    pub fqn: String,
    pub state: State,
    pub tensor: Tensor,
    /// The constant of the graph; of tied ones, the first has it.
    pub node: Option<NodeId>,
    /// Whether it is an input of the program, as all but what the original did not have as one.
    pub is_input: bool,
}

impl Entry {
    /// What the names of such inputs begin with.
    pub fn letter(&self) -> &'static str {
        match self.state.kind {
            StateKind::Parameter => "p",
            StateKind::Buffer { .. } => "b",
            StateKind::Constant => "c",
        }
    }

    /// What the signature says of it.
    pub fn spec(&self) -> Json {
        let (arg, name) = (json!({"name": self.state.placeholder}), &self.fqn);
        match self.state.kind {
            StateKind::Parameter => json!({"parameter": {"arg": arg, "parameter_name": name}}),
            StateKind::Buffer { persistent } => {
                json!({"buffer": {"arg": arg, "buffer_name": name, "persistent": persistent}})
            }
            StateKind::Constant => {
                json!({"tensor_constant": {"arg": arg, "tensor_constant_name": name}})
            }
        }
    }
}

impl Layout {
    /// Gives every constant that is read a name in the archive.
    pub fn new(graph: &Graph, source: Option<&Source>) -> Layout {
        let mut layout = Layout::default();
        let mut waiting = Vec::new();
        let is_known = |name: &str| source.is_some_and(|source| source.state.contains_key(name));
        for node in graph.nodes() {
            let Some(constant) = graph.constant(node).filter(|_| graph.is_read(node)) else {
                continue;
            };
            // A number that stands in the calls that take it.
            if constant.role == Role::Literal
                && constant.tensor.shape().is_empty()
                && !is_known(&graph.node(node).name)
            {
                continue;
            }
            let names = std::iter::once(&graph.node(node).name).chain(&constant.aliases);
            for (i, name) in names.enumerate() {
                let entry = (
                    name.to_string(),
                    constant.tensor.clone(),
                    (i == 0).then_some(node),
                );
                match source.and_then(|source| source.state.get(&**name)) {
                    Some(state) => layout.add(entry, state.clone(), true),
                    None => waiting.push((entry, constant.role)),
                }
            }
        }
        if let Some(source) = source {
            layout.keep_unread(source, &Live::of(graph));
        }
        for ((name, tensor, node), role) in waiting {
            let kind = match role {
                Role::Parameter => StateKind::Parameter,
                Role::Buffer => StateKind::Buffer { persistent: true },
                Role::Literal => StateKind::Constant,
            };
            layout.add_new((name, tensor, node), kind);
        }
        let place = |entry: &Entry| {
            let group = match entry.state.kind {
                StateKind::Parameter => 0,
                StateKind::Buffer { .. } => 1,
                StateKind::Constant => 2,
            };
            let original = source.and_then(|source| source.state.get_index_of(&entry.fqn));
            (group, original.unwrap_or(usize::MAX))
        };
        layout.entries.sort_by_key(place);
        // Parameters change in training, numbers that are read as positions do not.
        let unread = |entry: &Entry| {
            entry.node.is_none() && entry.is_input && entry.state.kind != StateKind::Parameter
        };
        let entries = layout.entries.iter().enumerate();
        let unread = entries.filter(|(_, entry)| unread(entry));
        layout.unread = unread
            .map(|(i, entry)| (entry.tensor.content_hash(), i))
            .collect();
        layout
    }

    fn add(
        &mut self,
        (fqn, tensor, node): (String, Tensor, Option<NodeId>),
        state: State,
        is_input: bool,
    ) {
        let mut module = fqn.as_str();
        while let Some((parent, _)) = module.rsplit_once('.') {
            self.modules.insert(parent.to_owned());
            module = parent;
        }
        self.tensors.insert(fqn.clone());
        self.entries.push(Entry {
            fqn,
            state,
            tensor,
            node,
            is_input,
        });
    }

    /// Adds the state that nothing reads, and that stays.
    fn keep_unread(&mut self, source: &Source, live: &Live<'_>) {
        let unread = source.unread.iter();
        let mut unread: Vec<_> = unread.filter(|(fqn, _)| live.keeps(fqn)).collect();
        unread.sort_by_key(|(fqn, _)| *fqn);
        for (fqn, tensor) in unread {
            let entry = (fqn.clone(), tensor.clone(), None);
            match source.state.get(fqn) {
                Some(state) => self.add(entry, state.clone(), true),
                None => {
                    let state = State {
                        kind: StateKind::Buffer { persistent: true },
                        placeholder: String::new(),
                        requires_grad: false,
                    };
                    self.add(entry, state, false);
                }
            }
        }
    }

    /// A tensor of a pass's making, or of another format's.
    fn add_new(&mut self, (name, tensor, node): (String, Tensor, Option<NodeId>), kind: StateKind) {
        let mut fqn = match kind {
            StateKind::Constant => format!("constant_{}", identifier(&name)),
            _ => name.split('.').map(part).collect::<Vec<_>>().join("."),
        };
        // A name that a pass made may run through a tensor (`conv.weight.1`): it then stands beside that tensor.
        while let Some((owner, last)) = fqn
            .rsplit_once('.')
            .filter(|(owner, _)| self.tensors.contains(*owner))
        {
            fqn = format!("{owner}_{last}");
        }
        while self.tensors.contains(&fqn) || self.modules.contains(&fqn) {
            fqn.push('_');
        }
        let state = State {
            kind,
            placeholder: String::new(),
            requires_grad: kind == StateKind::Parameter && tensor.dtype().is_float(),
        };
        self.add((fqn, tensor, node), state, true);
    }

    /// A constant that a call needs, and whether it is new; the same elements are one, be it a buffer that nothing else reads.
    pub fn constant(&mut self, tensor: &Tensor) -> (usize, bool) {
        let hash = tensor.content_hash();
        if let Some(i) = self.unread.get(&hash).copied()
            && self.entries[i].tensor == *tensor
        {
            return (i, false);
        }
        self.add_new(
            ("index".to_owned(), tensor.clone(), None),
            StateKind::Constant,
        );
        self.unread.insert(hash, self.entries.len() - 1);
        (self.entries.len() - 1, true)
    }
}

/// A part of a name as an attribute may have it; PyTorch's own are numbers too.
fn part(name: &str) -> String {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
        name.to_owned()
    } else {
        identifier(name).trim_end_matches('_').to_owned()
    }
}
