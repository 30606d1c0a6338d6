//! Data of a network: samples for calibration, and labelled ones that say how good a network is.
//!
//! A [`DataSpec`] is the text a user gives, `npz:data.npz` or `folder:photographs,mean=0.5,std=0.5`. [Opened](DataSpec::open)
//! for a network it is [`Data`], which is checked against the network's input and read piece by piece; a batch of it is
//! [`Samples`]. A kind of data is one file here and one line in `KINDS`.

#[cfg(feature = "images")]
mod folder;
mod npy;
mod npz;
mod pixels;
mod wanted;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ndarray::ArrayD;

use crate::ir::{Bytes, Graph};
use crate::{Error, Result};
use wanted::Wanted;

/// The kinds of data.
static KINDS: &[&Kind] = &[
    &npz::NPZ,
    #[cfg(feature = "images")]
    &folder::FOLDER,
];

/// The options of all kinds of data: name, value, meaning.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("x", "NAME", "the array of the inputs [default: x]"),
    (
        "y",
        "NAME",
        "the array of the labels [default: y, where there is one]",
    ),
    (
        "mean",
        "M",
        "taken from pixels of 0 to 1: one number, or one a channel as 0.485/0.456/0.406",
    ),
    (
        "std",
        "S",
        "what divides them then [defaults: ImageNet's for 3 channels, else 0 and 1]",
    ),
    (
        "resize",
        "N",
        "an image's shorter side before its centre is cut out [default: the input's]",
    ),
];

/// A kind of data: what its specification looks like, and what opens it.
struct Kind {
    name: &'static str,
    /// What comes after the colon.
    takes: &'static str,
    /// What is there, in one line.
    help: &'static str,
    /// Which of [`OPTIONS`] it has.
    options: &'static [&'static str],
    open: fn(&DataSpec, &Wanted) -> Result<Box<dyn Source>>,
}

/// Where samples come from.
trait Source: fmt::Debug + Send + Sync {
    /// The number of samples; never 0.
    fn len(&self) -> usize;
    /// The samples at these positions, each below [`len`](Source::len), in this order.
    fn read(&self, positions: &[usize]) -> Result<Samples>;
}

/// Which data: `KIND:PATH`, and perhaps `,OPTION=VALUE`.
#[derive(Clone)]
pub struct DataSpec {
    kind: &'static Kind,
    path: PathBuf,
    /// Numbers for all channels (one) or for each; none for the default.
    mean: Vec<f32>,
    std: Vec<f32>,
    resize: Option<u32>,
    /// The names of an archive's arrays, where they are not the default.
    x: Option<String>,
    y: Option<String>,
    text: String,
}

impl DataSpec {
    /// Opens the data for the network's one input; reads no more than it takes to know that it fits.
    ///
    /// # Errors
    /// [`Error::Usage`] when the network has not one input, or needs a size that [`Graph::bindings`] do not give;
    /// [`Error::Io`], [`Error::Format`] or [`Error::Data`] when the data cannot be read or does not fit the input.
    pub fn open(&self, graph: &Graph) -> Result<Data> {
        let wanted = Wanted::by(graph)?;
        Ok(Data {
            source: (self.kind.open)(self, &wanted)?,
            spec: self.clone(),
        })
    }

    fn has_normalisation(&self) -> bool {
        !(self.mean.is_empty() && self.std.is_empty())
    }

    fn wrong(&self, wrong: Wrong) -> Error {
        Error::Data {
            path: self.path.clone(),
            what: wrong.what,
            help: wrong.help,
        }
    }
}

impl FromStr for DataSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<DataSpec> {
        let wrong = |at: usize, what: String, help: String| Error::Text {
            what,
            text: text.to_string(),
            at,
            help,
        };
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let kind = KINDS.iter().find(|kind| kind.name == name);
        let Some(kind) = kind.filter(|_| !rest.is_empty()) else {
            let kinds: Vec<String> = KINDS
                .iter()
                .map(|kind| format!("{}:{}", kind.name, kind.takes))
                .collect();
            let what = match kind {
                Some(kind) => format!("there is no {} after `{name}:`", kind.takes),
                None => format!("`{name}` is no kind of data"),
            };
            let at = if kind.is_some() { text.len() } else { 0 };
            return Err(wrong(at, what, format!("data is {}", kinds.join(" or "))));
        };
        // A comma is part of the path unless an option follows it.
        let is_option = |part: &str| {
            let name = part.split_once('=').map(|(name, _)| name);
            name.is_some_and(|name| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase())
            })
        };
        let first = rest.match_indices(',').map(|(at, _)| at);
        let end = { first }
            .find(|at| is_option(rest[at + 1..].split(',').next().unwrap_or_default()))
            .unwrap_or(rest.len());
        let mut spec = DataSpec {
            kind,
            path: rest[..end].into(),
            mean: Vec::new(),
            std: Vec::new(),
            resize: None,
            x: None,
            y: None,
            text: text.to_string(),
        };
        let mut at = text.len() - rest.len() + end;
        for option in rest[end..].split(',').skip(1) {
            at += 1;
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let known = kind.options.contains(&name);
            let array = (!value.is_empty()).then(|| value.to_string());
            let good = match name {
                "x" => array.map(|x| spec.x = Some(x)),
                "y" => array.map(|y| spec.y = Some(y)),
                "mean" => numbers(value, |x| x.is_finite()).map(|x| spec.mean = x),
                "std" => numbers(value, |x| x.is_finite() && x > 0.0).map(|x| spec.std = x),
                "resize" => whole(value).map(|n| spec.resize = Some(n)),
                _ => None,
            };
            if !known {
                let what = format!("`{name}` is no option of {} data", kind.name);
                return Err(wrong(
                    at,
                    what,
                    format!("its options are {}", kind.options.join(", ")),
                ));
            }
            if good.is_none() {
                let help = OPTIONS.iter().find(|(option, ..)| *option == name);
                let help = help.map_or_else(String::new, |(name, value, help)| {
                    format!("{name}={value}: {help}")
                });
                let what = format!("`{value}` is not what {name} takes");
                return Err(wrong(at + name.len() + 1, what, help));
            }
            at += option.len();
        }
        Ok(spec)
    }
}

