//! How many filters and channels each layer keeps.

use rayon::prelude::*;

use super::Lrf;
use super::factor::{Kept, Weighed};
use super::layer::Layer;
use crate::analysis::CostModel;
use crate::analysis::cost::known_macs;
use crate::analysis::tradeoff::{Budget, Point, Tradeoff, refuse_unreachable, within_macs};
use crate::ir::Graph;
use crate::pipeline::{Cost, PassContext};
use crate::{Error, Result};

/// How much goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// The same share of every layer.
    Ratio(f64),
    /// What keeps to a budget, and loses least.
    Budget(Budget),
    /// As much as changes the outputs little, by forecast.
    Forecast,
}

/// Numbers of filters, and of channels, that are weighed for a layer, about.
const CANDIDATES: usize = 32;

impl Lrf {
    /// What each layer keeps; `None` for all of it.
    pub(super) fn kept(
        &self,
        graph: &Graph,
        layers: &[Layer],
        weighed: &[Weighed],
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Option<Kept>>> {
        let align = CostModel::new(&context.cost, &graph.bindings).alignment(self.align);
        match self.amount {
            Amount::Ratio(ratio) => Ok(self.by_ratio(graph, layers, ratio, align, context)),
            Amount::Budget(budget) => {
                self.by_budget(graph, layers, weighed, budget, align, context)
            }
            Amount::Forecast => self.by_forecast(graph, layers, weighed, align, context),
        }
    }

    fn by_ratio(
        &self,
        graph: &Graph,
        layers: &[Layer],
        ratio: f64,
        align: usize,
        context: &mut PassContext<'_>,
    ) -> Vec<Option<Kept>> {
        let cost = context.cost.clone();
        let model = CostModel::new(&cost, &graph.bindings);
        let mut kept = |layer: &Layer| {
            let all = layer.all();
            let left = |n: usize| {
                let gone = ((ratio * n as f64).round_ties_even() as usize).min(n - 1);
                (n - gone).next_multiple_of(align).min(n)
            };
            let kept = if layer.has_two_sides() {
                Kept {
                    outputs: if self.sides[0] {
                        left(all.outputs)
                    } else {
                        all.outputs
                    },
                    inputs: if self.sides[1] {
                        left(all.inputs)
                    } else {
                        all.inputs
                    },
                }
            } else {
                // A matrix has no more independent rows than columns.
                Kept {
                    outputs: left(all.outputs.min(all.inputs)),
                    inputs: all.inputs,
                }
            };
            let pays = kept != all && layer.flops_in_pieces(graph, kept, &model).is_some();
            if !pays {
                let why = if kept == all {
                    "left whole: the ratio takes nothing from it"
                } else {
                    "left whole: cost would rise"
                };
                context.missed(&graph.node(layer.node).name, why);
            }
            pays.then_some(kept)
        };
        layers.iter().map(&mut kept).collect()
    }

    fn by_budget(
        &self,
        graph: &Graph,
        layers: &[Layer],
        weighed: &[Weighed],
        budget: Budget,
        align: usize,
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Option<Kept>>> {
        let curves = self.curves(graph, layers, weighed, align, context)?;
        let tradeoffs: Vec<&Tradeoff> = curves.iter().map(|curve| &curve.tradeoff).collect();
        let chosen = match budget {
            Budget::Error(error) => tradeoffs.iter().map(|t| t.within(error)).collect(),
            Budget::Macs(target) => {
                let whole = known_macs(graph);
                let others = whole - layers.iter().map(Layer::macs).sum::<u64>();
                let least: u64 = tradeoffs.iter().map(|t| t.points()[0].macs).sum();
                let least = (others + least) as f64 / whole as f64;
                self.refuse_unreachable(graph, target, least, context)?;
                let room = ((target * whole as f64) as u64).saturating_sub(others);
                within_macs(&tradeoffs, &vec![false; layers.len()], room)
            }
        };
        Ok(chosen_of(graph, layers, &curves, &chosen, context))
    }

    /// Refuses a target below `least`, and names the scope that would reach it.
    pub(super) fn refuse_unreachable(
        &self,
        graph: &Graph,
        target: f64,
        least: f64,
        context: &PassContext<'_>,
    ) -> Result<()> {
        let refused =
            refuse_unreachable(target, least, "the fewest filters that the layers can have");
        let Err(Error::Usage { what, mut help }) = refused else {
            return refused;
        };
        let mut quiet = PassContext::new(context.seed, context.cost.clone());
        let model = CostModel::new(&context.cost, &graph.bindings);
        let saved = |layer: &Layer| {
            let kept = Kept {
                outputs: 1,
                inputs: if layer.has_two_sides() {
                    1
                } else {
                    layer.all().inputs
                },
            };
            let left = layer.flops_in_pieces(graph, kept, &model);
            layer.macs() - left.unwrap_or(layer.macs())
        };
        let saved: u64 = super::layers(graph, true, &mut quiet)
            .iter()
            .map(saved)
            .sum();
        let whole = known_macs(graph);
        if !self.all && (whole - saved) as f64 <= target * whole as f64 {
            help +=
                "\nscope=all, which takes 1x1 convolutions and linear layers too, would reach it";
        }
        Err(Error::Usage { what, help })
    }

    /// What the layers lose for what they cost; those of which that cannot be said stay whole.
    pub(super) fn curves(
        &self,
        graph: &Graph,
        layers: &[Layer],
        weighed: &[Weighed],
        align: usize,
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Curve>> {
        context.progress("losses", 0.0)?;
        let cost = context.cost.clone();
        let curves: Vec<Option<Curve>> = layers
            .par_iter()
            .zip(weighed)
            .map(|(layer, weighed)| self.curve(graph, layer, weighed, align, &cost))
            .collect();
        let or_whole = |(layer, curve): (&Layer, Option<Curve>)| {
            curve.unwrap_or_else(|| {
                context.missed(&graph.node(layer.node).name, NO_FACTORISATION);
                Curve::whole(layer)
            })
        };
        Ok(layers.iter().zip(curves).map(or_whole).collect())
    }

    /// What a layer loses for what it costs.
    fn curve(
        &self,
        graph: &Graph,
        layer: &Layer,
        weighed: &Weighed,
        align: usize,
        cost: &Cost,
    ) -> Option<Curve> {
        let model = CostModel::new(cost, &graph.bindings);
        let losses = weighed.losses(self.choice.criterion)?;
        let all = layer.all();
        let counts = |n: usize, goes: bool| -> Vec<usize> {
            let every = align * (n / align / CANDIDATES).max(1);
            let fewer = (1..n).filter(|k| k % every == 0 && goes);
            fewer.chain([n]).collect()
        };
        let [filters, channels] = self.sides;
        let two = layer.has_two_sides();
        let mut points: Vec<(Point, Option<Kept>)> = Vec::new();
        for outputs in counts(all.outputs, filters || !two) {
            for inputs in counts(all.inputs, channels && two) {
                let kept = Kept { inputs, outputs };
                let macs = if kept == all {
                    None
                } else {
                    layer.flops_in_pieces(graph, kept, &model)
                };
                let error =
                    losses.outputs[all.outputs - outputs] + losses.inputs[all.inputs - inputs];
                points.extend(macs.map(|macs| (Point { macs, error }, Some(kept))));
            }
        }
        let whole = Point {
            macs: layer.macs(),
            error: 0.0,
        };
        points.push((whole, None));
        // The cheapest first, and of those only what loses less than any that is cheaper.
        points.sort_by(|(a, _), (b, _)| a.macs.cmp(&b.macs).then(a.error.total_cmp(&b.error)));
        let mut least = f64::INFINITY;
        points.retain(|(point, kept)| {
            let better = point.error < least || kept.is_none();
            least = least.min(point.error);
            better
        });
        let (points, kept) = points.into_iter().unzip();
        Some(Curve {
            tradeoff: Tradeoff::new(points),
            kept,
        })
    }
}

/// Why a layer stays whole of which nothing can be said.
pub(super) const NO_FACTORISATION: &str =
    "left whole: the moments of what it reads, or its weight, have no factorisation";

/// What a layer loses for what it costs.
pub(super) struct Curve {
    pub tradeoff: Tradeoff,
    /// What is kept at each of its points; `None` for the layer as it is.
    pub kept: Vec<Option<Kept>>,
}

impl Curve {
    /// Of a layer that loses nothing.
    fn whole(layer: &Layer) -> Curve {
        let whole = Point {
            macs: layer.macs(),
            error: 0.0,
        };
        Curve {
            tradeoff: Tradeoff::new(vec![whole]),
            kept: vec![None],
        }
    }
}

/// What layers keep at these points of their curves, and a remark on each that stays whole.
pub(super) fn chosen_of(
    graph: &Graph,
    layers: &[Layer],
    curves: &[Curve],
    chosen: &[usize],
    context: &mut PassContext<'_>,
) -> Vec<Option<Kept>> {
    let of_layer = |((layer, curve), point): ((&Layer, &Curve), &usize)| {
        let kept = curve.kept[*point];
        if kept.is_none() {
            let why = match curve.kept.len() {
                1 => "left whole: cost would rise whatever goes",
                _ => "left whole: what goes loses more here than it saves",
            };
            context.missed(&graph.node(layer.node).name, why);
        }
        kept
    };
    layers
        .iter()
        .zip(curves)
        .zip(chosen)
        .map(of_layer)
        .collect()
}
