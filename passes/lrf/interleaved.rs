//! Layers in pieces that lose their filters and their channels one after the other, with time for training in between.

use std::fmt;
use std::sync::Arc;

use faer::Mat;

use super::factor::{Choice, Kept, Pieces};
use super::layer::{Layer, Placed};
use super::weigh::{Weigh, weighed};
use super::{goes, misfit};
use crate::analysis::kernels::KernelLayout;
use crate::ir::{Graph, NodeId, Tensor};
use crate::pipeline::PassContext;
use crate::{Error, Result};

/// What goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Filters.
    Output,
    /// Input channels.
    Input,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Output => "filters",
            Side::Input => "input channels",
        })
    }
}

/// A layer with 1x1 convolutions around it where something is to go.
pub(super) struct InPieces {
    /// The layer's name.
    pub name: Arc<str>,
    layer: Layer,
    placed: Placed,
    /// What there is now, and in the end.
    now: Kept,
    kept: Kept,
    /// Whether the bias takes what the mean of the result loses.
    shifts: bool,
}

impl InPieces {
    /// Puts identities around a layer of which so much is to be kept.
    ///
    /// # Errors
    /// When they do not fit, which is a mistake here.
    pub(super) fn insert(
        graph: &mut Graph,
        layer: Layer,
        kept: Kept,
        weigh: Weigh,
    ) -> Result<InPieces> {
        let name = graph.node(layer.node).name.clone();
        let KernelLayout {
            groups,
            inputs,
            outputs,
            ..
        } = layer.layout;
        let all = layer.all();
        let identity = |n: usize| -> Vec<f64> {
            let row = |i: usize| (0..n).map(move |j| f64::from(u8::from(i % n == j)));
            (0..n * groups).flat_map(row).collect()
        };
        let pieces = Pieces {
            squeeze: (kept.inputs < all.inputs).then(|| identity(all.inputs)),
            core: graph.operand_elements(layer.node, 1),
            expand: (kept.outputs < all.outputs).then(|| identity(all.outputs)),
            filters: (0..outputs * groups).collect(),
            channels: (0..inputs).collect(),
        };
        let placed = layer.replace(graph, all, pieces).map_err(misfit)?;
        let shifts = weigh == Weigh::Moments;
        if shifts {
            // A bias of its own, from the start: later on, nothing but its elements changes.
            match graph.operands(layer.node).get(2).copied() {
                None => graph.set_bias(layer.node, vec![0.0; outputs * groups]),
                Some(_) => {
                    let bias = graph.operand_elements(layer.node, 2);
                    graph.set_operand_elements(layer.node, 2, bias);
                }
            }
        }
        Ok(InPieces {
            name,
            layer,
            placed,
            now: all,
            kept,
            shifts,
        })
    }

    /// The sides on which something goes, in the order in which it does.
    pub(super) fn sides(&self) -> impl Iterator<Item = Side> + use<> {
        let all = self.layer.all();
        let output = (self.kept.outputs < all.outputs).then_some(Side::Output);
        let input = (self.kept.inputs < all.inputs).then_some(Side::Input);
        output.into_iter().chain(input)
    }

    /// What there is when a side has lost what goes.
    fn without(&self, side: Side) -> Kept {
        match side {
            Side::Output => Kept {
                outputs: self.kept.outputs,
                ..self.now
            },
            Side::Input => Kept {
                inputs: self.kept.inputs,
                ..self.now
            },
        }
    }

    /// Says that a side has lost it; [`InPieces::restore`] is to follow.
    #[cfg(feature = "torch")]
    pub(super) fn has_lost(&mut self, side: Side) {
        self.now = self.without(side);
    }

