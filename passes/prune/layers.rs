//! The layers that can be pruned, and how one is.

use std::sync::Arc;

use crate::analysis::kernels::{KernelLayout, PatchMoment};
use crate::analysis::pruning::{Factor, Hessian, Pruned, Zeros, fit, sweep};
use crate::ir::{Graph, Mask, NodeId, Op};
use crate::passes::activations::{Activations, PriorMoments, activations_of};
use crate::pipeline::PassContext;
use crate::{Result, words};

/// The most features whose joint covariance is measured: those of the largest convolution of a ResNet-50.
const MOST_JOINT: usize = 4608;

/// The most work that fitting the rows of a layer may take, as the sum of the cubes of what stays in each: some seconds.
const MOST_WORK: usize = 1 << 37;

words! {
    /// By what weights are chosen.
    pub enum By {
        Covariance = "covariance",
        Magnitude = "magnitude",
    }
}

/// A layer that can be pruned.
pub struct Layer {
    /// The convolution or linear layer.
    pub node: NodeId,
    /// Its weight, row by row.
    weight: Vec<f64>,
    /// The mean of each feature, over all groups; none where the bias is to stay.
    mean: Vec<f64>,
    /// For each group what its rows read.
    groups: Vec<(Hessian, Factor)>,
    by: By,
    energy: f64,
}

/// The layers that can be pruned in this form, in the order in which they run, and remarks on those that cannot.
///
/// # Errors
/// When the samples do not fit the network.
pub fn layers(
    graph: &Graph,
    zeros: &Zeros,
    by: By,
    damping: f64,
    prior: &PriorMoments,
    context: &mut PassContext<'_>,
) -> Result<Vec<Arc<Layer>>> {
    let mut places = Vec::new();
    for node in graph.topological_order().unwrap_or_default() {
        match place(graph, node, zeros) {
            Some(Ok(layout)) => places.push((node, layout)),
            Some(Err(why)) => context.missed(&graph.node(node).name, format!("left dense: {why}")),
            None => {}
        }
    }
    let reads: Vec<Option<Activations>> = match by {
        By::Magnitude => vec![None; places.len()],
        By::Covariance => activations_of(graph, &places, MOST_JOINT, prior, context)?
            .into_iter()
            .map(Some)
            .collect(),
    };
    let mut layers = Vec::new();
    for (i, ((node, layout), reads)) in places.iter().zip(reads).enumerate() {
        let name = &graph.node(*node).name;
        context.progress(name, 0.3 + 0.05 * i as f64 / places.len() as f64)?;
        let features = layout.inputs / layout.groups * layout.taps;
        if let Some(Activations {
            count: Some(count), ..
        }) = reads
            && count < features as f64
        {
            context.analysis(name, format!("the samples have {count} positions for its {features} features: what they do not say, the damping of {damping} does"));
        }
        match Layer::new(graph, *node, layout, reads, damping) {
            Some(layer) => layers.push(Arc::new(layer)),
            None => context.missed(
                name,
                "left dense: the covariance of what it reads is not finite",
            ),
        }
    }
    Ok(layers)
}

/// How the weight of a layer lies; why it cannot be pruned, or `None` for what is no layer.
fn place(graph: &Graph, node: NodeId, zeros: &Zeros) -> Option<Result<KernelLayout, String>> {
    let op = graph.op(node)?;
    let weight = *graph.operands(node).get(1)?;
    match op {
        Op::Conv { .. } | Op::Linear {} => {}
        Op::ConvTranspose { .. } => {
            return Some(Err(
                "its kernels lie by input channel, as it is transposed".into()
            ));
        }
        Op::MatMul {} => {
            let constant = graph
                .operands(node)
                .iter()
                .any(|v| graph.constant(v.node).is_some());
            return constant
                .then(|| Err("it is a product with a constant of several matrices".into()));
        }
        _ => return None,
    }
    let Some(constant) = graph
        .constant(weight.node)
        .filter(|c| c.tensor.dtype().is_float())
    else {
        return Some(Err(
            "its weight is not a constant of floating point numbers".into(),
        ));
    };
    if constant.mask.is_some() {
        return Some(Err("its weight is masked already".into()));
    }
    if graph.only_reader(weight).is_none() {
        return Some(Err("its weight has other readers".into()));
    }
    let layout = KernelLayout::dense(op, constant.tensor.shape())?;
    if constant.tensor.is_empty() || layout.groups == 0 {
        return None;
    }
    let (rows, row) = (layout.outputs, layout.inputs / layout.groups * layout.taps);
    let [tall, wide] = zeros.unit();
    let why = match zeros {
        Zeros::Pattern { .. } if row % wide != 0 => {
            format!("its rows of {row} weights are not whole groups of {wide}")
        }
        Zeros::Share { .. } if row % wide != 0 || rows % tall != 0 => {
            format!("its {rows} rows of {row} weights are not whole blocks of {tall}x{wide}")
        }
        _ => return Some(Ok(layout)),
    };
    Some(Err(why))
}

