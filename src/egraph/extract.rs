//! Extraction over the DAG: one term a class, all roots at once, each shared class paid once.
//!
//! egg's own extractor adds the costs of children up, so what two terms share is paid twice. Here a term's cost is that of
//! the *set* of classes below it. The cheapest choice is found by dynamic programming ([`Problem::optimum`]), which is quick
//! where few values are alive at once, as in networks. Where that takes too long, a cheap one is grown ([`Problem::greedy`]):
//! sets grow bottom-up and greedily. That is blind where several readers share: each finds its own way cheaper, and together
//! they pay more. So a second choice starts from terms that are known, single choices of both are changed as long as the cost
//! of everything that the roots reach falls, and parts of the dearer one are then planted into the cheaper.

mod exact;

use egg::Id;
use fixedbitset::FixedBitSet;
use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;

use super::{Explored, Weigh};
use crate::analysis::CostModel;
use crate::ir::Graph;

/// What a choice costs; sums are compared, so a more important measure goes into the higher bits.
pub type Cost = u128;

/// A term of the problem: what it costs itself, and the classes it needs.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The cost of the term alone.
    pub cost: Cost,
    /// The classes of its children, by position.
    pub children: Vec<usize>,
}

/// Classes of alternatives, and the classes that must be computed.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// The alternatives of each class.
    pub classes: Vec<Vec<Candidate>>,
    /// The classes that are asked for.
    pub roots: Vec<usize>,
}

/// A term for each class that the roots reach, by its position in the class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The chosen term of each class; unspecified for classes not reached.
    pub term: Vec<usize>,
    /// The cost of all classes reached.
    pub cost: Cost,
}

impl Explored {
    /// The problem of finding the cheapest graph under `cost`, where each stored weight costs `price` more, and for [`Problem::extract`] the terms of `graph`, which all
    /// this was made from.
    pub fn problem(
        &self,
        graph: &Graph,
        cost: &crate::analysis::Cost,
        price: u64,
    ) -> (Problem, Vec<Option<usize>>) {
        let (egraph, classes) = (&self.egraph, self.classes());
        let at = |id: Id| {
            let position = classes.get_index_of(&egraph.find(id));
            position.expect("every class is among them")
        };
        let weigh = Weigh {
            egraph,
            model: CostModel::new(cost, &graph.bindings),
            price,
        };
        let candidates = |id: &Id| -> Vec<Candidate> {
            let terms = egraph[*id].nodes.iter();
            let candidate = terms.map(|term| Candidate {
                cost: weigh.term(*id, term),
                children: term.children.iter().map(|c| at(*c)).collect(),
            });
            candidate.collect()
        };
        let problem = Problem {
            classes: classes.iter().map(candidates).collect(),
            roots: self.roots.iter().map(|id| at(*id)).collect(),
        };
        // Where two terms turned out equal, the first.
        let mut known = vec![None; classes.len()];
        for (id, term) in self.terms.iter().rev() {
            let mut term = term.clone();
            term.children.iter_mut().for_each(|c| *c = egraph.find(*c));
            known[at(*id)] = egraph[*id].nodes.iter().position(|t| *t == term);
        }
        (problem, known)
    }

    /// The classes, in the order that [`Explored::problem`] gives them.
    pub(super) fn classes(&self) -> IndexSet<Id, FxBuildHasher> {
        let mut classes: IndexSet<Id, FxBuildHasher> =
            self.egraph.classes().map(|class| class.id).collect();
        classes.sort_unstable();
        classes
    }
}

/// Steps that are spent on the cheapest choice: far more than a network of hundreds of layers takes.
const STEPS: u64 = 2_000_000;

/// Classes up to which sets of classes are kept, one for each: their memory grows with the square.
const SET_CLASSES: usize = 1 << 15;

/// How often the bottom-up pass runs at most; it settles in two or three.
const GREEDY_ROUNDS: usize = 16;

/// How often all single changes are tried at most.
const IMPROVEMENT_ROUNDS: usize = 4;

/// Changes tried at most by one improvement, each at the price of a walk over what the roots reach.
const TRIALS: usize = 20_000;

/// Classes that the walks of one improvement visit at most.
const VISITS: usize = 1 << 30;

impl Problem {
    /// The cheapest choice, or where finding it takes too long a cheap one; `None` if a root cannot be computed without a cycle.
    /// `known` names a term for some classes, such as those of the graph that there was.
    pub fn extract(&self, known: &[Option<usize>]) -> Option<Choice> {
        self.optimum(STEPS).or_else(|| self.greedy(known))
    }

