//! What the files are run on: samples that nothing was fitted to, or random inputs that fit.

use ndarray::ArrayD;

use super::runtime::{Output, Session};
use super::{Options, printed};
use crate::data::{self, Run, Samples};
use crate::exec::inputs::{self, BATCH, LENGTHS};
use crate::ir::{DType, Graph, NodeId, Tensor};

/// Elements of a batch of samples, at most.
const MOST_ELEMENTS: usize = 4 << 20;
/// Samples of a batch, at most.
const MOST_SAMPLES: usize = 16;

/// An array for each input of the graph, by its name.
pub(super) type Feed = Vec<(String, Tensor)>;

/// Inputs of the files.
pub(super) struct Feeds {
    pub all: Vec<Feed>,
    pub held_out: bool,
    /// The samples' specification, and how many there are.
    samples: Option<(String, usize)>,
}

impl Feeds {
    /// Inputs that the original runs on, and what it returns for the first.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) fn that_run(
        graph: &Graph,
        options: &Options,
        session: &mut dyn Session,
    ) -> Result<(Feeds, Vec<Output>), String> {
        if let Some(samples) = &options.samples {
            let all = of_samples(graph, samples, MOST_SAMPLES)?;
            let first = session.run(&all[0])?;
            let feeds = Feeds {
                all,
                held_out: options.held_out,
                samples: Some((samples.name.clone(), samples.len())),
            };
            return Ok((feeds, first));
        }
        let mut lengths = vec![options.length];
        lengths.extend(
            LENGTHS
                .into_iter()
                .filter(|length| *length != options.length),
        );
        if inputs::sizes_are_known(graph) {
            lengths.truncate(1);
        }
        let mut failure = None;
        for length in &lengths {
            match random(graph, options, session, *length) {
                Ok(feeds) => return Ok(feeds),
                Err(what) => failure = failure.or(Some(what)),
            }
        }
        let what = failure.unwrap_or_default();
        Err(match lengths.len() {
            1 => what,
            _ => format!(
                "{what} (sizes were guessed: give the inputs' shapes, such as --input 1x3x224x224)"
            ),
        })
    }

    /// The inputs of one run: a sample, or random numbers, of a batch of one where the original takes that.
    ///
    /// # Errors
    /// Why there are none.
    pub(super) fn of_one(
        graph: &Graph,
        options: &Options,
        session: &mut dyn Session,
    ) -> Result<Feed, String> {
        if let Some(samples) = &options.samples {
            return first(of_samples(graph, samples, 1)?);
        }
        let alone = |length: i64| {
            let shapes = inputs::shapes(graph, 1, length).ok()?;
            let arrays = inputs::random_inputs::<f64>(graph, &shapes, (options.seed, 0)).ok()?;
            let inputs = graph.inputs().iter();
            Some(
                inputs
                    .zip(&arrays)
                    .map(|(i, a)| fed(graph, *i, a))
                    .collect(),
            )
        };
        if let Some(feed) = alone(options.length).filter(|feed: &Feed| session.run(feed).is_ok()) {
            return Ok(feed);
        }
        first(Feeds::that_run(graph, options, session)?.0.all)
    }

    /// What the first `used` of them are.
    pub(super) fn about(&self, used: usize) -> String {
        if let Some((name, samples)) = &self.samples {
            let part = if used == self.all.len() {
                ""
            } else {
                "some of "
            };
            let held_out = if self.held_out { "held-out " } else { "" };
            return format!("{part}{samples} {held_out}samples of {name}");
        }
        let mut shapes: Vec<String> = Vec::new();
        for feed in &self.all[..used] {
            let shape = printed(feed);
            if !shapes.contains(&shape) {
                shapes.push(shape);
            }
        }
        let plural = if used == 1 { "" } else { "s" };
        format!("{used} random input{plural} of {}", shapes.join(", "))
    }
}

/// Random inputs whose free lengths are `length`, at two batch sizes where the batch is free and the original takes both.
fn random(
    graph: &Graph,
    options: &Options,
    session: &mut dyn Session,
    length: i64,
) -> Result<(Feeds, Vec<Output>), String> {
    let make = |graph: &Graph, batch: i64, trial: usize| -> Result<Feed, String> {
        let said = |error: crate::Error| error.to_string();
        let shapes = inputs::shapes(graph, batch, length).map_err(said)?;
        let arrays = inputs::random_inputs::<f64>(graph, &shapes, (options.seed, trial));
        let mut arrays = arrays.map_err(said)?;
        let inputs = graph.inputs().iter();
        if trial % 4 >= 2 {
            let floats = inputs
                .clone()
                .map(|input| graph.ty((*input).into()).is_float());
            floats
                .zip(&mut arrays)
                .filter(|(is_float, _)| *is_float)
                .for_each(|(_, images)| smooth(images));
        }
        Ok(inputs
            .zip(&arrays)
            .map(|(input, a)| fed(graph, *input, a))
            .collect())
    };
    let mut all = vec![make(graph, BATCH, 0)?];
    let first = session.run(&all[0])?;
    // A batch may be free by its type only.
    let other = with_other_batch(graph).filter(|(graph, batch)| {
        make(graph, *batch, 1).is_ok_and(|feed| session.run(&feed).is_ok())
    });
    for trial in 1..options.inputs.max(1) {
        all.push(match &other {
            Some((graph, batch)) if trial % 2 == 1 => make(graph, *batch, trial)?,
            _ => make(graph, BATCH, trial)?,
        });
    }
    let feeds = Feeds {
        all,
        held_out: false,
        samples: None,
    };
    Ok((feeds, first))
}

