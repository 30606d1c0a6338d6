//! Drop-out and drop-in: how weights leave a network and come back, until a share of them is gone.
//!
//! From the paper (Jia et al., "DropPruning for Model Compression", arXiv 1812.02035): at each step some of the unimportant
//! weights are deleted at random, and some of the deleted ones brought back at random, so that the sparsity flows to a target.
//! Ours is what its abstract leaves open, the arithmetic of the flow above all. Let `s` be the share of weights that is pruned,
//! `s*` the target. A step looks at the share `q` of all weights that is least important, the pruned ones being least of all;
//! of those among them that are kept it deletes each with probability `p_out`, and it brings each weight that was pruned before
//! the step back with probability `p_in`. So one expects
//!
//! ```text
//! s' = s (1 - p_in) + p_out (q - s), whose fixed point is s* = p_out q / (p_out + p_in),
//! ```
//!
//! and `q = s* (p_out + p_in) / p_out` leads to the target, by a factor of `1 - p_out - p_in` a step. As `q` is a share,
//! `p_in` is at most `p_out (1 - s*) / s*`. At a fraction `f` of that, `q - s* = f (1 - s*)`: when the flow has come to rest, `f`
//! is the share of the kept weights that is put to chance at each step.

use rayon::prelude::*;

use super::layers::Layer;
use crate::ir::Mask;
use crate::random::random;
use crate::{Error, Result};

/// The fraction of the largest `p_in` that is taken where none is given. A quarter of the kept weights is put to chance at each
/// step, and the important three quarters are safe; at 1 every weight would be, and steps would undo what training found.
const MODERATE: f64 = 0.25;

/// Among which weights importance is ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// All of the network: layers end up of different sparsity.
    Global,
    /// Those of each layer by itself: all layers get the same sparsity.
    Layer,
}

/// What happens to weights in a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Flow {
    /// The share of weights to be pruned in the end, 0 to 1.
    sparsity: f64,
    /// The share that is aimed at now, no more than that.
    aim: f64,
    p_out: f64,
    p_in: f64,
    scope: Scope,
}

/// How many weights left, and came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    pub left: usize,
    pub returned: usize,
}

impl Flow {
    /// A flow to `sparsity` (0 to 1), with a moderate `p_in` where none is given. `p_out` is above 0.
    ///
    /// # Errors
    /// [`Error::Usage`] with the largest `p_in` when it is too large to reach the target.
    pub(super) fn new(sparsity: f64, p_out: f64, p_in: Option<f64>, scope: Scope) -> Result<Flow> {
        let largest = (p_out * (1.0 - sparsity) / sparsity).min(1.0);
        let p_in = p_in.unwrap_or(MODERATE * largest);
        if p_in > largest {
            // Rounded down, so that what is said can be asked for.
            let digits = 1e6;
            let largest = (largest * digits).floor() / digits;
            return Err(Error::Usage {
                what: format!(
                    "with p_in={p_in} so many weights return that p_out={p_out} cannot bring the sparsity to {sparsity}"
                ),
                help: format!(
                    "the largest p_in is p_out (1 - sparsity) / sparsity, here {largest}"
                ),
            });
        }
        Ok(Flow {
            sparsity,
            aim: sparsity,
            p_out,
            p_in,
            scope,
        })
    }

    /// The same flow to a part of its target that rises along a cubic from 0 to all of it at `fraction` 1 (Zhu and Gupta,
    /// "To prune, or not to prune", arXiv 1710.01878). With `p_out` 1 and `p_in` 0 that is gradual magnitude pruning.
    pub(super) fn ramped(self, fraction: f64) -> Flow {
        let aim = self.sparsity * (1.0 - (1.0 - fraction).powi(3));
        Flow { aim, ..self }
    }

    /// `q`: the share of all weights that a step takes for unimportant.
    pub(super) fn unimportant(&self) -> f64 {
        self.aim * (self.p_out + self.p_in) / self.p_out
    }

    /// `s'`: the share of weights that one expects to be pruned after a step, if it was `share` before.
    #[cfg(test)]
    pub(super) fn expected(&self, share: f64) -> f64 {
        share * (1.0 - self.p_in) + self.p_out * (self.unimportant() - share).max(0.0)
    }

    /// How many of `all` weights are pruned in the end.
    fn target(&self, all: usize) -> usize {
        (self.sparsity * all as f64).round() as usize
    }

    /// Refuses a sparsity that leaves fewer weights than there are layers.
    ///
    /// # Errors
    /// [`Error::Usage`] with the smallest of the layers.
    pub(super) fn check(&self, layers: &[Layer]) -> Result<()> {
        for group in layers.chunks(self.group(layers)) {
            let all: usize = group.iter().map(Layer::len).sum();
            let smallest = group.iter().min_by_key(|layer| layer.len());
            if let Some(layer) = smallest.filter(|_| all - self.target(all) < group.len()) {
                return Err(self.empties(layer));
            }
        }
        Ok(())
    }

