//! f(gather(x, m)) = gather(f(x), m): what is equal before an operator that keeps channels is equal after it.
//!
//! Which operators do is the channel table's to say ([`crate::ir::channels`]). With several operands the classes are the common
//! refinement of all operands' classes: channels stay together only if they are together everywhere. A constant operand has
//! the classes of its equal slices. Fires only where fewer channels remain inside.

use egg::Id;
use indexmap::IndexMap;
use ndarray::{ArrayD, IxDyn};
use smallvec::{SmallVec, smallvec};

use super::regroup;
use crate::egraph::channel_map::{ChannelMap, MapEntry};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::exec::{Array, evaluate};
use crate::ir::channels::{Constants, Factors, Flow, Keeps, flow};
use crate::ir::regroup::Regroup;
use crate::ir::{Bindings, Float, Op};

/// See the module.
pub struct GatherThrough;

impl Rule for GatherThrough {
    fn name(&self) -> &'static str {
        "gather-through"
    }

    fn identity(&self) -> &'static str {
        "f(gather(x,m)) = gather(f(x),m), f keeping channels"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Op(_))
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Head::Op(op) = &term.head else {
            return smallvec![];
        };
        let gathered = |id: &Id| {
            rewriter
                .terms(*id)
                .any(|t| matches!(t.head, Head::Gather { .. }))
        };
        if !term.children.iter().any(gathered) {
            return smallvec![];
        }
        let Some(result) = rewriter.ty_of(term) else {
            return smallvec![];
        };
        let mut found = smallvec![];
        for axis in 0..result.rank().unwrap_or(0) {
            let Some(n) = result.len(axis) else { continue };
            match flow(op, axis, &rewriter.types(&term.children), &result) {
                Flow::Keeps(keeps) => {
                    found.extend(through_keeping(rewriter, op, term, axis, n, &keeps));
                }
                Flow::Regroups(all) => {
                    let through = |r: &Regroup| regroup::through(rewriter, term, axis, *r);
                    found.extend(all.iter().filter_map(through));
                }
                Flow::Offsets { axis } => found.extend(through_concat(rewriter, term, axis, n)),
                Flow::Selects { .. }
                | Flow::Groups { .. }
                | Flow::Mixes { .. }
                | Flow::Refuses(_) => {}
            }
        }
        found
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let map = make.widening(3, 6);
        let x = make.image(3);
        match make.below(9) {
            7 => regroup::instance(make, &map),
            8 => of_product(make, &map),
            0 => {
                let map = make.scaled(&map, true);
                let map = make.with_constants(&map);
                let x = make.gather(x, 1, map);
                let op = [Op::Relu {}, Op::Abs {}, Op::Neg {}][make.below(3)].clone();
                make.op(op, &[x])
            }
            1 => {
                let map = make.with_constants(&map);
                let x = make.gather(x, 1, map);
                make.op(Op::Silu {}, &[x])
            }
            2 => {
                let other = make.op(Op::Tanh {}, &[x]);
                let (a, mut b) = (make.with_constants(&map), make.with_constants(&map));
                let multiplies = make.coin();
                if multiplies {
                    b.0 = [MapEntry::Constant(0.0.into())]
                        .into_iter()
                        .chain(b.0[1..].iter().copied())
                        .collect();
                }
                let (a, b) = (make.gather(x, 1, a), make.gather(other, 1, b));
                make.op(
                    [Op::Add {}, Op::Mul {}][usize::from(multiplies)].clone(),
                    &[a, b],
                )
            }
            3 => {
                let factors = make.weight_of(&[6, 1, 1], 0, &map);
                let x = make.gather(x, 1, map);
                make.op(Op::Mul {}, &[x, factors])
            }
            4 => {
                let map = make.scaled(&map, false);
                let map = make.with_constants(&map);
                let x = make.gather(x, 1, map);
                make.op(Op::Flatten { start: 1, end: 3 }, &[x])
            }
            5 => {
                let spread = make.gather(x, 1, map);
                let other = make.op(Op::Sigmoid {}, &[x]);
                make.op(Op::Concat { axis: 1 }, &[spread, other, spread])
            }
            _ => of_norm(make, x, map),
        }
    }
}

/// Values of attention, or columns of a product.
fn of_product(make: &mut Instance<'_>, map: &ChannelMap) -> Id {
    let [q, k, v] = [[2, 5, 4], [2, 3, 4], [2, 3, 3]].map(|shape| make.input(&shape));
    let map = make.scaled(map, false);
    if make.coin() {
        let map = make.with_constants(&map);
        let v = make.gather(v, 2, map);
        let op = Op::Attention {
            scale: None,
            causal: false,
        };
        return make.op(op, &[q, k, v]);
    }
    let perm = [0, 2, 1].into_iter().collect();
    let q = make.op(Op::Transpose { perm }, &[k]);
    let v = make.gather(v, 2, map);
    make.op(Op::MatMul {}, &[q, v])
}

