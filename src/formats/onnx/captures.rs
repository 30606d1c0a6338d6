//! Values that a subgraph reads from the graph around it.

use indexmap::IndexSet;
use rustc_hash::{FxHashMap, FxHashSet};

use super::proto::{AttributeProto, GraphProto, NodeProto};

/// The graphs in an attribute.
pub(super) fn graphs(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attribute.g.as_deref().into_iter().chain(&attribute.graphs)
}

/// The same, to be changed.
pub(super) fn graphs_mut(attribute: &mut AttributeProto) -> impl Iterator<Item = &mut GraphProto> {
    let own = attribute.g.iter_mut().map(|g| &mut **g);
    own.chain(&mut attribute.graphs)
}

/// The names that a graph itself gives to values.
fn defined(graph: &GraphProto) -> FxHashSet<&str> {
    let inputs = graph.input.iter().filter_map(|info| info.name.as_deref());
    let weights = graph.initializer.iter().filter_map(|t| t.name.as_deref());
    let sparse = graph.sparse_initializer.iter();
    let sparse = sparse.filter_map(|t| t.values.as_ref()?.name.as_deref());
    let results = graph
        .node
        .iter()
        .flat_map(|n| n.output.iter().map(String::as_str));
    inputs.chain(weights).chain(sparse).chain(results).collect()
}

/// The names that the subgraphs of a node read from outside, in order of first use.
pub(super) fn captured(node: &NodeProto) -> IndexSet<&str> {
    let mut names = IndexSet::new();
    for graph in node.attribute.iter().flat_map(graphs) {
        free(graph, &mut names);
    }
    names
}

fn free<'p>(graph: &'p GraphProto, names: &mut IndexSet<&'p str>) {
    let defined = defined(graph);
    let mut used = IndexSet::new();
    for node in &graph.node {
        used.extend(node.input.iter().map(String::as_str));
        for graph in node.attribute.iter().flat_map(graphs) {
            free(graph, &mut used);
        }
    }
    used.extend(graph.output.iter().filter_map(|info| info.name.as_deref()));
    let outside = |name: &&str| !name.is_empty() && !defined.contains(name);
    names.extend(used.into_iter().filter(outside));
}

/// Every name that is used within the subgraphs of a node.
pub(super) fn inner_names(nodes: &[NodeProto], names: &mut FxHashSet<String>) {
    for graph in { nodes.iter() }.flat_map(|n| n.attribute.iter().flat_map(graphs)) {
        names.extend(defined(graph).into_iter().map(str::to_owned));
        inner_names(&graph.node, names);
    }
}

/// Whether a subgraph of the node has a value of its own that is called this.
pub(super) fn defines(node: &NodeProto, name: &str) -> bool {
    let mut names = FxHashSet::default();
    inner_names(std::slice::from_ref(node), &mut names);
    names.contains(name)
}

/// Gives the outside values that the subgraphs of a node read other names.
pub(super) fn rename(node: &mut NodeProto, names: &FxHashMap<String, String>) {
    for graph in node.attribute.iter_mut().flat_map(graphs_mut) {
        rename_in(graph, names);
    }
}

fn rename_in(graph: &mut GraphProto, names: &FxHashMap<String, String>) {
    let defined: FxHashSet<String> = defined(graph).into_iter().map(str::to_owned).collect();
    let names: FxHashMap<String, String> = names
        .iter()
        .filter(|(from, _)| !defined.contains(*from))
        .map(|(from, to)| (from.clone(), to.clone()))
        .collect();
    if names.is_empty() {
        return;
    }
    let replace = |name: &mut String| {
        if let Some(to) = names.get(name) {
            *name = to.clone();
        }
    };
    for node in &mut graph.node {
        node.input.iter_mut().for_each(replace);
        rename(node, &names);
    }
    for output in &mut graph.output {
        output.name.iter_mut().for_each(replace);
    }
}
