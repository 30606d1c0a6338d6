//! Which module holds which parameter.

use indexmap::IndexMap;
use rustc_hash::FxHashMap;

use crate::formats::identifiers::{identifier, is_identifier};
use crate::formats::torchscript::interface::Source;
use crate::formats::torchscript::value::print_str;
use crate::formats::unread::Live;
use crate::ir::{Graph, NodeId, Role, Tensor};

/// Where the constants of a graph go in the archive.
#[derive(Default)]
pub(in crate::formats::torchscript) struct Layout {
    /// Module by path, the root's empty; parents before children.
    pub modules: IndexMap<String, Module>,
    /// Attribute path of each parameter and buffer: how the code reads it.
    pub(super) places: FxHashMap<NodeId, String>,
}

/// A module to be written.
#[derive(Default)]
pub(in crate::formats::torchscript) struct Module {
    pub class: String,
    pub has_training: bool,
    pub tensors: IndexMap<String, Attribute>,
    /// Name and path of each submodule.
    pub children: IndexMap<String, String>,
}

/// A tensor as an attribute of a module.
pub(in crate::formats::torchscript) struct Attribute {
    pub role: Role,
    pub tensor: Tensor,
    pub requires_grad: bool,
}

impl Layout {
    /// Gives every constant that has a name in the state dict its place in the tree of modules.
    pub fn new(graph: &Graph, source: &Source) -> Self {
        let mut layout = Layout::default();
        layout.module("", source);
        let mut entries: Vec<(usize, String, Role, Tensor, Option<NodeId>)> = Vec::new();
        let place = |path: &str| source.order.get_index_of(path).unwrap_or(usize::MAX);
        for node in graph.nodes().filter(|node| graph.is_read(*node)) {
            let constant = graph.constant(node);
            let Some(constant) = constant.filter(|constant| constant.role != Role::Literal) else {
                continue;
            };
            let name = &graph.node(node).name;
            let aliases = constant.aliases.iter().map(|alias| {
                let role = source.order.get(&**alias).copied();
                (alias, role.unwrap_or(constant.role), None)
            });
            for (name, role, node) in
                std::iter::once((name, constant.role, Some(node))).chain(aliases)
            {
                let tensor = constant.tensor.clone();
                entries.push((place(name), name.to_string(), role, tensor, node));
            }
        }
        let live = Live::of(graph);
        let unread = source.unread.iter().filter(|(path, ..)| live.keeps(path));
        entries.extend(
            unread.map(|(path, role, t)| (place(path), path.clone(), *role, t.clone(), None)),
        );
        entries.sort_by_key(|(place, ..)| *place);
        for (_, path, role, tensor, node) in entries {
            let trained = role == Role::Parameter && !source.untrained.contains(&path);
            let requires_grad = trained && tensor.dtype().is_float();
            layout.insert(
                &path,
                Attribute {
                    role,
                    tensor,
                    requires_grad,
                },
                node,
                source,
            );
        }
        layout
    }

    pub(super) fn insert(
        &mut self,
        path: &str,
        attribute: Attribute,
        node: Option<NodeId>,
        source: &Source,
    ) {
        let (mut owner, mut name) = (parent(path).0.to_owned(), parent(path).1.to_owned());
        // A name that a pass made may run through a tensor (`conv.weight.1`): it then stands beside that tensor.
        while self.runs_through_tensor(&owner) {
            let (above, last) = parent(&owner);
            (owner, name) = (above.to_owned(), format!("{last}_{name}"));
        }
        self.module(&owner, source);
        let taken = |module: &Module, name: &str| {
            module.tensors.contains_key(name)
                || module.children.contains_key(name)
                || matches!(name, "" | "training" | "forward")
        };
        if let Some(module) = self.modules.get_mut(&owner) {
            while taken(module, &name) {
                name.push('_');
            }
            if let Some(node) = node {
                self.places.insert(node, access(&owner, &name));
            }
            module.tensors.insert(name, attribute);
        }
    }

    fn runs_through_tensor(&self, path: &str) -> bool {
        let dots = path.match_indices('.').map(|(at, _)| at);
        dots.chain([path.len()])
            .any(|end| self.is_tensor(&path[..end]))
    }

    fn is_tensor(&self, path: &str) -> bool {
        let (owner, name) = parent(path);
        !path.is_empty()
            && self
                .modules
                .get(owner)
                .is_some_and(|m| m.tensors.contains_key(name))
    }

    /// Makes the module at this path, and those above it.
    pub(super) fn module(&mut self, path: &str, source: &Source) {
        if self.modules.contains_key(path) {
            return;
        }
        let known = source.modules.get(path);
        let class = identifier(known.map_or("Module", |info| info.class.as_str()));
        let has_training = known.is_none_or(|info| info.has_training);
        if !path.is_empty() {
            let (above, name) = parent(path);
            self.module(above, source);
            if let Some(above) = self.modules.get_mut(above) {
                above.children.insert(name.to_owned(), path.to_owned());
            }
        }
        self.modules.insert(
            path.to_owned(),
            Module {
                class,
                has_training,
                ..Module::default()
            },
        );
    }
}

/// The module path and the attribute of a dotted path.
fn parent(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// The expression that reads an attribute.
fn access(module: &str, name: &str) -> String {
    let parts = module
        .split('.')
        .filter(|part| !part.is_empty())
        .chain([name]);
    parts.fold("self".to_owned(), |object, part| {
        if is_identifier(part) {
            format!("{object}.{part}")
        } else {
            format!("getattr({object}, {})", print_str(part))
        }
    })
}
