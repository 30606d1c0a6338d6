//! The cheapest choice, by dynamic programming from the roots down.
//!
//! Classes are decided in an order in which readers come before what they read, those that can be on a cycle together at
//! once. After each step all that matters of the decisions so far is which undecided classes they need: of the choices that
//! need the same, the cheapest is kept, and of two where one needs no more and costs no more, that one. A network is a chain
//! of layers with a few values alive between them, so that there are few such sets however long the chain is.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::{Candidate, Choice, Cost, Problem};

/// Undecided classes that a choice needs.
type Needed = BTreeSet<usize>;

/// What is chosen down to some class.
struct State {
    needed: Needed,
    cost: Cost,
    decided: Link,
}

/// The terms chosen so far, newest first, shared between the states that have them in common.
type Link = Option<Rc<Decided>>;

struct Decided {
    class: usize,
    term: usize,
    before: Link,
}

/// A way to decide classes of a group.
struct Way {
    cost: Cost,
    /// Classes that it needs: while it is made, those of the group too.
    needed: Needed,
    /// Class and term.
    terms: Vec<(usize, usize)>,
}

/// Steps that are left until the search is given up: unlike time, the same on every run. A step is a class looked at.
struct Budget(u64);

impl Budget {
    fn spend(&mut self, steps: usize) -> Option<()> {
        self.0 = self.0.checked_sub(steps as u64)?;
        Some(())
    }
}

impl Problem {
    /// The cheapest choice; `None` if there is none, or if finding it takes more than so many steps, of which a
    /// second has a few million.
    pub fn optimum(&self, steps: u64) -> Option<Choice> {
        let mut budget = Budget(steps);
        let mut states = vec![State {
            needed: self.roots.iter().copied().collect(),
            cost: 0,
            decided: None,
        }];
        for group in self.groups() {
            let mut ways: BTreeMap<Needed, Vec<Way>> = BTreeMap::new();
            let mut next: BTreeMap<Needed, (Cost, Link)> = BTreeMap::new();
            for State {
                needed,
                cost,
                decided,
            } in states
            {
                let wanted: Needed = needed.intersection(&group).copied().collect();
                if !ways.contains_key(&wanted) {
                    ways.insert(wanted.clone(), self.ways(&group, &wanted, &mut budget)?);
                }
                let rest: Needed = needed.difference(&group).copied().collect();
                for way in &ways[&wanted] {
                    budget.spend(rest.len() + way.needed.len())?;
                    let needed: Needed = rest.union(&way.needed).copied().collect();
                    let cost = cost + way.cost;
                    if next.get(&needed).is_none_or(|(known, _)| cost < *known) {
                        let link = |before, &(class, term): &(usize, usize)| {
                            Some(Rc::new(Decided {
                                class,
                                term,
                                before,
                            }))
                        };
                        let decided = way.terms.iter().fold(decided.clone(), link);
                        next.insert(needed, (cost, decided));
                    }
                }
            }
            states = cheapest(next, &mut budget)?;
        }
        // Nothing is left to decide, so the cheapest state is the only one.
        let State {
            cost, mut decided, ..
        } = states.pop()?;
        let mut term = vec![usize::MAX; self.classes.len()];
        while let Some(link) = decided {
            term[link.class] = link.term;
            decided = link.before.clone();
        }
        Some(Choice { term, cost })
    }

