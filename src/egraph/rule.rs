//! What a rule is, and what it works with.

use std::sync::Arc;

use egg::{Applier, Id, PatternAst, Rewrite, SearchMatches, Searcher, Subst, Symbol, Var};
use smallvec::SmallVec;

use super::channel_map::ChannelMap;
use super::constants::ConstId;
use super::instance::Instance;
use super::term::{EGraph, Facts, Head, Naming, Term};
use crate::ir::{Op, Type};

/// An equality: where a term has a certain form, other terms compute the same.
///
/// `passes/rules/README.md` says how to write one.
pub trait Rule: Send + Sync + 'static {
    /// The rule's name, as reports print it.
    fn name(&self) -> &'static str;

    /// The identity, in a line.
    fn identity(&self) -> &'static str;

    /// Whether the rule has any interest in terms with this head; a quick no.
    fn starts(&self, head: &Head) -> bool;

    /// Classes equal to the class of `term`. Must not depend on anything but the term and the classes it reaches.
    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> SmallVec<[Id; 1]>;

    /// A small random term on which the rule fires, for the harness that proves it.
    fn instance(&self, make: &mut Instance<'_>) -> Id;
}

/// An alternative, or none.
pub type Alternatives = SmallVec<[Id; 1]>;

/// How many gathers of one class a rule looks at: the coarsest come first, and further ones add little.
const GATHERS: usize = 4;

/// The e-graph as rules see it: what is known of classes, and ways to add terms.
pub struct Rewriter<'a> {
    egraph: &'a mut EGraph,
    site: Option<Id>,
}

