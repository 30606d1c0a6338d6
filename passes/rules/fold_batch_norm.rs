//! bn(conv(x, W, b)) = conv(x, s W, (b - mean) s + shift) with s = scale / sqrt(variance + eps).
//!
//! Of linear layers too, where the normalised axis is theirs, and of grouped convolutions, whose rows are scaled the same.

use egg::Id;
use smallvec::smallvec;

use crate::egraph::constants::{ConstId, Recipe};
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::{Ints, Op, Padding};

/// See the module.
pub struct FoldBatchNorm;

impl Rule for FoldBatchNorm {
    fn name(&self) -> &'static str {
        "fold-batch-norm"
    }

    fn identity(&self) -> &'static str {
        "bn(conv(x,W,b)) = conv(x,W',b')"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Op(Op::BatchNorm { .. }))
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        let Head::Op(Op::BatchNorm { eps }) = term.head else {
            return smallvec![];
        };
        let parameters: Option<Vec<ConstId>> = term.children[1..]
            .iter()
            .map(|id| rewriter.constant(*id))
            .collect();
        let Some(&[scale, shift, mean, variance]) = parameters.as_deref() else {
            return smallvec![];
        };
        let producers: Vec<Term> = rewriter.terms(term.children[0]).cloned().collect();
        let mut found = smallvec![];
        for producer in producers {
            let Head::Op(op) = &producer.head else {
                continue;
            };
            let Some(axis) = rows_axis(op, rewriter.ty(term.children[0]).rank()) else {
                continue;
            };
            let Some(weight) = rewriter.constant(producer.children[1]) else {
                continue;
            };
            let bias = match producer.children.get(2).map(|id| rewriter.constant(*id)) {
                Some(None) => continue,
                bias => bias.flatten(),
            };
            let (weight_name, bias_name) = (
                rewriter.constants().name(weight).clone(),
                rewriter.bias_name(weight),
            );
            let constants = rewriter.constants();
            let channels = constants.shape(scale).to_vec();
            let scale_name = constants.name(scale).clone();
            let by = constants.add(
                Recipe::NormScale {
                    scale,
                    variance,
                    eps,
                },
                scale,
                scale_name,
                &channels,
            );
            let shape = constants.shape(weight).to_vec();
            let weight = constants.add(
                Recipe::Scale {
                    of: weight,
                    axis,
                    by,
                },
                weight,
                weight_name,
                &shape,
            );
            let affine = Recipe::Affine {
                a: bias,
                by,
                plus: shift,
                minus: mean,
            };
            let bias = constants.add(affine, weight, bias_name, &channels);
            let children = [
                producer.children[0],
                rewriter.add_constant(weight),
                rewriter.add_constant(bias),
            ];
            found.extend(rewriter.op(op.clone(), &children));
        }
        found
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let channels = 2 + make.below(4);
        let parameters = |make: &mut Instance<'_>| {
            let vectors = [
                make.weight(&[channels]),
                make.weight(&[channels]),
                make.weight(&[channels]),
            ];
            [
                vectors[0],
                vectors[1],
                vectors[2],
                make.positive(&[channels]),
            ]
        };
        let produced = match make.below(4) {
            0 => {
                let (x, w) = (make.input(&[3, 4]), make.weight(&[channels, 4]));
                make.op(Op::Linear {}, &[x, w])
            }
            1 => {
                let (x, w, b) = (
                    make.image(channels),
                    make.weight(&[channels, 1, 3, 3]),
                    make.weight(&[channels]),
                );
                let ones = || Ints::from_elem(1, 2);
                let pad = Padding::symmetric([1, 1]);
                make.op(
                    Op::Conv {
                        stride: ones(),
                        pad,
                        dilation: ones(),
                        groups: channels,
                    },
                    &[x, w, b],
                )
            }
            2 => {
                let (x, w, b) = (
                    make.image(3),
                    make.weight(&[3, channels, 2, 2]),
                    make.weight(&[channels]),
                );
                let (ones, twos) = (Ints::from_elem(1, 2), Ints::from_elem(2, 2));
                let (pad, output_pad) = (Padding::symmetric([1, 0]), Ints::from_elem(0, 2));
                make.op(
                    Op::ConvTranspose {
                        stride: twos,
                        pad,
                        output_pad,
                        dilation: ones,
                        groups: 1,
                    },
                    &[x, w, b],
                )
            }
            _ => {
                let (x, w, b) = (
                    make.image(3),
                    make.weight(&[channels, 3, 3, 3]),
                    make.weight(&[channels]),
                );
                make.conv(true, &[x, w, b])
            }
        };
        let [scale, shift, mean, variance] = parameters(make);
        make.op(
            Op::BatchNorm { eps: 1e-5.into() },
            &[produced, scale, shift, mean, variance],
        )
    }
}

/// The axis of the weight whose slices make one channel of axis 1 of the result each.
fn rows_axis(op: &Op, rank: Option<usize>) -> Option<usize> {
    match op {
        Op::Conv { .. } => Some(0),
        Op::ConvTranspose { groups: 1, .. } => Some(1),
        Op::Linear {} if rank == Some(2) => Some(0),
        _ => None,
    }
}
