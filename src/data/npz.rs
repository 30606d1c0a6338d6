//! `npz:FILE`: two arrays in an archive of NumPy's, `x` and `y` unless they are named.

use std::sync::Arc;

use super::pixels::Pixels;
use super::spec::Kind;
use super::training::Augment;
use super::{DataSpec, Elements, Opened, Source, Wanted, Wrong};
use crate::files::archive::Archive;
use crate::ir::{Bytes, DType, Tensor};
use crate::{Error, Result};

pub(super) static NPZ: Kind = Kind {
    name: "npz",
    takes: "FILE",
    help: "arrays x [n, ...] (floats as they are, u8 as pixels) and perhaps y [n], the labels",
    options: &["x", "y", "mean", "std", "flip", "crop"],
    mean_std: None,
    augment: Augment::NONE,
    open,
};

/// The inputs, `[n, ...]`, where they lie in the file if that is not compressed.
#[derive(Debug)]
struct Npz(Tensor);

fn open(spec: &DataSpec, wanted: &Wanted) -> Result<Opened> {
    read(spec, wanted, super::map(&spec.path)?)
}

/// As [`open`], for a file that is in memory.
pub(super) fn read(spec: &DataSpec, wanted: &Wanted, map: Bytes) -> Result<Opened> {
    let format = |source| Error::format(&spec.path, source);
    if !map.as_ref().starts_with(b"PK") {
        return Err(spec.wrong(Wrong::new(
            "it is not an .npz archive",
            "write one with numpy.savez(\"data.npz\", x=inputs, y=labels)",
        )));
    }
    let archive = Archive::open(map).map_err(format)?;
    let array = |name: &str| -> Result<Option<Tensor>> {
        let entry = format!("{name}.npy");
        if !archive.contains(&entry) {
            return Ok(None);
        }
        let bytes: Bytes = archive.read(&entry).map_err(format)?;
        let tensor = super::npy::read(name, &bytes).map_err(|w| spec.wrong(w))?;
        Ok(Some(tensor))
    };
    let missing = |name: &str| {
        let names = archive.names().take(8);
        let names: Vec<&str> = names.map(|n| n.strip_suffix(".npy").unwrap_or(n)).collect();
        spec.wrong(Wrong::new(
            format!("it has no array `{name}`, only {}", names.join(", ")),
            "name one with x=NAME (inputs) or y=NAME (labels), or write numpy.savez(\"data.npz\", x=inputs, y=labels)",
        ))
    };
    let x = array(spec.x())?.ok_or_else(|| missing(spec.x()))?;
    let y = match &spec.y {
        Some(name) => Some(array(name)?.ok_or_else(|| missing(name))?),
        None => array("y")?,
    };
    checked(spec, wanted, x, y).map_err(|w| spec.wrong(w))
}

impl DataSpec {
    /// The name of the inputs' array.
    fn x(&self) -> &str {
        self.x.as_deref().unwrap_or("x")
    }

    /// The name of the labels' array.
    fn y(&self) -> &str {
        self.y.as_deref().unwrap_or("y")
    }
}

fn checked(
    spec: &DataSpec,
    wanted: &Wanted,
    x: Tensor,
    y: Option<Tensor>,
) -> Result<Opened, Wrong> {
    let name = spec.x();
    let [n, sample @ ..] = x.shape() else {
        return Err(Wrong::new(
            format!("the array `{name}` is a single number"),
            "its first dimension counts the samples",
        ));
    };
    if x.is_empty() {
        return Err(Wrong::new(
            format!("the array `{name}` of shape {:?} is empty", x.shape()),
            "",
        ));
    }
    wanted.check(sample)?;
    let pixels = match x.dtype() {
        DType::U8 => Some(Pixels::new(spec, channels(sample))?),
        dtype if !dtype.is_float() => {
            return Err(Wrong::new(
                format!("the array `{name}` is of the type {dtype}"),
                "floats are taken as they are, and u8 as pixels",
            ));
        }
        dtype if spec.has_normalisation() => {
            return Err(Wrong::new(
                format!("the array `{name}` is of the type {dtype}, which is taken as it is"),
                "mean and std are for pixels (u8); leave them out, or save u8",
            ));
        }
        _ => None,
    };
    let labels = y.map(|y| labels(spec, &y, *n)).transpose()?;
    let last = labels.iter().flatten().max();
    Ok(Opened {
        sample: sample.to_vec(),
        // Labels are far below 2^53; a network has an output for each class.
        classes: last.map_or(0, |last| usize::try_from(*last).unwrap_or_default() + 1),
        labels,
        pixels,
        split: None,
        source: Box::new(Npz(x)),
    })
}

/// The channels of a sample `[C, ...]`; one for a row of numbers.
fn channels(sample: &[usize]) -> usize {
    match sample {
        [channels, _, ..] => *channels,
        _ => 1,
    }
}

/// One label a sample.
fn labels(spec: &DataSpec, y: &Tensor, samples: usize) -> Result<Vec<i64>, Wrong> {
    if y.shape() != [samples] || y.dtype().is_float() || y.dtype() == DType::Bool {
        return Err(Wrong::new(
            format!(
                "the array `{}` is {}{:?}, for {samples} samples in `{}`",
                spec.y(),
                y.dtype(),
                y.shape(),
                spec.x()
            ),
            format!("labels are signed integers or u8 of the shape [{samples}]"),
        ));
    }
    // Class numbers are far below 2^53, where doubles are exact.
    Ok(y.elements::<f64>().iter().map(|y| *y as i64).collect())
}

impl Source for Npz {
    fn len(&self) -> usize {
        self.0.shape()[0]
    }

    fn read(&self, position: usize) -> Result<Elements, String> {
        let sample = &self.0.shape()[1..];
        let bytes = sample.iter().product::<usize>() * self.0.dtype().size();
        let all = self.0.bytes();
        let one = all.get(position * bytes..(position + 1) * bytes);
        let one = one.unwrap_or_default().to_vec(); // Positions are below `len`.
        if self.0.dtype() == DType::U8 {
            return Ok(Elements::Pixels(one));
        }
        let one = Tensor::new(self.0.dtype(), sample, Bytes::new(Arc::new(one)))?;
        Ok(Elements::Numbers(one.elements::<f32>().into_owned()))
    }
}