    /// Removes what goes on a side; what stays makes up for it.
    ///
    /// # Errors
    /// When the samples do not fit the network, or what is read is not finite.
    pub(super) fn lose(
        &mut self,
        graph: &mut Graph,
        side: Side,
        weigh: Weigh,
        choice: Choice,
        context: &mut PassContext<'_>,
    ) -> Result<()> {
        let layout = KernelLayout {
            inputs: self.now.inputs * self.layer.layout.groups,
            outputs: self.now.outputs,
            ..self.layer.layout
        };
        let weighed = weighed(graph, &[(self.placed, layout)], weigh, context)?;
        let after = self.without(side);
        let pieces = weighed
            .first()
            .and_then(|w| Some((w, w.split(after, choice)?)));
        let (weighed, pieces) = pieces.ok_or_else(|| Error::Run {
            node: self.name.to_string(),
            what: "its weight, or what it reads, is not finite".into(),
        })?;
        let (lost, change) = weighed.lost(&pieces);
        context.applied(&self.name, goes(&self.layer, self.now, after, change));
        let squeeze = match (pieces.squeeze, &weighed.around.squeeze) {
            (Some(behind), Some(before)) => {
                Some(product(&behind, before, layout.groups, self.now.inputs))
            }
            (_, before) => before.clone(),
        };
        self.now = after;
        let elements = [squeeze, Some(pieces.core), pieces.expand];
        for ((node, shape), elements) in self.weights().zip(elements.into_iter().flatten()) {
            let Some(weight) = graph.operands(node).get(1).map(|weight| weight.node) else {
                continue;
            };
            let Some(old) = graph.constant(weight).map(|constant| &constant.tensor) else {
                continue;
            };
            let shape: Vec<usize> = shape
                .into_iter()
                .chain(old.shape().iter().skip(2).copied())
                .collect();
            let tensor = Tensor::from_f64(old.dtype(), &shape, elements);
            graph.set_tensor(weight, tensor);
        }
        self.infer(graph).map_err(misfit)?;
        if self.shifts {
            weighed.shift_bias(graph, self.placed.last(), &lost);
        }
        Ok(())
    }

    /// The operators in order, and how many rows and columns the weight of each has now.
    fn weights(&self) -> impl Iterator<Item = (NodeId, [usize; 2])> + use<> {
        let KernelLayout {
            groups, transposed, ..
        } = self.layer.layout;
        let (all, now) = (self.layer.all(), self.now);
        let core = if transposed {
            [now.inputs * groups, now.outputs]
        } else {
            [now.outputs * groups, now.inputs]
        };
        let Placed {
            squeeze,
            core: node,
            expand,
        } = self.placed;
        let squeeze = squeeze.map(|node| (node, [now.inputs * groups, all.inputs]));
        let expand = expand.map(|node| (node, [all.outputs * groups, now.outputs]));
        squeeze.into_iter().chain([(node, core)]).chain(expand)
    }

    /// Gives the operators the types that follow from the shapes of their weights.
    fn infer(&self, graph: &mut Graph) -> Result<(), String> {
        for (node, _) in self.weights() {
            if let Some(op) = graph.op(node).cloned() {
                let operands = graph.operands(node);
                graph.replace_op(node, op, &operands)?;
            }
        }
        Ok(())
    }
}

#[cfg(feature = "torch")]
impl InPieces {
    /// The constants that change when a side loses something, with the first two lengths that they have now, or the only one.
    fn constants(&self, graph: &Graph) -> Vec<(NodeId, Vec<usize>)> {
        let operand = |node: NodeId, i: usize| {
            let operand = graph.operands(node).get(i)?.node;
            graph.constant(operand).map(|_| operand)
        };
        let weights = self
            .weights()
            .filter_map(|(node, lengths)| Some((operand(node, 1)?, lengths.to_vec())));
        let KernelLayout {
            groups, outputs, ..
        } = self.layer.layout;
        let bias = operand(self.placed.last(), 2).filter(|_| self.shifts);
        let bias = bias.map(|node| (node, vec![groups * outputs]));
        weights.chain(bias).collect()
    }

    /// These, by the names under which a checkpoint has them.
    pub(super) fn tensors(&self, graph: &Graph) -> Vec<(String, Tensor)> {
        let constants = self.constants(graph).into_iter();
        let named = constants.filter_map(|(node, _)| {
            let tensor = graph.constant(node)?.tensor.clone();
            Some((saved_name(graph, node), tensor))
        });
        named.collect()
    }

    /// Takes what [`InPieces::tensors`] gave when the sides had lost what they have lost now.
    ///
    /// # Errors
    /// What does not fit.
    pub(super) fn restore<'t>(
        &self,
        graph: &mut Graph,
        saved: impl Fn(&str) -> Option<&'t Tensor>,
    ) -> Result<(), String> {
        for (node, lengths) in self.constants(graph) {
            let name = saved_name(graph, node);
            let fits = |tensor: &&Tensor| tensor.shape().starts_with(&lengths);
            let tensor = saved(&name).filter(fits);
            let tensor = tensor.ok_or_else(|| format!("it has no `{name}` that fits"))?;
            graph.set_tensor(node, tensor.clone());
        }
        self.infer(graph)
    }
}

#[cfg(feature = "torch")]
fn saved_name(graph: &Graph, constant: NodeId) -> String {
    format!("piece/{}", graph.node(constant).name)
}

