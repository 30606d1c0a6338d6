//! Images, decoded one at a time and scaled and cut to what the network takes.

use std::fmt;
use std::io::{BufRead, Seek};

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageReader, ImageResult, Limits};

use super::pixels::Pixels;
use super::{DataSpec, Elements, Opened, Source, Split, Wanted, Wrong};
use crate::Result;

/// The longest side of an image, and the bytes that decoding one may take: several threads decode at once.
pub(super) const MAX_SIDE: usize = 1 << 14;
const MAX_BYTES: u64 = 256 << 20;

/// Images of any sizes.
pub(super) trait Pictures: fmt::Debug + Send + Sync {
    /// The number of images; never 0.
    fn len(&self) -> usize;

    /// Channels of nearly all.
    fn channels(&self) -> usize;

    /// Whether all have the same size by nature. Such images are scaled only when that is asked for.
    fn alike(&self) -> bool;

    /// Height and width of all.
    ///
    /// # Errors
    /// That there are several, or that no image can be read.
    fn size(&self) -> Result<[usize; 2], Wrong>;

    /// The image at this position.
    ///
    /// # Errors
    /// Why it is damaged, and where it is.
    fn decode(&self, position: usize) -> Result<DynamicImage, String>;
}

/// Classes of images: that of each, and how many there are.
pub(super) type Classes = Option<(Vec<i64>, usize)>;

/// Labels that are bytes, one an image.
///
/// # Errors
/// That one is of no class.
pub(super) fn labels(bytes: impl Iterator<Item = u8>, classes: usize) -> Result<Vec<i64>, Wrong> {
    let label = |(position, label): (usize, u8)| {
        if usize::from(label) < classes {
            Ok(label.into())
        } else {
            Err(Wrong::new(
                format!("image {position} has the label {label}, and there are {classes} classes"),
                "the file is damaged, or of other data",
            ))
        }
    };
    bytes.enumerate().map(label).collect()
}

/// `pictures` as the network takes them. An open size of its input is that of all images, or what `resize` says.
pub(super) fn open(
    spec: &DataSpec,
    wanted: &Wanted,
    pictures: Box<dyn Pictures>,
    classes: Classes,
    split: Option<Split>,
) -> Result<Opened> {
    let [channels, height, width] = wanted.image()?;
    let channels = channels.unwrap_or(pictures.channels());
    let (height, width) = match (height, width, spec.resize) {
        (Some(height), Some(width), _) => (height, width),
        (height, width, Some(side)) => {
            let side = side as usize;
            (height.unwrap_or(side), width.unwrap_or(side))
        }
        (height, width, None) => {
            let [h, w] = pictures.size().map_err(|w| spec.wrong(w))?;
            (height.unwrap_or(h), width.unwrap_or(w))
        }
    };
    let size = [channels, height, width];
    if pictures.alike() && spec.resize.is_none() {
        let natural = pictures.size().map_err(|w| spec.wrong(w))?;
        let fits = wanted.check(&[channels, natural[0], natural[1]]);
        fits.map_err(|wrong| {
            let help = "scale the images with resize=N, or give another --input";
            spec.wrong(Wrong::new(wrong.what, help))
        })?;
    }
    let (labels, classes) = classes.map_or((None, 0), |(labels, n)| (Some(labels), n));
    Ok(Opened {
        inputs: vec![(wanted.sole()?.name.clone(), false)],
        filled: Vec::new(),
        source: Box::new(Images {
            pictures,
            size,
            resize: spec.resize,
        }),
        sample: Some(size.to_vec()),
        labels,
        classes,
        pixels: Some(Pixels::new(spec, channels).map_err(|w| spec.wrong(w))?),
        split,
    })
}

/// Pictures of which every one is brought to the same size.
#[derive(Debug)]
struct Images {
    pictures: Box<dyn Pictures>,
    /// Channels, height and width of the network's input.
    size: [usize; 3],
    resize: Option<u32>,
}

impl Source for Images {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn read(&self, position: usize) -> Result<Elements, String> {
        let image = self.pictures.decode(position)?;
        let [channels, height, width] = self.size;
        let image = self.fit(image, width as u32, height as u32);
        let bytes = match channels {
            1 => image.into_luma8().into_raw(),
            _ => image.into_rgb8().into_raw(),
        };
        // From pixel after pixel to channel after channel.
        let channel = |channel: usize| bytes.iter().skip(channel).step_by(channels);
        let planes = (0..channels).flat_map(channel).copied();
        Ok(Elements::Pixels(planes.collect()))
    }
}

impl Images {
    /// The centre of the image, as much of it as is seen, scaled to the network's input. Cutting before scaling bounds what
    /// an image of extreme proportions takes.
    fn fit(&self, image: DynamicImage, width: u32, height: u32) -> DynamicImage {
        let (w, h) = (f64::from(image.width()), f64::from(image.height()));
        let least = (f64::from(width) / w).max(f64::from(height) / h);
        let scale = self
            .resize
            .map_or(least, |side| (f64::from(side) / w.min(h)).max(least));
        let seen = |wanted: u32, have: u32| {
            let part = (f64::from(wanted) / scale).round() as u32;
            part.clamp(1, have)
        };
        let (seen_w, seen_h) = (seen(width, image.width()), seen(height, image.height()));
        let (left, top) = ((image.width() - seen_w) / 2, (image.height() - seen_h) / 2);
        let centre = image.crop_imm(left, top, seen_w, seen_h);
        if (seen_w, seen_h) == (width, height) {
            return centre;
        }
        // Averages over what a pixel covers when it makes smaller, as the loaders do that networks are trained with.
        let rgb = centre.into_rgb8();
        DynamicImage::ImageRgb8(imageops::resize(&rgb, width, height, FilterType::Triangle))
    }
}

/// The decoder of a JPEG or PNG file, which its content tells apart, within limits.
pub(super) fn reader<R: BufRead + Seek>(file: R) -> ImageResult<ImageReader<R>> {
    let mut reader = ImageReader::new(file).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE as u32);
    limits.max_image_height = Some(MAX_SIDE as u32);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    Ok(reader)
}
