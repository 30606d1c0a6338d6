//! Data of a network: samples for calibration, sets to train on, and labelled samples that say how good a network is.
//!
//! A [`DataSpec`] is the text a user gives, `npz:data.npz` or `folder:photographs,mean=0.5,std=0.5`. [Opened](DataSpec::open)
//! for a network it is [`Data`], which is checked against the network's inputs and read piece by piece; some of it are
//! [`Samples`], fed to a network in [`Feeds`], and all of it, to train on, a [`TrainingSet`]. A kind of data is one file here and
//! one line in `spec`.

mod arrays;
mod batches;
#[cfg(feature = "images")]
mod cifar10;
mod dream;
#[cfg(feature = "images")]
mod folder;
mod given;
#[cfg(feature = "images")]
mod idx;
#[cfg(feature = "images")]
mod images;
#[cfg(feature = "images")]
mod mnist;
mod npy;
mod npz;
mod npz_folder;
mod pixels;
mod room;
mod safetensors;
mod samples;
mod spec;
mod training;
mod wanted;

#[cfg(feature = "torch")]
pub(crate) use batches::padded;
pub use batches::{Batch, Batches};
pub use dream::Dreams;
pub(crate) use npz::write as write_npz;
pub use samples::{Feeds, Fill, Filled, InputSamples, Run, Samples};
pub use spec::{DataSpec, Split, help};
pub use training::TrainingSet;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use crate::ir::{Bytes, Graph, Tensor};
use crate::{Error, Result};
use pixels::Pixels;
use wanted::Wanted;

/// Where samples come from.
trait Source: fmt::Debug + Send + Sync {
    /// The number of samples; never 0.
    fn len(&self) -> usize;
    /// The sample at this position, below [`len`](Source::len).
    ///
    /// # Errors
    /// Why the sample is damaged, and where it is.
    fn read(&self, position: usize) -> Result<Elements, String>;
}

/// Elements of samples.
#[derive(Debug)]
enum Elements {
    /// Of 0 to 255, not normalised.
    Pixels(Vec<u8>),
    /// As the network takes them.
    Numbers(Vec<f32>),
    /// An array for each input: of floats `f32`, else of the input's own type.
    Arrays(Vec<Tensor>),
}

/// What opening data finds out.
#[derive(Debug)]
struct Opened {
    source: Box<dyn Source>,
    /// The inputs that samples are for, and whether one is all that the input takes at once.
    inputs: Vec<(Arc<str>, bool)>,
    /// The other inputs that need something.
    filled: Vec<Filled>,
    /// The shape of one sample, without the batch; none of its sizes is 0. `None` where samples are [`Elements::Arrays`].
    sample: Option<Vec<usize>>,
    /// The class of each sample, where the data says so.
    labels: Option<Vec<i64>>,
    /// The number of classes, where there are labels.
    classes: usize,
    /// How to read [`Elements::Pixels`], where the source gives such.
    pixels: Option<Pixels>,
    /// Which part it is, where there are both.
    split: Option<Split>,
}

/// The largest whole number that arrays of `f32`, in which networks are run here, hold as all below it.
const LARGEST: f64 = 16_777_216.0;

/// Samples that are read at a time.
const AT_A_TIME: usize = 64;
/// Bytes of samples that stay in memory at most; more are in temporary files.
const IN_MEMORY: usize = 256 << 20;

/// Data that fits a network's inputs.
#[derive(Debug)]
pub struct Data {
    name: String,
    spec: DataSpec,
    opened: Opened,
    /// Read when it is asked for.
    training: OnceLock<TrainingSet>,
}

impl Data {
    fn new(spec: &DataSpec, opened: Opened) -> Data {
        Data {
            name: spec.name(opened.split),
            spec: spec.clone(),
            opened,
            training: OnceLock::new(),
        }
    }