/// The weight of two 1x1 convolutions one after the other, in so many groups of `n` channels between them.
fn product(second: &[f64], first: &[f64], groups: usize, n: usize) -> Vec<f64> {
    let matrix = |of: &[f64], rows: usize, columns: usize, group: usize| {
        let of = &of[group * rows * columns..][..rows * columns];
        Mat::from_fn(rows, columns, |i, j| of[i * columns + j])
    };
    let (rows, columns) = (second.len() / (groups * n), first.len() / (groups * n));
    let mut elements = Vec::with_capacity(groups * rows * columns);
    for group in 0..groups {
        let product = matrix(second, rows, n, group) * matrix(first, n, columns, group);
        elements.extend(
            (0..rows)
                .flat_map(|i| (0..columns).map(move |j| (i, j)))
                .map(|at| product[at]),
        );
    }
    elements
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::elimination::Criterion;
    use crate::ir::verify;
    use crate::passes::lrf::layer::layers;

    /// Two groups, a bias and a batch norm.
    const NET: &str = "graph net(%x: f32[2,4,8,8]) {
  @stem.weight = parameter normal(1) : f32[12,4,3,3]
  @conv.weight = parameter normal(2) : f32[10,6,3,3]
  @conv.bias = parameter normal(3) : f32[10]
  @norm.weight = parameter uniform(4, 0.5, 1.5) : f32[10]
  @norm.bias = parameter normal(5) : f32[10]
  @norm.mean = buffer normal(6) : f32[10]
  @norm.var = buffer uniform(7, 0.5, 1.5) : f32[10]
  @up.weight = parameter normal(8) : f32[10,4,2,2]
  %stem = conv(%x, @stem.weight) {pad=[1,1]}
  %conv = conv(%stem, @conv.weight, @conv.bias) {groups=2, stride=[2,2], pad=[1,1]}
  %norm = batch_norm(%conv, @norm.weight, @norm.bias, @norm.mean, @norm.var)
  %up = conv_transpose(%norm, @up.weight) {stride=[2,2]}
  return %up
}";

    const CHOICE: Choice = Choice {
        criterion: Criterion::Backward,
        compensate: true,
    };

    fn in_pieces(graph: &mut Graph, weigh: Weigh) -> Result<Vec<InPieces>> {
        let found = layers(graph, false, &mut PassContext::default());
        let kept = Kept {
            inputs: 4,
            outputs: 3,
        };
        found
            .iter()
            .map(|layer| InPieces::insert(graph, *layer, kept, weigh))
            .collect()
    }

    #[test]
    fn identities_change_nothing() -> Result<(), Box<dyn std::error::Error>> {
        let before: Graph = NET.parse()?;
        let mut after = before.clone();
        assert_eq!(in_pieces(&mut after, Weigh::Moments)?.len(), 2);
        assert!(verify(&after).is_ok());
        let moved = crate::exec::compare::<f64>(&before, &after, 2, 1)?;
        assert!(moved.within(1e-12, "identities").is_ok());
        Ok(())
    }

    /// Nothing was trained in between.
    #[test]
    fn one_side_after_the_other_gives_what_both_at_once_give()
    -> Result<(), Box<dyn std::error::Error>> {
        for weigh in [Weigh::Alike, Weigh::Norms] {
            let before: Graph = NET.parse()?;
            let mut after = before.clone();
            for part in &mut in_pieces(&mut after, weigh)? {
                for side in part.sides() {
                    part.lose(&mut after, side, weigh, CHOICE, &mut PassContext::default())?;
                }
            }
            let mut at_once = before.clone();
            for layer in layers(&before, false, &mut PassContext::default()) {
                let places = [(Placed::whole(layer.node), layer.layout)];
                let weighed = weighed(&before, &places, weigh, &mut PassContext::default())?;
                let kept = Kept {
                    inputs: 4,
                    outputs: 3,
                };
                let pieces = weighed[0].split(kept, CHOICE).ok_or("not finite")?;
                layer.replace(&mut at_once, kept, pieces)?;
            }
            assert!(verify(&after).is_ok());
            let moved = crate::exec::compare::<f64>(&at_once, &after, 2, 1)?;
            assert!(moved.within(1e-5, "one after the other").is_ok(), "{moved}");
            let moved = crate::exec::compare::<f64>(&before, &after, 2, 1)?;
            assert!(moved.within(1e-2, "nothing is gone").is_err());
        }
        Ok(())
    }
}
