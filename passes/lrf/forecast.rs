//! How much goes where the user does not say: what changes the outputs little, by forecast.

use super::Lrf;
use super::choose::{Curve, chosen_of};
use super::factor::{Kept, Weighed};
use super::layer::Layer;
use super::put;
use crate::Result;
use crate::analysis::tradeoff::{Tradeoff, within_flops};
use crate::ir::Graph;
use crate::passes::forecast::{Limit, changes_by, too_much};
use crate::pipeline::PassContext;

/// How often the range of multiply-adds in which the budget is looked for is halved.
const BISECTIONS: usize = 10;

/// What a layer loses where it is tried how much that counts at the outputs, squared, about.
const PROBE: f64 = 0.01;

impl Lrf {
    /// What each layer keeps, so that the outputs change little.
    pub(super) fn by_forecast(
        &self,
        graph: &Graph,
        layers: &[Layer],
        weighed: &[Weighed],
        align: usize,
        context: &mut PassContext<'_>,
    ) -> Result<Vec<Option<Kept>>> {
        let Some(limit) = Limit::new(graph, context)? else {
            return Ok(vec![None; layers.len()]);
        };
        let mut curves = self.curves(graph, layers, weighed, align, context);
        let probed = match limit.is_slow(layers.len()) {
            true => 0,
            false => layers.len(),
        };
        for (i, curve) in curves.iter_mut().enumerate().take(probed) {
            context.progress(&graph.node(layers[i].node).name.clone(), 0.2);
            let factor = self.outer_loss(graph, &limit, &layers[i], &weighed[i], curve)?;
            curve.tradeoff = curve.tradeoff.times(factor);
        }
        let tradeoffs: Vec<&Tradeoff> = curves.iter().map(|curve| &curve.tradeoff).collect();
        let whole: u64 = layers.iter().map(Layer::flops).sum();
        let least: u64 = tradeoffs.iter().map(|t| t.points()[0].flops).sum();
        let (mut best, mut refused) = (None, None);
        let (mut low, mut high) = (least, whole);
        for _ in 0..BISECTIONS {
            let room = low + (high - low) / 2;
            let chosen = within_flops(&tradeoffs, &vec![false; layers.len()], room);
            let kept: Vec<Option<Kept>> = { curves.iter().zip(&chosen) }
                .map(|(curve, point)| curve.kept[*point])
                .collect();
            let changed = self.changed(graph, layers, weighed, &kept)?;
            let change = limit.change(&changed)?;
            match limit.is_worth(change, limit.size(&changed)) {
                true => (best, high) = (Some((chosen, change)), room),
                false => (refused, low) = (Some(change), room),
            }
        }
        let Some((chosen, change)) = best else {
            if let Some(change) = refused {
                context.missed("", too_much(change));
            }
            return Ok(vec![None; layers.len()]);
        };
        context.analysis("", changes_by(change));
        Ok(chosen_of(graph, layers, &curves, &chosen, context))
    }

    /// How much the outputs lose, squared, for what the layer does.
    fn outer_loss(
        &self,
        graph: &Graph,
        limit: &Limit,
        layer: &Layer,
        weighed: &Weighed,
        curve: &Curve,
    ) -> Result<f64> {
        let off = |error: f64| (error / PROBE).ln().abs();
        let points = curve.tradeoff.points().iter().zip(&curve.kept);
        let tried = points
            .filter_map(|(point, kept)| Some((point.error, (*kept)?)))
            .filter(|(error, _)| *error > 0.0)
            .min_by(|a, b| off(a.0).total_cmp(&off(b.0)));
        let Some((error, kept)) = tried else {
            return Ok(1.0);
        };
        let Some(pieces) = weighed.split(kept, self.choice) else {
            return Ok(1.0);
        };
        let mut changed = graph.clone();
        put(&mut changed, layer, weighed, kept, pieces)?;
        let factor = limit.change(&changed)?.powi(2) / error;
        // What is not seen at the outputs is not free.
        Ok(if factor.is_finite() {
            factor.max(1e-6)
        } else {
            1e6
        })
    }

    fn changed(
        &self,
        graph: &Graph,
        layers: &[Layer],
        weighed: &[Weighed],
        kept: &[Option<Kept>],
    ) -> Result<Graph> {
        let mut changed = graph.clone();
        for (i, pieces) in self.pieces(layers, weighed, kept).into_iter().enumerate() {
            if let (Some(kept), Some(pieces)) = (kept[i], pieces) {
                put(&mut changed, &layers[i], &weighed[i], kept, pieces)?;
            }
        }
        Ok(changed)
    }
}
