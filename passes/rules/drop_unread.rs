//! conv(x, W, b) = conv(gather(x, S), W[:, S], b), S the channels whose slices of W are not all zero.
//!
//! Where nobody else reads the other channels either, whoever asks for saturation has set them to zero where they are computed, and
//! the gather meets another that knows that.

use egg::Id;
use smallvec::smallvec;

use super::dense::Dense;
use crate::egraph::channel_map::{ChannelMap, MapEntry};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};

/// See the module.
pub struct DropUnread;

impl Rule for DropUnread {
    fn name(&self) -> &'static str {
        "drop-unread"
    }

    fn identity(&self) -> &'static str {
        "conv(x,W,b) = conv(gather(x,S),W[:,S],b), other slices of W zero"
    }

    fn starts(&self, head: &Head) -> bool {
        Dense::starts(head)
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some(dense) = Dense::of(rewriter, term) else {
            return smallvec![];
        };
        let rows = rewriter.constants().rows(dense.weight, dense.axes.input);
        let mut read: Vec<usize> = (0..rows.zero.len()).filter(|c| !rows.zero[*c]).collect();
        if read.is_empty() {
            // A value without channels is none: the result stays a function of x, as it was.
            read.push(0);
        }
        if read.len() == rows.zero.len() {
            return smallvec![];
        }
        let map = ChannelMap::channels(read);
        let weight = rewriter.gather_constant(dense.weight, dense.axes.input, map.clone());
        let x = rewriter.gather(dense.x, dense.axis, map);
        x.and_then(|x| dense.with(rewriter, x, weight, dense.bias))
            .into_iter()
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let mut columns: Vec<MapEntry> = (0..4).map(MapEntry::channel).collect();
        columns[make.below(4)] = MapEntry::Constant(0.0.into());
        columns.push(MapEntry::Constant(0.0.into()));
        let columns = columns.into_iter().collect();
        let (x, w, b) = (
            make.image(5),
            make.weight_of(&[3, 5, 3, 3], 1, &columns),
            make.weight(&[3]),
        );
        make.conv(true, &[x, w, b])
    }
}
