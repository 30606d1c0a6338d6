//! conv(gather(x, m), W, b) = gather(conv(gather(x, m[u]), W[u], b[u]), map): whole groups that read the same and compute the same
//! are computed once, and groups that read constants alone, or multiply all by zero, are constant.
//!
//! Of depthwise convolutions too, as far as constants go: a channel that is zero is zero to every tap, padded or not.

use egg::Id;
use indexmap::IndexMap;
use smallvec::SmallVec;

use super::grouped::{self, Grouped};
use crate::egraph::channel_map::{ChannelMap, MapEntry, Partition};
use crate::egraph::constants::{ConstId, Recipe};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};

/// See the module.
pub struct MergeGroups;

impl Rule for MergeGroups {
    fn name(&self) -> &'static str {
        "merge-groups"
    }

    fn identity(&self) -> &'static str {
        "conv(gather(x,m),W,b) = gather(conv(gather(x,m[u]),W[u],b[u]),map), groups equal or constant"
    }

    fn starts(&self, head: &Head) -> bool {
        Grouped::starts(head)
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some(grouped) = Grouped::of(rewriter, term) else {
            return Alternatives::new();
        };
        let rows = rewriter.constants().rows(grouped.weight, 0);
        let zero = |g: usize| grouped.makes(g).all(|row| rows.zero[row]);
        let zero: Vec<bool> = (0..grouped.groups).map(zero).collect();
        let mut gathers = rewriter.gathers(grouped.x, 1);
        if gathers.is_empty() && zero.contains(&true) {
            let all = ChannelMap::channels(0..grouped.groups * grouped.inputs);
            gathers.push((grouped.x, all));
        }
        gathers
            .iter()
            .find_map(|(x, map)| merge(rewriter, &grouped, &zero, *x, map))
            .into_iter()
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let each = 1 + make.below(2);
        let pad = make.coin();
        // The first and the last group read and compute the same; one in between reads constants, or multiplies by zero.
        let mut map: Vec<MapEntry> = (0..3 * each).map(MapEntry::channel).collect();
        let value = if pad { 0.0 } else { make.number() };
        let zero = make.coin();
        if !zero {
            map[each..2 * each].fill(MapEntry::Constant(value.into()));
        }
        map.extend_from_within(..each);
        let groups = ChannelMap::channels([0, 1, 2, 0]);
        let block = crate::ir::regroup::Spread {
            repeats: 1,
            block: 2,
        };
        let bias_rows = groups.spread(3, block);
        let mut rows = bias_rows.0.to_vec();
        if zero {
            rows[2..4].fill(MapEntry::Constant(0.0.into()));
        }
        let rows: ChannelMap = rows.into_iter().collect();
        let x = make.image(3 * each);
        let x = make.gather(x, 1, map.into_iter().collect());
        let (weight, bias) = (
            make.weight_of(&[8, each, 3, 3], 0, &rows),
            make.weight_of(&[8], 0, &bias_rows),
        );
        if make.coin() {
            grouped::conv(make, 4, pad, &[x, weight, bias])
        } else {
            grouped::conv(make, 4, pad, &[x, weight])
        }
    }
}

fn merge(
    rewriter: &mut Rewriter<'_>,
    grouped: &Grouped,
    zero: &[bool],
    x: Id,
    map: &ChannelMap,
) -> Option<Id> {
    let sees_constants = grouped.sees_constants();
    // What a group reads, if its outputs are constant.
    let constant = |g: usize| -> Option<SmallVec<[f64; 4]>> {
        if zero[g] {
            return Some(SmallVec::from_elem(0.0, grouped.inputs));
        }
        let of = |entry: &MapEntry| match entry {
            MapEntry::Constant(value) if value.0 == 0.0 || sees_constants => Some(value.0),
            _ => None,
        };
        map.0[grouped.reads(g)].iter().map(of).collect()
    };
    let constants: Vec<_> = (0..grouped.groups).map(constant).collect();
    let partition = if !grouped.is_depthwise() {
        equal_groups(rewriter, grouped, map)
    } else if constants.iter().any(Option::is_some) {
        Partition::by_key(0..grouped.groups)
    } else {
        // What is equal, `gather-through` finds by the channel table.
        return None;
    };
    let mut classes: IndexMap<usize, usize> = IndexMap::new();
    let mut spread: Vec<MapEntry> = Vec::with_capacity(grouped.groups * grouped.outputs);
    let numbers = if constants.iter().any(Option::is_some) {
        [
            rewriter.constants().f64(grouped.weight).into_owned(),
            grouped.bias_numbers(rewriter),
        ]
    } else {
        Default::default()
    };
    for (g, constants) in constants.iter().enumerate() {
        if let Some(values) = constants {
            let output = |row: usize| constant_output(grouped, row, values, &numbers);
            spread.extend(grouped.makes(g).map(output));
            continue;
        }
        let entry = classes.entry(partition.class[g]);
        let class = entry.index();
        entry.or_insert(g);
        let outputs = class * grouped.outputs..(class + 1) * grouped.outputs;
        spread.extend(outputs.map(MapEntry::channel));
    }
    // A value without channels is none.
    let first = if classes.is_empty() {
        vec![0]
    } else {
        classes.into_values().collect()
    };
    if first.len() == grouped.groups {
        return None;
    }
    let inputs = first.iter().flat_map(|g| &map.0[grouped.reads(*g)]);
    let x = rewriter.gather(x, 1, inputs.copied().collect())?;
    let rows = ChannelMap::channels(first.iter().flat_map(|g| grouped.makes(*g)));
    let merged = grouped.rows(rewriter, first.len(), x, &rows)?;
    rewriter.gather(merged, 1, spread.into_iter().collect())
}

/// Groups that read the same channels by the same weights and biases.
fn equal_groups(rewriter: &mut Rewriter<'_>, grouped: &Grouped, map: &ChannelMap) -> Partition {
    let weights = blocks(rewriter, grouped, grouped.weight);
    let biases = match grouped.bias {
        Some(bias) => blocks(rewriter, grouped, bias),
        None => vec![0; grouped.groups],
    };
    let key = |g: usize| (&map.0[grouped.reads(g)], weights[g], biases[g]);
    Partition::by_key((0..grouped.groups).map(key))
}

/// The class of each group by its rows of a constant.
fn blocks(rewriter: &mut Rewriter<'_>, grouped: &Grouped, of: ConstId) -> Vec<usize> {
    let constants = rewriter.constants();
    let len = constants.len(of) / grouped.groups;
    let recipe = Recipe::Reshape {
        of,
        shape: [grouped.groups, len].into_iter().collect(),
    };
    let name = constants.name(of).clone();
    let blocks = constants.add(recipe, of, name, &[grouped.groups, len]);
    constants.rows(blocks, 0).equal.class.clone()
}

/// What a row of weight and bias computes from channels of these values.
fn constant_output(
    grouped: &Grouped,
    row: usize,
    values: &[f64],
    [weight, bias]: &[Vec<f64>; 2],
) -> MapEntry {
    let taps = weight.len() / (grouped.groups * grouped.outputs * grouped.inputs);
    let kernels = (0..grouped.inputs).map(|c| &weight[(row * grouped.inputs + c) * taps..][..taps]);
    let share = |(kernel, value): (&[f64], &f64)| match *value {
        0.0 => 0.0,
        value => kernel.iter().sum::<f64>() * value,
    };
    let shares: f64 = kernels.zip(values).map(share).sum();
    MapEntry::Constant((bias[row] + shares).into())
}
