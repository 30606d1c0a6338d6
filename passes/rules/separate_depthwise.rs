//! conv(x, W, b) = conv1x1(depthwise(gather(x, rep), K), C, b): uneven depthwise separation.
//!
//! RED's third step (Yvinec et al. 2021, section 3). For input channel i the kernels `W[:, i]` are a matrix of n_out kernels; as
//! many depthwise kernels read the channel as are distinct in it, distinct up to a factor, or independent, whichever is
//! fewest, and the pointwise C makes all others of them. Channels differ in how many that is: hence *uneven*. The depthwise
//! stage keeps stride, padding and dilation. Holds for one to three dimensions, for groups, and for transposed convolutions,
//! which are linear in each channel's kernels just the same.

use egg::Id;
use smallvec::{SmallVec, smallvec};

use crate::analysis::kernels::KernelLayout;
use crate::egraph::constants::ConstId;
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::egraph::{Alternatives, Rewriter, Rule};
use crate::ir::{Ints, Op, Padding};

/// See the module.
pub struct SeparateDepthwise;

impl Rule for SeparateDepthwise {
    fn name(&self) -> &'static str {
        "separate-depthwise"
    }

    fn identity(&self) -> &'static str {
        "conv(x,W,b) = conv1x1(depthwise(gather(x,rep),K),C,b), few kernels a channel"
    }

    fn starts(&self, head: &Head) -> bool {
        matches!(head, Head::Op(op) if op.convolution().is_some())
    }

    fn apply(&self, rewriter: &mut Rewriter<'_>, term: &Term) -> Alternatives {
        separate(rewriter, term).into_iter().collect()
    }

    fn instance(&self, make: &mut Instance<'_>) -> Id {
        let dims = 1 + make.below(3);
        let groups = 1 + make.below(2);
        let transposed = make.coin();
        let mut sizes = |least: usize, spread: usize| -> Ints {
            (0..dims).map(|_| least + make.below(spread)).collect()
        };
        let (kernel, stride, dilation, pad) = (sizes(2, 2), sizes(1, 2), sizes(1, 2), sizes(0, 3));
        let side = sizes(5, 2);
        let (inputs, outputs) = (2 * groups, 7 * groups);
        let mut shape = vec![1, inputs];
        shape.extend(&side);
        let x = make.input(&shape);
        let weight = few_kernels(make, [inputs, outputs, groups], &kernel, transposed);
        let pad = Padding::symmetric(pad);
        let op = if transposed {
            Op::ConvTranspose {
                stride,
                pad,
                output_pad: Ints::from_elem(0, dims),
                dilation,
                groups,
            }
        } else {
            Op::Conv {
                stride,
                pad,
                dilation,
                groups,
            }
        };
        let mut children = vec![x, weight];
        if make.coin() {
            children.push(make.weight(&[outputs]));
        }
        make.op(op, &children)
    }
}

fn separate(rewriter: &mut Rewriter<'_>, term: &Term) -> Option<Id> {
    let Head::Op(op) = &term.head else {
        return None;
    };
    let weight = rewriter.constant(term.children[1])?;
    let layout = layout(rewriter, op, weight)?;
    let rows = op.weight_axes().map(|axes| axes.output);
    let rows = rows.and_then(|axis| rewriter.constants().rows_of(weight, axis));
    let of_whole = rows.and_then(|(whole, rows)| {
        let layout = self::layout(rewriter, op, whole)?;
        Some((rewriter.constants().separated(whole, layout)?, rows))
    });
    let (separated, rows) = match of_whole {
        // Some rows of a weight that is separated itself are the same rows of the mix.
        Some((separated, rows)) => (separated, Some(rows)),
        None => {
            let whole = rewriter.constants().whole(weight);
            if whole != weight
                && let Some(layout) = self::layout(rewriter, op, whole)
                && rewriter.constants().separated(whole, layout).is_some()
            {
                // Some columns: the separated form leads there, by the rules of gathers.
                return None;
            }
            (rewriter.constants().separated(weight, layout)?, None)
        }
    };
    let x = rewriter.gather(term.children[0], 1, separated.map.clone())?;
    let depthwise = op.with_groups(separated.map.len());
    let middle = rewriter.apart(|rewriter| {
        let kernels = rewriter.add_constant(separated.kernels);
        rewriter.op(depthwise, &[x, kernels])
    })?;
    let dims = rewriter.constants().shape(weight).len() - 2;
    let pointwise = Op::pointwise(dims, layout.groups);
    let mix = match rows {
        Some(rows) => rewriter.gather_constant(separated.mix, 0, rows),
        None => separated.mix,
    };
    let mut children: SmallVec<[Id; 3]> = smallvec![middle, rewriter.add_constant(mix)];
    children.extend(term.children.get(2).copied());
    rewriter.op(pointwise, &children)
}

fn layout(rewriter: &mut Rewriter<'_>, op: &Op, weight: ConstId) -> Option<KernelLayout> {
    let constants = rewriter.constants();
    let float = constants.dtype(weight).is_float();
    float.then(|| KernelLayout::of(op, constants.shape(weight)))?
}

/// A weight whose kernels are combinations of one or two a channel: copies of them, multiples, or sums.
fn few_kernels(
    make: &mut Instance<'_>,
    [inputs, outputs, groups]: [usize; 3],
    kernel: &[usize],
    transposed: bool,
) -> Id {
    let taps: usize = kernel.iter().product();
    let (rows, columns) = if transposed {
        (inputs, outputs / groups)
    } else {
        (outputs, inputs / groups)
    };
    let bases: Vec<Vec<f64>> = (0..2 * inputs)
        .map(|_| (0..taps).map(|_| make.number()).collect())
        .collect();
    let style = make.below(3);
    let mut values = Vec::with_capacity(rows * columns * taps);
    for row in 0..rows {
        for column in 0..columns {
            let input = if transposed {
                row
            } else {
                row / (outputs / groups) * columns + column
            };
            let (a, b) = match style {
                0 => (1.0, 0.0),
                1 => (make.number(), 0.0),
                _ => (make.number(), make.number()),
            };
            let (first, second) = (&bases[2 * input], &bases[2 * input + 1]);
            values.extend((0..taps).map(|tap| a * first[tap] + b * second[tap]));
        }
    }
    let shape: Vec<usize> = [rows, columns].iter().chain(kernel).copied().collect();
    make.constant(&shape, values)
}
