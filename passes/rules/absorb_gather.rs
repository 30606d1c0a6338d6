//! conv(gather(x, m), W, b) = conv(x, W', b'): columns of W that read the same channel are added up.
//!
//! RED's merging on the consumer's side. A channel that is constant adds its share to the bias, where no zero padding meets it.

use egg::Id;
use smallvec::smallvec;

use super::dense::Dense;
use crate::egraph::constants::{ConstId, Recipe};
use crate::egraph::instance::Instance;
use crate::egraph::picks::{Pick, Picks};
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::Op;

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
            return smallvec![];
        };
        let mut found = smallvec![];
        for (x, picks) in rewriter.gathers(dense.x, dense.axis) {
            found.extend(absorb(rewriter, &dense, x, &picks));
        }
        found
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let picks = make.widening(3, 6);
        let picks = make.scaled(&picks, false);
        let constants = make.coin();
        let picks = if constants {
            make.with_constants(&picks)
        } else {
            picks
        };
        if make.coin() {
            let (x, w) = (make.input(&[2, 3]), make.weight(&[4, 6]));
            let spread = make.gather(x, 1, picks);
            return make.op(Op::Linear {}, &[spread, w]);
        }
        let (x, w, b) = (make.image(3), make.weight(&[4, 6, 3, 3]), make.weight(&[4]));
        let spread = make.gather(x, 1, picks);
        make.conv(!constants, &[spread, w, b])
    }
}

fn absorb(rewriter: &mut Rewriter<'_>, dense: &Dense, x: Id, picks: &Picks) -> Option<Id> {
    let constant = |pick: &Pick| matches!(pick, Pick::Constant(value) if value.0 != 0.0);
    let constants = picks.0.iter().any(constant);
    if constants && !dense.sees_constants() {
        return None;
    }
    // Channels that nobody reads do not come along.
    let read = picks.read();
    let mut position = vec![0; rewriter.ty(x).len(dense.axis)?];
    read.iter()
        .enumerate()
        .for_each(|(i, channel)| position[*channel] = i);
    let narrow = |pick: &Pick| match *pick {
        Pick::Channel { index, scale } => Pick::Channel {
            index: position[index as usize] as u32,
            scale,
        },
        constant => constant,
    };
    let narrowed: Picks = picks.0.iter().map(narrow).collect();
    let width = read.len();
    // A gather that only narrows has nothing to add up, and one of constants alone leaves no operand.
    if width == 0 || narrowed.is_identity(width) {
        return None;
    }
    let x = rewriter.gather(x, dense.axis, Picks::channels(read))?;
    let bias = if constants {
        constant_bias(rewriter, dense, picks)
    } else {
        dense.bias
    };
    let constants = rewriter.constants();
    let (name, shape) = (
        constants.name(dense.weight).clone(),
        constants.shape_with(dense.weight, dense.axes.input, width),
    );
    let recipe = Recipe::Sum {
        of: dense.weight,
        axis: dense.axes.input,
        picks: narrowed,
        width,
    };
    let weight = constants.add(recipe, dense.weight, name, &shape);
    dense.with(rewriter, x, weight, bias)
}

/// The bias with what constant channels add to it.
fn constant_bias(rewriter: &mut Rewriter<'_>, dense: &Dense, picks: &Picks) -> Option<ConstId> {
    let name = rewriter.bias_name(dense.weight);
    let shape = [dense.outputs(rewriter)];
    let constants = rewriter.constants();
    let recipe = Recipe::ConstantShare {
        of: dense.weight,
        output: dense.axes.output,
        input: dense.axes.input,
        picks: picks.clone(),
    };
    let share = constants.add(recipe, dense.weight, name.clone(), &shape);
    Some(match dense.bias {
        Some(a) => constants.add(Recipe::Add { a, b: share }, a, name, &shape),
        None => share,
    })
}
