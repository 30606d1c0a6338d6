//! What a user writes to name data: `KIND:PATH`, and options.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::training::Augment;
use super::wanted::Wanted;
use super::{Data, Opened, Wrong, dream, npy, npz, safetensors};
#[cfg(feature = "images")]
use super::{cifar10, folder, mnist};
use crate::ir::Graph;
use crate::{Error, Result};

/// The kinds of data.
static KINDS: &[&Kind] = &[
    &npz::NPZ,
    &npy::NPY,
    &safetensors::SAFETENSORS,
    #[cfg(feature = "images")]
    &folder::FOLDER,
    #[cfg(feature = "images")]
    &mnist::MNIST,
    #[cfg(feature = "images")]
    &cifar10::CIFAR10,
    &dream::DREAM,
];

/// The options of all kinds of data: name, value, meaning.
const OPTIONS: &[(&str, &str, &str)] = &[
    (
        "split",
        "P",
        "the part, train or test, where there are both [default: --data train, --eval test]",
    ),
    (
        "x",
        "NAME",
        "the array of a network's only input [default: x]",
    ),
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
        "what divides them then [defaults: ImageNet's for 3 channels, MNIST's, else 0 and 1]",
    ),
    (
        "resize",
        "N",
        "an image's shorter side before its centre is cut out [default: the input's]",
    ),
    (
        "flip",
        "B",
        "true or false: mirror half of the images in training [default: true for cifar10]",
    ),
    (
        "crop",
        "N",
        "shift images by up to N pixels each way in training [default: 4 for cifar10, else 0]",
    ),
    (
        "steps",
        "N",
        "steps by which samples are made [default: 60]",
    ),
    (
        "range",
        "A/B",
        "limits of what is made [default: by mean and std, or else by the first batch norms]",
    ),
    (
        "save",
        "FILE",
        "keep the samples that were made, as npz:FILE reads them",
    ),
];

/// A kind of data: what its specification looks like, and what opens it.
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// What comes after the colon.
    pub(super) takes: &'static str,
    /// What is there, in one line.
    pub(super) help: &'static str,
    /// Which of [`OPTIONS`] it has.
    pub(super) options: &'static [&'static str],
    /// Mean and standard deviation of all channels, where the kind has its own.
    pub(super) mean_std: Option<(f32, f32)>,
    /// What training does to images unless options say otherwise.
    pub(super) augment: Augment,
    pub(super) open: fn(&DataSpec, &Wanted) -> Result<Opened>,
}

/// A part of data that is divided for training and for testing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// What a network is trained and calibrated on.
    Train,
    /// What it is judged by.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Test => "test",
        })
    }
}

/// Which data: `KIND:PATH`, and perhaps `,OPTION=VALUE`.
#[derive(Clone)]
pub struct DataSpec {
    pub(super) kind: &'static Kind,
    pub(super) path: PathBuf,
    /// The part that the text names.
    pub(super) split: Option<Split>,
    /// The part to take where it names none.
    preferred: Split,
    /// Numbers for all channels (one) or for each; none for the default.
    pub(super) mean: Vec<f32>,
    pub(super) std: Vec<f32>,
    pub(super) resize: Option<u32>,
    pub(super) augment: Augment,
    /// The names of an archive's arrays, where they are not the default.
    pub(super) x: Option<String>,
    pub(super) y: Option<String>,
    /// How samples are made, and where they are kept.
    pub(super) steps: Option<u32>,
    pub(super) range: Option<[f32; 2]>,
    pub(super) save: Option<PathBuf>,
    text: String,
}

impl DataSpec {
    /// Opens the data for the network's inputs; reads no more than it takes to know that it fits.
    ///
    /// # Errors
    /// [`Error::Usage`] when such data is not for the network's inputs, or needs a size that [`Graph::bindings`] do not give;
    /// [`Error::Io`], [`Error::Format`] or [`Error::Data`] when the data cannot be read or does not fit the input.
    pub fn open(&self, graph: &Graph) -> Result<Data> {
        let opened = (self.kind.open)(self, &Wanted::by(graph))?;
        Ok(Data::new(self, opened))
    }

