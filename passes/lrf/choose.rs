//! How many filters and channels each layer keeps.

use rayon::prelude::*;

use super::Lrf;
use super::factor::{Kept, Weighed};
use super::layer::Layer;
use crate::analysis::CostModel;
use crate::analysis::cost::known_flops;
use crate::analysis::tradeoff::{Budget, Point, Tradeoff, refuse_unreachable, within_flops};
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
            let kept = match layer.has_two_sides() {
                true => Kept {
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
                },
                // A matrix has no more independent rows than columns.
                false => Kept {
                    outputs: left(all.outputs.min(all.inputs)),
                    inputs: all.inputs,
                },
            };
            let pays = kept != all && layer.flops_in_pieces(graph, kept, &model).is_some();
            if !pays {
                let why = match kept == all {
                    true => "left whole: the ratio takes nothing from it",
                    false => "left whole: cost would rise",
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
        context.progress("losses", 0.0);
        let cost = context.cost.clone();
        let curves: Result<Vec<Curve>> = layers
            .par_iter()
            .zip(weighed)
            .map(|(layer, weighed)| self.curve(graph, layer, weighed, align, &cost))
            .collect();
        let curves = curves?;
        let tradeoffs: Vec<&Tradeoff> = curves.iter().map(|curve| &curve.tradeoff).collect();
        let chosen = match budget {
            Budget::Error(error) => tradeoffs.iter().map(|t| t.within(error)).collect(),
            Budget::Flops(target) => {
                let whole = known_flops(graph);
                let others = whole - layers.iter().map(Layer::flops).sum::<u64>();
                let least: u64 = tradeoffs.iter().map(|t| t.points()[0].flops).sum();
                let least = (others + least) as f64 / whole as f64;
                refuse_unreachable(target, least, "the fewest filters that the layers can have")?;
                let room = ((target * whole as f64) as u64).saturating_sub(others);
                within_flops(&tradeoffs, &vec![false; layers.len()], room)
            }
        };
        let of_layer = |((layer, curve), point): ((&Layer, &Curve), usize)| {
            let kept = curve.kept[point];
            if kept.is_none() {
                let why = match curve.kept.len() {
                    1 => "left whole: cost would rise whatever goes",
                    _ => "left whole: what goes loses more here than it saves",
                };
                context.missed(&graph.node(layer.node).name, why);
            }
            kept
        };
        Ok(layers
            .iter()
            .zip(&curves)
            .zip(chosen)
            .map(of_layer)
            .collect())
    }

    /// What a layer loses for what it costs.
    fn curve(
        &self,
        graph: &Graph,
        layer: &Layer,
        weighed: &Weighed,
        align: usize,
        cost: &Cost,
    ) -> Result<Curve> {
        let model = CostModel::new(cost, &graph.bindings);
        let losses = weighed
            .losses(self.choice.criterion)
            .ok_or_else(|| Error::Run {
                node: graph.node(layer.node).name.to_string(),
                what: "what it reads has moments that are not finite".into(),
            })?;
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
                let flops = match kept == all {
                    true => None,
                    false => layer.flops_in_pieces(graph, kept, &model),
                };
                let error =
                    losses.outputs[all.outputs - outputs] + losses.inputs[all.inputs - inputs];
                points.extend(flops.map(|flops| (Point { flops, error }, Some(kept))));
            }
        }
        let whole = Point {
            flops: layer.flops(),
            error: 0.0,
        };
        points.push((whole, None));
        // The cheapest first, and of those only what loses less than any that is cheaper.
        points.sort_by(|(a, _), (b, _)| a.flops.cmp(&b.flops).then(a.error.total_cmp(&b.error)));
        let mut least = f64::INFINITY;
        points.retain(|(point, kept)| {
            let better = point.error < least || kept.is_none();
            least = least.min(point.error);
            better
        });
        let (points, kept) = points.into_iter().unzip();
        Ok(Curve {
            tradeoff: Tradeoff::new(points),
            kept,
        })
    }
}

struct Curve {
    tradeoff: Tradeoff,
    /// What is kept at each of its points; `None` for the layer as it is.
    kept: Vec<Option<Kept>>,
}