/// A batch norm whose parameters are gathered as its input is.
fn of_norm(make: &mut Instance<'_>, x: Id, map: ChannelMap) -> Id {
    let [scale, shift, mean] = [(); 3].map(|()| make.weight_of(&[6], 0, &map));
    let variance = make.positive(&[1]);
    let variance = make.gather(variance, 0, ChannelMap::channels([0; 6]));
    let x = make.gather(x, 1, map);
    let norm = Op::BatchNorm { eps: 1e-3.into() };
    make.op(norm, &[x, scale, shift, mean, variance])
}

/// An operand, and what its channels are in terms of another value's.
struct Operand {
    /// The value that `map` reads; the operand itself if nothing is known of its channels.
    of: Id,
    /// The axis of both along which channels lie; `None` where the operand is the same for every channel.
    axis: Option<usize>,
    map: ChannelMap,
}

/// Channels with equal keys are equal: the entries of each operand that has channels, factors left out.
#[derive(PartialEq, Eq, Hash, Clone, Copy)]
enum Key {
    Channel(u32),
    Constant(Float),
}

fn through_keeping(
    rewriter: &mut Rewriter<'_>,
    op: &Op,
    term: &Term,
    axis: usize,
    n: usize,
    keeps: &Keeps,
) -> Option<Id> {
    // The first operand that has channels may have factors.
    let scaled = keeps.axes.iter().position(Option::is_some);
    let factors = |i: usize| {
        if scaled == Some(i) {
            keeps.factors
        } else {
            Factors::None
        }
    };
    let of = |(i, (id, axis)): (usize, (&Id, &Option<usize>))| {
        operand(rewriter, *id, *axis, n, factors(i))
    };
    let all = term.children.iter().zip(&keeps.axes).enumerate();
    let operands: Vec<Operand> = all.map(of).collect();
    let moved = |o: &Operand, id: &Id| o.of != *id && rewriter.constant(*id).is_none();
    if !operands
        .iter()
        .zip(&term.children)
        .any(|(o, id)| moved(o, id))
    {
        return None;
    }
    let mut classes: IndexMap<SmallVec<[Key; 5]>, usize> = IndexMap::new();
    let mut spread: Vec<MapEntry> = Vec::with_capacity(n);
    for c in 0..n {
        let mut scale = Float::from(1.0);
        let key: SmallVec<[Key; 5]> = operands
            .iter()
            .filter(|o| o.axis.is_some())
            .map(|o| match o.map.0[c] {
                MapEntry::Constant(value) => Key::Constant(value),
                MapEntry::Channel { index, scale: s } => {
                    // Only one operand may have factors; the others' are 1.
                    scale *= s;
                    Key::Channel(index)
                }
            })
            .collect();
        if let Some(value) = constant_result(rewriter, op, &operands, &key, keeps.constants) {
            spread.push(MapEntry::Constant((value * scale.0).into()));
            continue;
        }
        let entry = classes.entry(key);
        let class = entry.index();
        entry.or_insert(c);
        spread.push(MapEntry::Channel {
            index: class as u32,
            scale,
        });
    }
    let first: Vec<usize> = classes.values().copied().collect();
    if first.is_empty() || first.len() >= n {
        return None;
    }
    let mut children: SmallVec<[Id; 5]> = SmallVec::new();
    for (operand, id) in operands.iter().zip(&term.children) {
        children.push(match operand.axis {
            None => *id,
            Some(a) => narrowed(rewriter, operand, a, &first)?,
        });
    }
    let inner = rewriter.op(op.with_channels(axis, first.len()), &children)?;
    rewriter.gather(inner, axis, spread.into_iter().collect())
}

/// The operand's channels `first`, without factors.
fn narrowed(
    rewriter: &mut Rewriter<'_>,
    operand: &Operand,
    axis: usize,
    first: &[usize],
) -> Option<Id> {
    let unscaled = |c: &usize| match operand.map.0[*c] {
        MapEntry::Channel { index, .. } => MapEntry::channel(index as usize),
        constant => constant,
    };
    rewriter.gather(operand.of, axis, first.iter().map(unscaled).collect())
}

