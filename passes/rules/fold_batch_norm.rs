//! bn(conv(x, W, b)) = conv(x, s W, (b - mean) s + shift) with s = scale / sqrt(variance + eps).
//!
//! Of linear layers too, where the normalised axis is theirs, and of grouped convolutions of both directions, where each group has
//! its own part of s. A batch norm *before* a convolution scales the columns of W instead; its shift must not meet zero padding.

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
        "bn(conv(x,W,b)) = conv(x,W',b'), conv(bn(x),W,b) = conv(x,W',b')"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(
            head,
            Head::Op(Op::BatchNorm { .. } | Op::Conv { .. } | Op::Linear {})
        )
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
                let Some(layer) = Layer::of(rewriter, term) else {
                    return smallvec![];
                };
                let producers: Vec<Term> = rewriter.terms(layer.x).cloned().collect();
                let norms: Vec<Norm> = producers
                    .iter()
                    .filter_map(|term| Norm::of(rewriter, term))
                    .collect();
                norms
                    .iter()
                    .filter_map(|norm| fold_before(rewriter, norm, &layer))
                    .collect()
            }
        }
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let mut channels = 2 + make.below(4);
        let produced = match make.below(5) {
            4 => return normalised_first(make, channels),
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
                make.op(depthwise(channels, [1, 1]), &[x, w, b])
            }
            2 => {
                // Two groups at times: their channels follow each other in the result.
                let groups = 1 + make.below(2);
                let (x, w) = (make.image(4), make.weight(&[4, channels, 2, 2]));
                channels *= groups;
                let b = make.weight(&[channels]);
                let (ones, twos) = (Ints::from_elem(1, 2), Ints::from_elem(2, 2));
                let (pad, output_pad) = (Padding::symmetric([1, 0]), Ints::from_elem(0, 2));
                make.op(
                    Op::ConvTranspose {
                        stride: twos,
                        pad,
                        output_pad,
                        dilation: ones,
                        groups,
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
        let [scale, shift, mean, variance] = parameters(make, channels);
        let norm = Op::BatchNorm { eps: 1e-5.into() };
        make.op(norm, &[produced, scale, shift, mean, variance])
    }
}

/// Parameters of a batch norm.
fn parameters(make: &mut Instance<'_>, channels: usize) -> [Id; 4] {
    let [scale, shift, mean] = [(); 3].map(|()| make.weight(&[channels]));
    [scale, shift, mean, make.positive(&[channels])]
}

/// A convolution of what a batch norm gives.
fn normalised_first(make: &mut Instance<'_>, channels: usize) -> Id {
    let [scale, shift, mean, variance] = parameters(make, channels);
    let x = make.image(channels);
    let norm = Op::BatchNorm { eps: 1e-5.into() };
    let normalised = make.op(norm, &[x, scale, shift, mean, variance]);
    if make.coin() {
        // A depthwise one, of two kernels a channel.
        let (w, b) = (
            make.weight(&[2 * channels, 1, 3, 3]),
            make.weight(&[2 * channels]),
        );
        return make.op(depthwise(channels, [0, 0]), &[normalised, w, b]);
    }
    let (w, b) = (make.weight(&[3, channels, 3, 3]), make.weight(&[3]));
    make.conv(false, &[normalised, w, b])
}

/// A depthwise convolution of images.
fn depthwise(groups: usize, pad: [usize; 2]) -> Op {
    let ones = || Ints::from_elem(1, 2);
    Op::Conv {
        stride: ones(),
        pad: Padding::symmetric(pad),
        dilation: ones(),
        groups,
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
    let (axis, groups) = rows_axis(op, rewriter.ty(norm.x).rank())?;
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
            groups,
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
    rewriter.name_after(norm.x);
    rewriter.op(op.clone(), &children)
}

/// A convolution or a linear layer that a batch norm before it can go into: every tap sees what the norm makes of 0.
struct Layer {
    op: Op,
    x: Id,
    weight: ConstId,
    bias: Option<ConstId>,
    groups: usize,
}

impl Layer {
    fn of(rewriter: &mut Rewriter<'_>, term: &Term) -> Option<Layer> {
        let groups = match &term.head {
            Head::Op(Op::Conv { pad, groups, .. }) if pad.is_zero() => *groups,
            // Its channels are the normalised ones only where there are no axes after them.
            Head::Op(Op::Linear {}) if rewriter.ty(term.children[0]).rank() == Some(2) => 1,
            _ => return None,
        };
        let Head::Op(op) = &term.head else {
            return None;
        };
        let weight = rewriter.constant(*term.children.get(1)?)?;
        let bias = match term.children.get(2) {
            Some(bias) => Some(rewriter.constant(*bias)?),
            None => None,
        };
        Some(Layer {
            op: op.clone(),
            x: term.children[0],
            weight,
            bias,
            groups,
        })
    }
}

/// conv(bn(x)) as a convolution of x.
fn fold_before(rewriter: &mut Rewriter<'_>, norm: &Norm, layer: &Layer) -> Option<Id> {
    let groups = layer.groups;
    let bias_name = rewriter.bias_name(layer.weight);
    let constants = rewriter.constants();
    let (name, shape) = (
        constants.name(layer.weight).clone(),
        constants.shape(layer.weight).to_vec(),
    );
    let (channels, outputs) = (constants.shape(norm.by).to_vec(), [shape[0]]);
    let scaled = Recipe::Scale {
        of: layer.weight,
        axis: 1,
        by: norm.by,
        groups,
    };
    let weight = constants.add(scaled, layer.weight, name, &shape);
    // What the norm makes of 0 reaches every output through all taps.
    let zero = Recipe::Affine {
        a: None,
        by: norm.by,
        plus: norm.shift,
        minus: norm.mean,
    };
    let zero = constants.add(zero, norm.shift, bias_name.clone(), &channels);
    let share = Recipe::Apply {
        weight: layer.weight,
        by: zero,
        groups,
    };
    let share = constants.add(share, weight, bias_name.clone(), &outputs);
    let bias = match layer.bias {
        Some(a) => constants.add(Recipe::Add { a, b: share }, a, bias_name, &outputs),
        None => share,
    };
    let children = [
        norm.x,
        rewriter.add_constant(weight),
        rewriter.add_constant(bias),
    ];
    rewriter.op(layer.op.clone(), &children)
}

/// The axis of the weight whose slices make one channel of axis 1 of the result each, and how many groups of them there are:
/// 1 also where the groups' follow each other along that axis.
fn rows_axis(op: &Op, rank: Option<usize>) -> Option<(usize, usize)> {
    match op {
        Op::Conv { .. } => Some((0, 1)),
        Op::ConvTranspose { groups, .. } => Some((1, *groups)),
        Op::Linear {} if rank == Some(2) => Some((0, 1)),
        _ => None,
    }
}
