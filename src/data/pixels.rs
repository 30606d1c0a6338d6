//! Pixels of 0 to 255 as the numbers that a network takes.

use super::{DataSpec, Wrong};

/// Mean and standard deviation of ImageNet's red, green and blue, which nearly every published network on photographs uses.
const IMAGENET: [(f32, f32); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

/// Mean and standard deviation of each channel, on a scale of 0 to 1.
#[derive(Debug)]
pub(super) struct Pixels(Vec<(f32, f32)>);

impl Pixels {
    /// As `spec` says, for so many channels. Three channels have ImageNet's mean and standard deviation unless it says
    /// otherwise; any other number is only scaled.
    ///
    /// # Errors
    /// When `spec` has means or deviations for another number of channels.
    pub(super) fn new(spec: &DataSpec, channels: usize) -> Result<Pixels, Wrong> {
        let mut each = match channels {
            3 => IMAGENET.to_vec(),
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
        Ok(Pixels(each))
    }

    /// Appends the numbers of a sample `[C, ...]`: scaled to 0..1, less the mean, by the standard deviation. `value` gives
    /// the pixel of a channel at a position of `len`.
    pub(super) fn append(
        &self,
        len: usize,
        value: impl Fn(usize, usize) -> u8,
        out: &mut Vec<f32>,
    ) {
        for (channel, (mean, std)) in self.0.iter().enumerate() {
            let scaled = |at| (f32::from(value(channel, at)) / 255.0 - mean) / std;
            out.extend((0..len).map(scaled));
        }
    }
}