impl<'a> Rewriter<'a> {
    /// A rewriter of terms that will be named like `site`, if there is one.
    pub fn new(egraph: &'a mut EGraph, site: Option<Id>) -> Rewriter<'a> {
        Rewriter { egraph, site }
    }

    /// Names the terms that follow like `site`, for a rule that rebuilds what lies below the term it was given.
    pub fn name_after(&mut self, site: Id) {
        self.site = Some(site);
    }

    /// Lets `add` add terms that are named after their weights, not after the site.
    pub fn apart<T>(&mut self, add: impl FnOnce(&mut Rewriter<'_>) -> T) -> T {
        add(&mut Rewriter::new(self.egraph, None))
    }

    /// The name for a term: that of the same operator at the site, or the site's.
    fn naming(&self, head: &Head) -> Naming {
        let Some(class) = self.site.map(|id| &self.egraph[id].data) else {
            return Naming::default();
        };
        let same = match head {
            Head::Op(op) => class.operators.iter().find(|(name, _)| *name == op.name()),
            _ => None,
        };
        match same {
            Some((_, naming)) => naming.derived(),
            None => Naming {
                rank: Naming::BORROWED,
                name: class.name.name.clone(),
            },
        }
    }

    /// The type of a class's (first) result.
    pub fn ty(&self, id: Id) -> &Type {
        &self.egraph[id].data.types[0]
    }

    /// The types of several classes.
    pub fn types(&self, ids: &[Id]) -> Vec<&Type> {
        ids.iter().map(|id| self.ty(*id)).collect()
    }

    /// The constant that a class is, if it is one.
    pub fn constant(&self, id: Id) -> Option<ConstId> {
        self.egraph[id].data.constant
    }

    /// The pool of constants.
    pub fn constants(&mut self) -> &mut super::constants::Constants {
        &mut self.egraph.analysis.constants
    }

    /// The terms of a class.
    pub fn terms(&self, id: Id) -> impl Iterator<Item = &Term> {
        self.egraph[id].nodes.iter()
    }

    /// The type that a term would have.
    pub fn ty_of(&self, term: &Term) -> Option<Type> {
        Facts::types(self.egraph, term).ok()?.into_iter().next()
    }

    /// The gathers along `axis` among the terms of a class, fewest operand channels first: operand and map. Not those of the class
    /// itself, whose channels are then the same as others of its own.
    pub fn gathers(&self, id: Id, axis: usize) -> Vec<(Id, ChannelMap)> {
        let mut found: Vec<(usize, Id, ChannelMap)> = self
            .terms(id)
            .filter_map(|term| match &term.head {
                Head::Gather { axis: a, map } if *a == axis => {
                    let operand = self.egraph.find(term.children[0]);
                    let own = operand == self.egraph.find(id);
                    Some((self.ty(operand).len(axis)?, operand, map.clone())).filter(|_| !own)
                }
                _ => None,
            })
            .collect();
        found.sort();
        found.truncate(GATHERS);
        found.into_iter().map(|(_, id, map)| (id, map)).collect()
    }

    /// Adds an operator; `None` where the operands do not fit it.
    pub fn op(&mut self, op: Op, children: &[Id]) -> Option<Id> {
        self.add(Term {
            head: Head::Op(op),
            children: children.into(),
        })
    }

    /// Adds a constant of the pool.
    pub fn add_constant(&mut self, id: ConstId) -> Id {
        self.egraph.add(Term {
            head: Head::Constant(id),
            children: SmallVec::new(),
        })
    }

    /// Adds a gather: the operand itself where nothing moves, a constant where the operand is one.
    pub fn gather(&mut self, x: Id, axis: usize, map: ChannelMap) -> Option<Id> {
        let n = self.ty(x).len(axis)?;
        if map.is_identity(n) {
            return Some(x);
        }
        if let Some(of) = self.constant(x) {
            let gathered = self.gather_constant(of, axis, map);
            return Some(self.add_constant(gathered));
        }
        self.add(Term {
            head: Head::Gather { axis, map },
            children: [x].into_iter().collect(),
        })
    }

    /// The constant `of` with other positions along `axis`.
    pub fn gather_constant(&mut self, of: ConstId, axis: usize, map: ChannelMap) -> ConstId {
        self.constants().gather(of, axis, map)
    }

    /// Adds any term; `None` where it does not type.
    pub fn add(&mut self, term: Term) -> Option<Id> {
        Facts::types(self.egraph, &term).ok()?;
        self.egraph.analysis.naming = self.naming(&term.head);
        let id = self.egraph.add(term);
        self.egraph.analysis.naming = Naming::default();
        Some(id)
    }

    /// The name for the bias of an operator whose weight is this constant.
    pub fn bias_name(&self, weight: ConstId) -> Arc<str> {
        let name = self.egraph.analysis.constants.name(weight);
        match name.strip_suffix("weight") {
            Some(module) => format!("{module}bias").into(),
            None => format!("{name}.bias").into(),
        }
    }
}

/// The rule as egg wants it.
pub(super) fn rewrite(rule: &'static dyn Rule) -> Rewrite<Term, Facts> {
    let built = Rewrite::new(rule.name(), Everywhere(rule), Everywhere(rule));
    // `Rewrite::new` fails only for unbound pattern variables, and there are none.
    built.unwrap_or_else(|e| unreachable!("{e}"))
}

#[derive(Clone, Copy)]
struct Everywhere(&'static dyn Rule);

impl Searcher<Term, Facts> for Everywhere {
    fn search_eclass_with_limit(
        &self,
        egraph: &EGraph,
        eclass: Id,
        limit: usize,
    ) -> Option<SearchMatches<'_, Term>> {
        let starts = limit > 0
            && egraph[eclass]
                .nodes
                .iter()
                .any(|term| self.0.starts(&term.head));
        starts.then(|| SearchMatches {
            eclass,
            substs: vec![Subst::default()],
            ast: None,
        })
    }

    fn vars(&self) -> Vec<Var> {
        Vec::new()
    }
}

impl Applier<Term, Facts> for Everywhere {
    fn apply_one(
        &self,
        egraph: &mut EGraph,
        eclass: Id,
        _: &Subst,
        _: Option<&PatternAst<Term>>,
        name: Symbol,
    ) -> Vec<Id> {
        let terms: Vec<Term> = egraph[eclass]
            .nodes
            .iter()
            .filter(|term| self.0.starts(&term.head))
            .cloned()
            .collect();
        let mut changed = Vec::new();
        for term in terms {
            let alternatives = self
                .0
                .apply(&mut Rewriter::new(egraph, Some(eclass)), &term);
            for id in alternatives {
                if egraph.union_trusted(eclass, id, name) {
                    changed.push(id);
                }
            }
        }
        changed
    }
}
