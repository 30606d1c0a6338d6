//! A layer, and what it becomes with some of its weights zero.

use crate::analysis::kernels::{KernelLayout, PatchMoment};
use crate::analysis::pruning::{Hessian, Pruned, Reads, Zeros, smallest};
use crate::ir::{Graph, Mask, NodeId};
use crate::passes::activations::Activations;

/// A layer that can be pruned.
pub struct Layer {
    /// The convolution or linear layer.
    pub node: NodeId,
    /// Its weight, row by row.
    weight: Vec<f64>,
    /// The weights of a row.
    row: usize,
    /// What its groups read; `None` by magnitude.
    reads: Option<Reads>,
    /// The mean of each feature, over all groups; none by magnitude.
    mean: Vec<f64>,
    /// What its result varies in all; the sum of its squared weights by magnitude.
    energy: f64,
}

impl Layer {
    /// With what it reads, or by magnitude, to be pruned in this form; `None` where a covariance has no inverse.
    pub fn new(
        graph: &Graph,
        node: NodeId,
        layout: &KernelLayout,
        reads: Option<Activations>,
        damping: f64,
        zeros: &Zeros,
    ) -> Option<Layer> {
        let channels = layout.inputs / layout.groups;
        let weight = graph.operand_elements(node, 1);
        let (mean, reads) = match reads {
            Some(Activations {
                mean,
                joint: Some(joint),
                ..
            }) => (mean, Some(vec![Hessian::new(vec![joint], damping)])),
            Some(Activations { mean, patches, .. }) => {
                let blocks = |of: &[PatchMoment]| of.iter().map(|patch| patch.0.clone()).collect();
                let groups = patches.chunks(channels);
                let groups = groups.map(|of| Hessian::new(blocks(of), damping));
                (mean, Some(groups.collect()))
            }
            None => (Vec::new(), None),
        };
        let reads = match reads {
            Some(groups) => Some(Reads::new(groups, &weight, zeros)?),
            None => None,
        };
        let energy = match &reads {
            Some(reads) => reads.squared(&weight),
            None => weight.iter().map(|w| w * w).sum(),
        };
        energy.is_finite().then_some(Layer {
            node,
            weight,
            row: channels * layout.taps,
            reads,
            mean,
            energy,
        })
    }

    /// The number of its weights.
    pub fn len(&self) -> usize {
        self.weight.len()
    }

    /// The weights of a row.
    pub fn row(&self) -> usize {
        self.row
    }

    /// How many of its weights stay with these zeros, and the squared error of its result, relative to what that varies.
    pub fn weigh(&self, zeros: Zeros) -> (usize, f64) {
        let Pruned { kept, loss, .. } = self.chosen(zeros);
        let kept = kept.iter().filter(|kept| **kept).count();
        (kept, loss / self.energy.max(f64::MIN_POSITIVE))
    }

    /// What it becomes with these zeros.
    pub fn prune(&self, zeros: Zeros) -> Pruned {
        let chosen = self.chosen(zeros);
        match &self.reads {
            Some(reads) => reads.fitted(&self.weight, chosen),
            None => chosen,
        }
    }

    /// Which weights are zero; what the others become only where a sweep says it on the way.
    fn chosen(&self, zeros: Zeros) -> Pruned {
        match &self.reads {
            Some(reads) => reads.choose(&self.weight, zeros),
            None => smallest(&self.weight, self.row, zeros),
        }
    }

    /// How far its result is off with other weights, relative to what it varies; `None` where nobody asked what it reads.
    pub fn off(&self, pruned: &Pruned) -> Option<f64> {
        let pairs = self.weight.iter().zip(&pruned.weight);
        let lost: Vec<f64> = pairs.map(|(a, b)| a - b).collect();
        let lost = self.reads.as_ref()?.squared(&lost);
        Some((lost / self.energy.max(f64::MIN_POSITIVE)).sqrt())
    }

    /// Puts it in place, with a mask. The bias takes the mean of what is lost.
    pub fn put(&self, graph: &mut Graph, pruned: &Pruned) {
        graph.set_operand_elements(self.node, 1, pruned.weight.clone());
        let weight = graph.operands(self.node)[1].node;
        let mask = Mask::from_fn(self.len(), |i| pruned.kept[i]);
        graph.set_mask(weight, Some(mask));
        if self.mean.is_empty() {
            return;
        }
        let rows_of_group = self.len() / self.mean.len();
        let lost = |o: usize| {
            let mean = &self.mean[o / rows_of_group * self.row..][..self.row];
            let at = o * self.row..(o + 1) * self.row;
            let pairs = self.weight[at.clone()].iter().zip(&pruned.weight[at]);
            let lost = pairs.zip(mean).map(|((a, b), mean)| (a - b) * mean);
            lost.sum::<f64>()
        };
        let lost: Vec<f64> = (0..self.len() / self.row).map(lost).collect();
        if lost.iter().any(|lost| *lost != 0.0) {
            graph.shift_bias(self.node, &lost);
        }
    }
}