/// `0.5`, or `0.485/0.456/0.406`.
fn numbers(text: &str, good: impl Fn(f32) -> bool) -> Option<Vec<f32>> {
    let number = |part: &str| part.parse().ok().filter(|x| good(*x));
    text.split('/').map(number).collect()
}

fn whole(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n| (1..=1 << 14).contains(n))
}

impl fmt::Display for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataSpec({})", self.text)
    }
}

/// What can be written after `--data` and `--eval`, one line each.
pub fn help() -> String {
    let kind = |kind: &&Kind| {
        format!(
            "  {:<11} {}\n",
            format!("{}:{}", kind.name, kind.takes),
            kind.help
        )
    };
    let option = |(name, value, help): &(&str, &str, &str)| {
        format!("  {:<11} {help}\n", format!(",{name}={value}"))
    };
    let used =
        |(name, ..): &&(&str, &str, &str)| KINDS.iter().any(|kind| kind.options.contains(name));
    let kinds = KINDS.iter().map(kind);
    kinds
        .chain(OPTIONS.iter().filter(used).map(option))
        .collect()
}

/// The data in an archive of NumPy's that is in memory.
pub(crate) fn npz_in_memory(archive: Bytes, graph: &Graph) -> Result<Data> {
    let spec: DataSpec = "npz:memory".parse()?;
    Ok(Data {
        source: npz::read(&spec, &Wanted::by(graph)?, archive)?,
        spec,
    })
}

/// Data that fits a network's input.
#[derive(Debug)]
pub struct Data {
    spec: DataSpec,
    source: Box<dyn Source>,
}

impl Data {
    /// The specification's text, for reports.
    pub fn name(&self) -> &str {
        &self.spec.text
    }

    /// The number of samples; never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// The samples at these positions, each below [`len`](Data::len), in this order. Those that are damaged are left out.
    ///
    /// # Errors
    /// [`Error::Data`] when a sample holds what is not a finite number.
    pub fn read(&self, positions: &[usize]) -> Result<Samples> {
        self.source.read(positions)
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
            Some(first) if samples.is_empty() => {
                let what = format!("none of {count} samples can be read; the first is {first}");
                Err(self.wrong(&what, ""))
            }
            _ => Ok(samples),
        }
    }

    pub(crate) fn wrong(&self, what: &str, help: &str) -> Error {
        self.spec.wrong(Wrong::new(what, help))
    }
}

/// A batch of inputs of a network with one input.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The specification they come from, for reports.
    pub name: String,
    /// The inputs as the network takes them, `[n, ...]`: images are `[n, C, H, W]`, normalised.
    pub images: ArrayD<f32>,
    /// The class of each input, `[n]`, where the data says so.
    pub labels: Option<Vec<i64>>,
    /// Damaged samples that were left out, and why.
    pub left_out: Vec<String>,
}

impl Samples {
    /// The number of samples.
    pub fn len(&self) -> usize {
        self.images.shape().first().copied().unwrap_or_default()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Samples of the shape `sample` with these elements, all of one sample before all of the next.
    fn new(
        sample: &[usize],
        elements: Vec<f32>,
        labels: Option<Vec<i64>>,
        spec: &DataSpec,
    ) -> Result<Samples> {
        let n = elements.len() / sample.iter().product::<usize>().max(1);
        let images = ArrayD::from_shape_vec([&[n], sample].concat(), elements);
        let images = images.map_err(|error| spec.wrong(Wrong::new(error.to_string(), "")))?;
        Ok(Samples {
            name: spec.text.clone(),
            images,
            labels,
            left_out: Vec::new(),
        })
    }
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
}