    /// This data, of which `split` is taken where it has both parts and the text names none; else that is the train part.
    #[doc(hidden)]
    pub fn prefer(self, split: Split) -> DataSpec {
        DataSpec {
            preferred: split,
            ..self
        }
    }

    /// The same for one of the files in its folder.
    pub(super) fn in_file(&self, path: PathBuf) -> DataSpec {
        DataSpec {
            path,
            ..self.clone()
        }
    }

    /// The part to take where there are both.
    #[cfg_attr(not(feature = "images"), allow(dead_code))]
    pub(super) fn part(&self) -> Split {
        self.split.unwrap_or(self.preferred)
    }

    /// The text, and the part that was taken if the text does not say it.
    pub(super) fn name(&self, taken: Option<Split>) -> String {
        match taken {
            Some(split) if self.split.is_none() => format!("{},split={split}", self.text),
            _ => self.text.clone(),
        }
    }

    pub(super) fn has_normalisation(&self) -> bool {
        !(self.mean.is_empty() && self.std.is_empty())
    }

    pub(super) fn wrong(&self, wrong: Wrong) -> Error {
        wrong.at(&self.path)
    }

    /// Sets an option; `None` when `value` is nothing that it takes.
    fn set(&mut self, option: &str, value: &str) -> Option<()> {
        let array = (!value.is_empty()).then(|| value.to_string());
        match option {
            "split" => {
                let mut splits = [Split::Train, Split::Test].into_iter();
                self.split = Some(splits.find(|split| split.to_string() == value)?);
            }
            "x" => self.x = Some(array?),
            "y" => self.y = Some(array?),
            "mean" => self.mean = numbers(value, |x| x.is_finite())?,
            "std" => self.std = numbers(value, |x| x.is_finite() && x > 0.0)?,
            "resize" => self.resize = Some(whole(value, 1, 1 << 14)?),
            "flip" => self.augment.flip = value.parse().ok()?,
            "steps" => self.steps = Some(whole(value, 1, 1 << 20)?),
            "range" => match numbers(value, |x| x.is_finite())?[..] {
                [least, largest] if least < largest => self.range = Some([least, largest]),
                _ => return None,
            },
            "save" => self.save = Some(array?.into()),
            "crop" => self.augment.crop = whole(value, 0, 1 << 10)? as usize,
            _ => return None,
        }
        Some(())
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
            return Err(wrong(
                at,
                what,
                format!("data is one of {}", kinds.join(", ")),
            ));
        };
        // A comma is part of the path unless an option follows it.
        let is_option = |part: &str| {
            let name = part.split_once('=').map(|(name, _)| name);
            name.is_some_and(|name| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase())
            })
        };
        let mut first = rest.match_indices(',').map(|(at, _)| at);
        let end = first
            .find(|at| is_option(rest[at + 1..].split(',').next().unwrap_or_default()))
            .unwrap_or(rest.len());
        let mut spec = DataSpec {
            kind,
            path: rest[..end].into(),
            split: None,
            preferred: Split::Train,
            mean: Vec::new(),
            std: Vec::new(),
            resize: None,
            augment: kind.augment,
            x: None,
            y: None,
            steps: None,
            range: None,
            save: None,
            text: text.to_string(),
        };
        if kind.name == dream::DREAM.name && spec.dreamt().is_none() {
            let at = text.len() - rest.len();
            let what = format!("`{}` is no number of samples", &rest[..end]);
            return Err(wrong(at, what, "say how many, as dream:400".to_string()));
        }
        let mut at = text.len() - rest.len() + end;
        for option in rest[end..].split(',').skip(1) {
            at += 1;
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            if !kind.options.contains(&name) {
                let what = format!("`{name}` is no option of {} data", kind.name);
                let options = kind.options.join(", ");
                return Err(wrong(at, what, format!("its options are {options}")));
            }
            if spec.set(name, value).is_none() {
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

fn whole(text: &str, min: u32, max: u32) -> Option<u32> {
    text.parse().ok().filter(|n| (min..=max).contains(n))
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
