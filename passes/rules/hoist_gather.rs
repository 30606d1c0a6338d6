//! gather(f(x), m) = f(gather(x, m)): channels that nobody reads are not computed in the first place.
//!
//! Into a dense operator the gather goes as a choice of rows; through operators that keep channels, flattens and concats it
//! moves on to their operands. Only gathers that narrow move up.

use egg::Id;
use smallvec::{SmallVec, smallvec};

use super::dense::Dense;
use super::regroup;
use crate::egraph::instance::Instance;
use crate::egraph::picks::Picks;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::channels::{Flow, flow};
use crate::ir::regroup::Spread;
use crate::ir::{Dim, Op};

/// See the module.
pub struct HoistGather;

/// The part of the rule that splits a gather over a concat's operands.
pub struct GatherOfConcat;

/// The picks of a gather term that narrows, with its operand.
pub(super) fn narrowing(rewriter: &Rewriter<'_>, term: &Term) -> Option<(Id, usize, Picks)> {
    let Head::Gather { axis, picks } = &term.head else {
        return None;
    };
    let x = term.children[0];
    let narrow = picks.len() < rewriter.ty(x).len(*axis)? && !picks.is_empty();
    narrow.then(|| (x, *axis, picks.clone()))
}

impl Rule for HoistGather {
    fn name(&self) -> &'static str {
        "hoist-gather"
    }

    fn identity(&self) -> &'static str {
        "gather(f(x),m) = f(gather(x,m)), gather(conv(x,W,b),m) = conv(x,W[m],b[m])"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Gather { .. })
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some((x, axis, picks)) = narrowing(rewriter, term) else {
            return smallvec![];
        };
        if picks.plain().is_none() {
            return smallvec![];
        }
        let producers: Vec<Term> = rewriter.terms(x).cloned().collect();
        rewriter.name_after(x);
        let hoisted = producers
            .iter()
            .filter_map(|producer| hoist(rewriter, producer, axis, &picks));
        hoisted.collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let picks = Picks::channels((0..2).map(|_| make.below(4)).collect::<Vec<_>>());
        match make.below(4) {
            3 => {
                // Columns of an axis that was split off, and of one that was joined.
                let x = make.input(&[2, 8, 3]);
                let shape = [2, 2, 4, 3].map(Dim::from).into_iter().collect();
                let split = make.op(Op::Reshape { shape }, &[x]);
                match make.coin() {
                    true => make.gather(split, 2, picks),
                    false => {
                        let shape = [2, 2, 12].map(Dim::from).into_iter().collect();
                        let joined = make.op(Op::Reshape { shape }, &[split]);
                        let column = make.below(3);
                        let rest = (0..12).filter(|c| c % 3 != column);
                        make.gather(joined, 2, Picks::channels(rest))
                    }
                }
            }
            0 => {
                let (x, w, b) = (make.image(3), make.weight(&[4, 3, 3, 3]), make.weight(&[4]));
                let conv = make.conv(true, &[x, w, b]);
                make.gather(conv, 1, picks)
            }
            1 => {
                let (x, slopes) = (make.image(4), make.weight(&[4, 1, 1]));
                let scaled = make.op(Op::Mul {}, &[x, slopes]);
                make.gather(scaled, 1, picks)
            }
            _ => {
                let x = make.input(&[2, 4, 3, 2]);
                let flat = make.op(Op::Flatten { start: 1, end: 3 }, &[x]);
                let block = Spread {
                    repeats: 1,
                    block: 6,
                };
                make.gather(flat, 1, picks.spread(4, block))
            }
        }
    }
}

fn hoist(rewriter: &mut Rewriter<'_>, producer: &Term, axis: usize, picks: &Picks) -> Option<Id> {
    if let Some(dense) = Dense::of(rewriter, producer)
        && dense.axis == axis
    {
        return dense.rows(rewriter, picks);
    }
    let Head::Op(op) = &producer.head else {
        return None;
    };
    let result = rewriter.ty_of(producer)?;
    match flow(op, axis, &rewriter.types(&producer.children), &result) {
        Flow::Keeps(keeps) => {
            let mut children: SmallVec<[Id; 5]> = SmallVec::new();
            for (id, a) in producer.children.iter().zip(&keeps.axes) {
                children.push(match a {
                    Some(a) => rewriter.gather(*id, *a, picks.clone())?,
                    None => *id,
                });
            }
            rewriter.op(op.with_channels(axis, picks.len()), &children)
        }
        Flow::Regroups(all) => all
            .iter()
            .find_map(|r| regroup::hoist(rewriter, producer, axis, *r, picks)),
        _ => None,
    }
}

impl Rule for GatherOfConcat {
    fn name(&self) -> &'static str {
        "gather-of-concat"
    }

    fn identity(&self) -> &'static str {
        "gather(concat(a,b),m) = concat(gather(a,m'),gather(b,m'')), m in the order of the operands"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Gather { .. })
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some((x, axis, picks)) = narrowing(rewriter, term) else {
            return smallvec![];
        };
        let Some(channels) = picks.plain() else {
            return smallvec![];
        };
        let concats: Vec<Term> = rewriter
            .terms(x)
            .filter(|t| matches!(t.head, Head::Op(Op::Concat { axis: a }) if a == axis))
            .cloned()
            .collect();
        rewriter.name_after(x);
        concats
            .iter()
            .filter_map(|concat| split(rewriter, concat, axis, &channels))
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let (x, w) = (make.image(3), make.weight(&[2, 3, 1, 1]));
        let y = make.op(Op::Tanh {}, &[x]);
        let gate = make.op(Op::Sigmoid {}, &[x]);
        let _ = w;
        let joined = make.op(Op::Concat { axis: 1 }, &[x, y, gate]);
        let drop = make.below(9);
        make.gather(joined, 1, Picks::channels((0..9).filter(|c| *c != drop)))
    }
}

fn split(
    rewriter: &mut Rewriter<'_>,
    concat: &Term,
    axis: usize,
    channels: &[usize],
) -> Option<Id> {
    let (mut parts, mut rest, mut offset) = (Vec::new(), channels, 0);
    for id in &concat.children {
        let len = rewriter.ty(*id).len(axis)?;
        let here = rest
            .iter()
            .take_while(|c| (offset..offset + len).contains(*c))
            .count();
        if here > 0 {
            let picks = Picks::channels(rest[..here].iter().map(|c| c - offset));
            parts.push(rewriter.gather(*id, axis, picks)?);
        }
        rest = &rest[here..];
        offset += len;
    }
    match (rest, parts.as_slice()) {
        ([], [single]) => Some(*single),
        ([], several) => rewriter.op(Op::Concat { axis }, several),
        _ => None,
    }
}
