//! Gathers and changes of shape: the part of `gather-through` and `hoist-gather` that is about them, and channel shuffles.
//!
//! Where an axis is split or joined, channels are found again as runs of positions ([`crate::ir::regroup`]): a gather passes that
//! treats the same channels of all runs alike. Splitting, permuting and joining again may put the channels of a single axis into
//! another order; that is a gather itself, and then it does not matter that no run survives.

use egg::Id;
use indexmap::IndexSet;
use smallvec::SmallVec;

use crate::egraph::channel_map::{ChannelMap, MapEntry};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::regroup::{Regroup, Spread, shuffle};
use crate::ir::{Dim, Dims, Float, Op};

/// reshape(transpose(reshape(x))) = gather(x, order).
pub struct ShuffleAsGather;

impl Rule for ShuffleAsGather {
    fn name(&self) -> &'static str {
        "shuffle-as-gather"
    }

    fn identity(&self) -> &'static str {
        "reshape(transpose(reshape(x))) = gather(x,order), where it reorders one axis"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Op(Op::Reshape { .. } | Op::Flatten { .. }))
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let mut found = Vec::new();
        for transpose in rewriter.terms(term.children[0]) {
            let Head::Op(Op::Transpose { perm }) = &transpose.head else {
                continue;
            };
            for split in rewriter.terms(transpose.children[0]) {
                if matches!(&split.head, Head::Op(Op::Reshape { .. })) {
                    found.push((split.children[0], transpose.children[0], perm.clone()));
                }
            }
        }
        let Some(result) = rewriter.ty_of(term) else {
            return Alternatives::new();
        };
        let gather = |(x, split, perm): (Id, Id, _)| {
            let perm: crate::ir::Ints = perm;
            let shape = |id: Id| rewriter.ty(id).shape();
            let (axis, order) = shuffle(shape(x)?, shape(split)?, &perm, result.shape()?)?;
            rewriter.gather(x, axis, ChannelMap::channels(order))
        };
        found.into_iter().filter_map(gather).collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let (groups, each) = (2 + make.below(2), 2 + make.below(2));
        let x = make.image(groups * each);
        let split = reshape(make, x, |s| [s[0], groups, each, s[2], s[3]].to_vec());
        let perm = [0, 2, 1, 3, 4].into_iter().collect();
        let shuffled = make.op(Op::Transpose { perm }, &[split]);
        reshape(make, shuffled, |s| [s[0], s[1] * s[2], s[3], s[4]].to_vec())
    }
}

/// f(gather(x, m)) = gather(f(x), m'), f a change of shape that regroups these channels: those that are the same in every run
/// stay together.
pub(super) fn through(
    rewriter: &mut Rewriter<'_>,
    term: &Term,
    axis: usize,
    regroup: Regroup,
) -> Option<Id> {
    let gathers = rewriter.gathers(term.children[0], regroup.axis);
    gathers
        .into_iter()
        .find_map(|(of, map)| merged(rewriter, term, axis, regroup, of, &map))
}

fn merged(
    rewriter: &mut Rewriter<'_>,
    term: &Term,
    axis: usize,
    regroup: Regroup,
    of: Id,
    map: &ChannelMap,
) -> Option<Id> {
    let Regroup {
        axis: from_axis,
        channels,
        from,
        to,
    } = regroup;
    let mut classes: IndexSet<SmallVec<[MapEntry; 4]>> = IndexSet::new();
    let mut spread = Vec::with_capacity(channels);
    for channel in 0..channels {
        let own = from.positions(channels, channel).map(|at| map.0[at]);
        let (key, scale) = without_factor(own.collect());
        if let [MapEntry::Constant(value), rest @ ..] = key.as_slice()
            && rest
                .iter()
                .all(|entry| *entry == MapEntry::Constant(*value))
        {
            spread.push(MapEntry::Constant(*value));
            continue;
        }
        let index = classes.insert_full(key).0 as u32;
        spread.push(MapEntry::Channel { index, scale });
    }
    let n = classes.len();
    if n == 0 || n >= channels {
        return None;
    }
    let run = |r: usize| {
        let own = r * from.block..(r + 1) * from.block;
        classes
            .iter()
            .flat_map(move |key| key[own.clone()].iter().copied())
    };
    let x = rewriter.gather(of, from_axis, (0..from.repeats).flat_map(run).collect())?;
    let Head::Op(op) = &term.head else {
        return None;
    };
    let inner = rewriter.op(op.with_channels(axis, to.len(n)), &[x])?;
    let spread: ChannelMap = spread.into_iter().collect();
    rewriter.gather(inner, axis, spread.spread(n, to))
}

