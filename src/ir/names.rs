//! Names of which no two are the same.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::graph::NodeId;

/// The names that are taken, each by a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    taken: FxHashMap<Arc<str>, NodeId>,
    /// For names that somebody wanted again, the first number that may be free behind them: thousands of operations are called
    /// alike where a loop was unrolled.
    suffixes: FxHashMap<Arc<str>, usize>,
}

impl Names {
    /// Whether a name is taken.
    pub fn contains(&self, name: &str) -> bool {
        self.taken.contains_key(name)
    }

    /// The node that has a name.
    pub fn find(&self, name: &str) -> Option<NodeId> {
        self.taken.get(name).copied()
    }

    /// `name`, or `name.1`, `name.2` .. if it is taken.
    pub fn fresh(&self, name: &str) -> Arc<str> {
        if self.contains(name) {
            self.numbered(name).0
        } else {
            name.into()
        }
    }

    /// Takes a fresh name for a node.
    pub fn claim(&mut self, name: &str, node: NodeId) -> Arc<str> {
        let mut claimed: Arc<str> = name.into();
        if self.contains(name) {
            let (numbered, n) = self.numbered(name);
            let name = std::mem::replace(&mut claimed, numbered);
            self.suffixes.insert(name, n + 1);
        }
        self.taken.insert(claimed.clone(), node);
        claimed
    }

    /// Gives a name that is taken to another node.
    pub fn give(&mut self, name: &Arc<str>, node: NodeId) {
        self.taken.insert(name.clone(), node);
    }

    /// Makes a name free again.
    pub fn release(&mut self, name: &str) {
        self.taken.remove(name);
        let parts = name.rsplit_once('.');
        if let Some((base, n)) = parts.and_then(|(base, n)| Some((base, n.parse::<usize>().ok()?)))
            && let Some(first) = self.suffixes.get_mut(base)
        {
            *first = n.min(*first);
        }
    }

    /// The first free name of this and a number, and the number.
    fn numbered(&self, name: &str) -> (Arc<str>, usize) {
        let mut n = self.suffixes.get(name).copied().unwrap_or(1);
        loop {
            let numbered = format!("{name}.{n}");
            if !self.contains(&numbered) {
                return (numbered.into(), n);
            }
            n += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_the_first_number_that_is_free() {
        let mut names = Names::default();
        assert_eq!(&*names.claim("relu.2", NodeId::default()), "relu.2");
        let claimed: Vec<_> = (0..4)
            .map(|_| names.claim("relu", NodeId::default()))
            .collect();
        assert_eq!(
            claimed.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["relu", "relu.1", "relu.3", "relu.4"]
        );
        names.release("relu.1");
        names.release("relu.3");
        assert_eq!(&*names.fresh("relu"), "relu.1");
        assert_eq!(&*names.claim("relu", NodeId::default()), "relu.1");
        assert_eq!(&*names.claim("relu", NodeId::default()), "relu.3");
        assert_eq!(&*names.claim("relu", NodeId::default()), "relu.5");
        names.release("relu");
        assert_eq!(&*names.claim("relu", NodeId::default()), "relu");
    }

    #[test]
    fn ten_thousands_of_operations_may_want_one_name() {
        let mut names = Names::default();
        const COUNT: usize = 100_000;
        let last = (0..=COUNT)
            .map(|_| names.claim("sigmoid", NodeId::default()))
            .last();
        assert_eq!(&*last.unwrap(), format!("sigmoid.{COUNT}"));
    }
}
