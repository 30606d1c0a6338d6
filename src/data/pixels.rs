//! Pixels of 0 to 255 as the numbers that a network takes.

use super::{DataSpec, Wrong};

/// Mean and standard deviation of ImageNet's red, green and blue, which nearly every published network on photographs uses.
const IMAGENET: [(f32, f32); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

/// For each channel the number that each pixel stands for: scaled to 0..1, less the mean, by the standard deviation.
#[derive(Clone, Debug)]
pub(super) struct Pixels(Vec<[f32; 256]>);

impl Pixels {
    /// As `spec` says, for so many channels. Unless it says otherwise, three channels have ImageNet's mean and standard
    /// deviation and a kind of data may have its own; any other number is only scaled.
    ///
    /// # Errors
    /// When `spec` has means or deviations for another number of channels.
    pub(super) fn new(spec: &DataSpec, channels: usize) -> Result<Pixels, Wrong> {
        let mut each = match (spec.kind.mean_std, channels) {
            (Some(own), _) => vec![own; channels],
            (None, 3) => IMAGENET.to_vec(),
            _ => vec![(0.0, 1.0); channels],
        };
        for (name, given) in [("mean", &spec.mean), ("std", &spec.std)] {
            if !given.is_empty() && given.len() != 1 && given.len() != channels {
                return Err(Wrong::new(
                    format!(
                        "{name} has {} numbers, and the data {channels} channels",
                        given.len()
                    ),
                    "give one number for all channels, or one for each",
                ));
            }
            for ((mean, std), number) in each.iter_mut().zip(given.iter().cycle()) {
                *(if name == "mean" { mean } else { std }) = *number;
            }
        }
        let number = |(mean, std): (f32, f32), pixel: usize| (pixel as f32 / 255.0 - mean) / std;
        let table = |channel| std::array::from_fn(|pixel| number(channel, pixel));
        Ok(Pixels(each.into_iter().map(table).collect()))
    }

    /// The number that a pixel of this channel stands for.
    pub(super) fn number(&self, channel: usize, pixel: u8) -> f32 {
        self.0[channel][usize::from(pixel)]
    }

    /// Appends the numbers of a sample `[C, ...]`.
    pub(super) fn append(&self, sample: &[u8], out: &mut Vec<f32>) {
        let plane = sample.len() / self.0.len().max(1);
        for (table, pixels) in self.0.iter().zip(sample.chunks(plane.max(1))) {
            out.extend(pixels.iter().map(|pixel| table[usize::from(*pixel)]));
        }
    }
}
