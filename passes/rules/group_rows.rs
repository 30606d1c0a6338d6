//! conv(x, W, b) = gather(conv(x, W[u], b[u]), map) within groups: what `merge-equal` and `fold-constant-channel` are for dense ones.
//!
//! All groups must have as many outputs, so they lose as many as the group that has the fewest to lose.

use egg::Id;
use indexmap::IndexMap;

use super::grouped::{self, Grouped, padded};
use crate::egraph::instance::Instance;
use crate::egraph::picks::{Pick, Picks};
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};

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
