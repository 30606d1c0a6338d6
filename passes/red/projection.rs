//! Hashing by kernel: every input channel's kernels become combinations of few, so that `separate-depthwise` fires (ours).
//!
//! Equal scalars rarely make equal vectors; projecting vectors does. For input channel i of a convolution the kernels `W[:, i]`
//! are a matrix, and the best matrix of rank r is its truncated singular value decomposition. All ranks of all channels of
//! all layers are chosen together: a rank costs multiply-adds, and saves an error that is weighed by how much the channel varies
//! and is relative to what the layer computes in all. Where the separated form would not be cheaper, a
//! layer stays dense and exact.
//!
//! Relatives: Network Decoupling (Guo et al. 2018) separates by a truncated decomposition of each channel; here channels and
//! layers share one budget, and an e-graph decides where it pays.

use std::sync::Arc;

use faer::Mat;
use rayon::prelude::*;

use super::joint::Joint;
use crate::Result;
use crate::analysis::CostModel;
use crate::analysis::candidate::{CandidateOp, total};
use crate::analysis::kernels::{KernelLayout, Spectrum};
use crate::analysis::price::share;
use crate::analysis::tradeoff::{Budget, Point, Tradeoff, within_macs};
use crate::ir::{Graph, NodeId, Op, Type};
use crate::passes::activations::Activations;
use crate::pipeline::{Cost, PassContext};

/// Candidates for the number of kernels that are weighed for a layer, about.
const CANDIDATES: usize = 256;

/// A convolution that has a cheaper separated form.
pub struct Layer {
    /// The convolution.
    pub node: NodeId,
    /// How its weight lies.
    pub layout: KernelLayout,
    /// Multiply-adds as it is.
    pub dense: u64,
    /// Numbers of kernels, ascending, with the multiply-adds of the separated form, all fewer than `dense`; never empty.
    pub separated: Vec<(usize, u64)>,
}

