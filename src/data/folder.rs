//! `folder:DIR`: images, in a folder for each class or all together.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageReader, Limits};
use indexmap::IndexSet;
use rayon::prelude::*;
use walkdir::WalkDir;

use super::pixels::Pixels;
use super::{DataSpec, Kind, Samples, Source, Wanted, Wrong};
use crate::{Error, Result};

pub(super) static FOLDER: Kind = Kind {
    name: "folder",
    takes: "DIR",
    help: "JPEG and PNG images anywhere below DIR, with labels if each class has its folder",
    options: &["mean", "std", "resize"],
    open,
};

const SUFFIXES: [&str; 3] = ["jpg", "jpeg", "png"];
/// The longest side of an image, and the bytes that decoding one may take: several threads decode at once.
const MAX_SIDE: u32 = 1 << 14;
const MAX_BYTES: u64 = 256 << 20;

#[derive(Debug)]
struct Folder {
    spec: DataSpec,
    files: Vec<PathBuf>,
    /// The class of each file.
    labels: Option<Vec<i64>>,
    /// Channels, height and width of the network's input.
    size: [usize; 3],
    pixels: Pixels,
}

fn open(spec: &DataSpec, wanted: &Wanted) -> Result<Box<dyn Source>> {
    let size = wanted.image()?;
    let mut files = Vec::new();
    for entry in WalkDir::new(&spec.path)
        .follow_links(true)
        .sort_by_file_name()
    {
        let entry = entry.map_err(|error| Error::Io {
            doing: "read",
            path: error.path().unwrap_or(&spec.path).to_path_buf(),
            source: match error.loop_ancestor() {
                Some(_) => io::Error::other("the link leads to a folder that it is in"),
                None => error
                    .into_io_error()
                    .unwrap_or_else(|| io::Error::other("unknown")),
            },
        })?;
        let suffix = entry
            .path()
            .extension()
            .map(|suffix| suffix.to_ascii_lowercase());
        let is_image = suffix.is_some_and(|suffix| SUFFIXES.iter().any(|known| suffix == *known));
        if is_image && entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    if files.is_empty() {
        return Err(spec.wrong(Wrong::new(
            "there are no images below this folder",
            "images are files named .jpg, .jpeg or .png",
        )));
    }
    Ok(Box::new(Folder {
        labels: labels(&spec.path, &files),
        files,
        size,
        pixels: Pixels::new(spec, size[0]).map_err(|w| spec.wrong(w))?,
        spec: spec.clone(),
    }))
}

/// The rank of each file's topmost folder below `root`, files being sorted; `None` if a file is in `root` itself.
fn labels(root: &Path, files: &[PathBuf]) -> Option<Vec<i64>> {
    let mut classes = IndexSet::new();
    let label = |file: &PathBuf| {
        let mut parts = file.strip_prefix(root).ok()?.components();
        let class = parts.next()?.as_os_str().to_owned();
        parts.next()?;
        Some(classes.insert_full(class).0 as i64)
    };
    files.iter().map(label).collect()
}

impl Source for Folder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn read(&self, positions: &[usize]) -> Result<Samples> {
        let decoded: Vec<Result<Vec<f32>, String>> = positions
            .par_iter()
            .map(|position| {
                let file = &self.files[*position];
                self.decode(file)
                    .map_err(|why| format!("{}: {why}", file.display()))
            })
            .collect();
        let mut elements = Vec::new();
        let mut labels = self.labels.as_ref().map(|_| Vec::new());
        let mut damaged = Vec::new();
        for (position, image) in positions.iter().zip(decoded) {
            match image {
                Ok(image) => {
                    elements.extend_from_slice(&image);
                    if let (Some(labels), Some(all)) = (&mut labels, &self.labels) {
                        labels.push(all[*position]);
                    }
                }
                Err(why) => damaged.push(why),
            }
        }
        let mut samples = Samples::new(&self.size, elements, labels, &self.spec)?;
        samples.left_out = damaged;
        Ok(samples)
    }
}

impl Folder {
    /// The image in `file` as the network takes it, `[C, H, W]`.
    fn decode(&self, file: &Path) -> Result<Vec<f32>, String> {
        let image = decode(file)?;
        let [channels, height, width] = self.size;
        let image = self.fit(image, width as u32, height as u32);
        let bytes = match channels {
            1 => image.into_luma8().into_raw(),
            _ => image.into_rgb8().into_raw(),
        };
        let mut elements = Vec::with_capacity(channels * height * width);
        let value = |channel, at| bytes[at * channels + channel];
        self.pixels.append(height * width, value, &mut elements);
        Ok(elements)
    }

    /// The centre of the image, as much of it as is seen, scaled to the network's input. Cutting before scaling bounds what
    /// an image of extreme proportions takes.
    fn fit(&self, image: DynamicImage, width: u32, height: u32) -> DynamicImage {
        let (w, h) = (f64::from(image.width()), f64::from(image.height()));
        let least = (f64::from(width) / w).max(f64::from(height) / h);
        let scale = self
            .spec
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

fn decode(file: &Path) -> Result<DynamicImage, String> {
    let reader = BufReader::new(File::open(file).map_err(|e| e.to_string())?);
    let mut reader = ImageReader::new(reader)
        .with_guessed_format()
        .map_err(|e| e.to_string())?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    reader.limits(limits);
    // Some decoders end their messages with a line break.
    reader
        .decode()
        .map_err(|e| e.to_string().trim_end().to_string())
}
