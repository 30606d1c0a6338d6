//! Output channels of grouped convolutions: what `merge-equal`, `fold-constant-channel` and `hoist-gather` are for dense ones.
//!
//! All groups must have as many outputs, so they lose as many as the group that has the fewest to lose. A group that nobody
//! reads goes with its inputs.

use egg::Id;
use indexmap::IndexMap;
use smallvec::smallvec;

use super::grouped::{self, Grouped, padded};
use super::hoist_gather::narrowing;
use crate::egraph::instance::Instance;
use crate::egraph::picks::{Pick, Picks};
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};

/// Rows of a group that are equal or zero.
pub struct MergeInGroups;

/// Outputs and groups that are not picked.
pub struct HoistIntoGroups;

impl Rule for MergeInGroups {
    fn name(&self) -> &'static str {
        "merge-in-groups"
    }

    fn identity(&self) -> &'static str {
        "conv(x,W,b) = gather(conv(x,W[u],b[u]),map), rows of every group equal or zero"
    }

    fn starts(&self, head: &Head) -> bool {
        Grouped::starts(head)
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let grouped = Grouped::of(rewriter, term).filter(|grouped| grouped.outputs > 1);
        { grouped.iter() }
            .filter_map(|grouped| merge(rewriter, grouped))
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let groups = 2 + make.below(2);
        let mut rows: Vec<Pick> = Vec::new();
        for group in 0..groups {
            let own = make.widening(3, 5).moved(|c| group * 5 + c);
            rows.extend(own.0.iter());
            if make.coin() {
                rows[group * 5 + 1] = Pick::Constant(0.0.into());
            }
        }
        let rows: Picks = rows.into_iter().collect();
        let x = make.image(2 * groups);
        let (weight, bias) = (
            make.weight_of(&[5 * groups, 2, 3, 3], 0, &rows),
            make.weight_of(&[5 * groups], 0, &rows),
        );
        grouped::conv(make, groups, true, &[x, weight, bias])
    }
}

fn merge(rewriter: &mut Rewriter<'_>, grouped: &Grouped) -> Option<Id> {
    let rows = rewriter.constants().rows(grouped.weight, 0);
    let bias = grouped.bias_numbers(rewriter);
    let mut kept: Vec<Vec<usize>> = Vec::with_capacity(grouped.groups);
    let mut spread: Vec<Option<usize>> = Vec::with_capacity(bias.len());
    for group in 0..grouped.groups {
        // + 0.0 makes -0.0 and 0.0 one.
        let mut classes: IndexMap<(usize, u64), usize> = IndexMap::new();
        for row in grouped.makes(group) {
            spread.push((!rows.zero[row]).then(|| {
                let entry = classes.entry((rows.equal.class[row], (bias[row] + 0.0).to_bits()));
                let class = entry.index();
                entry.or_insert(row);
                class
            }));
        }
        kept.push(classes.into_values().collect());
    }
    let width = kept.iter().map(Vec::len).max().unwrap_or(0).max(1);
    if width >= grouped.outputs {
        return None;
    }
    let rows = kept.iter().enumerate();
    let rows = rows.flat_map(|(group, kept)| padded(kept, grouped.makes(group), width));
    let merged = grouped.rows(rewriter, grouped.groups, grouped.x, &Picks::channels(rows))?;
    let pick = |(row, class): (usize, &Option<usize>)| match class {
        Some(class) => Pick::channel(row / grouped.outputs * width + class),
        None => Pick::Constant(bias[row].into()),
    };
    let spread = spread.iter().enumerate().map(pick).collect();
    rewriter.gather(merged, 1, spread)
}

impl Rule for HoistIntoGroups {
    fn name(&self) -> &'static str {
        "hoist-into-groups"
    }

    fn identity(&self) -> &'static str {
        "gather(conv(x,W,b),m) = gather(conv(gather(x,G),W[S],b[S]),m'), S of every group that m reads"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Gather { axis: 1, .. })
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some((x, 1, picks)) = narrowing(rewriter, term) else {
            return smallvec![];
        };
        let producers = Grouped::all(rewriter, x);
        rewriter.name_after(x);
        { producers.iter() }
            // The channel table knows how depthwise ones keep channels.
            .filter(|grouped| !grouped.is_depthwise())
            .filter_map(|grouped| hoist(rewriter, grouped, &picks))
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let groups = 2 + make.below(2);
        let x = make.image(2 * groups);
        let (weight, bias) = (
            make.weight(&[3 * groups, 2, 3, 3]),
            make.weight(&[3 * groups]),
        );
        let conv = grouped::conv(make, groups, true, &[x, weight, bias]);
        let picks: Vec<usize> = match make.coin() {
            true => (0..3 * groups).filter(|c| c % 3 != c / 3 % 2).collect(),
            false => (0..2).map(|_| make.below(3)).collect(),
        };
        make.gather(conv, 1, Picks::channels(picks))
    }
}

fn hoist(rewriter: &mut Rewriter<'_>, grouped: &Grouped, picks: &Picks) -> Option<Id> {
    let mut read: Vec<(usize, Vec<usize>)> = Vec::new();
    for row in picks.read() {
        let group = row / grouped.outputs;
        match read.last_mut().filter(|(last, _)| *last == group) {
            Some((_, rows)) => rows.push(row),
            None => read.push((group, vec![row])),
        }
    }
    let width = read.iter().map(|(_, rows)| rows.len()).max()?;
    if read.len() == grouped.groups && width == grouped.outputs {
        return None;
    }
    let rows = { read.iter() }
        .flat_map(|(group, rows)| padded(rows, grouped.makes(*group), width))
        .collect::<Vec<_>>();
    let inputs = read.iter().flat_map(|(group, _)| grouped.reads(*group));
    let x = rewriter.gather(grouped.x, 1, Picks::channels(inputs))?;
    let conv = grouped.rows(
        rewriter,
        read.len(),
        x,
        &Picks::channels(rows.iter().copied()),
    )?;
    let mut place = vec![0; grouped.groups * grouped.outputs];
    rows.iter().enumerate().for_each(|(i, row)| place[*row] = i);
    rewriter.gather(conv, 1, picks.moved(|row| place[row]))
}