impl Layer {
    /// With what it reads, or by magnitude; `None` where that has no inverse.
    fn new(
        graph: &Graph,
        node: NodeId,
        layout: &KernelLayout,
        reads: Option<Activations>,
        damping: f64,
    ) -> Option<Layer> {
        let channels = layout.inputs / layout.groups;
        let by = if reads.is_some() {
            By::Covariance
        } else {
            By::Magnitude
        };
        let (mean, hessians) = match reads {
            None => (
                Vec::new(),
                vec![Hessian::identity(channels * layout.taps); layout.groups],
            ),
            Some(Activations {
                mean,
                joint: Some(joint),
                ..
            }) => (mean, vec![Hessian::new(vec![joint], damping)]),
            Some(Activations { mean, patches, .. }) => {
                let of_group = |patches: &[PatchMoment]| {
                    Hessian::new(
                        patches.iter().map(|patch| patch.0.clone()).collect(),
                        damping,
                    )
                };
                (mean, patches.chunks(channels).map(of_group).collect())
            }
        };
        let groups = hessians.into_iter().map(|hessian| {
            let factor = hessian.factor()?;
            Some((hessian, factor))
        });
        let mut layer = Layer {
            node,
            weight: graph.operand_elements(node, 1),
            mean,
            groups: groups.collect::<Option<_>>()?,
            by,
            energy: 0.0,
        };
        layer.energy = layer.squared(&layer.weight);
        layer.energy.is_finite().then_some(layer)
    }

    /// The number of its weights.
    pub fn len(&self) -> usize {
        self.weight.len()
    }

    /// The weights of a row.
    pub fn row(&self) -> usize {
        self.groups[0].1.features()
    }

    /// A squared error of its result, relative to what that varies.
    pub fn relative(&self, loss: f64) -> f64 {
        loss / self.energy.max(f64::MIN_POSITIVE)
    }

    /// The elements of each group's rows.
    fn of_group(&self) -> usize {
        (self.weight.len() / self.groups.len()).max(1)
    }

    /// How much what rows give varies in all.
    fn squared(&self, rows: &[f64]) -> f64 {
        let groups = rows.chunks(self.of_group()).zip(&self.groups);
        groups
            .map(|(rows, (hessian, _))| hessian.energy(rows))
            .sum()
    }

    /// How far its result is off with other weights, relative to what it varies; `None` where nobody asked what it reads.
    pub fn off(&self, pruned: &Pruned) -> Option<f64> {
        let pairs = self.weight.iter().zip(&pruned.weight);
        let lost = self.squared(&pairs.map(|(a, b)| a - b).collect::<Vec<f64>>());
        (self.by == By::Covariance).then(|| self.relative(lost).sqrt())
    }

    /// What it becomes with these zeros.
    pub fn prune(&self, zeros: Zeros) -> Pruned {
        let mut all = Pruned {
            weight: Vec::with_capacity(self.len()),
            kept: Vec::with_capacity(self.len()),
            loss: 0.0,
        };
        for (rows, (_, factor)) in self.weight.chunks(self.of_group()).zip(&self.groups) {
            let pruned = sweep(factor, rows, zeros, all.weight.len());
            all.weight.extend(pruned.weight);
            all.kept.extend(pruned.kept);
            all.loss += pruned.loss;
        }
        all
    }

    /// The same with all that stays fitted at once, where that is not too much work: the sweep lets a weight make up only for those
    /// before it.
    pub fn fitted(&self, pruned: Pruned) -> Pruned {
        let row = self.row();
        let work = |kept: &[bool]| kept.iter().filter(|kept| **kept).count().pow(3);
        let work: usize = pruned.kept.chunks(row).map(work).sum();
        if self.by == By::Magnitude || work > MOST_WORK {
            return pruned;
        }
        let size = self.of_group();
        let groups = self
            .weight
            .chunks(size)
            .zip(pruned.kept.chunks(size))
            .zip(&self.groups);
        let fitted = groups.map(|((rows, kept), (hessian, _))| fit(hessian, rows, kept));
        match fitted.collect::<Option<Vec<_>>>() {
            Some(fitted) => Pruned {
                weight: fitted.concat(),
                ..pruned
            },
            None => pruned,
        }
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
        let row = self.row();
        let rows_of_group = self.of_group() / row;
        let lost = |o: usize| {
            let mean = &self.mean[o / rows_of_group * row..][..row];
            let at = o * row..(o + 1) * row;
            let pairs = self.weight[at.clone()].iter().zip(&pruned.weight[at]);
            pairs
                .zip(mean)
                .map(|((a, b), mean)| (a - b) * mean)
                .sum::<f64>()
        };
        let lost: Vec<f64> = (0..self.len() / row).map(lost).collect();
        if lost.iter().any(|lost| *lost != 0.0) {
            graph.shift_bias(self.node, &lost);
        }
    }
}
