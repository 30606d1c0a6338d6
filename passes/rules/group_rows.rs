//! conv(x, W, b) = gather(conv(x, W[u], b[u]), map) within groups: what `merge-equal` and `fold-constant-channel` are for dense ones.
//!
//! All groups must have as many outputs, so they lose as many as the group that has the fewest to lose. Or the groups that have more to
//! lose become a convolution of their own.

use egg::Id;
use indexmap::IndexMap;

use super::grouped::{self, Grouped, padded};
use crate::egraph::channel_map::{ChannelMap, MapEntry};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::Op;

/// Rows of a group that are equal or zero.
pub struct MergeInGroups;

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
        let Some(grouped) = Grouped::of(rewriter, term).filter(|grouped| grouped.outputs > 1)
        else {
            return Alternatives::new();
        };
        let rows = Distinct::of(rewriter, &grouped);
        let even = rows.even(rewriter, &grouped);
        even.into_iter()
            .chain(rows.in_two(rewriter, &grouped))
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let groups = 2 + make.below(2);
        let mut rows: Vec<MapEntry> = Vec::new();
        for group in 0..groups {
            let own = make.widening(3, 5).moved(|c| group * 5 + c);
            rows.extend(own.0.iter());
            if make.coin() {
                rows[group * 5 + 1] = MapEntry::Constant(0.0.into());
            }
        }
        let rows: ChannelMap = rows.into_iter().collect();
        let x = make.image(2 * groups);
        let (weight, bias) = (
            make.weight_of(&[5 * groups, 2, 3, 3], 0, &rows),
            make.weight_of(&[5 * groups], 0, &rows),
        );
        grouped::conv(make, groups, true, &[x, weight, bias])
    }
}

/// The rows of each group that differ and are not zero.
struct Distinct {
    /// For each group the first row of each class.
    kept: Vec<Vec<usize>>,
    /// For each row its class in its group; `None` if it is zero.
    class: Vec<Option<usize>>,
    bias: Vec<f64>,
}

impl Distinct {
    fn of(rewriter: &mut Rewriter<'_>, grouped: &Grouped) -> Distinct {
        let rows = rewriter.constants().rows(grouped.weight, 0);
        let bias = grouped.bias_numbers(rewriter);
        let (mut kept, mut class) = (Vec::new(), Vec::new());
        for group in 0..grouped.groups {
            // + 0.0 makes -0.0 and 0.0 one.
            let mut classes: IndexMap<(usize, u64), usize> = IndexMap::new();
            for row in grouped.makes(group) {
                class.push((!rows.zero[row]).then(|| {
                    let key = (rows.equal.class[row], (bias[row] + 0.0).to_bits());
                    let entry = classes.entry(key);
                    let index = entry.index();
                    entry.or_insert(row);
                    index
                }));
            }
            kept.push(classes.into_values().collect());
        }
        Distinct { kept, class, bias }
    }

    /// The most rows that a group has, at least one: a convolution without outputs is none.
    fn width<'a>(&self, groups: impl IntoIterator<Item = &'a usize>) -> usize {
        let widths = groups.into_iter().map(|group| self.kept[*group].len());
        widths.max().unwrap_or(0).max(1)
    }

    /// All groups with as many rows as the one that has most.
    fn even(&self, rewriter: &mut Rewriter<'_>, grouped: &Grouped) -> Option<Id> {
        let all: Vec<usize> = (0..grouped.groups).collect();
        let width = self.width(&all);
        if width >= grouped.outputs {
            return None;
        }
        let merged = self.part(rewriter, grouped, &all, width)?;
        self.spread(rewriter, grouped, merged, |group| group * width)
    }

    /// The groups with few rows apart from those with many, as two convolutions.
    fn in_two(&self, rewriter: &mut Rewriter<'_>, grouped: &Grouped) -> Option<Id> {
        if rewriter.constants().whole(grouped.weight) != grouped.weight {
            // Rows of another: that was taken apart.
            return None;
        }
        let all: Vec<usize> = (0..grouped.groups).collect();
        let most = self.width(&all);
        let few = |limit: usize| {
            all.iter()
                .copied()
                .partition(|g| self.kept[*g].len() <= limit)
        };
        let rows = |limit: &usize| {
            let (narrow, wide): (Vec<usize>, Vec<usize>) = few(*limit);
            narrow.len() * limit + wide.len() * most
        };
        let limit = (1..most).min_by_key(rows)?;
        let (narrow, wide): (Vec<usize>, Vec<usize>) = few(limit);
        if narrow.is_empty() {
            return None;
        }
        let parts = [
            self.part(rewriter, grouped, &narrow, limit)?,
            self.part(rewriter, grouped, &wide, most)?,
        ];
        let joined = rewriter.op(Op::Concat { axis: 1 }, &parts)?;
        self.spread(rewriter, grouped, joined, |group| {
            match narrow.binary_search(&group) {
                Ok(at) => at * limit,
                Err(before) => narrow.len() * limit + (group - before) * most,
            }
        })
    }

    /// The convolution of some groups, with `width` rows each.
    fn part(
        &self,
        rewriter: &mut Rewriter<'_>,
        grouped: &Grouped,
        groups: &[usize],
        width: usize,
    ) -> Option<Id> {
        let rows = groups.iter();
        let rows = rows.flat_map(|g| padded(&self.kept[*g], grouped.makes(*g), width));
        let rows = ChannelMap::channels(rows);
        let inputs = ChannelMap::channels(groups.iter().flat_map(|g| grouped.reads(*g)));
        let x = rewriter.gather(grouped.x, 1, inputs)?;
        grouped.rows(rewriter, groups.len(), x, &rows)
    }

    /// How all outputs are made of those computed, of which those of each group begin where `first` says.
    fn spread(
        &self,
        rewriter: &mut Rewriter<'_>,
        grouped: &Grouped,
        merged: Id,
        first: impl Fn(usize) -> usize,
    ) -> Option<Id> {
        let entry = |(row, class): (usize, &Option<usize>)| match class {
            Some(class) => MapEntry::channel(first(row / grouped.outputs) + class),
            None => MapEntry::Constant(self.bias[row].into()),
        };
        let spread = self.class.iter().enumerate().map(entry).collect();
        rewriter.gather(merged, 1, spread)
    }
}
