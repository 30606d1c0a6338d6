//! Samples made from a network itself, for calibration where there is no data at all.
//!
//! A batch norm has recorded the mean and the variance that each channel had in training. Samples start as noise with the
//! spectrum of natural images, and are optimised by the gradient with respect to them until a batch of them has, at every batch
//! norm, these means and variances (Yin et al., Dreaming to Distill, CVPR 2020). Half of the information is so where it is
//! needed: passes calibrate on the activations of these same layers.

mod batch;
mod noise;
mod norms;
mod prior;
mod range;
mod shift;

use std::sync::Arc;

use ndarray::ArrayD;

use crate::data::{Data, DataSpec, Dreams, write_npz};
use crate::exec::{Gradient, element_count};
use crate::ir::Graph;
use crate::{Error, Result};
use batch::Batch;
use norms::Norms;
use range::Range;

/// Steps, unless something else was said.
const STEPS: usize = 60;
/// Bytes of activations that a batch may take.
const BATCH_BYTES: usize = 2 << 30;
/// The most samples of a batch.
const BATCH: usize = 200;

/// Opens data for `graph`, as [`DataSpec::open`] does; samples that are to be made from the network are made now, with what `seed`
/// begins, by so many threads (0 for those there are), and `progress` is told the share of it that is done.
///
/// # Errors
/// Those of [`DataSpec::open`]; [`Error::Usage`] when no samples can be made of this network, which says why.
pub fn open(
    spec: &DataSpec,
    graph: &Graph,
    seed: u64,
    threads: usize,
    progress: &mut (dyn FnMut(f64) -> Result<()> + Send),
) -> Result<Data> {
    let Some(dreams) = spec.dreams(graph)? else {
        return spec.open(graph);
    };
    let made = if threads == 0 {
        samples(graph, &dreams, seed, progress)?
    } else {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().map_err(|error| Error::Usage {
            what: format!("cannot start {threads} threads: {error}"),
            help: "ask for fewer".to_string(),
        })?;
        pool.install(|| samples(graph, &dreams, seed, progress))?
    };
    if let Some(path) = &dreams.save {
        write_npz(path, &made)?;
    }
    Data::made(spec, graph, made)
}

/// Samples `[n, ...]` of the one input of `graph`.
///
/// # Errors
/// As [`open`].
pub fn samples(
    graph: &Graph,
    dreams: &Dreams,
    seed: u64,
    progress: &mut (dyn FnMut(f64) -> Result<()> + Send),
) -> Result<ArrayD<f32>> {
    let sample = sizes(dreams)?;
    let all = [&[dreams.count.max(range::SAMPLES)], &sample[..]].concat();
    element_count::<f32>(&all).map_err(|what| Error::Usage {
        what: format!("there is no room for the samples: {what}"),
        help: "ask for fewer, or give the input smaller sizes, such as --input 1x3x224x224"
            .to_string(),
    })?;
    let norms = Norms::of(graph)?;
    let targets: Vec<_> = norms.values().chain(norms.logits).collect();
    let gradient = Gradient::new(graph, &targets)?;
    let range = Range::find(graph, &norms, dreams, &sample, seed)?;
    let steps = dreams.steps.unwrap_or(STEPS);
    let chunk = batch::chunk(graph, &sample);
    let bytes = batch::bytes_of_sample(&gradient, &range, &sample, chunk)?;
    let most = (BATCH_BYTES / bytes.max(1)).clamp(chunk, BATCH);
    let batches = dreams.count.div_ceil(most);
    let mut made = Vec::new();
    for i in 0..batches {
        let positions = i * dreams.count / batches..(i + 1) * dreams.count / batches;
        let mut batch = Batch::new(positions, &norms, &range, &sample, chunk, seed);
        for step in 0..steps {
            batch.step(&gradient, step, steps)?;
            progress((i as f64 + (step + 1) as f64 / steps as f64) / batches as f64)?;
        }
        made.extend(batch.samples());
    }
    let shape = [&[dreams.count], &sample[..]].concat();
    made.truncate(shape.iter().product());
    ArrayD::from_shape_vec(shape, made).map_err(|error| Error::Usage {
        what: error.to_string(),
        help: String::new(),
    })
}

/// The shape of a sample, of which every size must be a number.
fn sizes(dreams: &Dreams) -> Result<Arc<[usize]>> {
    let known = || {
        dreams
            .sample
            .as_ref()?
            .iter()
            .copied()
            .collect::<Option<Arc<[usize]>>>()
    };
    known()
        .filter(|sizes| sizes.iter().all(|n| *n > 0))
        .ok_or_else(|| Error::Usage {
            what: "samples that are made need the size of the network's input".to_string(),
            help: "give its shape, such as --input 1x3x224x224; it freezes no size".to_string(),
        })
}