    /// A cheap choice; `None` if a root cannot be computed without a cycle. `known` is as for [`Problem::extract`].
    pub fn greedy(&self, known: &[Option<usize>]) -> Option<Choice> {
        let grown = [self.bottom_up(), self.tree()]
            .into_iter()
            .flatten()
            .min_by_key(|choice| choice.cost)?;
        let over =
            |(class, grown): (usize, &usize)| known.get(class).copied().flatten().unwrap_or(*grown);
        let known = self.choice(grown.term.iter().enumerate().map(over).collect());
        let grown = self.improve(grown);
        let Some(known) = known.map(|known| self.improve(known)) else {
            return Some(grown);
        };
        let (best, donor) = if grown.cost < known.cost {
            (grown, known)
        } else {
            (known, grown)
        };
        Some(self.improve(self.transplant(best, &donor)))
    }

    /// The cost of everything that the roots reach under `term`; `None` on a cycle.
    pub fn cost(&self, term: &[usize]) -> Option<Cost> {
        let mut total: Cost = 0;
        self.walk(term, &self.roots, |_, candidate| total += candidate.cost)?;
        Some(total)
    }

    /// Visits every class that `from` reaches under `term`, each after its children; `None` on a cycle.
    fn walk(
        &self,
        term: &[usize],
        from: &[usize],
        mut visit: impl FnMut(usize, &Candidate),
    ) -> Option<()> {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            New,
            Open,
            Done,
        }
        let mut state = vec![State::New; self.classes.len()];
        let mut stack: Vec<(usize, usize)> = Vec::new();
        for root in from {
            if state[*root] == State::New {
                state[*root] = State::Open;
                stack.push((*root, 0));
            }
            while let Some((class, next)) = stack.pop() {
                let candidate = self.classes[class].get(term[class])?;
                match candidate.children.get(next) {
                    None => {
                        state[class] = State::Done;
                        visit(class, candidate);
                    }
                    Some(child) => {
                        stack.push((class, next + 1));
                        match state[*child] {
                            State::Open => return None,
                            State::Done => {}
                            State::New => {
                                state[*child] = State::Open;
                                stack.push((*child, 0));
                            }
                        }
                    }
                }
            }
        }
        Some(())
    }

    fn choice(&self, term: Vec<usize>) -> Option<Choice> {
        let cost = self.cost(&term)?;
        Some(Choice { term, cost })
    }

    /// How many changes one improvement may try.
    fn trials(&self) -> usize {
        TRIALS.min(VISITS / self.classes.len().max(1))
    }

    /// Bottom-up with sets of classes as costs.
    fn bottom_up(&self) -> Option<Choice> {
        let n = self.classes.len();
        if n > SET_CLASSES {
            return None;
        }
        let mut sets: Vec<Option<FixedBitSet>> = vec![None; n];
        let mut term = vec![usize::MAX; n];
        let mut own: Vec<Cost> = vec![0; n];
        for _ in 0..GREEDY_ROUNDS {
            let mut changed = false;
            for class in 0..n {
                let mut best: Option<(Cost, usize, FixedBitSet)> = None;
                for (i, candidate) in self.classes[class].iter().enumerate() {
                    let Some(set) = union(&candidate.children, &sets, n) else {
                        continue;
                    };
                    if set.contains(class) {
                        continue;
                    }
                    let cost = candidate.cost + set.ones().map(|c| own[c]).sum::<Cost>();
                    if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
                        best = Some((cost, i, set));
                    }
                }
                let Some((_, i, mut set)) = best else {
                    continue;
                };
                set.insert(class);
                if term[class] != i || sets[class].as_ref() != Some(&set) {
                    changed = true;
                    term[class] = i;
                    own[class] = self.classes[class][i].cost;
                    sets[class] = Some(set);
                }
            }
            if !changed {
                break;
            }
        }
        self.choice(term)
    }

    /// Bottom-up with the costs of children added up: never cyclic, and the fallback.
    fn tree(&self) -> Option<Choice> {
        let n = self.classes.len();
        let mut cost = vec![f64::INFINITY; n];
        let mut term = vec![usize::MAX; n];
        loop {
            let mut changed = false;
            for class in 0..n {
                for (i, candidate) in self.classes[class].iter().enumerate() {
                    let below: f64 = candidate.children.iter().map(|c| cost[*c]).sum();
                    // Strictly more than any child, or rounding could let a class seem to pay for itself.
                    let own = (candidate.cost >> 32) as f64 + 1.0;
                    let total = (below + own).max(below * (1.0 + 1e-12));
                    if total < cost[class] {
                        cost[class] = total;
                        term[class] = i;
                        changed = true;
                    }
                }
            }
            if !changed {
                return self.choice(term);
            }
        }
    }

    /// Plants the donor's terms for a class and all below it, class by class, where that lowers the cost.
    fn transplant(&self, mut best: Choice, donor: &Choice) -> Choice {
        let mut trials = self.trials();
        for class in 0..self.classes.len() {
            if best.term[class] == donor.term[class] || trials == 0 {
                continue;
            }
            trials -= 1;
            let mut planted = best.term.clone();
            let below = self.walk(&donor.term, &[class], |c, _| planted[c] = donor.term[c]);
            let choice = below.and_then(|()| self.choice(planted));
            if let Some(choice) = choice.filter(|choice| choice.cost < best.cost) {
                best = choice;
            }
        }
        best
    }

    /// Changes single choices while that lowers the cost.
    fn improve(&self, mut best: Choice) -> Choice {
        let mut trials = self.trials();
        for _ in 0..IMPROVEMENT_ROUNDS {
            let before = best.cost;
            let mut reached = vec![false; self.classes.len()];
            if self
                .walk(&best.term, &self.roots, |class, _| reached[class] = true)
                .is_none()
            {
                break;
            }
            for class in (0..self.classes.len()).filter(|class| reached[*class]) {
                for i in 0..self.classes[class].len() {
                    if i == best.term[class] || trials == 0 {
                        continue;
                    }
                    trials -= 1;
                    let old = std::mem::replace(&mut best.term[class], i);
                    match self.cost(&best.term) {
                        Some(cost) if cost < best.cost => best.cost = cost,
                        _ => best.term[class] = old,
                    }
                }
            }
            if best.cost == before {
                break;
            }
        }
        best
    }
}

