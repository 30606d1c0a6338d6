//! Input channels of grouped convolutions: what `absorb-gather` and `drop-unread` are for dense ones.
//!
//! All groups must read as many channels, so they lose as many as the group that has the fewest to lose.

use egg::Id;

use super::absorb_gather::constant_bias;
use super::grouped::{self, Grouped, padded};
use crate::egraph::channel_map::{ChannelMap, MapEntry};
use crate::egraph::constants::{ConstId, Recipe};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::channels::WeightAxes;

/// Channels of a group that are the same, or constant.
pub struct AbsorbInGroups;

/// Channels of a group that it multiplies by zero.
pub struct DropInGroups;

impl Rule for AbsorbInGroups {
    fn name(&self) -> &'static str {
        "absorb-in-groups"
    }

    fn identity(&self) -> &'static str {
        "conv(gather(x,m),W,b) = conv(gather(x,m'),W',b'), W' the sums of W's columns over m in each group"
    }

    fn starts(&self, head: &Head) -> bool {
        Grouped::starts(head)
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some(grouped) = Grouped::of(rewriter, term).filter(|grouped| grouped.inputs > 1) else {
            return Alternatives::new();
        };
        let gathers = rewriter.gathers(grouped.x, 1);
        gathers
            .into_iter()
            .find_map(|(x, map)| absorb(rewriter, &grouped, x, &map))
            .into_iter()
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let groups = 2 + make.below(2);
        let constant = make.coin();
        let mut map: Vec<MapEntry> = Vec::new();
        for _ in 0..groups {
            let own = make.widening(2, 4).moved(|c| c * groups);
            let own = make.scaled(&own, false);
            map.extend(own.0.iter());
        }
        if constant {
            let at = make.below(map.len());
            map[at] = MapEntry::Constant(make.number().into());
        }
        let x = make.image(2 * groups);
        let x = make.gather(x, 1, map.into_iter().collect());
        let (weight, bias) = (
            make.weight(&[2 * groups, 4, 3, 3]),
            make.weight(&[2 * groups]),
        );
        let pad = !constant;
        if make.coin() {
            grouped::conv(make, groups, pad, &[x, weight, bias])
        } else {
            grouped::conv(make, groups, pad, &[x, weight])
        }
    }
}

fn absorb(rewriter: &mut Rewriter<'_>, grouped: &Grouped, x: Id, map: &ChannelMap) -> Option<Id> {
    // What is multiplied by zero may as well be zero.
    let unread = rewriter.constants().unread(grouped.weight, grouped.groups);
    let zeroed = |(entry, unread): (&MapEntry, &bool)| {
        if *unread {
            MapEntry::Constant(0.0.into())
        } else {
            *entry
        }
    };
    let map: &ChannelMap = &map.0.iter().zip(unread.iter()).map(zeroed).collect();
    let is_constant =
        |entry: &MapEntry| matches!(entry, MapEntry::Constant(value) if value.0 != 0.0);
    let constants = map.0.iter().any(is_constant);
    if constants && !grouped.sees_constants() {
        return None;
    }
    let group = |g: usize| -> ChannelMap { map.0[grouped.reads(g)].iter().copied().collect() };
    let read: Vec<Vec<usize>> = (0..grouped.groups).map(|g| group(g).read()).collect();
    let width = read.iter().map(Vec::len).max()?.max(1);
    if width >= grouped.inputs {
        return None;
    }
    let channels = rewriter.ty(x).len(1)?;
    let kept = read
        .iter()
        .flat_map(|read| padded(read, 0..channels, width));
    let kept = ChannelMap::channels(kept.collect::<Vec<_>>());
    if kept.len() < grouped.groups * width {
        return None;
    }
    let narrowed = (0..grouped.groups).flat_map(|g| {
        let own = group(g).moved(|index| read[g].partition_point(|c| *c < index));
        own.0.iter().copied().collect::<Vec<_>>()
    });
    let narrowed = narrowed.collect();
    let x = rewriter.gather(x, 1, kept)?;
    let bias = if constants {
        let axes = WeightAxes {
            output: 0,
            input: 1,
        };
        let Grouped { weight, bias, .. } = *grouped;
        Some(constant_bias(rewriter, weight, bias, axes, map))
    } else {
        grouped.bias
    };
    let weight = summed(rewriter, grouped.weight, narrowed, width);
    grouped.with(rewriter, grouped.groups, x, weight, bias)
}

/// The weight with its columns summed within each group.
fn summed(rewriter: &mut Rewriter<'_>, of: ConstId, map: ChannelMap, width: usize) -> ConstId {
    let constants = rewriter.constants();
    let (name, shape) = (
        constants.name(of).clone(),
        constants.shape_with(of, 1, width),
    );
    constants.add(Recipe::SumInGroups { of, map, width }, of, name, &shape)
}

impl Rule for DropInGroups {
    fn name(&self) -> &'static str {
        "drop-in-groups"
    }

    fn identity(&self) -> &'static str {
        "conv(x,W,b) = conv(gather(x,S),W[:,S],b), other columns of W zero in every group"
    }

    fn starts(&self, head: &Head) -> bool {
        Grouped::starts(head)
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let grouped = Grouped::of(rewriter, term).filter(|grouped| grouped.inputs > 1);
        grouped
            .iter()
            .filter_map(|grouped| drop_unread(rewriter, grouped))
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let mut columns: Vec<MapEntry> = (0..4).map(MapEntry::channel).collect();
        columns[make.below(4)] = MapEntry::Constant(0.0.into());
        let x = make.image(8);
        let weight = make.weight_of(&[4, 4, 3, 3], 1, &columns.into_iter().collect());
        grouped::conv(make, 2, true, &[x, weight])
    }
}

fn drop_unread(rewriter: &mut Rewriter<'_>, grouped: &Grouped) -> Option<Id> {
    let unread = rewriter.constants().unread(grouped.weight, grouped.groups);
    let read = |g: usize| -> Vec<usize> { grouped.reads(g).filter(|c| !unread[*c]).collect() };
    let read: Vec<Vec<usize>> = (0..grouped.groups).map(read).collect();
    let width = read.iter().map(Vec::len).max()?.max(1);
    if width >= grouped.inputs {
        return None;
    }
    let mut map = vec![MapEntry::Constant(0.0.into()); unread.len()];
    let mut kept = Vec::with_capacity(grouped.groups * width);
    for (g, read) in read.iter().enumerate() {
        let mut own = padded(read, grouped.reads(g), width);
        own.sort_unstable();
        own.iter()
            .enumerate()
            .for_each(|(i, c)| map[*c] = MapEntry::channel(i));
        kept.extend(own);
    }
    let weight = summed(rewriter, grouped.weight, map.into_iter().collect(), width);
    let x = rewriter.gather(grouped.x, 1, ChannelMap::channels(kept))?;
    grouped.with(rewriter, grouped.groups, x, weight, grouped.bias)
}
