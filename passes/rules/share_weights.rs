//! conv(x, W, b) = gather(conv(x, W[u]), map) + b: equal weights with different biases.
//!
//! The common case after a batch norm was folded. Costs a gather and an addition, so it pays where the kernel is dear.

use egg::Id;
use smallvec::smallvec;

use super::dense::Dense;
use super::merge_equal::equal_rows;
use crate::egraph::channel_map::ChannelMap;
use crate::egraph::constants::Recipe;
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::Op;

/// See the module.
pub struct ShareWeights;

impl Rule for ShareWeights {
    fn name(&self) -> &'static str {
        "share-weights"
    }

    fn identity(&self) -> &'static str {
        "conv(x,W,b) = gather(conv(x,W[u]),map) + b, rows of W equal"
    }

    fn starts(&self, head: &Head) -> bool {
        Dense::starts(head)
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some(dense) = Dense::of(rewriter, term) else {
            return smallvec![];
        };
        let Some(bias) = dense.bias else {
            return smallvec![];
        };
        let rows = rewriter.constants().rows(dense.weight, dense.axes.output);
        if rows.equal.first.len() == equal_rows(rewriter, &dense).first.len() {
            return smallvec![];
        }
        let Some(rank) = rewriter.ty(dense.x).rank() else {
            return smallvec![];
        };
        let unique = ChannelMap::channels(rows.equal.first.iter().copied());
        let weight = rewriter.gather_constant(dense.weight, dense.axes.output, unique);
        let spread = ChannelMap::channels(rows.equal.class.iter().copied());
        let shared = dense.with(rewriter, dense.x, weight, None);
        let Some(shared) = shared.and_then(|shared| rewriter.gather(shared, dense.axis, spread))
        else {
            return smallvec![];
        };
        let mut shape = vec![1; rank - dense.axis];
        shape[0] = rows.equal.class.len();
        let name = rewriter.constants().name(bias).clone();
        let recipe = Recipe::Reshape {
            of: bias,
            shape: shape.as_slice().into(),
        };
        let bias = rewriter.constants().add(recipe, bias, name, &shape);
        let bias = rewriter.add_constant(bias);
        rewriter
            .op(Op::Add {}, &[shared, bias])
            .into_iter()
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let rows = make.widening(3, 5);
        let (x, w, b) = (
            make.image(2),
            make.weight_of(&[5, 2, 3, 3], 0, &rows),
            make.weight(&[5]),
        );
        make.conv(true, &[x, w, b])
    }
}
