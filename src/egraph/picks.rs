//! How the channels of one value are made from those of another: a gather with factors and constants.
//!
//! Every rule about redundant channels is about [`Picks`]: equal channels are picked twice, proportional ones with a factor,
//! constant ones are no channel at all. Composition, and the partition of channels into classes, are here.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::ir::Float;
use crate::ir::regroup::Spread;

/// Where a channel comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pick {
    /// A channel of the operand, times a factor.
    Channel {
        /// Its position.
        index: u32,
        /// The factor.
        scale: Float,
    },
    /// This value at every position.
    Constant(Float),
}

impl Pick {
    /// A channel as it is.
    pub fn channel(index: usize) -> Pick {
        Pick::Channel {
            index: index as u32,
            scale: 1.0.into(),
        }
    }
}

/// One [`Pick`] for each channel of the result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Picks(pub Arc<[Pick]>);

impl FromIterator<Pick> for Picks {
    fn from_iter<I: IntoIterator<Item = Pick>>(picks: I) -> Picks {
        Picks(picks.into_iter().collect())
    }
}

impl Picks {
    /// These channels, as they are.
    pub fn channels(indices: impl IntoIterator<Item = usize>) -> Picks {
        indices.into_iter().map(Pick::channel).collect()
    }

    /// The number of channels of the result.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the result has no channels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the result is the operand of `n` channels.
    pub fn is_identity(&self, n: usize) -> bool {
        self.len() == n
            && self
                .0
                .iter()
                .enumerate()
                .all(|(i, pick)| *pick == Pick::channel(i))
    }

    /// The positions, if these are channels as they are and nothing else.
    pub fn plain(&self) -> Option<Vec<usize>> {
        let plain = |pick: &Pick| match pick {
            Pick::Channel { index, scale } if scale.0 == 1.0 => Some(*index as usize),
            _ => None,
        };
        self.0.iter().map(plain).collect()
    }

    /// The picks that do these after `inner`.
    pub fn after(&self, inner: &Picks) -> Picks {
        let compose = |pick: &Pick| match *pick {
            Pick::Constant(value) => Pick::Constant(value),
            Pick::Channel { index, scale } => match inner.0[index as usize] {
                Pick::Constant(value) => Pick::Constant(value * scale),
                Pick::Channel {
                    index,
                    scale: first,
                } => Pick::Channel {
                    index,
                    scale: first * scale,
                },
            },
        };
        self.0.iter().map(compose).collect()
    }

    /// The channels of the operand that are read, sorted, each once.
    pub fn read(&self) -> Vec<usize> {
        let mut read: Vec<usize> = self
            .0
            .iter()
            .filter_map(|pick| match pick {
                Pick::Channel { index, .. } => Some(*index as usize),
                Pick::Constant(_) => None,
            })
            .collect();
        read.sort();
        read.dedup();
        read
    }

    /// The same picks where the operand's `channels` channels, and the result's, are found along an axis like this.
    pub fn spread(&self, channels: usize, over: Spread) -> Picks {
        let of = |r: usize, pick: &Pick, b: usize| match *pick {
            Pick::Channel { index, scale } => Pick::Channel {
                index: ((r * channels + index as usize) * over.block + b) as u32,
                scale,
            },
            constant => constant,
        };
        let blocks = |r: usize| {
            let all = self.0.iter();
            all.flat_map(move |pick| (0..over.block).map(move |b| of(r, pick, b)))
        };
        (0..over.repeats).flat_map(blocks).collect()
    }

    /// These picks from an operand whose channels have other positions.
    pub fn moved(&self, to: impl Fn(usize) -> usize) -> Picks {
        let moved = |pick: &Pick| match *pick {
            Pick::Channel { index, scale } => Pick::Channel {
                index: to(index as usize) as u32,
                scale,
            },
            constant => constant,
        };
        self.0.iter().map(moved).collect()
    }
}

/// Channels in classes: each channel's class, and a representative of each class, in order of first appearance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The class of each channel.
    pub class: Vec<usize>,
    /// The first member of each class.
    pub first: Vec<usize>,
}

impl Partition {
    /// Channels with equal keys in one class.
    pub fn by_key<K: std::hash::Hash + Eq>(keys: impl IntoIterator<Item = K>) -> Partition {
        let mut classes: IndexMap<K, usize, rustc_hash::FxBuildHasher> = IndexMap::default();
        let mut class = Vec::new();
        let mut first = Vec::new();
        for (channel, key) in keys.into_iter().enumerate() {
            let next = classes.len();
            let of = *classes.entry(key).or_insert(next);
            if of == next {
                first.push(channel);
            }
            class.push(of);
        }
        Partition { class, first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_compose_and_spread() {
        let inner: Picks = [Pick::channel(1), Pick::Constant(2.0.into())]
            .into_iter()
            .collect();
        let half = Pick::Channel {
            index: 1,
            scale: 0.5.into(),
        };
        let outer: Picks = [half, Pick::channel(0)].into_iter().collect();
        let both: Picks = [Pick::Constant(1.0.into()), Pick::channel(1)]
            .into_iter()
            .collect();
        assert_eq!(outer.after(&inner), both);
        let over = Spread {
            repeats: 2,
            block: 2,
        };
        assert_eq!(
            Picks::channels([2, 0]).spread(3, over),
            Picks::channels([4, 5, 0, 1, 10, 11, 6, 7])
        );
    }

    #[test]
    fn a_partition_numbers_classes_by_first_appearance() {
        let partition = Partition::by_key(["b", "a", "b"]);
        assert_eq!(
            (partition.class, partition.first),
            (vec![0, 1, 0], vec![0, 1])
        );
    }
}