/// What is known of an operand's channels: the coarsest gather that the operator's factors allow, or a constant's equal slices.
fn operand(
    rewriter: &mut Rewriter<'_>,
    id: Id,
    axis: Option<usize>,
    n: usize,
    factors: Factors,
) -> Operand {
    let Some(a) = axis else {
        return Operand {
            of: id,
            axis,
            map: ChannelMap::channels([]),
        };
    };
    if let Some(constant) = rewriter.constant(id) {
        let rows = rewriter.constants().rows(constant, a);
        let first = |c: usize| rows.equal.first[rows.equal.class[c]];
        return Operand {
            of: id,
            axis,
            map: ChannelMap::channels((0..n).map(first)),
        };
    }
    let allowed = |map: &ChannelMap| {
        map.0.iter().all(|entry| match entry {
            MapEntry::Channel { scale, .. } => factors.allow(scale.0),
            MapEntry::Constant(_) => true,
        })
    };
    match rewriter
        .gathers(id, a)
        .into_iter()
        .find(|(_, map)| allowed(map))
    {
        Some((of, map)) => Operand { of, axis, map },
        None => Operand {
            of: id,
            axis,
            map: ChannelMap::channels(0..n),
        },
    }
}

/// The value of a result channel all of whose operands are constant there, if it is constant too.
fn constant_result(
    rewriter: &mut Rewriter<'_>,
    op: &Op,
    operands: &[Operand],
    key: &[Key],
    constants: Constants,
) -> Option<f64> {
    let constant = |key: &Key| match key {
        Key::Constant(value) => Some(value.0),
        Key::Channel(_) => None,
    };
    let first = key.iter().find_map(constant)?;
    let all_same = key.iter().all(|k| constant(k) == Some(first));
    match constants {
        // Whatever it is multiplied with.
        _ if matches!(op, Op::Mul {}) && key.iter().any(|k| constant(k) == Some(0.0)) => {
            return Some(0.0);
        }
        Constants::Vary => return None,
        Constants::Zero => return (all_same && first == 0.0).then_some(0.0),
        Constants::Same => return all_same.then_some(first),
        Constants::Mapped => {}
    }
    let mut keys = key.iter();
    let mut values: SmallVec<[f64; 5]> = SmallVec::new();
    for operand in operands {
        let constant = rewriter.constant(operand.of);
        values.push(match operand.axis.and_then(|a| Some((a, keys.next()?))) {
            Some((_, Key::Constant(value))) => value.0,
            // A constant operand that has one number for the channel, or one for all channels.
            Some((a, Key::Channel(index))) => {
                let constant = constant?;
                let shape = rewriter.constants().shape(constant);
                let one_each = shape.iter().enumerate().all(|(i, n)| i == a || *n == 1);
                one_each.then(|| rewriter.constants().f64(constant)[*index as usize])?
            }
            None => {
                let constant = constant?;
                (rewriter.constants().len(constant) == 1)
                    .then(|| rewriter.constants().f64(constant)[0])?
            }
        });
    }
    let ranks: Vec<usize> = match op {
        Op::BatchNorm { .. } => vec![2, 1, 1, 1, 1],
        Op::PRelu {} => vec![2, 1],
        _ => vec![0; values.len()],
    };
    let array = |(value, rank): (&f64, &usize)| {
        Array::Shared(ArrayD::from_elem(IxDyn(&vec![1; *rank]), *value).into_shared())
    };
    let operands: Vec<Array<'_, f64>> = values.iter().zip(&ranks).map(array).collect();
    let result = evaluate(op, operands, &Bindings::new()).ok()?;
    result.view().first().copied()
}

fn through_concat(rewriter: &mut Rewriter<'_>, term: &Term, axis: usize, n: usize) -> Option<Id> {
    // Each value once, at its offset in the inner concat; a class may span operands.
    let mut offsets: IndexMap<Id, usize> = IndexMap::new();
    let mut spread: Vec<MapEntry> = Vec::with_capacity(n);
    let mut width = 0;
    for id in &term.children {
        let len = rewriter.ty(*id).len(axis)?;
        let gather = rewriter.gathers(*id, axis).into_iter().next();
        let (of, map) = gather.unwrap_or_else(|| (*id, ChannelMap::channels(0..len)));
        let offset = match offsets.get(&of) {
            Some(offset) => *offset,
            None => {
                offsets.insert(of, width);
                width += rewriter.ty(of).len(axis)?;
                width - rewriter.ty(of).len(axis)?
            }
        };
        spread.extend(map.0.iter().map(|entry| match *entry {
            MapEntry::Channel { index, scale } => MapEntry::Channel {
                index: index + offset as u32,
                scale,
            },
            constant => constant,
        }));
    }
    if width >= n {
        return None;
    }
    let operands: Vec<Id> = offsets.into_keys().collect();
    let inner = match operands.as_slice() {
        [single] => *single,
        several => rewriter.op(Op::Concat { axis }, several)?,
    };
    rewriter.gather(inner, axis, spread.into_iter().collect())
}
