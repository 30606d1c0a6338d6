//! Terms with a dense constant weight, as most rules match them.

use egg::Id;
use smallvec::SmallVec;

use crate::egraph::Rewriter;
use crate::egraph::channel_map::ChannelMap;
use crate::egraph::constants::ConstId;
use crate::egraph::term::{Head, Term};
use crate::ir::Op;
use crate::ir::channels::{WeightAxes, dense_axis};

/// A convolution with one group, a transposed one, a linear layer, or a product with a matrix, whose weight and bias are constants.
#[derive(Clone, Debug)]
pub struct Dense {
    /// The operator.
    pub op: Op,
    /// The activation.
    pub x: Id,
    /// The weight.
    pub weight: ConstId,
    /// The bias, if there is one.
    pub bias: Option<ConstId>,
    /// Which axis of the weight is which.
    pub axes: WeightAxes,
    /// The axis of the activation, and of the result, that channels lie on.
    pub axis: usize,
}

impl Dense {
    /// The dense operator that `term` is, if it is one.
    pub fn of(rewriter: &mut Rewriter<'_>, term: &Term) -> Option<Dense> {
        let Head::Op(op) = &term.head else {
            return None;
        };
        let weight = rewriter.constant(*term.children.get(1)?)?;
        let axes = op.product_axes(rewriter.constants().shape(weight).len())?;
        let axis = dense_axis(op, rewriter.ty(term.children[0]).rank()?);
        let bias = match term.children.get(2) {
            Some(bias) => Some(rewriter.constant(*bias)?),
            None => None,
        };
        let float = rewriter.constants().dtype(weight).is_float();
        float.then(|| Dense {
            op: op.clone(),
            x: term.children[0],
            weight,
            bias,
            axes,
            axis,
        })
    }

    /// Whether a term with this head may be one.
    pub fn starts(head: &Head) -> bool {
        matches!(head, Head::Op(op) if op.product_axes(2).is_some())
    }

    /// All dense operators of a class.
    pub fn all(rewriter: &mut Rewriter<'_>, class: Id) -> Vec<Dense> {
        let terms: Vec<Term> = rewriter
            .terms(class)
            .filter(|term| Dense::starts(&term.head))
            .cloned()
            .collect();
        terms
            .iter()
            .filter_map(|term| Dense::of(rewriter, term))
            .collect()
    }

    /// The number of output channels.
    pub fn outputs(&self, rewriter: &mut Rewriter<'_>) -> usize {
        rewriter.constants().shape(self.weight)[self.axes.output]
    }

    /// This operator with other operands.
    pub fn with(
        &self,
        rewriter: &mut Rewriter<'_>,
        x: Id,
        weight: ConstId,
        bias: Option<ConstId>,
    ) -> Option<Id> {
        let mut children: SmallVec<[Id; 3]> = [x].into_iter().collect();
        children.push(rewriter.add_constant(weight));
        let bias = bias.map(|bias| rewriter.add_constant(bias));
        if let (Op::MatMul {}, Some(bias)) = (&self.op, bias) {
            let product = rewriter.op(self.op.clone(), &children)?;
            return rewriter.op(Op::Add {}, &[product, bias]);
        }
        children.extend(bias);
        rewriter.op(self.op.clone(), &children)
    }

    /// This operator for these output channels only.
    pub fn rows(&self, rewriter: &mut Rewriter<'_>, map: &ChannelMap) -> Option<Id> {
        let weight = rewriter.gather_constant(self.weight, self.axes.output, map.clone());
        let bias = self
            .bias
            .map(|bias| rewriter.gather_constant(bias, 0, map.clone()));
        self.with(rewriter, self.x, weight, bias)
    }

    /// Whether a channel that is constant everywhere is constant to every tap of the kernel, that is, meets no zero padding.
    pub fn sees_constants(&self) -> bool {
        match &self.op {
            Op::Conv { pad, .. } => pad.is_zero(),
            Op::Linear {} | Op::MatMul {} => true,
            _ => false,
        }
    }
}
