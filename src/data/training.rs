//! A set of samples that is trained on: in memory, as compactly as its source has it.

use std::sync::Arc;

use super::batches::{Batches, Plan};
use super::pixels::Pixels;
use super::{Data, DataSpec, Elements, Wrong};
use crate::Result;
use crate::random::random;

/// Samples that are decoded before they are appended to the set.
const CHUNK: usize = 1 << 10;

/// How training varies images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Augment {
    /// Mirror half of them, left to right.
    pub(super) flip: bool,
    /// Shift each by up to so many pixels each way; what comes in is black.
    pub(super) crop: usize,
}

impl Augment {
    pub(super) const NONE: Augment = Augment {
        flip: false,
        crop: 0,
    };
}

/// Labelled or unlabelled samples to train on.
///
/// Pixels are kept as bytes, so a set takes the memory of its images, once for the set and all parts that it is
/// [split](TrainingSet::hold_out) into; copies are cheap.
#[derive(Clone, Debug)]
pub struct TrainingSet {
    pub(super) store: Arc<Store>,
    /// Which of the stored samples are in this set, in order.
    pub(super) positions: Arc<[usize]>,
}

/// Samples in memory.
#[derive(Debug)]
pub(super) struct Store {
    name: String,
    spec: DataSpec,
    /// The shape of one.
    pub(super) sample: Vec<usize>,
    /// Of all, one after the other.
    pub(super) elements: Elements,
    pub(super) labels: Option<Vec<i64>>,
    classes: usize,
    /// How to read [`Elements::Pixels`].
    pub(super) pixels: Option<Pixels>,
    left_out: Vec<String>,
}

impl TrainingSet {
    /// Reads all of `data`.
    pub(super) fn read(data: &Data) -> Result<TrainingSet> {
        let opened = &data.opened;
        let Some(shape) = &opened.sample else {
            return Err(data.wrong(
                "it cannot be trained on",
                "training is for networks of one input that is a batch of floats",
            ));
        };
        if data.spec.augment != Augment::NONE && shape.len() != 3 {
            let what = format!("its samples of shape {shape:?} cannot be flipped or cropped");
            return Err(data.wrong(
                &what,
                "that is for images [C, H, W]; leave out flip and crop",
            ));
        }
        let mut bytes = Vec::new();
        let mut numbers = Vec::new();
        let mut labels = opened.labels.as_ref().map(|_| Vec::new());
        let mut left_out = Vec::new();
        let positions: Vec<usize> = (0..data.len()).collect();
        for chunk in positions.chunks(CHUNK) {
            for (position, sample) in chunk.iter().zip(data.elements(chunk)) {
                match sample {
                    Ok(Elements::Pixels(sample)) => bytes.extend_from_slice(&sample),
                    Ok(Elements::Numbers(sample)) => {
                        data.check(*position, &sample)?;
                        numbers.extend_from_slice(&sample);
                    }
                    Ok(Elements::Arrays(_)) => {} // They have no one shape, which was asked for above.
                    Err(why) => {
                        left_out.push(why);
                        continue;
                    }
                }
                if let (Some(labels), Some(all)) = (&mut labels, &opened.labels) {
                    labels.push(all[*position]);
                }
            }
        }
        let count = data.len() - left_out.len();
        if let (0, Some(first)) = (count, left_out.first()) {
            return Err(data.nothing_readable(data.len(), first));
        }
        let store = Store {
            name: data.name.clone(),
            spec: data.spec.clone(),
            sample: shape.clone(),
            elements: match opened.pixels {
                Some(_) => Elements::Pixels(bytes),
                None => Elements::Numbers(numbers),
            },
            labels,
            classes: opened.classes,
            pixels: opened.pixels.clone(),
            left_out,
        };
        Ok(TrainingSet {
            store: Arc::new(store),
            positions: (0..count).collect(),
        })
    }

    /// The specification's text, for reports; it says which part was taken of data that has two.
    pub fn name(&self) -> &str {
        &self.store.name
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there are no samples, as in what was held out of very few.
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    /// The shape of one sample, without the batch: `[C, H, W]` of images.
    pub fn shape(&self) -> &[usize] {
        &self.store.sample
    }

    /// The number of classes that the data has labels for; `None` where it has no labels.
    pub fn classes(&self) -> Option<usize> {
        self.store.labels.as_ref().map(|_| self.store.classes)
    }

    /// Damaged samples that were left out of the data, and why.
    pub fn left_out(&self) -> &[String] {
        &self.store.left_out
    }

    /// Checks that there is a label for every sample, and for each label one of the `outputs` of the network, which `what`
    /// (such as "training") needs.
    ///
    /// # Errors
    /// [`Error::Data`](crate::Error::Data) that says which there is not.
    pub fn require_labels(&self, what: &str, outputs: usize) -> Result<()> {
        let wrong = |wrong: Wrong| self.store.spec.wrong(wrong);
        let labels = self.store.labels.as_ref();
        let labels = labels.ok_or_else(|| wrong(super::no_labels(what)))?;
        let mut unknown = labels.iter().map(|label| super::class(*label, outputs));
        unknown
            .try_for_each(|class| class.map(|_| ()))
            .map_err(wrong)
    }

    /// This set in two, drawn at random as `seed` says: what to train on, and `fraction` (0 to 1, rounded to whole samples)
    /// of it to judge by. The first part keeps a sample at least.
    pub fn hold_out(&self, fraction: f64, seed: u64) -> (TrainingSet, TrainingSet) {
        let order = shuffled(&self.positions, &[seed]);
        let held = (fraction.clamp(0.0, 1.0) * order.len() as f64).round() as usize;
        let (held, rest) = order.split_at(held.min(order.len().saturating_sub(1)));
        let part = |positions: &[usize]| {
            let mut positions = positions.to_vec();
            positions.sort_unstable();
            TrainingSet {
                store: self.store.clone(),
                positions: positions.into(),
            }
        };
        (part(rest), part(held))
    }

    /// Batches of `size` samples in an order of this epoch's own, images flipped and cropped as the specification says. All
    /// of it depends on `seed`, `epoch` and the samples only: training that is resumed at an epoch sees what it would have
    /// seen. The last batch may be smaller.
    pub fn epoch(&self, size: usize, seed: u64, epoch: u64) -> Batches {
        let order = shuffled(&self.positions, &[seed, epoch]);
        Batches::start(Plan {
            store: self.store.clone(),
            order: order.into(),
            size: size.max(1),
            augment: Some((self.store.spec.augment, [seed, epoch])),
        })
    }

    /// Batches of `size` samples in order, as they are: what a network is judged on.
    pub fn in_order(&self, size: usize) -> Batches {
        Batches::start(Plan {
            store: self.store.clone(),
            order: self.positions.clone(),
            size: size.max(1),
            augment: None,
        })
    }
}

/// `positions` in an order that is random for this counter.
fn shuffled(positions: &[usize], counter: &[u64]) -> Vec<usize> {
    let mut keyed: Vec<(u64, usize)> = positions
        .iter()
        .map(|position| {
            (
                random(&[counter, &[*position as u64]].concat()).u64(..),
                *position,
            )
        })
        .collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(_, position)| position).collect()
}
