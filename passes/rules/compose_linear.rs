//! conv1x1(conv(x, W, b), V, c) = conv(x, V W, V b + c), and the same with the 1x1 inside.
//!
//! Two linear operators with nothing between them are one. Whether the product is cheaper than its factors is for extraction
//! to say: a bottleneck's factors are.

use egg::Id;
use smallvec::smallvec;

use super::dense::Dense;
use crate::egraph::constants::{ConstId, Recipe};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::{Ints, Op, Padding};

/// See the module.
pub struct ComposeLinear;

impl Rule for ComposeLinear {
    fn name(&self) -> &'static str {
        "compose-linear"
    }

    fn identity(&self) -> &'static str {
        "conv1x1(conv(x,W,b),V,c) = conv(x,VW,Vb+c)"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Op(Op::Conv { groups: 1, .. } | Op::Linear {}))
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Some(outer) = Dense::of(rewriter, term) else {
            return smallvec![];
        };
        let mut found = smallvec![];
        for inner in Dense::all(rewriter, outer.x) {
            if is_linear(&outer.op) != is_linear(&inner.op)
                || matches!(inner.op, Op::ConvTranspose { .. } | Op::MatMul {})
            {
                continue;
            }
            if is_pointwise(rewriter, &outer) {
                found.extend(compose(rewriter, &outer, &inner, &inner, true));
            } else if is_pointwise(rewriter, &inner)
                && (inner.bias.is_none() || outer.sees_constants())
            {
                found.extend(compose(rewriter, &outer, &inner, &outer, false));
            }
        }
        found
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let pointwise = |make: &mut Instance<'_>, children: &[Id]| {
            let ones = || Ints::from_elem(1, 2);
            make.op(
                Op::Conv {
                    stride: ones(),
                    pad: Padding::symmetric([0, 0]),
                    dilation: ones(),
                    groups: 1,
                },
                children,
            )
        };
        match make.below(3) {
            0 => {
                let (x, w, b, v) = (
                    make.input(&[2, 3, 4]),
                    make.weight(&[5, 4]),
                    make.weight(&[5]),
                    make.weight(&[2, 5]),
                );
                let inner = make.op(Op::Linear {}, &[x, w, b]);
                make.op(Op::Linear {}, &[inner, v])
            }
            1 => {
                let (x, w, b) = (make.image(2), make.weight(&[4, 2, 3, 3]), make.weight(&[4]));
                let (v, c) = (make.weight(&[3, 4, 1, 1]), make.weight(&[3]));
                let inner = make.conv(true, &[x, w, b]);
                pointwise(make, &[inner, v, c])
            }
            _ => {
                let (x, w, b) = (make.image(2), make.weight(&[4, 2, 1, 1]), make.weight(&[4]));
                let (v, c) = (make.weight(&[3, 4, 3, 3]), make.weight(&[3]));
                let inner = pointwise(make, &[x, w, b]);
                make.conv(false, &[inner, v, c])
            }
        }
    }
}

fn is_linear(op: &Op) -> bool {
    matches!(op, Op::Linear {})
}

/// Whether each position of the result depends on that position of the operand alone.
fn is_pointwise(rewriter: &mut Rewriter<'_>, dense: &Dense) -> bool {
    match &dense.op {
        Op::Linear {} => true,
        Op::Conv { stride, pad, .. } => {
            let kernel = &rewriter.constants().shape(dense.weight)[2..];
            pad.is_zero() && kernel.iter().chain(stride).all(|n| *n == 1)
        }
        _ => false,
    }
}

/// The product of `outer` after `inner`, with the geometry of `like`.
fn compose(
    rewriter: &mut Rewriter<'_>,
    outer: &Dense,
    inner: &Dense,
    like: &Dense,
    outer_pointwise: bool,
) -> Option<Id> {
    let bias = compose_bias(rewriter, outer, inner);
    let constants = rewriter.constants();
    let (v, w) = (constants.shape(outer.weight), constants.shape(inner.weight));
    let mut shape = vec![v[0], w[1]];
    let (recipe, kernel) = if outer_pointwise {
        (
            Recipe::ComposeOuter {
                outer: outer.weight,
                inner: inner.weight,
            },
            &w[2..],
        )
    } else {
        (
            Recipe::ComposeInner {
                outer: outer.weight,
                inner: inner.weight,
            },
            &v[2..],
        )
    };
    shape.extend(kernel);
    let name = constants.name(outer.weight).clone();
    let weight = constants.add(recipe, like.weight, name, &shape);
    like.with(rewriter, inner.x, weight, bias)
}

/// V b + c, as far as b and c are there.
fn compose_bias(rewriter: &mut Rewriter<'_>, outer: &Dense, inner: &Dense) -> Option<ConstId> {
    let Some(by) = inner.bias else {
        return outer.bias;
    };
    let name = rewriter.bias_name(outer.weight);
    let shape = [outer.outputs(rewriter)];
    let constants = rewriter.constants();
    let through = constants.add(
        Recipe::Apply {
            groups: 1,
            weight: outer.weight,
            by,
        },
        by,
        name.clone(),
        &shape,
    );
    Some(match outer.bias {
        Some(a) => constants.add(Recipe::Add { a, b: through }, a, name, &shape),
        None => through,
    })
}