    /// One step: drop-out and drop-in. What is drawn for a weight depends on `seed`, its layer, `step` and its position alone.
    ///
    /// # Errors
    /// [`Error::Usage`] with the layer of which nothing would be left.
    pub(super) fn step(&self, layers: &mut [Layer], seed: u64, step: u64) -> Result<Moved> {
        self.change(layers, |group| {
            let (all, pruned) = count(group);
            let unimportant = (self.unimportant() * all as f64).round() as usize;
            let unimportant = least(group, true, unimportant.saturating_sub(pruned));
            let layers = group.par_iter().zip(unimportant);
            let masks = layers.map(|(layer, unimportant)| {
                Mask::from_fn(layer.len(), |i| {
                    let counter = [seed, layer.position, step, i as u64];
                    let happens = |probability: f64| random(&counter).f64() < probability;
                    if layer.mask.keeps(i) {
                        !(unimportant.keeps(i) && happens(self.p_out))
                    } else {
                        layer.free.keeps(i) && happens(self.p_in)
                    }
                })
            });
            masks.collect()
        })
    }

    /// Prunes the least important weights, or brings back the most important, until exactly the target is pruned.
    ///
    /// # Errors
    /// [`Error::Usage`] with the layer of which nothing would be left.
    pub(super) fn trim(&self, layers: &mut [Layer]) -> Result<Moved> {
        self.change(layers, |group| {
            let (all, pruned) = count(group);
            let target = self.target(all);
            let held: usize = group.iter().map(|l| l.len() - l.free.count()).sum();
            let are_few = pruned <= target;
            let away = if are_few {
                least(group, true, target - pruned)
            } else {
                // Of the pruned weights all stay away but the most important.
                least(group, false, target.saturating_sub(held))
            };
            let layers = group.iter().zip(away);
            let masks = layers.map(|(layer, away)| {
                let others = if are_few { &layer.mask } else { &layer.free };
                Mask::from_fn(layer.len(), |i| others.keeps(i) && !away.keeps(i))
            });
            masks.collect()
        })
    }

    /// How many layers are ranked together.
    fn group(&self, layers: &[Layer]) -> usize {
        match self.scope {
            Scope::Global => layers.len().max(1),
            Scope::Layer => 1,
        }
    }

    /// Gives the layers the masks that `masks` makes of each group of them; all of them or, on an error, none.
    fn change(&self, layers: &mut [Layer], masks: impl Fn(&[Layer]) -> Vec<Mask>) -> Result<Moved> {
        let groups = layers.chunks(self.group(layers));
        let masks: Vec<Mask> = groups.flat_map(masks).collect();
        let mut pairs = layers.iter().zip(&masks);
        if let Some((layer, _)) = pairs.find(|(_, mask)| mask.count() == 0) {
            return Err(self.empties(layer));
        }
        let mut moved = Moved::default();
        for (layer, mask) in layers.iter_mut().zip(masks) {
            for (before, after) in layer.mask.iter().zip(mask.iter()) {
                moved.left += usize::from(before && !after);
                moved.returned += usize::from(!before && after);
            }
            layer.mask = mask;
        }
        Ok(moved)
    }

    fn empties(&self, layer: &Layer) -> Error {
        Error::Usage {
            what: format!(
                "on the way to a sparsity of {} nothing is left of the {} weights of `{}`",
                self.sparsity,
                layer.len(),
                layer.name
            ),
            help: match self.scope {
                Scope::Global => {
                    "take a smaller one, a smaller p_in, or scope=layer, which prunes all layers alike"
                }
                Scope::Layer => {
                    "take a smaller one, a smaller p_in, or scope=global, which spares the important weights"
                }
            }
            .to_string(),
        }
    }
}

/// All weights of the layers, and those that are pruned.
pub(super) fn count(layers: &[Layer]) -> (usize, usize) {
    let all = layers.iter().map(Layer::len).sum();
    (all, layers.iter().map(Layer::pruned).sum())
}

/// The `count` least important weights of those that are kept, or of those that are pruned and may return: a mask for each layer.
/// Of equally important ones the first are taken.
fn least(layers: &[Layer], kept: bool, count: usize) -> Vec<Mask> {
    let is_one = |layer: &Layer, i: usize| layer.mask.keeps(i) == kept && layer.free.keeps(i);
    // Floats that are not negative are ordered as their bits are.
    let of = |layer: &Layer, i: usize| layer.importance(i).to_bits();
    let mut ranks: Vec<u32> = layers
        .iter()
        .flat_map(|layer| (0..layer.len()).map(move |i| (layer, i)))
        .filter(|(layer, i)| is_one(layer, *i))
        .map(|(layer, i)| of(layer, i))
        .collect();
    let Some(last) = count.min(ranks.len()).checked_sub(1) else {
        return { layers.iter() }
            .map(|layer| Mask::from_fn(layer.len(), |_| false))
            .collect();
    };
    let (below, threshold, _) = ranks.select_nth_unstable(last);
    let threshold = *threshold;
    let mut equal = last + 1 - below.iter().filter(|rank| **rank < threshold).count();
    let mask = |layer: &Layer| {
        Mask::from_fn(layer.len(), |i| {
            let rank = of(layer, i);
            if !is_one(layer, i) || rank > threshold {
                return false;
            }
            let takes = rank < threshold || equal > 0;
            equal -= usize::from(takes && rank == threshold);
            takes
        })
    };
    layers.iter().map(mask).collect()
}
