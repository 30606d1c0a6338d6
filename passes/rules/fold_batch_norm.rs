//! bn(conv(x, W, b)) = conv(x, s W, (b - mean) s + shift) with s = scale / sqrt(variance + eps).
//!
//! Of linear layers too, where the normalised axis is theirs, and of grouped convolutions, whose rows are scaled the same. A
//! batch norm *before* a convolution scales the columns of W instead; its shift must not meet zero padding.

use egg::Id;
use smallvec::smallvec;

use super::dense::Dense;
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
        "bn(conv(x,W,b)) = conv(x,W',b'), conv(bn(x),W,b) = conv(x,W',b')"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Op(Op::BatchNorm { .. })) || Dense::starts(head)
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        match Norm::of(rewriter, term) {
            Some(norm) => {
                let producers: Vec<Term> = rewriter.terms(norm.x).cloned().collect();
                producers
                    .iter()
                    .filter_map(|producer| fold_after(rewriter, &norm, producer))
                    .collect()
            }
            None => {
                let Some(dense) = Dense::of(rewriter, term).filter(Dense::sees_constants) else {
                    return smallvec![];
                };
                let producers: Vec<Term> = rewriter.terms(dense.x).cloned().collect();
                let norms: Vec<Norm> = producers
                    .iter()
                    .filter_map(|term| Norm::of(rewriter, term))
                    .collect();
                norms
                    .iter()
                    .filter_map(|norm| fold_before(rewriter, norm, &dense))
                    .collect()
            }
        }
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
        let produced = match make.below(5) {
            4 => {
                let [scale, shift, mean, variance] = parameters(make);
                let (x, w, b) = (
                    make.image(channels),
                    make.weight(&[3, channels, 3, 3]),
                    make.weight(&[3]),
                );
                let norm = Op::BatchNorm { eps: 1e-5.into() };
                let normalised = make.op(norm, &[x, scale, shift, mean, variance]);
                return make.conv(false, &[normalised, w, b]);
            }
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

/// A batch norm with constant parameters.
struct Norm {
    x: Id,
    shift: ConstId,
    mean: ConstId,
    /// scale / sqrt(variance + eps).
    by: ConstId,
}

impl Norm {
    fn of(rewriter: &mut Rewriter<'_>, term: &Term) -> Option<Norm> {
        let Head::Op(Op::BatchNorm { eps }) = term.head else {
            return None;
        };
        let parameters: Option<Vec<ConstId>> = term.children[1..]
            .iter()
            .map(|id| rewriter.constant(*id))
            .collect();
        let &[scale, shift, mean, variance] = parameters?.as_slice() else {
            return None;
        };
        let constants = rewriter.constants();
        let (name, shape) = (
            constants.name(scale).clone(),
            constants.shape(scale).to_vec(),
        );
        let by = constants.add(
            Recipe::NormScale {
                scale,
                variance,
                eps,
            },
            scale,
            name,
            &shape,
        );
        Some(Norm {
            x: term.children[0],
            shift,
            mean,
            by,
        })
    }
}

/// bn(conv(x)) as a convolution.
fn fold_after(rewriter: &mut Rewriter<'_>, norm: &Norm, producer: &Term) -> Option<Id> {
    let Head::Op(op) = &producer.head else {
        return None;
    };
    let axis = rows_axis(op, rewriter.ty(norm.x).rank())?;
    let weight = rewriter.constant(producer.children[1])?;
    let bias = match producer.children.get(2) {
        Some(bias) => Some(rewriter.constant(*bias)?),
        None => None,
    };
    let bias_name = rewriter.bias_name(weight);
    let constants = rewriter.constants();
    let (name, shape) = (
        constants.name(weight).clone(),
        constants.shape(weight).to_vec(),
    );
    let channels = constants.shape(norm.by).to_vec();
    let weight = constants.add(
        Recipe::Scale {
            of: weight,
            axis,
            by: norm.by,
        },
        weight,
        name,
        &shape,
    );
    let affine = Recipe::Affine {
        a: bias,
        by: norm.by,
        plus: norm.shift,
        minus: norm.mean,
    };
    let bias = constants.add(affine, weight, bias_name, &channels);
    let children = [
        producer.children[0],
        rewriter.add_constant(weight),
        rewriter.add_constant(bias),
    ];
    rewriter.op(op.clone(), &children)
}

/// conv(bn(x)) as a convolution of x.
fn fold_before(rewriter: &mut Rewriter<'_>, norm: &Norm, dense: &Dense) -> Option<Id> {
    if dense.axis != 1 || matches!(dense.op, Op::MatMul {}) {
        return None;
    }
    let (bias_name, outputs) = (rewriter.bias_name(dense.weight), [dense.outputs(rewriter)]);
    let constants = rewriter.constants();
    let (name, shape) = (
        constants.name(dense.weight).clone(),
        constants.shape(dense.weight).to_vec(),
    );
    let channels = constants.shape(norm.by).to_vec();
    let scaled = Recipe::Scale {
        of: dense.weight,
        axis: dense.axes.input,
        by: norm.by,
    };
    let weight = constants.add(scaled, dense.weight, name, &shape);
    // What the norm makes of 0 reaches every output through all taps.
    let zero = Recipe::Affine {
        a: None,
        by: norm.by,
        plus: norm.shift,
        minus: norm.mean,
    };
    let zero = constants.add(zero, norm.shift, bias_name.clone(), &channels);
    let share = Recipe::Apply {
        weight: dense.weight,
        by: zero,
    };
    let share = constants.add(share, weight, bias_name.clone(), &outputs);
    let bias = match dense.bias {
        Some(a) => constants.add(Recipe::Add { a, b: share }, a, bias_name, &outputs),
        None => share,
    };
    dense.with(rewriter, norm.x, weight, Some(bias))
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
