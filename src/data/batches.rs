//! Batches of a training set, made ahead in the background.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use ndarray::ArrayD;

use super::Elements;
use super::training::{Augment, Store};
use crate::random::random;

/// Batches that wait at most; one more is in the making.
const AHEAD: usize = 4;
/// Sets the order of samples apart from what is done to them, where both come of the same seed and epoch.
const AUGMENT: u64 = 1;

/// Some samples of a training set.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The inputs as the network takes them, `[n, ...]`: images are `[n, C, H, W]`, normalised.
    pub images: ArrayD<f32>,
    /// The class of each, `[n]`, where the data says so.
    pub labels: Option<Vec<i64>>,
}

/// `images` with the last repeated until there are `n`.
#[cfg(feature = "torch")]
pub(crate) fn padded(images: ArrayD<f32>, n: usize) -> ArrayD<f32> {
    match images.shape()[0] {
        have if have < n => {
            let rows: Vec<usize> = (0..n).map(|i| i.min(have - 1)).collect();
            images.select(ndarray::Axis(0), &rows)
        }
        _ => images,
    }
}

/// The batches of one pass over a [`TrainingSet`](super::TrainingSet), in order. While the caller works on one, a thread
/// makes the next few; it ends when this is dropped.
#[derive(Debug)]
pub struct Batches {
    plan: Arc<Plan>,
    /// The next batch.
    next: usize,
    /// `None` once this is being dropped.
    ready: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Batches {
    pub(super) fn start(plan: Plan) -> Batches {
        let plan = Arc::new(plan);
        let (sender, ready) = sync_channel(AHEAD);
        let making = plan.clone();
        let make = move || {
            for index in 0..making.len() {
                if sender.send(making.batch(index)).is_err() {
                    return; // The iterator is gone.
                }
            }
        };
        let thread = Builder::new().name("batches".to_string()).spawn(make);
        Batches {
            plan,
            next: 0,
            ready: Some(ready),
            thread: thread.ok(),
        }
    }
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let index = self.next;
        if index == self.plan.len() {
            return None;
        }
        self.next += 1;
        let ready = self.ready.as_ref().and_then(|ready| ready.recv().ok());
        // Where the system has no thread left, the caller makes them.
        Some(ready.unwrap_or_else(|| self.plan.batch(index)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.plan.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches {}

impl Drop for Batches {
    fn drop(&mut self) {
        // Whoever waits to hand a batch over learns that nobody takes it.
        drop(self.ready.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is in which batch.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) store: Arc<Store>,
    /// Positions in the store.
    pub(super) order: Arc<[usize]>,
    /// Samples in a batch; never 0.
    pub(super) size: usize,
    /// How to vary images, and the seed and epoch that it depends on.
    pub(super) augment: Option<(Augment, [u64; 2])>,
}

impl Plan {
    fn len(&self) -> usize {
        self.order.len().div_ceil(self.size)
    }

    /// The batch at `index`, below [`len`](Plan::len).
    fn batch(&self, index: usize) -> Batch {
        let start = index * self.size;
        let positions = &self.order[start..self.order.len().min(start + self.size)];
        let sample = &self.store.sample;
        let len: usize = sample.iter().product();
        let mut elements = Vec::with_capacity(positions.len() * len);
        for position in positions {
            let view = self.view(*position);
            let all = position * len..(position + 1) * len;
            match (&self.store.elements, &self.store.pixels) {
                (Elements::Numbers(numbers), _) => match view {
                    Some(view) => view.append(&numbers[all], |_, x| x, &mut elements),
                    None => elements.extend_from_slice(&numbers[all]),
                },
                (Elements::Pixels(bytes), Some(pixels)) => match view {
                    Some(view) => view.append(
                        &bytes[all],
                        |channel, pixel| pixels.number(channel, pixel),
                        &mut elements,
                    ),
                    None => pixels.append(&bytes[all], &mut elements),
                },
                // Who gives pixels says how to read them, and arrays are not trained on.
                (Elements::Pixels(_), None) | (Elements::Arrays(_), _) => {}
            }
        }
        let labels = self.store.labels.as_ref();
        let shape = [&[positions.len()], &sample[..]].concat();
        Batch {
            images: ArrayD::from_shape_vec(shape, elements).unwrap_or_default(),
            labels: labels.map(|labels| positions.iter().map(|at| labels[*at]).collect()),
        }
    }

    /// What is done to the image at `position`; `None` for nothing.
    fn view(&self, position: usize) -> Option<View> {
        let (augment, [seed, epoch]) = self.augment?;
        let size = self.store.sample[..].try_into().ok()?;
        let mut random = random(&[seed, epoch, position as u64, AUGMENT]);
        let mut shift = || {
            let crop = augment.crop as isize;
            random.isize(-crop..=crop)
        };
        let shift = [shift(), shift()];
        let flip = augment.flip && random.bool();
        (augment != Augment::NONE).then_some(View { size, shift, flip })
    }
}

/// An image `[C, H, W]` shifted, and perhaps mirrored after that.
struct View {
    size: [usize; 3],
    /// Rows and columns by which what is seen lies below and right of the image's corner.
    shift: [isize; 2],
    flip: bool,
}

impl View {
    /// Appends what is seen of `image`, `number` of channel and element; 0 is around it.
    fn append<T: Copy + Default>(
        &self,
        image: &[T],
        number: impl Fn(usize, T) -> f32,
        out: &mut Vec<f32>,
    ) {
        let [channels, height, width] = self.size;
        let [down, right] = self.shift;
        let within = |at: usize, shift: isize, len: usize| {
            at.checked_add_signed(shift).filter(|at| *at < len)
        };
        for channel in 0..channels {
            for row in 0..height {
                let row = within(row, down, height).map(|row| (channel * height + row) * width);
                out.extend((0..width).map(|column| {
                    let column = if self.flip {
                        width - 1 - column
                    } else {
                        column
                    };
                    let column = within(column, right, width);
                    let element = row.zip(column).map(|(row, column)| image[row + column]);
                    number(channel, element.unwrap_or_default())
                }));
            }
        }
    }
}
