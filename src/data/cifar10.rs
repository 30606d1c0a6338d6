//! `cifar10:DIR`: the photographs of ten classes in their binary version, records of a label and 3 x 32 x 32 pixels.

use std::path::PathBuf;

use image::{DynamicImage, RgbImage};

use super::images::{self, Pictures};
use super::spec::Kind;
use super::training::Augment;
use super::{DataSpec, Opened, Split, Wanted, Wrong};
use crate::Result;
use crate::ir::Bytes;

pub(super) static CIFAR10: Kind = Kind {
    name: "cifar10",
    takes: "DIR",
    help: "CIFAR-10's binary version: data_batch_1.bin to data_batch_5.bin, test_batch.bin",
    options: &["split", "mean", "std", "resize", "flip", "crop"],
    mean_std: None,
    augment: Augment {
        flip: true,
        crop: 4,
    },
    open,
};

const CLASSES: usize = 10;
const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PLANE;

/// Records in several files.
#[derive(Debug)]
struct Cifar10 {
    parts: Vec<Bytes>,
}

fn open(spec: &DataSpec, wanted: &Wanted) -> Result<Opened> {
    super::check_there(&spec.path)?;
    let names: Vec<String> = match spec.part() {
        Split::Train => (1..=5).map(|i| format!("data_batch_{i}.bin")).collect(),
        Split::Test => vec!["test_batch.bin".to_string()],
    };
    let mut parts = Vec::new();
    for name in names {
        let path = spec.path.join(&name);
        if !path.exists() {
            return Err(spec.wrong(Wrong::new(
                format!("there is no file {name}"),
                "give the folder that cifar-10-binary.tar.gz unpacks to; the version for Python is not read",
            )));
        }
        parts.push((super::map(&path)?, path));
    }
    of_files(spec, wanted, parts)
}

/// As [`open`], of files in memory.
pub(super) fn read(spec: &DataSpec, wanted: &Wanted, files: Vec<Bytes>) -> Result<Opened> {
    let parts = files.into_iter().map(|file| (file, spec.path.clone()));
    of_files(spec, wanted, parts.collect())
}

fn of_files(spec: &DataSpec, wanted: &Wanted, files: Vec<(Bytes, PathBuf)>) -> Result<Opened> {
    let mut labels = Vec::new();
    let mut parts = Vec::new();
    for (part, path) in files {
        labels.extend(labels_of(&part).map_err(|w| w.at(&path))?);
        parts.push(part);
    }
    images::open(
        spec,
        wanted,
        Box::new(Cifar10 { parts }),
        Some((labels, CLASSES)),
        Some(spec.part()),
    )
}

/// The labels of a file that holds whole records of known classes.
fn labels_of(part: &Bytes) -> Result<Vec<i64>, Wrong> {
    let bytes = part.as_ref();
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        return Err(Wrong::new(
            format!(
                "its {} bytes are no whole number of images, which take {RECORD} each",
                bytes.len()
            ),
            "the file was cut short, or is none of CIFAR-10's binary version; fetch it again",
        ));
    }
    images::labels(bytes.iter().step_by(RECORD).copied(), CLASSES)
}

impl Cifar10 {
    /// The record at this position of all.
    fn record(&self, mut position: usize) -> Option<&[u8]> {
        for part in &self.parts {
            let mut records = part.as_ref().chunks(RECORD);
            if position < records.len() {
                return records.nth(position);
            }
            position -= records.len();
        }
        None
    }
}

impl Pictures for Cifar10 {
    fn len(&self) -> usize {
        let bytes: usize = self.parts.iter().map(|part| part.as_ref().len()).sum();
        bytes / RECORD
    }

    fn channels(&self) -> usize {
        3
    }

    fn alike(&self) -> bool {
        true
    }

    fn size(&self) -> Result<[usize; 2], Wrong> {
        Ok([SIDE; 2])
    }

    fn decode(&self, position: usize) -> Result<DynamicImage, String> {
        let planes = self.record(position).and_then(|record| record.get(1..));
        let pixel = |at| (0..3).map(move |channel| channel * PLANE + at);
        let pixels = planes.map(|planes| (0..PLANE).flat_map(pixel).map(|at| planes[at]).collect());
        pixels
            .and_then(|pixels| RgbImage::from_raw(SIDE as u32, SIDE as u32, pixels))
            .map(DynamicImage::ImageRgb8)
            .ok_or_else(|| format!("image {position} is cut off"))
    }
}