/// The graph with another number for the symbol that is the batch, and the batch for sizes without a number; `None` where no
/// input's first size is a symbol.
fn with_other_batch(graph: &Graph) -> Option<(Graph, i64)> {
    let shape = graph
        .inputs()
        .iter()
        .find_map(|input| graph.ty((*input).into()).shape());
    let symbol = shape?.first()?.as_symbol()?.clone();
    let mut other = graph.clone();
    if let Some(batch) = other.bindings.get_mut(&symbol) {
        *batch = if *batch == 1 { 2 } else { 1 };
    }
    Some((other, 1))
}

/// The samples in batches that the network takes.
fn first(feeds: Vec<Feed>) -> Result<Feed, String> {
    let first = feeds.into_iter().next();
    first.ok_or_else(|| "there are no inputs".to_string())
}

/// The samples in batches of at most so many, where the batch is free.
fn of_samples(graph: &Graph, samples: &Samples, most: usize) -> Result<Vec<Feed>, String> {
    let said = |error: crate::Error| error.to_string();
    let most = (MOST_ELEMENTS / samples.largest().max(1)).clamp(1, most);
    let planned = data::Feeds::new(graph, samples, most).map_err(said)?;
    let feed = |run: &Run| -> Result<Feed, String> {
        let arrays = planned.arrays::<f64>(run).map_err(said)?;
        let inputs = graph.inputs().iter().zip(&arrays);
        Ok(inputs
            .map(|(input, array)| fed(graph, *input, array))
            .collect())
    };
    let feeds: Vec<_> = planned.runs().iter().map(feed).collect::<Result<_, _>>()?;
    if feeds.is_empty() {
        Err("there are no samples".to_string())
    } else {
        Ok(feeds)
    }
}

/// Replaces images of noise by such as have shapes in them, as photographs do: a few waves, longer ones being stronger.
fn smooth(images: &mut ArrayD<f64>) {
    const WAVES: usize = 12;
    let &[_, channels @ 1..=4, height, width] = images.shape() else {
        return;
    };
    // The noise is what they are made from, so that they are the same for the same seed.
    let noise: Vec<f64> = images.iter().copied().take(4 * WAVES).collect();
    let draw = |wave: usize, k: usize| noise.get(4 * wave + k).copied().unwrap_or(1.0);
    let energy: f64 = (1..=WAVES).map(|k| 1.0 / (k * k) as f64).sum();
    images.indexed_iter_mut().for_each(|(at, x)| {
        let place = |axis: usize, size: usize| at[axis] as f64 / size as f64;
        let tint = 0.3 * at[1] as f64 / channels as f64 + at[0] as f64;
        let wave = |k: usize| {
            let (down, along) = (draw(k, 0) * place(2, height), draw(k, 1) * place(3, width));
            let phase =
                (k + 1) as f64 * (down + along) * std::f64::consts::TAU + 2.0 * draw(k, 2) + tint;
            phase.sin() / (k + 1) as f64
        };
        *x = (0..WAVES).map(wave).sum::<f64>() * (2.0 / energy).sqrt();
    });
}

/// The input with every float moved by a unit in the last place, up or down by turns.
pub(super) fn nudged(feed: &[(String, Tensor)]) -> Feed {
    let nudge = |(name, tensor): &(String, Tensor)| {
        let unit = tensor.dtype().epsilon();
        let elements = tensor.elements::<f64>();
        let moved = elements.iter().enumerate().map(|(i, x)| match i % 2 {
            0 => x * (1.0 + unit),
            _ => x * (1.0 - unit),
        });
        let tensor = Tensor::from_f64(tensor.dtype(), tensor.shape(), moved);
        (name.clone(), tensor)
    };
    feed.iter().map(nudge).collect()
}

/// The array in the input's own type, and its name.
fn fed(graph: &Graph, input: NodeId, array: &ArrayD<f64>) -> (String, Tensor) {
    let dtype = graph.ty(input.into()).dtype().unwrap_or(DType::F32);
    let tensor = Tensor::from_f64(dtype, array.shape(), array.iter().copied());
    (graph.node(input).name.to_string(), tensor)
}
