//! conv(x, W, b) = gather(conv(x, W[u], b[u]), map): equal neurons are computed once.
//!
//! RED's merging (Yvinec et al. 2021, section 3), exact as the rows are equal. [`MergeProportional`] goes beyond the paper: rows
//! equal up to a positive factor, bias included, are one row and a factor, which `gather-through` takes across ReLU.

use egg::Id;
use smallvec::smallvec;

use super::dense::Dense;
use crate::egraph::channel_map::{ChannelMap, MapEntry, Partition};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::DType;

/// Rows equal bit for bit.
pub struct MergeEqual;

/// Rows equal up to a positive factor.
pub struct MergeProportional;

/// Rows by equal weights and equal biases.
pub(super) fn equal_rows(rewriter: &mut Rewriter<'_>, dense: &Dense) -> Partition {
    let rows = rewriter.constants().rows(dense.weight, dense.axes.output);
    let bias = dense
        .bias
        .map(|bias| rewriter.constants().f64(bias).into_owned());
    // + 0.0 makes -0.0 and 0.0 one.
    let key = |(c, class): (usize, &usize)| (*class, bias.as_ref().map(|b| (b[c] + 0.0).to_bits()));
    Partition::by_key(rows.equal.class.iter().enumerate().map(key))
}

impl Rule for MergeEqual {
    fn name(&self) -> &'static str {
        "merge-equal"
    }

    fn identity(&self) -> &'static str {
        "conv(x,W,b) = gather(conv(x,W[u],b[u]),map), rows equal"
    }

    fn starts(&self, head: &Head) -> bool {
        Dense::starts(head)
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some(dense) = Dense::of(rewriter, term) else {
            return smallvec![];
        };
        let partition = equal_rows(rewriter, &dense);
        if partition.first.len() == partition.class.len() {
            return smallvec![];
        }
        let all = partition.class.into_iter().map(MapEntry::channel).collect();
        spread(rewriter, &dense, partition.first, all)
            .into_iter()
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let rows = make.widening(3, 5);
        let mut rows = rows.0.to_vec();
        if make.coin() {
            rows.push(MapEntry::Constant(0.0.into()));
        }
        redundant_conv(make, &rows.into_iter().collect())
    }
}

impl Rule for MergeProportional {
    fn name(&self) -> &'static str {
        "merge-proportional"
    }

    fn identity(&self) -> &'static str {
        "conv(x,W,b) = gather(conv(x,W[u],b[u]),map,factors), rows equal up to a positive factor"
    }

    fn starts(&self, head: &Head) -> bool {
        Dense::starts(head)
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some(dense) = Dense::of(rewriter, term) else {
            return smallvec![];
        };
        let rows = rewriter.constants().rows(dense.weight, dense.axes.output);
        if rows.proportional.first.len() == rows.equal.first.len() {
            return smallvec![];
        }
        let bias = dense
            .bias
            .map(|bias| rewriter.constants().f64(bias).into_owned());
        let epsilon = if rewriter.constants().dtype(dense.weight) == DType::F64 {
            f64::EPSILON
        } else {
            f32::EPSILON.into()
        };
        let bias_of = |c: usize| bias.as_ref().map_or(0.0, |b| b[c]);
        let mut first: Vec<usize> = Vec::new();
        let mut map: Vec<MapEntry> = Vec::new();
        for (c, class) in rows.proportional.class.iter().enumerate() {
            let fits = |f: &usize| {
                let ratio = rows.factor[c] / rows.factor[*f];
                let error = (bias_of(*f) * ratio - bias_of(c)).abs();
                rows.proportional.class[*f] == *class
                    && !rows.zero[c]
                    && error <= 4.0 * epsilon * bias_of(c).abs()
            };
            match first.iter().position(fits) {
                Some(at) => {
                    let scale = rows.factor[c] / rows.factor[first[at]];
                    map.push(MapEntry::Channel {
                        index: at as u32,
                        scale: scale.into(),
                    });
                }
                None => {
                    map.push(MapEntry::channel(first.len()));
                    first.push(c);
                }
            }
        }
        if first.len() >= equal_rows(rewriter, &dense).first.len() {
            return smallvec![];
        }
        spread(rewriter, &dense, first, map).into_iter().collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let rows = make.widening(3, 5);
        let rows = make.scaled(&rows, true);
        let last = MapEntry::Channel {
            index: 0,
            scale: 0.75.into(),
        };
        redundant_conv(
            make,
            &rows
                .0
                .iter()
                .copied()
                .chain([MapEntry::channel(0), last])
                .collect(),
        )
    }
}

/// The layer computing the rows `first` alone, and its channels made of them. Zero rows are constants and not computed, as
/// `fold-constant-channel` has it where nothing is equal: one alternative that knows all.
fn spread(
    rewriter: &mut Rewriter<'_>,
    dense: &Dense,
    first: Vec<usize>,
    map: Vec<MapEntry>,
) -> Option<Id> {
    let rows = rewriter.constants().rows(dense.weight, dense.axes.output);
    let bias = dense
        .bias
        .map(|bias| rewriter.constants().f64(bias).into_owned());
    let mut kept: Vec<usize> = first.iter().copied().filter(|r| !rows.zero[*r]).collect();
    if kept.is_empty() {
        // A value without channels is none.
        kept.push(first[0]);
    }
    let entry = |(row, entry): (usize, &MapEntry)| match *entry {
        _ if rows.zero[row] => {
            MapEntry::Constant(bias.as_ref().map_or(0.0, |bias| bias[row]).into())
        }
        MapEntry::Channel { index, scale } => {
            let row = first[index as usize];
            MapEntry::Channel {
                index: kept.partition_point(|kept| *kept < row) as u32,
                scale,
            }
        }
        constant => constant,
    };
    let map = map.iter().enumerate().map(entry).collect();
    let merged = dense.rows(rewriter, &ChannelMap::channels(kept.iter().copied()))?;
    rewriter.gather(merged, dense.axis, map)
}

/// A convolution or a linear layer whose rows are picked from random ones.
pub(super) fn redundant_conv(make: &mut Instance<'_>, rows: &ChannelMap) -> Id {
    if make.coin() {
        let (x, w) = (
            make.input(&[2, 4]),
            make.weight_of(&[rows.len(), 4], 0, rows),
        );
        return make.op(crate::ir::Op::Linear {}, &[x, w]);
    }
    let (x, w) = (
        make.image(2),
        make.weight_of(&[rows.len(), 2, 3, 3], 0, rows),
    );
    let b = make.weight_of(&[rows.len()], 0, rows);
    make.conv(true, &[x, w, b])
}
