//! Which elements of a recipe's result are zero because masks hold what they are made of at zero.

use super::arithmetic::{gather, sum, sum_in_groups};
use super::{ConstId, Constants, Recipe};
use crate::egraph::channel_map::{ChannelMap, MapEntry};
use crate::ir::Mask;

impl Constants {
    /// The mask of a constant: the graph's own, or that of a recipe that moves, scales, adds or multiplies masked elements.
    /// `None` where nothing is masked, or another recipe could make anything of it.
    pub fn mask(&self, id: ConstId) -> Option<Mask> {
        let entry = self.entry(id);
        match &entry.recipe {
            Recipe::Leaf(_) => entry.mask.clone(),
            Recipe::Reshape { of, .. } | Recipe::Scale { of, .. } => self.mask(*of),
            Recipe::Gather { of, axis, map } => {
                let kept = self.mask(*of).map(|mask| numbers(&mask))?;
                Some(nonzero(gather(&kept, self.shape(*of), *axis, map)))
            }
            Recipe::Sum {
                of,
                axis,
                map,
                width,
            } => {
                let kept = self.mask(*of).map(|mask| numbers(&mask))?;
                // Magnitudes: what cancels by chance is not held at zero.
                let map = magnitudes(map);
                Some(nonzero(sum(&kept, self.shape(*of), *axis, &map, *width)))
            }
            Recipe::SumInGroups { of, map, width } => {
                let kept = self.mask(*of).map(|mask| numbers(&mask))?;
                let map = magnitudes(map);
                let sums = sum_in_groups(&kept, self.shape(*of), &map, *width);
                Some(nonzero(sums))
            }
            Recipe::Add { a, b } => {
                let (a, b) = (self.mask(*a)?, self.mask(*b)?);
                Some(Mask::from_fn(a.len(), |i| a.keeps(i) || b.keeps(i)))
            }
            Recipe::ComposeOuter { outer, inner } => {
                let [first, second] = self.either_masked(*outer, *inner)?;
                Some(nonzero(self.after(*outer, [&first, &second])))
            }
            Recipe::ComposeInner { outer, inner } => {
                let [first, second] = self.either_masked(*outer, *inner)?;
                Some(nonzero(self.before(*outer, *inner, [&first, &second])))
            }
            Recipe::Made(_)
            | Recipe::ConstantShare { .. }
            | Recipe::NormScale { .. }
            | Recipe::Affine { .. }
            | Recipe::Apply { .. }
            | Recipe::SeparateKernels { .. }
            | Recipe::SeparateMix { .. } => None,
        }
    }

    /// For two constants of which one has a mask, 1 for each element that is kept, else 0: where their product is not 0, something
    /// is kept, since no two terms of it cancel.
    fn either_masked(&self, a: ConstId, b: ConstId) -> Option<[Vec<f64>; 2]> {
        let masks = [a, b].map(|id| (self.mask(id), self.len(id)));
        let any = masks.iter().any(|(mask, _)| mask.is_some());
        let kept = |(mask, len): (Option<Mask>, usize)| match mask {
            Some(mask) => numbers(&mask),
            None => vec![1.0; len],
        };
        any.then(|| masks.map(kept))
    }
}

/// 1 for what is kept, else 0.
fn numbers(mask: &Mask) -> Vec<f64> {
    mask.iter().map(|kept| f64::from(u8::from(kept))).collect()
}

fn nonzero(kept: Vec<f64>) -> Mask {
    Mask::from_fn(kept.len(), |i| kept[i] != 0.0)
}

fn magnitudes(map: &ChannelMap) -> ChannelMap {
    let magnitude = |entry: &MapEntry| match *entry {
        MapEntry::Channel { index, scale } => MapEntry::Channel {
            index,
            scale: scale.0.abs().into(),
        },
        constant => constant,
    };
    map.0.iter().map(magnitude).collect()
}
