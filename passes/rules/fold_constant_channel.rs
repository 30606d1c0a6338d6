//! conv(x, W, b) = gather(conv(x, W[nz], b[nz]), [.. constants ..]): a zero row computes its bias, whatever x is.
//!
//! Of depthwise convolutions too, and of a batch norm with a scale of zero. `gather-through` carries the constants on, and
//! `absorb-gather` puts them into a consumer's bias where padding allows.

use egg::Id;

use super::dense::Dense;
use super::merge_equal::equal_rows;
use crate::egraph::channel_map::{ChannelMap, MapEntry};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::Op;

/// See the module.
pub struct FoldConstantChannel;

impl Rule for FoldConstantChannel {
    fn name(&self) -> &'static str {
        "fold-constant-channel"
    }

    fn identity(&self) -> &'static str {
        "conv(x,W,b) = gather(conv(x,W[nz],b[nz]),[..,b[z],..]), rows z of W zero"
    }

    fn starts(&self, head: &Head) -> bool {
        Dense::starts(head) || matches!(head, Head::Op(Op::BatchNorm { .. }))
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let folded = match &term.head {
            Head::Op(Op::BatchNorm { .. }) => fold_norm(rewriter, term),
            _ => fold_dense(rewriter, term),
        };
        folded.into_iter().collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let mut rows: Vec<MapEntry> = (0..4).map(MapEntry::channel).collect();
        rows[make.below(4)] = MapEntry::Constant(0.0.into());
        let rows: ChannelMap = rows.into_iter().collect();
        if make.coin() {
            let (x, scale) = (make.image(4), make.weight_of(&[4], 0, &rows));
            let others = [make.weight(&[4]), make.weight(&[4]), make.positive(&[4])];
            return make.op(
                Op::BatchNorm { eps: 1e-5.into() },
                &[x, scale, others[0], others[1], others[2]],
            );
        }
        let (x, w, b) = (
            make.image(2),
            make.weight_of(&[4, 2, 3, 3], 0, &rows),
            make.weight(&[4]),
        );
        make.conv(true, &[x, w, b])
    }
}

fn fold_dense(rewriter: &mut Rewriter<'_>, term: &Term) -> Option<Id> {
    let dense = Dense::of(rewriter, term)?;
    let equal = equal_rows(rewriter, &dense);
    if equal.first.len() < equal.class.len() {
        // `merge-equal` does this too.
        return None;
    }
    let rows = rewriter.constants().rows(dense.weight, dense.axes.output);
    let bias = dense
        .bias
        .map(|bias| rewriter.constants().f64(bias).into_owned());
    let (kept, spread) = split(&rows.zero, |c| bias.as_ref().map_or(0.0, |b| b[c]))?;
    let folded = dense.rows(rewriter, &kept)?;
    rewriter.gather(folded, dense.axis, spread)
}

fn fold_norm(rewriter: &mut Rewriter<'_>, term: &Term) -> Option<Id> {
    let (scale, shift) = (
        rewriter.constant(term.children[1])?,
        rewriter.constant(term.children[2])?,
    );
    let zero: Vec<bool> = rewriter
        .constants()
        .f64(scale)
        .iter()
        .map(|s| *s == 0.0)
        .collect();
    let shift = rewriter.constants().f64(shift).into_owned();
    let (kept, spread) = split(&zero, |c| shift[c])?;
    let mut children = vec![rewriter.gather(term.children[0], 1, kept.clone())?];
    for parameter in &term.children[1..] {
        children.push(rewriter.gather(*parameter, 0, kept.clone())?);
    }
    let Head::Op(op) = &term.head else {
        return None;
    };
    let folded = rewriter.op(op.clone(), &children)?;
    rewriter.gather(folded, 1, spread)
}

/// The channels that are kept, and what every channel is in terms of them; `None` if there is nothing to fold. One channel
/// always stays, since a value without channels is none.
fn split(zero: &[bool], constant: impl Fn(usize) -> f64) -> Option<(ChannelMap, ChannelMap)> {
    let mut kept: Vec<usize> = (0..zero.len()).filter(|c| !zero[*c]).collect();
    if kept.is_empty() {
        kept.push(0);
    }
    if kept.len() == zero.len() {
        return None;
    }
    let spread = (0..zero.len()).map(|c| match kept.binary_search(&c) {
        Ok(at) => MapEntry::channel(at),
        Err(_) => MapEntry::Constant(constant(c).into()),
    });
    let spread = spread.collect();
    Some((ChannelMap::channels(kept), spread))
}
