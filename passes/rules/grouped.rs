//! Convolutions of several groups with a constant weight, as the rules about groups match them.

use std::ops::Range;

use egg::Id;
use smallvec::SmallVec;

use crate::egraph::Rewriter;
use crate::egraph::channel_map::ChannelMap;
use crate::egraph::constants::ConstId;
use crate::egraph::instance::Instance;
use crate::egraph::term::{Head, Term};
use crate::ir::{Ints, Op, Padding};

/// A convolution of two groups or more whose weight and bias are constants.
#[derive(Clone, Debug)]
pub struct Grouped {
    /// The operator.
    pub op: Op,
    /// How many groups.
    pub groups: usize,
    /// The activation.
    pub x: Id,
    /// The weight, `[O, C/groups, ..]`.
    pub weight: ConstId,
    /// The bias, if there is one.
    pub bias: Option<ConstId>,
    /// Input channels of a group.
    pub inputs: usize,
    /// Output channels of a group.
    pub outputs: usize,
}

impl Grouped {
    /// The grouped convolution that `term` is, if it is one.
    pub fn of(rewriter: &mut Rewriter<'_>, term: &Term) -> Option<Grouped> {
        let Head::Op(op @ Op::Conv { groups: 2.., .. }) = &term.head else {
            return None;
        };
        let (_, _, _, groups) = op.convolution()?;
        let weight = rewriter.constant(term.children[1])?;
        let bias = match term.children.get(2) {
            Some(bias) => Some(rewriter.constant(*bias)?),
            None => None,
        };
        let constants = rewriter.constants();
        let (rows, inputs) = (constants.shape(weight)[0], constants.shape(weight)[1]);
        let fits = constants.dtype(weight).is_float() && rows >= groups && inputs > 0;
        fits.then(|| Grouped {
            op: op.clone(),
            groups,
            x: term.children[0],
            weight,
            bias,
            inputs,
            outputs: rows / groups,
        })
    }

    /// Whether a term with this head may be one.
    pub fn starts(head: &Head) -> bool {
        matches!(head, Head::Op(Op::Conv { groups: 2.., .. }))
    }

    /// All grouped convolutions of a class.
    pub fn all(rewriter: &mut Rewriter<'_>, class: Id) -> Vec<Grouped> {
        let terms: Vec<Term> = rewriter
            .terms(class)
            .filter(|term| Grouped::starts(&term.head))
            .cloned()
            .collect();
        terms
            .iter()
            .filter_map(|term| Grouped::of(rewriter, term))
            .collect()
    }

    /// The input channels of a group.
    pub fn reads(&self, group: usize) -> Range<usize> {
        group * self.inputs..(group + 1) * self.inputs
    }

    /// The output channels of a group.
    pub fn makes(&self, group: usize) -> Range<usize> {
        group * self.outputs..(group + 1) * self.outputs
    }

    /// Whether each channel is a group of its own.
    pub fn is_depthwise(&self) -> bool {
        (self.inputs, self.outputs) == (1, 1)
    }

    /// Whether a channel that is constant everywhere is constant to every tap of the kernel, that is, meets no zero padding.
    pub fn sees_constants(&self) -> bool {
        matches!(&self.op, Op::Conv { pad, .. } if pad.is_zero())
    }

    /// The numbers of the bias, zeros if there is none.
    pub fn bias_numbers(&self, rewriter: &mut Rewriter<'_>) -> Vec<f64> {
        match self.bias {
            Some(bias) => rewriter.constants().f64(bias).into_owned(),
            None => vec![0.0; self.groups * self.outputs],
        }
    }

    /// This convolution of so many groups with other operands.
    pub fn with(
        &self,
        rewriter: &mut Rewriter<'_>,
        groups: usize,
        x: Id,
        weight: ConstId,
        bias: Option<ConstId>,
    ) -> Option<Id> {
        let mut children: SmallVec<[Id; 3]> = [x].into_iter().collect();
        children.push(rewriter.add_constant(weight));
        children.extend(bias.map(|bias| rewriter.add_constant(bias)));
        rewriter.op(self.op.with_groups(groups), &children)
    }

    /// This convolution of `x` and so many groups, with these rows of the weight and the bias.
    pub fn rows(
        &self,
        rewriter: &mut Rewriter<'_>,
        groups: usize,
        x: Id,
        rows: &ChannelMap,
    ) -> Option<Id> {
        let weight = rewriter.gather_constant(self.weight, 0, rows.clone());
        let bias = self
            .bias
            .map(|bias| rewriter.gather_constant(bias, 0, rows.clone()));
        self.with(rewriter, groups, x, weight, bias)
    }
}

/// The first `width` of `wanted`, which come first, and of the others of a range: groups must all have as many.
pub(super) fn padded(wanted: &[usize], others: Range<usize>, width: usize) -> Vec<usize> {
    let others = others.filter(|c| !wanted.contains(c));
    wanted.iter().copied().chain(others).take(width).collect()
}

/// A random convolution of `groups` groups of this weight `[O, C/groups, 3, 3]`, with or without a pad.
pub(super) fn conv(make: &mut Instance<'_>, groups: usize, pad: bool, children: &[Id]) -> Id {
    let ones = || Ints::from_elem(1, 2);
    let pad = if pad { 1 + make.below(2) } else { 0 };
    let op = Op::Conv {
        stride: [1, 1 + make.below(2)].into_iter().collect(),
        pad: Padding::symmetric([pad, pad]),
        dilation: ones(),
        groups,
    };
    make.op(op, children)
}