/// The map without the factor that all of its entries have.
fn without_factor(map: SmallVec<[MapEntry; 4]>) -> (SmallVec<[MapEntry; 4]>, Float) {
    let one = Float::from(1.0);
    let Some(MapEntry::Channel { scale, .. }) = map.first().copied() else {
        return (map, one);
    };
    let unscaled = |entry: &MapEntry| match *entry {
        MapEntry::Channel { index, scale: own } if own == scale => {
            Some(MapEntry::channel(index as usize))
        }
        _ => None,
    };
    let all: Option<_> = map.iter().map(unscaled).collect();
    all.map_or((map, one), |all| (all, scale))
}

/// gather(f(x), m) = gather(f(gather(x, S)), m'), f a change of shape and S the channels that m reads of some run.
pub(super) fn hoist(
    rewriter: &mut Rewriter<'_>,
    producer: &Term,
    axis: usize,
    regroup: Regroup,
    map: &ChannelMap,
) -> Option<Id> {
    let Regroup {
        axis: from_axis,
        channels,
        from,
        to,
    } = regroup;
    let mut read = vec![false; channels];
    for at in map.read() {
        read[at / to.block % channels] = true;
    }
    let kept: Vec<usize> = (0..channels).filter(|c| read[*c]).collect();
    if kept.len() == channels {
        return None;
    }
    let n = kept.len();
    let narrow = ChannelMap::channels(kept.iter().copied()).spread(channels, from);
    let x = rewriter.gather(producer.children[0], from_axis, narrow)?;
    let Head::Op(op) = &producer.head else {
        return None;
    };
    let inner = rewriter.op(op.with_channels(axis, to.len(n)), &[x])?;
    let moved = |at: usize| {
        let (run, channel) = (at / to.block / channels, at / to.block % channels);
        let channel = kept.partition_point(|c| *c < channel);
        (run * n + channel) * to.block + at % to.block
    };
    rewriter.gather(inner, axis, map.moved(moved))
}

/// A change of shape that `gather-through` lets a map of 6 entries among 3 channels pass.
pub(super) fn instance(make: &mut Instance<'_>, map: &ChannelMap) -> Id {
    let map = make.scaled(map, false);
    let map = make.with_constants(&map);
    let [runs, blocks] = [(2, 1), (1, 2)].map(|(repeats, block)| Spread { repeats, block });
    // Some have a factor of their own in each run, and are no multiples of others.
    let spread = |make: &mut Instance<'_>, over: Spread| {
        let mut all = map.spread(3, over).0.to_vec();
        if make.coin() {
            let at = make.below(all.len());
            all[at] = MapEntry::Channel {
                index: make.below(6) as u32,
                scale: make.number().into(),
            };
        }
        all.into_iter().collect::<ChannelMap>()
    };
    match make.below(3) {
        0 => {
            let x = make.image(3);
            let x = make.gather(x, 1, map);
            reshape(make, x, |s| [s[0], s[1] * s[2], s[3]].to_vec())
        }
        1 => {
            let x = make.image(6);
            let spread = spread(make, runs);
            let x = make.gather(x, 1, spread);
            reshape(make, x, |s| [s[0], 2, 6, s[2] * s[3]].to_vec())
        }
        _ => {
            let x = make.image(6);
            let spread = spread(make, blocks);
            let x = make.gather(x, 1, spread);
            reshape(make, x, |s| [s[0], 6, 2, s[2] * s[3]].to_vec())
        }
    }
}

fn reshape(make: &mut Instance<'_>, x: Id, shape: impl Fn(&[usize]) -> Vec<usize>) -> Id {
    let old: Vec<usize> = make.shape(x);
    let shape: Dims = shape(&old).into_iter().map(Dim::from).collect();
    make.op(Op::Reshape { shape }, &[x])
}
