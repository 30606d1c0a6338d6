//! `mnist:DIR`: the handwritten digits, or what comes in the same files.

use std::path::{Path, PathBuf};

use image::{DynamicImage, GrayImage};

use super::images::{self, MAX_SIDE, Pictures};
use super::spec::Kind;
use super::training::Augment;
use super::{DataSpec, Opened, Split, Wanted, Wrong, idx};
use crate::Result;
use crate::ir::Bytes;

pub(super) static MNIST: Kind = Kind {
    name: "mnist",
    takes: "DIR",
    help: "MNIST's four files, or Fashion-MNIST's: train-images-idx3-ubyte .., gzipped or not",
    options: &["split", "mean", "std", "resize", "flip", "crop"],
    // Of its training images, as nearly every published network on it uses them.
    mean_std: Some((0.1307, 0.3081)),
    augment: Augment::NONE,
    open,
};

const CLASSES: usize = 10;

/// Images of one channel, one after the other.
#[derive(Debug)]
struct Mnist {
    size: [usize; 2],
    pixels: Bytes,
}

fn open(spec: &DataSpec, wanted: &Wanted) -> Result<Opened> {
    let part = match spec.part() {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let images = find(&spec.path, &format!("{part}-images-idx3-ubyte"))?;
    let labels = find(&spec.path, &format!("{part}-labels-idx1-ubyte"))?;
    of_files(
        spec,
        wanted,
        [
            (&images, &super::map(&images)?),
            (&labels, &super::map(&labels)?),
        ],
    )
}

/// The file of this name in `folder`, gzipped or not.
fn find(folder: &Path, name: &str) -> Result<PathBuf> {
    super::check_there(folder)?;
    let candidates = [folder.join(name), folder.join(format!("{name}.gz"))];
    candidates.into_iter().find(|path| path.exists()).ok_or_else(|| {
        Wrong::new(
            format!("there is no file {name}, and no {name}.gz"),
            "a folder of MNIST has train-images-idx3-ubyte, train-labels-idx1-ubyte, and the same of t10k",
        )
        .at(folder)
    })
}

/// As [`open`], of images and labels in memory.
pub(super) fn read(spec: &DataSpec, wanted: &Wanted, files: [&Bytes; 2]) -> Result<Opened> {
    of_files(spec, wanted, files.map(|bytes| (&*spec.path, bytes)))
}

fn of_files(
    spec: &DataSpec,
    wanted: &Wanted,
    [(images_path, images), (labels_path, labels)]: [(&Path, &Bytes); 2],
) -> Result<Opened> {
    let ([n, height, width], pixels) = idx::read(images).map_err(|w| w.at(images_path))?;
    if n == 0 || !(1..=MAX_SIDE).contains(&height) || !(1..=MAX_SIDE).contains(&width) {
        let what = format!("it holds {n} images of {width}x{height} pixels");
        return Err(Wrong::new(what, "").at(images_path));
    }
    let ([labelled], labels) = idx::read(labels).map_err(|w| w.at(labels_path))?;
    if labelled != n {
        let what = format!("its labels are for {labelled} images, and there are {n}");
        return Err(Wrong::new(what, "take both files from one download").at(labels_path));
    }
    let labels = images::labels(labels.as_ref().iter().copied(), CLASSES);
    images::open(
        spec,
        wanted,
        Box::new(Mnist {
            size: [height, width],
            pixels,
        }),
        Some((labels.map_err(|w| w.at(labels_path))?, CLASSES)),
        Some(spec.part()),
    )
}

impl Pictures for Mnist {
    fn len(&self) -> usize {
        self.pixels.as_ref().len() / self.size.iter().product::<usize>()
    }

    fn channels(&self) -> usize {
        1
    }

    fn alike(&self) -> bool {
        true
    }

    fn size(&self) -> Result<[usize; 2], Wrong> {
        Ok(self.size)
    }

    fn decode(&self, position: usize) -> Result<DynamicImage, String> {
        let [height, width] = self.size;
        let images = &mut self.pixels.as_ref().chunks(height * width);
        let pixels = images.nth(position).unwrap_or_default().to_vec();
        GrayImage::from_raw(width as u32, height as u32, pixels)
            .map(DynamicImage::ImageLuma8)
            .ok_or_else(|| format!("image {position} is cut off"))
    }
}