    /// The specification's text, for reports; it says which part was taken of data that has two.
    #[doc(hidden)]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of samples; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.opened.source.len()
    }

    /// The samples at these positions, each below [`len`](Data::len), in this order. Those that are damaged are left out.
    ///
    /// # Errors
    /// [`Error::Data`] when a sample holds what is not a finite number.
    #[doc(hidden)]
    pub fn read(&self, positions: &[usize]) -> Result<Samples> {
        self.read_within(positions, IN_MEMORY)
    }

    /// The same, with so many bytes in memory at most.
    fn read_within(&self, positions: &[usize], mut room: usize) -> Result<Samples> {
        let opened = &self.opened;
        let mut columns: Vec<Vec<Tensor>> = vec![Vec::new(); opened.inputs.len()];
        let mut labels = opened.labels.as_ref().map(|_| Vec::new());
        let mut left_out = Vec::new();
        for positions in positions.chunks(AT_A_TIME) {
            let before = columns.first().map_or(0, Vec::len);
            for (position, sample) in positions.iter().zip(self.elements(positions)) {
                let arrays = match sample.map(|elements| self.arrays_of(*position, elements)) {
                    Ok(arrays) => arrays?,
                    Err(why) => {
                        left_out.push(why);
                        continue;
                    }
                };
                for (column, array) in columns.iter_mut().zip(arrays) {
                    column.push(array);
                }
                if let (Some(labels), Some(all)) = (&mut labels, &opened.labels) {
                    labels.push(all[*position]);
                }
            }
            let new = columns.iter_mut().flat_map(|column| &mut column[before..]);
            room::keep(new.collect(), &mut room)?;
        }
        let inputs = opened.inputs.iter().zip(columns);
        let input = |((name, whole), samples): (&(Arc<str>, bool), _)| InputSamples {
            name: name.clone(),
            whole: *whole,
            samples,
        };
        Ok(Samples {
            name: self.name.clone(),
            inputs: inputs.map(input).collect(),
            filled: opened.filled.clone(),
            labels,
            left_out,
        })
    }

    /// Inputs that the data has nothing for, and what they get.
    #[doc(hidden)]
    pub fn filled(&self) -> &[Filled] {
        &self.opened.filled
    }

    /// The arrays of a sample, of finite numbers.
    fn arrays_of(&self, position: usize, elements: Elements) -> Result<Vec<Tensor>> {
        match (elements, &self.opened.pixels) {
            (Elements::Arrays(arrays), _) => {
                self.check_arrays(position, &arrays)?;
                Ok(arrays)
            }
            (Elements::Numbers(numbers), _) => {
                self.check(position, &numbers)?;
                Ok(vec![self.sample_of(numbers)?])
            }
            (Elements::Pixels(bytes), pixels) => {
                let mut numbers = Vec::with_capacity(bytes.len());
                // Who gives pixels says how to read them.
                pixels
                    .iter()
                    .for_each(|pixels| pixels.append(&bytes, &mut numbers));
                Ok(vec![self.sample_of(numbers)?])
            }
        }
    }

    /// The samples at these positions, decoded by all threads of the pool.
    fn elements(&self, positions: &[usize]) -> Vec<Result<Elements, String>> {
        let source = &self.opened.source;
        positions
            .par_iter()
            .map(|position| source.read(*position))
            .collect()
    }

    fn check(&self, position: usize, numbers: &[f32]) -> Result<()> {
        match numbers.iter().position(|x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let what = format!("sample {position} holds {} at element {at}", numbers[at]);
                Err(self.wrong(&what, "leave such samples out"))
            }
        }
    }

    /// Floats have to be finite, and whole numbers such as `f32` holds.
    fn check_arrays(&self, position: usize, arrays: &[Tensor]) -> Result<()> {
        for ((name, _), array) in self.opened.inputs.iter().zip(arrays) {
            if array.dtype().is_float() {
                let found = array.elements::<f32>();
                if let Some(at) = found.iter().position(|x| !x.is_finite()) {
                    let what = format!(
                        "sample {position} of the input `{name}` holds {} at element {at}",
                        found[at]
                    );
                    return Err(self.wrong(&what, "leave such samples out"));
                }
            } else if let Some(large) = array.elements::<f64>().iter().find(|x| x.abs() > LARGEST) {
                let what = format!("sample {position} of the input `{name}` holds {large}");
                return Err(self.wrong(&what, "whole numbers up to 2^24 can be calibrated on"));
            }
        }
        Ok(())
    }

    /// An array of a sample's shape.
    fn sample_of(&self, numbers: Vec<f32>) -> Result<Tensor> {
        let shape = self.opened.sample.as_deref().unwrap_or_default();
        if numbers.len() != shape.iter().product::<usize>() {
            let what = format!("a sample has {} elements, not {shape:?}", numbers.len());
            return Err(self.wrong(&what, ""));
        }
        Ok(Tensor::from_vec(shape, numbers))
    }

    /// At most `count` samples from all over the data: one at random from each of `count` stretches of equal length, as
    /// `seed` says. Data in order of class is thus drawn from evenly.
    ///
    /// # Errors
    /// As [`Data::read`], and [`Error::Data`] when all samples are damaged.
    pub fn sample(&self, count: usize, seed: u64) -> Result<Samples> {
        let len = self.len();
        let count = count.min(len);
        let mut random = fastrand::Rng::with_seed(seed);
        // In 128 bits no product overflows.
        let start = |i: usize| (i as u128 * len as u128 / count.max(1) as u128) as usize;
        let positions: Vec<usize> = (0..count)
            .map(|i| random.usize(start(i)..start(i + 1)))
            .collect();
        let samples = self.read(&positions)?;
        match samples.left_out.first() {
            Some(first) if samples.is_empty() => Err(self.nothing_readable(count, first)),
            _ => Ok(samples),
        }
    }

    /// All of it, to train on; read from the files when it is first asked for.
    ///
    /// # Errors
    /// As [`Data::sample`], and [`Error::Data`] when samples are to be flipped or cropped that are no images `[C, H, W]`.
    #[doc(hidden)]
    pub fn training_set(&self) -> Result<TrainingSet> {
        if let Some(set) = self.training.get() {
            return Ok(set.clone());
        }
        let set = TrainingSet::read(self)?;
        Ok(self.training.get_or_init(|| set).clone())
    }

    fn nothing_readable(&self, count: usize, first: &str) -> Error {
        let what = format!("none of {count} samples can be read; the first is {first}");
        self.wrong(&what, "")
    }

    pub(crate) fn wrong(&self, what: &str, help: &str) -> Error {
        self.spec.wrong(Wrong::new(what, help))
    }

    /// The class that a label is, of the `classes` that the network tells apart.
    pub(crate) fn class(&self, label: i64, classes: usize) -> Result<usize> {
        class(label, classes).map_err(|w| self.spec.wrong(w))
    }

    /// That there are no labels for `what`.
    pub(crate) fn no_labels(&self, what: &str) -> Error {
        self.spec.wrong(no_labels(what))
    }
}