/// All classes below `children`; `None` if one has no term yet.
fn union(children: &[usize], sets: &[Option<FixedBitSet>], n: usize) -> Option<FixedBitSet> {
    let mut all = FixedBitSet::with_capacity(n);
    for child in children {
        all.union_with(sets[*child].as_ref()?);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(cost: Cost, children: &[usize]) -> Candidate {
        Candidate {
            cost: cost << 32,
            children: children.to_vec(),
        }
    }

    #[test]
    fn a_shared_class_is_paid_once() {
        // Class 0 needs 1 and 2. Both can be made from 3 (10), or alone for 6 each: together, sharing is cheaper.
        let both = |alone| vec![candidate(alone, &[]), candidate(0, &[3])];
        let problem = Problem {
            classes: vec![
                vec![candidate(0, &[1, 2])],
                both(6),
                both(6),
                vec![candidate(10, &[])],
            ],
            roots: vec![0],
        };
        assert!(problem.extract(&[]).unwrap().cost >> 32 <= 12);
        let problem = Problem {
            classes: vec![
                vec![candidate(0, &[1, 2])],
                both(6),
                vec![candidate(0, &[3])],
                vec![candidate(10, &[])],
            ],
            roots: vec![0],
        };
        assert_eq!(problem.extract(&[]).unwrap().cost >> 32, 10);
    }

    #[test]
    fn three_readers_keep_what_they_share() {
        // Each reader's own way (4) is cheaper than the shared 10 plus 1, but not for all three.
        let reader = || vec![candidate(1, &[4]), candidate(5, &[])];
        let problem = Problem {
            classes: vec![
                vec![candidate(0, &[1, 2, 3])],
                reader(),
                reader(),
                reader(),
                vec![candidate(10, &[])],
            ],
            roots: vec![0],
        };
        assert_eq!(problem.greedy(&[]).unwrap().cost >> 32, 15);
        assert_eq!(
            problem
                .greedy(&[None, Some(0), Some(0), Some(0), None])
                .unwrap()
                .cost
                >> 32,
            13
        );
        assert_eq!(problem.extract(&[]).unwrap().cost >> 32, 13);
    }

    #[test]
    fn a_cycle_is_never_chosen() {
        // Class 0 = f(1) for 1 or a leaf for 5; class 1 = g(0) for 1 or a leaf for 7.
        let problem = Problem {
            classes: vec![
                vec![candidate(1, &[1]), candidate(5, &[])],
                vec![candidate(1, &[0]), candidate(7, &[])],
            ],
            roots: vec![0, 1],
        };
        assert_eq!(problem.extract(&[]).unwrap().cost >> 32, 6);
    }
}