/// The convolutions of the graph that would be cheaper with few kernels, and remarks on those that would not.
///
/// Numbers of kernels are multiples of `align`.
pub fn separable(graph: &Graph, align: usize, context: &mut PassContext<'_>) -> Vec<Layer> {
    let mut layers = Vec::new();
    for node in graph.nodes() {
        let Some(op) = graph.op(node) else { continue };
        let operands = graph.operands(node);
        let Some(constant) = operands.get(1).and_then(|w| graph.constant(w.node)) else {
            continue;
        };
        let Some(layout) = KernelLayout::of(op, constant.tensor.shape()) else {
            continue;
        };
        if !constant.tensor.dtype().is_float() {
            continue;
        }
        if constant.mask.is_some() {
            context.missed(
                &graph.node(node).name,
                "left dense: its weight is masked, and combinations of its kernels would not be",
            );
            continue;
        }
        let types = operands.iter().map(|v| graph.ty(*v).clone()).collect();
        let model = CostModel::new(&context.cost, &graph.bindings);
        let cost = |plan: &[CandidateOp]| total(plan, &graph.bindings, &model);
        let whole = CandidateOp::new(op.clone(), types);
        let Some((dense, limit)) = whole.and_then(|whole| cost(&[whole])) else {
            context.missed(
                &graph.node(node).name,
                "left dense: its multiply-adds depend on sizes that have no number; give the input's shape",
            );
            continue;
        };
        // Each group has as many kernels as the others.
        let step = layout.groups * (align / gcd(align, layout.groups)).max(1);
        let most = layout.dense_work() / (layout.taps + layout.outputs);
        let every = step * (most / step / CANDIDATES).max(1);
        let candidates =
            std::iter::once(step).chain((every..=most).step_by(every).filter(|k| *k > step));
        let separated: Vec<(usize, u64)> = candidates
            .map_while(|kernels| {
                let [x, weight] = [0, 1].map(|i| graph.ty(operands[i]));
                let (macs, cost) = cost(&separated_form(op, &layout, x, weight, kernels)?)?;
                (macs < dense && model.pays(cost, limit)).then_some((kernels, macs))
            })
            .collect();
        if separated.is_empty() {
            context.missed(
                &graph.node(node).name,
                "left dense: cost would rise however few kernels a channel had",
            );
            continue;
        }
        layers.push(Layer {
            node,
            layout,
            dense,
            separated,
        });
    }
    layers
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What the separated form with so many kernels runs.
fn separated_form(
    op: &Op,
    layout: &KernelLayout,
    x: &Type,
    weight: &Type,
    kernels: usize,
) -> Option<[CandidateOp; 3]> {
    let (dtype, shape) = (weight.dtype()?, weight.shape()?);
    let dims = shape.len() - 2;
    let index = vec![0; kernels].into();
    let gather = CandidateOp::new(Op::Gather { axis: 1, index }, vec![x.clone()])?;
    let kernel_shape = [kernels.into(), 1.into()]
        .into_iter()
        .chain(shape[2..].iter().cloned());
    let depthwise = CandidateOp::new(
        op.with_groups(kernels),
        vec![gather.result(), Type::tensor(dtype, kernel_shape)],
    )?;
    let mix_shape = [layout.outputs * layout.groups, kernels / layout.groups];
    let mix_shape = mix_shape.into_iter().chain(vec![1; dims]).map(Into::into);
    let pointwise = CandidateOp::new(
        Op::pointwise(dims, layout.groups),
        vec![depthwise.result(), Type::tensor(dtype, mix_shape)],
    )?;
    Some([gather, depthwise, pointwise])
}

/// For each layer, what every choice of kernels costs and loses.
pub struct Projection {
    layers: Vec<Layer>,
    curves: Vec<Curve>,
}

impl Projection {
    /// Weighs the layers' kernels; `activations` holds what each layer reads. Layers of which nothing can be said are left out.
    pub fn new(
        graph: &Graph,
        layers: Vec<Layer>,
        activations: Vec<Arc<Activations>>,
        context: &mut PassContext<'_>,
    ) -> Result<Projection> {
        let total = layers.len() as f64;
        let mut projection = Projection {
            layers: Vec::with_capacity(layers.len()),
            curves: Vec::with_capacity(layers.len()),
        };
        for (i, (layer, activations)) in layers.into_iter().zip(activations).enumerate() {
            let name = graph.node(layer.node).name.clone();
            context.progress(&name, i as f64 / total)?;
            match Curve::of(graph, &layer, activations) {
                Some(curve) => {
                    projection.curves.push(curve);
                    projection.layers.push(layer);
                }
                None => context.missed(
                    &name,
                    "left dense: the moments of what it reads have no factorisation",
                ),
            }
        }
        Ok(projection)
    }

    /// The layers, in the order in which they were given.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// A point on the curve of each layer: those in `dense` stay as they are, and the others keep to the budget, `room` being
    /// the multiply-adds that all layers together may take.
    pub fn choose(&self, budget: Budget, dense: &[bool], room: u64) -> Vec<usize> {
        match budget {
            Budget::Macs(_) => {
                let curves: Vec<&Tradeoff> = self.curves.iter().map(|c| &c.tradeoff).collect();
                within_macs(&curves, dense, room)
            }
            Budget::Error(error) => {
                let curves = self.curves.iter().zip(dense);
                curves
                    .map(|(curve, dense)| curve.tradeoff.within(if *dense { 0.0 } else { error }))
                    .collect()
            }
        }
    }

    /// Whether a choice leaves the layer as it is.
    pub fn is_dense(&self, layer: usize, point: usize) -> bool {
        self.curves[layer].kernels[point].is_none()
    }

    /// Projects the weights of `graph` as chosen.
    pub fn apply(&self, graph: &mut Graph, chosen: &[usize]) {
        for ((layer, curve), point) in self.layers.iter().zip(&self.curves).zip(chosen) {
            if let Some(kernels) = curve.kernels[*point] {
                curve.apply(graph, layer, kernels);
            }
        }
    }

    /// For each number of kernels that a layer may have, what its result loses, squared and relative.
    pub fn points(&self, layer: usize) -> impl Iterator<Item = (usize, f64)> {
        let curve = &self.curves[layer];
        let points = curve.tradeoff.points().iter().zip(&curve.kernels);
        points.filter_map(|(point, kernels)| Some(((*kernels)?, point.error)))
    }

    /// The share of its price that a layer with so many kernels costs.
    pub fn share(&self, graph: &Graph, layer: usize, kernels: usize, cost: &Cost) -> Option<f64> {
        let Layer { node, layout, .. } = &self.layers[layer];
        let operands = graph.operands(*node);
        let [x, weight] = [0, 1].map(|i| graph.ty(operands[i]));
        let plan = separated_form(graph.op(*node)?, layout, x, weight, kernels)?;
        share(graph, *node, &plan, cost)
    }

    /// Projects the weight of one layer to so many kernels.
    pub fn project(&self, graph: &mut Graph, layer: usize, kernels: usize) {
        self.curves[layer].apply(graph, &self.layers[layer], kernels);
    }

    /// Says what was chosen for each layer.
    pub fn explain(&self, graph: &Graph, chosen: &[usize], context: &mut PassContext<'_>) {
        for ((layer, curve), point) in self.layers.iter().zip(&self.curves).zip(chosen) {
            let name = &graph.node(layer.node).name;
            let Some(kernels) = curve.kernels[*point] else {
                context.missed(
                    name,
                    "left dense: fewer kernels lose more here than they save",
                );
                continue;
            };
            let layout = &layer.layout;
            let all = layout.inputs * layout.taps.min(layout.outputs);
            let error = 100.0 * curve.tradeoff.points()[*point].error.sqrt();
            context.applied(
                name,
                format!("{kernels} of {all} kernels: by their moments the result changes by {error:.1} %"),
            );
        }
    }
}

/// What a layer's error is for what it costs.
struct Curve {
    /// One for each input channel.
    spectra: Vec<Spectrum>,
    activations: Arc<Activations>,
    joint: Option<Joint>,
    tradeoff: Tradeoff,
    /// The kernels in all at each of its points; `None` for the layer as it is.
    kernels: Vec<Option<usize>>,
}

impl Curve {
    fn of(graph: &Graph, layer: &Layer, activations: Arc<Activations>) -> Option<Curve> {
        let layout = &layer.layout;
        let weight = graph.operand_elements(layer.node, 1);
        let spectra: Option<Vec<Spectrum>> = (0..layout.inputs)
            .into_par_iter()
            .map(|c| Spectrum::of(&layout.matrix(&weight, c), &activations.patches[c]))
            .collect();
        let spectra = spectra?;
        let joint = activations.joint.as_ref();
        let joint = joint.and_then(|covariance| Joint::of(layout, &weight, &spectra, covariance));
        let sorted: Vec<Vec<f64>> = spectra
            .chunks(layout.inputs / layout.groups)
            .map(|group| {
                ranked(group)
                    .into_iter()
                    .map(|(energy, _)| energy)
                    .collect()
            })
            .collect();
        let energy: f64 = match &joint {
            Some(joint) => joint.loss(0),
            None => sorted.iter().flatten().sum(),
        };
        let lost = |kernels: usize| -> f64 {
            let lost = match &joint {
                Some(joint) => joint.loss(kernels),
                None => {
                    let each = kernels / layout.groups;
                    let rest = |group: &Vec<f64>| group.iter().skip(each).sum::<f64>();
                    sorted.iter().map(rest).sum()
                }
            };
            lost / energy.max(f64::MIN_POSITIVE)
        };
        let points = layer.separated.iter().map(|(kernels, macs)| Point {
            macs: *macs,
            error: lost(*kernels),
        });
        let dense = Point {
            macs: layer.dense,
            error: 0.0,
        };
        let kernels = layer.separated.iter().map(|(kernels, _)| Some(*kernels));
        Some(Curve {
            tradeoff: Tradeoff::new(points.chain([dense]).collect()),
            kernels: kernels.chain([None]).collect(),
            spectra,
            activations,
            joint,
        })
    }

    /// Projects the layer's weight onto so many kernels, and adds to its bias what that takes from the mean of its result.
    fn apply(&self, graph: &mut Graph, layer: &Layer, kernels: usize) {
        let layout = &layer.layout;
        let mut weight = graph.operand_elements(layer.node, 1);
        let matrices: Vec<Mat<f64>> = (0..layout.inputs)
            .map(|c| layout.matrix(&weight, c))
            .collect();
        let projected = match &self.joint {
            Some(joint) => joint.project(layout, &self.spectra, kernels),
            None => self.truncate(layout, &matrices, kernels),
        };
        let projected: Vec<(Mat<f64>, Vec<f64>)> = projected
            .into_iter()
            .enumerate()
            .map(|(c, projected)| {
                let mean = &self.activations.mean[c * layout.taps..][..layout.taps];
                let lost = |output: usize| -> f64 {
                    let of = |(tap, mean): (usize, &f64)| {
                        mean * (matrices[c][(output, tap)] - projected[(output, tap)])
                    };
                    mean.iter().enumerate().map(of).sum()
                };
                let lost = (0..layout.outputs).map(lost).collect();
                (projected, lost)
            })
            .collect();
        let mut shift = vec![0.0; layout.outputs * layout.groups];
        for (c, (matrix, lost)) in projected.iter().enumerate() {
            layout.set_matrix(&mut weight, c, matrix);
            let first = layout.group(c) * layout.outputs;
            for (output, lost) in lost.iter().enumerate() {
                shift[first + output] += lost;
            }
        }
        graph.set_operand_elements(layer.node, 1, weight);
        if shift.iter().any(|s| *s != 0.0) {
            graph.shift_bias(layer.node, &shift);
        }
    }
}

impl Curve {
    /// Every channel's best approximation for itself, with so many kernels over all.
    fn truncate(
        &self,
        layout: &KernelLayout,
        matrices: &[Mat<f64>],
        kernels: usize,
    ) -> Vec<Mat<f64>> {
        let mut ranks = vec![0; layout.inputs];
        let inputs = layout.inputs / layout.groups;
        for (group, spectra) in self.spectra.chunks(inputs).enumerate() {
            for (_, channel) in ranked(spectra).into_iter().take(kernels / layout.groups) {
                ranks[group * inputs + channel] += 1;
            }
        }
        let channels = self.spectra.par_iter().zip(matrices).zip(ranks);
        channels
            .map(|((spectrum, matrix), rank)| spectrum.project(matrix, rank))
            .collect()
    }
}

/// Every direction of every channel with its energy, largest first.
fn ranked(spectra: &[Spectrum]) -> Vec<(f64, usize)> {
    let channels = spectra.iter().enumerate();
    let mut all: Vec<(f64, usize)> = channels
        .flat_map(|(c, spectrum)| spectrum.energies.iter().map(move |energy| (*energy, c)))
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    all
}
