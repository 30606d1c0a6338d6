//! How much goes where the user does not say: what changes the outputs little, by forecast.

use super::Lrf;
use super::choose::{Curve, chosen_of};
use super::factor::{Kept, Weighed};
use super::layer::Layer;
use super::put;
use crate::Result;
use crate::analysis::tradeoff::{Tradeoff, within_macs};
use crate::ir::Graph;
use crate::passes::forecast::{Limit, changes_by, too_little, too_much};
use crate::pipeline::PassContext;

/// How often the range of multiply-adds in which the budget is looked for is halved.
const BISECTIONS: usize = 10;

/// What a layer loses, squared, where it is tried how much that counts at the outputs, about.
const PROBES: [f64; 3] = [0.003, 0.03, 0.3];

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
        let mut curves = self.curves(graph, layers, weighed, align, context)?;
        self.see_outer_losses(graph, layers, weighed, &limit, &mut curves, context)?;
        let tradeoffs: Vec<&Tradeoff> = curves.iter().map(|curve| &curve.tradeoff).collect();
        let mut high: u64 = layers.iter().map(Layer::macs).sum();
        let mut low: u64 = tradeoffs.iter().map(|t| t.points()[0].macs).sum();
        let (mut most, mut refused) = (None, None);
        for _ in 0..BISECTIONS {
            let room = low + (high - low) / 2;
            let chosen = within_macs(&tradeoffs, &vec![false; layers.len()], room);
            let kept: Vec<Option<Kept>> = curves
                .iter()
                .zip(&chosen)
                .map(|(curve, point)| curve.kept[*point])
                .collect();
            let changed = self.changed(graph, layers, weighed, &kept)?;
            let (change, left) = (limit.change(&changed)?, limit.size(&changed));
            if limit.allows(change, left) {
                (most, high) = (Some((chosen, change, left)), room);
            } else {
                (refused, low) = (Some(change), room);
            }
        }
        match (most, refused) {
            (Some((chosen, change, left)), _) if limit.is_worth(change, left) => {
                context.analysis("", changes_by(change));
                return Ok(chosen_of(graph, layers, &curves, &chosen, context));
            }
            (Some(_), _) => context.missed("", too_little()),
            (None, Some(change)) => context.missed("", too_much(change)),
            (None, None) => {}
        }
        Ok(vec![None; layers.len()])
    }

    /// Turns what each layer loses into what the outputs lose, as far as that can be tried in time.
    fn see_outer_losses(
        &self,
        graph: &Graph,
        layers: &[Layer],
        weighed: &[Weighed],
        limit: &Limit,
        curves: &mut [Curve],
        context: &mut PassContext<'_>,
    ) -> Result<()> {
        // What the network has lost before counts for no layer.
        let before = limit.change(graph)?.powi(2);
        let probes = PROBES.len().min(limit.forecasts() / layers.len().max(1));
        let probes = &PROBES[(PROBES.len() - probes) / 2..][..probes];
        for (i, curve) in curves.iter_mut().enumerate() {
            context.progress(&graph.node(layers[i].node).name.clone(), 0.2)?;
            curve.see_outer_losses(probes, |kept| {
                let Some(pieces) = weighed[i].split(kept, self.choice) else {
                    return Ok(None);
                };
                let mut changed = graph.clone();
                put(&mut changed, &layers[i], &weighed[i], kept, pieces)?;
                Ok(Some(limit.change(&changed)?.powi(2) - before))
            })?;
        }
        Ok(())
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

impl Curve {
    /// Turns what the layer loses into what the outputs lose, as tried where the layer loses about as much as `probes` say.
    ///
    /// `outer` says what the outputs lose, squared, where so much of the layer is kept; `None` where that cannot be.
    fn see_outer_losses(
        &mut self,
        probes: &[f64],
        outer: impl Fn(Kept) -> Result<Option<f64>>,
    ) -> Result<()> {
        let points = self.tradeoff.points().iter().zip(&self.kept);
        let tried: Vec<(f64, Kept)> = points
            .filter_map(|(point, kept)| Some((point.error, (*kept)?)))
            .filter(|(error, _)| *error > 0.0)
            .collect();
        let off = |error: f64, probe: f64| (error / probe).ln().abs();
        let mut known: Vec<[f64; 2]> = Vec::new();
        for probe in probes {
            let nearest = tried
                .iter()
                .min_by(|a, b| off(a.0, *probe).total_cmp(&off(b.0, *probe)));
            let Some((error, kept)) = nearest else {
                continue;
            };
            if known.iter().any(|[e, _]| e == error) {
                continue;
            }
            if let Some(loss) = outer(*kept)? {
                // What is not seen at the outputs is not free, and what breaks them has a price too.
                let loss = if loss.is_finite() { loss } else { f64::MAX };
                known.push([*error, loss.clamp(1e-6 * error, 1e6 * error)]);
            }
        }
        known.sort_by(|a, b| a[0].total_cmp(&b[0]));
        self.tradeoff = self.tradeoff.with_errors(|error| between(&known, error));
        Ok(())
    }
}

/// The loss for an error, between the two nearest `[error, loss]` that are known, by powers of the error; beyond them in proportion to
/// it, and the error itself where none is known.
fn between(known: &[[f64; 2]], error: f64) -> f64 {
    let (Some(first), Some(last)) = (known.first(), known.last()) else {
        return error;
    };
    let after = known.partition_point(|[e, _]| *e < error);
    match (after.checked_sub(1).map(|i| known[i]), known.get(after)) {
        (Some(a), Some(b)) => {
            let t = (error / a[0]).ln() / (b[0] / a[0]).ln();
            a[1] * (b[1] / a[1]).powf(t)
        }
        (None, _) => first[1] * error / first[0],
        (_, None) => last[1] * error / last[0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_between_known_ones_follow_powers_and_beyond_them_are_in_proportion() {
        let known = [[0.01, 1e-4], [0.1, 1e-2]];
        for (error, loss) in [
            (0.001, 1e-5),
            (0.01, 1e-4),
            (0.0316227766, 1e-3),
            (0.1, 1e-2),
            (0.2, 2e-2),
        ] {
            assert!(
                (between(&known, error) / loss - 1.0).abs() < 1e-6,
                "{error}"
            );
        }
        assert_eq!(between(&known, 0.0), 0.0);
        assert_eq!(between(&[], 0.5), 0.5);
    }
}
