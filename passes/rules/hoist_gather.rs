//! gather(f(x), m) = f(gather(x, m)), f a change of layout and m a slice: a slice of a view is a view of a slice.
//!
//! One layer often computes what is then split, reshaped in between: queries, keys and values of attention. What is redundant in
//! one part is so behind its slice, and seen only there. Into operators that compute nothing moves up: each slice would compute its own
//! part, and a layer would be taken apart for nothing. Channels that nobody reads go by being zero ([`super::DropUnread`]).

use egg::Id;
use smallvec::smallvec;

use super::regroup;
use crate::egraph::channel_map::ChannelMap;
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::channels::{Flow, flow};
use crate::ir::{Class, Dim, Op};

/// See the module.
pub struct HoistGather;

impl Rule for HoistGather {
    fn name(&self) -> &'static str {
        "hoist-gather"
    }

    fn identity(&self) -> &'static str {
        "slice(f(x)) = f(slice(x)), f a reshape or a transpose"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Gather { .. })
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some((axis, map, x)) = term.as_gather() else {
            return smallvec![];
        };
        let narrows = rewriter.ty(x).len(axis).is_some_and(|n| map.len() < n);
        if !narrows || map.is_empty() || !is_slice(map) {
            return smallvec![];
        }
        let producers: Vec<Term> = rewriter
            .terms(x)
            .filter(|t| is_layout(t))
            .cloned()
            .collect();
        rewriter.name_after(x);
        producers
            .iter()
            .filter_map(|producer| hoist(rewriter, producer, axis, map))
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let first = make.below(3);
        let map = ChannelMap::channels([first, first + 1]);
        match make.below(4) {
            0 => {
                let x = make.input(&[2, 3, 4]);
                let perm = [0, 2, 1].into_iter().collect();
                let turned = make.op(Op::Transpose { perm }, &[x]);
                make.gather(turned, 1, map)
            }
            1 => {
                let x = make.input(&[2, 1, 4]);
                let axes = [1].into_iter().collect();
                let squeezed = make.op(Op::Squeeze { axes }, &[x]);
                make.gather(squeezed, 1, map)
            }
            // Columns of an axis that was split off, and of one that was joined.
            2 => {
                let x = make.input(&[2, 8, 3]);
                let shape = [2, 2, 4, 3].map(Dim::from).into_iter().collect();
                let split = make.op(Op::Reshape { shape }, &[x]);
                make.gather(split, 2, map)
            }
            _ => {
                let x = make.input(&[2, 4, 3]);
                let joined = make.op(Op::Flatten { start: 1, end: 2 }, &[x]);
                let first = make.below(10);
                make.gather(joined, 1, ChannelMap::channels([first, first + 1]))
            }
        }
    }
}

/// Whether these are neighbouring channels as they are: what somebody has split off. Whatever else is picked was found by rules, which
/// find it again where it came from.
fn is_slice(map: &ChannelMap) -> bool {
    let channels = map.plain();
    channels.is_some_and(|channels| channels.windows(2).all(|pair| pair[1] == pair[0] + 1))
}

/// Whether the term has every element of its operand once, in another shape or order.
fn is_layout(term: &Term) -> bool {
    matches!(&term.head, Head::Op(op) if matches!(op.class(), Class::Shape | Class::Order))
}

fn hoist(
    rewriter: &mut Rewriter<'_>,
    producer: &Term,
    axis: usize,
    map: &ChannelMap,
) -> Option<Id> {
    let Head::Op(op) = &producer.head else {
        return None;
    };
    let result = rewriter.ty_of(producer)?;
    match flow(op, axis, &rewriter.types(&producer.children), &result) {
        Flow::Keeps(keeps) => {
            let x = rewriter.gather(producer.children[0], keeps.axes[0]?, map.clone())?;
            rewriter.op(op.with_channels(axis, map.len()), &[x])
        }
        Flow::Regroups(all) => all
            .iter()
            .find_map(|r| regroup::hoist(rewriter, producer, axis, *r, map)),
        _ => None,
    }
}