    /// Classes that can be on a cycle together, readers before what they read.
    fn groups(&self) -> Vec<BTreeSet<usize>> {
        let mut graph = DiGraph::<(), ()>::new();
        for _ in &self.classes {
            graph.add_node(());
        }
        for (class, all) in self.classes.iter().enumerate() {
            for child in all.iter().flat_map(|c| &c.children) {
                graph.update_edge(NodeIndex::new(class), NodeIndex::new(*child), ());
            }
        }
        let groups: Vec<BTreeSet<usize>> = tarjan_scc(&graph)
            .into_iter()
            .map(|group| group.into_iter().map(NodeIndex::index).collect())
            .collect();
        let mut group_of = vec![0; self.classes.len()];
        for (i, group) in groups.iter().enumerate() {
            group.iter().for_each(|class| group_of[*class] = i);
        }
        let reads = |group: &BTreeSet<usize>| -> BTreeSet<usize> {
            let terms = group.iter().flat_map(|class| &self.classes[*class]);
            let children = terms
                .flat_map(|c| &c.children)
                .map(|child| group_of[*child]);
            children.collect()
        };
        let mut reads: Vec<BTreeSet<usize>> = groups.iter().map(reads).collect();
        let mut readers = vec![0; groups.len()];
        for (i, reads) in reads.iter_mut().enumerate() {
            reads.remove(&i);
            reads.iter().for_each(|child| readers[*child] += 1);
        }
        // Of those whose readers are all decided, the one that adds the fewest classes that may be needed: what is read by
        // few is decided soon, and the sets stay small.
        let mut ready: BTreeSet<usize> = (0..groups.len()).filter(|i| readers[*i] == 0).collect();
        let mut seen = vec![false; groups.len()];
        let mut order = Vec::new();
        while let Some(i) = ready.iter().copied().min_by_key(|i| {
            let new = reads[*i].iter().filter(|child| !seen[**child]);
            new.count()
        }) {
            ready.remove(&i);
            order.push(i);
            for child in &reads[i] {
                seen[*child] = true;
                readers[*child] -= 1;
                if readers[*child] == 0 {
                    ready.insert(*child);
                }
            }
        }
        order.into_iter().map(|i| groups[i].clone()).collect()
    }

    /// The ways to decide the `wanted` classes of a group, and those of it that these need.
    fn ways(
        &self,
        group: &BTreeSet<usize>,
        wanted: &Needed,
        budget: &mut Budget,
    ) -> Option<Vec<Way>> {
        let mut open = vec![Way {
            cost: 0,
            needed: wanted.clone(),
            terms: Vec::new(),
        }];
        let mut ways: BTreeMap<Needed, Way> = BTreeMap::new();
        while let Some(way) = open.pop() {
            let is_open = |class: &&usize| {
                group.contains(class) && way.terms.iter().all(|(decided, _)| decided != *class)
            };
            let Some(class) = way.needed.iter().find(is_open).copied() else {
                let needed: Needed = way.needed.difference(group).copied().collect();
                let known = ways.get(&needed);
                if known.is_none_or(|known| way.cost < known.cost) && !self.is_cyclic(&way.terms) {
                    ways.insert(needed.clone(), Way { needed, ..way });
                }
                continue;
            };
            for (i, candidate) in self.classes[class].iter().enumerate() {
                budget.spend(1 + way.needed.len() + way.terms.len())?;
                let needed = way.needed.iter().chain(&candidate.children);
                open.push(Way {
                    cost: way.cost + candidate.cost,
                    needed: needed.copied().collect(),
                    terms: [&way.terms[..], &[(class, i)]].concat(),
                });
            }
        }
        Some(ways.into_values().collect())
    }

    /// Whether these terms, of different classes, need each other in a circle.
    fn is_cyclic(&self, terms: &[(usize, usize)]) -> bool {
        let candidate = |&(class, i): &(usize, usize)| (class, &self.classes[class][i]);
        let mut left: Vec<(usize, &Candidate)> = terms.iter().map(candidate).collect();
        // What needs nothing that is left is on no circle.
        loop {
            let open: Vec<usize> = left.iter().map(|(class, _)| *class).collect();
            left.retain(|(_, c)| c.children.iter().any(|child| open.contains(child)));
            if left.len() == open.len() {
                return !left.is_empty();
            }
        }
    }
}

/// The states but those that need and cost no less than another, the cheapest first.
fn cheapest(states: BTreeMap<Needed, (Cost, Link)>, budget: &mut Budget) -> Option<Vec<State>> {
    let mut all: Vec<State> = states
        .into_iter()
        .map(|(needed, (cost, decided))| State {
            needed,
            cost,
            decided,
        })
        .collect();
    all.sort_by_key(|state| (state.cost, state.needed.len()));
    let mut kept: Vec<State> = Vec::new();
    for state in all {
        budget.spend(kept.len())?;
        if !kept
            .iter()
            .any(|other| other.needed.is_subset(&state.needed))
        {
            kept.push(state);
        }
    }
    Some(kept)
}
