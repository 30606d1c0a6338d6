//! conv(gather(x, m), W, b) = conv(x, W', b'): columns of W that read the same channel are added up.
//!
//! RED's merging on the consumer's side. A channel that is constant adds its share to the bias, where no zero padding meets it.

use egg::Id;

use super::dense::Dense;
use crate::egraph::channel_map::{ChannelMap, MapEntry};
use crate::egraph::constants::{ConstId, Recipe};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::Op;
use crate::ir::channels::WeightAxes;

/// See the module.
pub struct AbsorbGather;

impl Rule for AbsorbGather {
    fn name(&self) -> &'static str {
        "absorb-gather"
    }

    fn identity(&self) -> &'static str {
        "conv(gather(x,m),W,b) = conv(x,W',b'), W' the sums of W's columns over m"
    }

    fn starts(&self, head: &Head) -> bool {
        Dense::starts(head)
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some(dense) = Dense::of(rewriter, term) else {
            return Alternatives::new();
        };
        // The coarsest that can be: what is finer gives nothing that this does not.
        let gathers = rewriter.gathers(dense.x, dense.axis);
        gathers
            .into_iter()
            .find_map(|(x, map)| absorb(rewriter, &dense, x, &map))
            .into_iter()
            .collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let map = make.widening(3, 6);
        let map = make.scaled(&map, false);
        let constants = make.coin();
        let map = if constants {
            make.with_constants(&map)
        } else {
            map
        };
        if make.coin() {
            let (op, shape) =
                [(Op::Linear {}, [4, 6]), (Op::MatMul {}, [6, 4])][make.below(2)].clone();
            let (x, w) = (make.input(&[2, 3]), make.weight(&shape));
            let spread = make.gather(x, 1, map);
            return make.op(op, &[spread, w]);
        }
        let (x, w, b) = (make.image(3), make.weight(&[4, 6, 3, 3]), make.weight(&[4]));
        let spread = make.gather(x, 1, map);
        make.conv(!constants, &[spread, w, b])
    }
}

fn absorb(rewriter: &mut Rewriter<'_>, dense: &Dense, x: Id, map: &ChannelMap) -> Option<Id> {
    // What is multiplied by zero may as well be zero.
    let columns = rewriter.constants().rows(dense.weight, dense.axes.input);
    let zeroed = |(entry, zero): (&MapEntry, &bool)| {
        if *zero {
            MapEntry::Constant(0.0.into())
        } else {
            *entry
        }
    };
    let map: &ChannelMap = &map.0.iter().zip(&columns.zero).map(zeroed).collect();
    let constant = |entry: &MapEntry| matches!(entry, MapEntry::Constant(value) if value.0 != 0.0);
    let constants = map.0.iter().any(constant);
    if constants && !dense.sees_constants() {
        return None;
    }
    // Channels that nobody reads do not come along.
    let read = map.read();
    let narrowed = map.moved(|index| read.partition_point(|c| *c < index));
    let width = read.len();
    // A gather that only narrows has nothing to add up, and one of constants alone leaves no operand.
    if width == 0 || narrowed.is_identity(width) {
        return None;
    }
    let x = rewriter.gather(x, dense.axis, ChannelMap::channels(read))?;
    let bias = if constants {
        let Dense {
            weight, bias, axes, ..
        } = *dense;
        Some(constant_bias(rewriter, weight, bias, axes, map))
    } else {
        dense.bias
    };
    let constants = rewriter.constants();
    let weight = constants.sum(dense.weight, dense.axes.input, narrowed, width);
    dense.with(rewriter, x, weight, bias)
}

/// The bias with what constant channels add to it; for a grouped convolution `map` has the channels of all groups.
pub(super) fn constant_bias(
    rewriter: &mut Rewriter<'_>,
    weight: ConstId,
    bias: Option<ConstId>,
    axes: WeightAxes,
    map: &ChannelMap,
) -> ConstId {
    let name = rewriter.bias_name(weight);
    let constants = rewriter.constants();
    let shape = [constants.shape(weight)[axes.output]];
    let recipe = Recipe::ConstantShare {
        of: weight,
        output: axes.output,
        input: axes.input,
        map: map.clone(),
    };
    let share = constants.add(recipe, weight, name.clone(), &shape);
    match bias {
        Some(a) => constants.add(Recipe::Add { a, b: share }, a, name, &shape),
        None => share,
    }
}