/// The class that `label` is, of the `classes` that a network tells apart.
///
/// # Errors
/// That there is no such class.
fn class(label: i64, classes: usize) -> Result<usize, Wrong> {
    let class = usize::try_from(label).ok();
    class.filter(|class| *class < classes).ok_or_else(|| {
        Wrong::new(
            format!("there is a label {label}, and the network has {classes} classes"),
            "labels count the network's outputs, from 0",
        )
    })
}

fn no_labels(what: &str) -> Wrong {
    Wrong::new(
        format!("there are no labels, which {what} needs"),
        "give them as an array `y` in npz:FILE, or by a folder for each class in folder:DIR",
    )
}

/// What is wrong with data, and what to do about it; whoever knows the file adds where.
#[derive(Debug)]
struct Wrong {
    what: String,
    help: String,
}

impl Wrong {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Wrong {
        Wrong {
            what: what.into(),
            help: help.into(),
        }
    }

    fn at(self, path: &Path) -> Error {
        Error::Data {
            path: path.to_path_buf(),
            what: self.what,
            help: self.help,
        }
    }
}

/// A file of data, mapped.
fn map(path: &Path) -> Result<Bytes> {
    crate::files::MappedFile::open(path).map_err(|error| Error::format(path, error))
}

/// Checks that there is such a folder, which is the first thing to say of data in several files.
#[cfg(feature = "images")]
fn check_there(folder: &Path) -> Result<()> {
    let found = std::fs::metadata(folder);
    found.map(|_| ()).map_err(|source| Error::Io {
        doing: "read",
        path: folder.to_path_buf(),
        source,
    })
}

/// The data in files that are in memory, in the order in which the kind reads them.
pub(crate) fn in_memory(kind: &str, files: Vec<Bytes>, graph: &Graph) -> Result<Data> {
    let spec: DataSpec = format!("{kind}:memory").parse()?;
    let wanted = Wanted::by(graph);
    let opened = match (kind, &files[..]) {
        ("npz", [archive]) => npz::read(&spec, &wanted, archive.clone()),
        ("safetensors", [file]) => safetensors::read(&spec, &wanted, file.clone()),
        #[cfg(feature = "images")]
        ("folder", [archive]) => folder::read(&spec, &wanted, archive.clone()),
        #[cfg(feature = "images")]
        ("mnist", [images, labels]) => mnist::read(&spec, &wanted, [images, labels]),
        #[cfg(feature = "images")]
        ("cifar10", _) => cifar10::read(&spec, &wanted, files),
        _ => Err(spec.wrong(Wrong::new("it has other files", ""))),
    };
    Ok(Data::new(&spec, opened?))
}
