//! How the channels of one value are made from those of another: a gather with factors and constants.
//!
//! Every rule about redundant channels is about [`ChannelMap`]: equal channels are picked twice, proportional ones with a factor,
//! constant ones are no channel at all. Composition, and the partition of channels into classes, are here.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::ir::Float;
use crate::ir::regroup::Spread;

/// Where a channel comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MapEntry {
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

impl MapEntry {
    /// A channel as it is.
    pub fn channel(index: usize) -> MapEntry {
        MapEntry::Channel {
            index: index as u32,
            scale: 1.0.into(),
        }
    }
}

/// One [`MapEntry`] for each channel of the result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelMap(pub Arc<[MapEntry]>);

impl FromIterator<MapEntry> for ChannelMap {
    fn from_iter<I: IntoIterator<Item = MapEntry>>(map: I) -> ChannelMap {
        ChannelMap(map.into_iter().collect())
    }
}

impl ChannelMap {
    /// These channels, as they are.
    pub fn channels(indices: impl IntoIterator<Item = usize>) -> ChannelMap {
        indices.into_iter().map(MapEntry::channel).collect()
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
                .all(|(i, entry)| *entry == MapEntry::channel(i))
    }

    /// The positions, if these are channels as they are and nothing else.
    pub fn plain(&self) -> Option<Vec<usize>> {
        let plain = |entry: &MapEntry| match entry {
            MapEntry::Channel { index, scale } if scale.0 == 1.0 => Some(*index as usize),
            _ => None,
        };
        self.0.iter().map(plain).collect()
    }

    /// The map that does this one after `inner`.
    pub fn after(&self, inner: &ChannelMap) -> ChannelMap {
        let compose = |entry: &MapEntry| match *entry {
            MapEntry::Constant(value) => MapEntry::Constant(value),
            MapEntry::Channel { index, scale } => match inner.0[index as usize] {
                MapEntry::Constant(value) => MapEntry::Constant(value * scale),
                MapEntry::Channel {
                    index,
                    scale: first,
                } => MapEntry::Channel {
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
            .filter_map(|entry| match entry {
                MapEntry::Channel { index, .. } => Some(*index as usize),
                MapEntry::Constant(_) => None,
            })
            .collect();
        read.sort();
        read.dedup();
        read
    }

    /// The same map where the operand's `channels` channels, and the result's, are found along an axis like this.
    pub fn spread(&self, channels: usize, over: Spread) -> ChannelMap {
        let of = |r: usize, entry: &MapEntry, b: usize| match *entry {
            MapEntry::Channel { index, scale } => MapEntry::Channel {
                index: ((r * channels + index as usize) * over.block + b) as u32,
                scale,
            },
            constant => constant,
        };
        let blocks = |r: usize| {
            let all = self.0.iter();
            all.flat_map(move |entry| (0..over.block).map(move |b| of(r, entry, b)))
        };
        (0..over.repeats).flat_map(blocks).collect()
    }

    /// The same map from an operand whose channels have other positions.
    pub fn moved(&self, to: impl Fn(usize) -> usize) -> ChannelMap {
        let moved = |entry: &MapEntry| match *entry {
            MapEntry::Channel { index, scale } => MapEntry::Channel {
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
    fn maps_compose_and_spread() {
        let inner: ChannelMap = [MapEntry::channel(1), MapEntry::Constant(2.0.into())]
            .into_iter()
            .collect();
        let half = MapEntry::Channel {
            index: 1,
            scale: 0.5.into(),
        };
        let outer: ChannelMap = [half, MapEntry::channel(0)].into_iter().collect();
        let both: ChannelMap = [MapEntry::Constant(1.0.into()), MapEntry::channel(1)]
            .into_iter()
            .collect();
        assert_eq!(outer.after(&inner), both);
        let over = Spread {
            repeats: 2,
            block: 2,
        };
        assert_eq!(
            ChannelMap::channels([2, 0]).spread(3, over),
            ChannelMap::channels([4, 5, 0, 1, 10, 11, 6, 7])
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
