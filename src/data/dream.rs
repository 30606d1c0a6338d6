//! `dream:N`: samples that are made from the network itself. What they are to be like is said here; who makes them is above.

use std::path::PathBuf;

use ndarray::ArrayD;

use super::pixels::Pixels;
use super::spec::Kind;
use super::training::Augment;
use super::{Data, DataSpec, Elements, Opened, Source, Wanted};
use crate::ir::Graph;
use crate::{Error, Result};

pub(super) static DREAM: Kind = Kind {
    name: "dream",
    takes: "N",
    help: "N samples made from the network itself, by what its batch norms recorded",
    options: &["steps", "mean", "std", "range", "save"],
    mean_std: None,
    augment: Augment::NONE,
    open,
};

/// What samples are to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Dreams {
    /// How many.
    pub count: usize,
    /// Steps of optimisation, where that was said.
    pub steps: Option<usize>,
    /// The least and the largest number of each channel, or of all of them, where that was said.
    pub range: Option<Vec<[f32; 2]>>,
    /// The shape of a sample; a size that no one has said is `None`, and so is all of it where not even the rank is known.
    pub sample: Option<Vec<Option<usize>>>,
    /// A file to keep them in.
    pub save: Option<PathBuf>,
}

fn open(spec: &DataSpec, _: &Wanted) -> Result<Opened> {
    Err(Error::Usage {
        what: format!("`{spec}` is not read but made from the network"),
        help: "open it by optc::dream::open".to_string(),
    })
}

impl DataSpec {
    /// What samples are to be made of `graph`, if this says so; data that is to be read says nothing.
    ///
    /// # Errors
    /// [`Error::Usage`] when the network has not one input, and [`Error::Data`] when what was said of its channels does not fit it.
    #[doc(hidden)]
    pub fn dreams(&self, graph: &Graph) -> Result<Option<Dreams>> {
        let Some(count) = self.dreamt().filter(|_| self.kind.name == DREAM.name) else {
            return Ok(None);
        };
        let wanted = Wanted::by(graph);
        let sample = wanted.sole()?.row().map(<[_]>::to_vec);
        let channels = sample
            .as_deref()
            .and_then(|sizes| *sizes.first()?)
            .unwrap_or(1);
        let range = match &self.range {
            Some(range) => Some(vec![*range]),
            None if self.has_normalisation() => {
                let pixels = Pixels::new(self, channels).map_err(|wrong| self.wrong(wrong))?;
                let ends = |c: usize| [pixels.number(c, 0), pixels.number(c, u8::MAX)];
                Some((0..channels).map(ends).collect())
            }
            None => None,
        };
        Ok(Some(Dreams {
            count,
            steps: self.steps.map(|steps| steps as usize),
            range,
            sample,
            save: self.save.clone(),
        }))
    }

    /// How many samples are to be made; `None` where what follows the colon is no such number.
    pub(super) fn dreamt(&self) -> Option<usize> {
        let count = self.path.to_str()?.parse().ok()?;
        (1..=1 << 20).contains(&count).then_some(count)
    }
}

impl Data {
    /// Samples `[n, ...]` that were made of `graph` as `spec` says.
    ///
    /// # Errors
    /// [`Error::Usage`] when the network has not one input.
    pub(crate) fn made(spec: &DataSpec, graph: &Graph, samples: ArrayD<f32>) -> Result<Data> {
        let wanted = Wanted::by(graph);
        let opened = Opened {
            inputs: vec![(wanted.sole()?.name.clone(), false)],
            filled: Vec::new(),
            sample: Some(samples.shape().get(1..).unwrap_or_default().to_vec()),
            source: Box::new(Made(samples)),
            labels: None,
            classes: 0,
            pixels: None,
            split: None,
        };
        Ok(Data::new(spec, opened))
    }
}

/// Samples `[n, ...]`.
#[derive(Debug)]
struct Made(ArrayD<f32>);

impl Source for Made {
    fn len(&self) -> usize {
        self.0.shape().first().copied().unwrap_or_default()
    }

    fn read(&self, position: usize) -> Result<Elements, String> {
        let samples = self.0.outer_iter().nth(position);
        let sample = samples.ok_or_else(|| format!("there is no sample {position}"))?;
        Ok(Elements::Numbers(sample.iter().copied().collect()))
    }
}
