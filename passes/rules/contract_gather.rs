//! matmul(gather(x, m), gather(y, n)) = matmul(gather(x, u), gather(y, v)): positions that are summed over.
//!
//! A position adds the product of what both operands have there. It adds nothing where one of them is zero, and positions at which
//! both have the same as at others are one of these, multiplied. Of attention the same holds for the width of queries and keys:
//! its scale stays what it was.

use egg::Id;
use indexmap::IndexMap;

use crate::egraph::channel_map::{ChannelMap, MapEntry};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::Op;

/// See the module.
pub struct ContractGather;

impl Rule for ContractGather {
    fn name(&self) -> &'static str {
        "contract-gather"
    }

    fn identity(&self) -> &'static str {
        "matmul(gather(x,m),gather(y,n)) = matmul(gather(x,u),gather(y,v)), positions zero in one or equal in both"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Op(Op::MatMul {} | Op::Attention { .. }))
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        contract(rewriter, term).into_iter().collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let map = make.widening(2, 4);
        let map = make.scaled(&map, false);
        let zero = make.below(4);
        let with_zero = |(i, entry): (usize, &MapEntry)| {
            if i == zero {
                MapEntry::Constant(0.0.into())
            } else {
                *entry
            }
        };
        let zeroed = map.0.iter().enumerate().map(with_zero).collect();
        let (x, y) = (make.input(&[2, 3, 2]), make.input(&[2, 5, 2]));
        let (x, y) = (make.gather(x, 2, zeroed), make.gather(y, 2, map));
        if make.coin() {
            let perm = [0, 2, 1].into_iter().collect();
            let y = make.op(Op::Transpose { perm }, &[y]);
            return make.op(Op::MatMul {}, &[x, y]);
        }
        let values = make.input(&[2, 5, 3]);
        let scale = make.coin().then(|| 0.7.into());
        let causal = make.coin();
        make.op(Op::Attention { scale, causal }, &[x, y, values])
    }
}

fn contract(rewriter: &mut Rewriter<'_>, term: &Term) -> Option<Id> {
    let Head::Op(op) = &term.head else {
        return None;
    };
    let [x, y] = [term.children[0], term.children[1]];
    let rank = |id: Id| rewriter.ty(id).rank();
    let (axis_x, axis_y) = match op {
        Op::MatMul {} => (rank(x)?.checked_sub(1)?, rank(y)?.checked_sub(2)?),
        _ => (rank(x)?.checked_sub(1)?, rank(y)?.checked_sub(1)?),
    };
    let width = rewriter.ty(x).len(axis_x)?;
    let map = |id: Id, axis: usize| {
        let found = rewriter.gathers(id, axis).into_iter().next();
        found.map_or_else(|| ChannelMap::channels(0..width), |(_, map)| map)
    };
    let (of_x, of_y) = (map(x, axis_x), map(y, axis_y));
    // What both have at a position: where it was first, and the factor that all together have to that.
    let mut classes: IndexMap<(MapEntry, MapEntry), (usize, f64, f64)> = IndexMap::new();
    for (at, (a, b)) in of_x.0.iter().zip(of_y.0.iter()).enumerate() {
        let (Some((a, s)), Some((b, t))) = (unscaled(*a), unscaled(*b)) else {
            continue;
        };
        let class = classes.entry((a, b)).or_insert((at, s * t, 0.0));
        class.2 += s * t;
    }
    if classes.len() >= width {
        return None;
    }
    if classes.is_empty() {
        // Something has to be multiplied: zeros.
        classes.insert((MapEntry::channel(0), MapEntry::channel(0)), (0, 1.0, 1.0));
    }
    let kept = |(at, first, all): &(usize, f64, f64)| MapEntry::Channel {
        index: *at as u32,
        scale: (all / first).into(),
    };
    let x = rewriter.gather(x, axis_x, classes.values().map(kept).collect())?;
    let y = rewriter.gather(
        y,
        axis_y,
        ChannelMap::channels(classes.values().map(|c| c.0)),
    )?;
    let op = match op {
        Op::Attention { scale, causal } => Op::Attention {
            scale: Some(scale.unwrap_or_else(|| (1.0 / (width as f64).sqrt()).into())),
            causal: *causal,
        },
        op => op.clone(),
    };
    let rest = term.children[2..].iter().copied();
    let children: Vec<Id> = [x, y].into_iter().chain(rest).collect();
    rewriter.op(op, &children)
}

/// An entry and its factor; `None` where it is zero.
fn unscaled(entry: MapEntry) -> Option<(MapEntry, f64)> {
    match entry {
        MapEntry::Channel { scale, .. } | MapEntry::Constant(scale) if scale.0 == 0.0 => None,
        MapEntry::Channel { index, scale } => Some((MapEntry::channel(index as usize), scale.0)),
        MapEntry::Constant(value) => Some((MapEntry::Constant(1.0.into()), value.0)),
    }
}
