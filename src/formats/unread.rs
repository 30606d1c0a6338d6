//! State of a file that nothing reads: it stays beside what is read of its module, and where it is the network's own.

use rustc_hash::FxHashSet;

use crate::ir::{Graph, Role};

/// The modules of which a graph reads something, and the root.
pub(in crate::formats) struct Live<'g>(FxHashSet<&'g str>);

impl<'g> Live<'g> {
    pub fn of(graph: &'g Graph) -> Live<'g> {
        let constants = graph.nodes().filter(|node| graph.is_read(*node));
        let names = constants.filter_map(|node| {
            let constant = graph.constant(node).filter(|c| c.role != Role::Literal)?;
            let name = std::iter::once(&graph.node(node).name);
            Some(name.chain(&constant.aliases).map(|name| module(name)))
        });
        // The network itself is there, whatever it reads.
        Live(names.flatten().chain([""]).collect())
    }

    /// Whether state with this path stays.
    pub fn keeps(&self, path: &str) -> bool {
        self.0.contains(module(path))
    }
}

/// The path of the module that something with this path belongs to.
fn module(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(module, _)| module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_stays_beside_what_is_read_and_in_the_network_itself() {
        let graph: Graph = "graph net(%x: f32[2]) {
              @head.bias = parameter [1.0, 2.0] : f32[2]
              @tail.bias = parameter [1.0, 2.0] : f32[2]
              %y = add(%x, @head.bias)
              return %y
            }"
        .parse()
        .unwrap();
        let live = Live::of(&graph);
        let kept =
            ["head.steps", "steps", "tail.bias", "head.inner.bias"].map(|path| live.keeps(path));
        assert_eq!(kept, [true, true, false, false]);
    }
}
