//! The term language: the IR's operators over e-classes, and what is known of each class.

use std::sync::Arc;

use egg::{Analysis, DidMerge, Id, Language};
use smallvec::{SmallVec, smallvec};

use super::channel_map::ChannelMap;
use super::constants::{ConstId, Constants};
use crate::ir::infer::infer;
use crate::ir::{Op, Opaque, Type};

/// What a term computes from its children.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every term is an operator"
)]
pub enum Head {
    /// An input of the graph, by its position.
    Input(u32),
    /// A constant.
    Constant(ConstId),
    /// An operator of the IR; its attributes are part of the term.
    Op(Op),
    /// A gather with factors and constants along an axis; becomes operators of the IR when it is raised.
    Gather {
        /// The axis.
        axis: usize,
        /// What each channel is.
        map: ChannelMap,
    },
    /// An opaque operator. The number tells two of them apart even where they read the same: they may be random.
    Opaque(u32, Arc<Opaque>),
    /// A further result of an opaque operator.
    Port(u32),
}

/// An operator over e-classes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Term {
    /// What is computed.
    pub head: Head,
    /// From what.
    pub children: SmallVec<[Id; 4]>,
}

impl Term {
    /// Of a gather its axis, its map and its operand.
    pub fn as_gather(&self) -> Option<(usize, &ChannelMap, Id)> {
        match &self.head {
            Head::Gather { axis, map } => Some((*axis, map, self.children[0])),
            _ => None,
        }
    }
}

impl Language for Term {
    type Discriminant = std::mem::Discriminant<Head>;

    fn discriminant(&self) -> Self::Discriminant {
        std::mem::discriminant(&self.head)
    }

    fn matches(&self, other: &Self) -> bool {
        self.head == other.head && self.children.len() == other.children.len()
    }

    fn children(&self) -> &[Id] {
        &self.children
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.children
    }
}

/// What is known of a class: the same for all its terms.
#[derive(Clone, Debug)]
pub struct Class {
    /// The types of the results; one but for opaque operators.
    pub types: SmallVec<[Type; 1]>,
    /// The constant, if the class is one.
    pub constant: Option<ConstId>,
    /// The name of the graph's node that it was, or of the one it was made for.
    pub name: Naming,
    /// The same for each operator among its terms, by the operator's name in the text form.
    pub operators: SmallVec<[(&'static str, Naming); 2]>,
}

/// The e-graph's analysis: types, constants and names.
#[derive(Default)]
pub struct Facts {
    /// The pool of constants.
    pub constants: Constants,
    /// The types of the graph's inputs.
    pub inputs: Vec<Type>,
    /// The name that a term added now would like. Empty between additions, when egg asks anew what is known of old terms.
    pub naming: Naming,
}

/// A name and its rank among the names of one class: the lowest rank wins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Naming {
    /// The position of the node in the graph; [`Naming::DERIVED`] and more for terms that rules made.
    pub rank: u32,
    /// The name.
    pub name: Arc<str>,
}

impl Naming {
    /// Ranks from here on are those of terms made from a node, not the node's own.
    pub const DERIVED: u32 = 1 << 30;
    /// The rank of a name that belongs to another operator; it is better than none.
    pub const BORROWED: u32 = u32::MAX - 1;

    /// The name for something made from what has this one.
    pub fn derived(&self) -> Naming {
        Naming {
            rank: self.rank | Naming::DERIVED,
            name: self.name.clone(),
        }
    }
}

impl Default for Naming {
    fn default() -> Naming {
        Naming {
            rank: u32::MAX,
            name: "".into(),
        }
    }
}

/// An e-graph over [`Term`]s.
pub type EGraph = egg::EGraph<Term, Facts>;

impl Facts {
    /// The types of a term's results.
    ///
    /// # Errors
    /// When the children do not fit.
    pub fn types(egraph: &EGraph, term: &Term) -> Result<SmallVec<[Type; 1]>, String> {
        let types: Vec<&Type> = term
            .children
            .iter()
            .map(|id| &egraph[*id].data.types[0])
            .collect();
        match &term.head {
            Head::Input(i) => Ok(smallvec![egraph.analysis.inputs[*i as usize].clone()]),
            Head::Constant(id) => {
                let constants = &egraph.analysis.constants;
                let shape = constants.shape(*id).iter().map(|n| (*n).into());
                Ok(smallvec![Type::tensor(constants.dtype(*id), shape)])
            }
            Head::Op(op) => infer(op, &types),
            Head::Gather { axis, map } => match types[0] {
                Type::Tensor(dtype, Some(shape)) if *axis < shape.len() => {
                    let mut shape = shape.clone();
                    shape[*axis] = map.len().into();
                    Ok(smallvec![Type::Tensor(*dtype, Some(shape))])
                }
                _ => Err("a gather of a value whose shape is unknown".into()),
            },
            Head::Opaque(_, opaque) => Ok(opaque.outputs.clone()),
            Head::Port(port) => match egraph[term.children[0]].data.types.get(*port as usize) {
                Some(ty) => Ok(smallvec![ty.clone()]),
                None => Err(format!("there is no result {port}")),
            },
        }
    }
}

impl Analysis<Term> for Facts {
    type Data = Class;

    fn make(egraph: &mut EGraph, term: &Term, _: Id) -> Class {
        // Terms are added through `Rewriter` and `lower`, which ask for the types first: an error cannot get here.
        let types = Facts::types(egraph, term).unwrap_or_default();
        let constant = match term.head {
            Head::Constant(id) => Some(id),
            _ => None,
        };
        let name = egraph.analysis.naming.clone();
        let operators = match &term.head {
            Head::Op(op) => smallvec![(op.name(), name.clone())],
            _ => smallvec![],
        };
        Class {
            types,
            constant,
            name,
            operators,
        }
    }

    fn merge(&mut self, a: &mut Class, b: Class) -> DidMerge {
        let mut merged = DidMerge(false, false);
        match (a.constant, b.constant) {
            (None, Some(_)) => {
                a.constant = b.constant;
                merged.0 = true;
            }
            (Some(_), None) => merged.1 = true,
            _ => {}
        }
        // The first name wins whichever way egg joins the two, so that results do not depend on it.
        match a.name.cmp(&b.name) {
            std::cmp::Ordering::Greater => {
                a.name = b.name;
                a.types = b.types;
                merged.0 = true;
            }
            std::cmp::Ordering::Less => merged.1 = true,
            std::cmp::Ordering::Equal => {}
        }
        for (op, naming) in b.operators {
            match a.operators.iter_mut().find(|(other, _)| *other == op) {
                None => {
                    a.operators.push((op, naming));
                    merged.0 = true;
                }
                Some((_, mine)) if naming < *mine => {
                    *mine = naming;
                    merged.0 = true;
                }
                Some((_, mine)) => merged.1 |= naming > *mine,
            }
        }
        merged
    }
}
