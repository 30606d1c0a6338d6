//! How often a network is right.

use ndarray::{ArrayD, Axis};

use super::array::Array;
use super::compare::argmax;
use super::interpreter::Interpreter;
use crate::Result;
use crate::data::Data;
use crate::ir::Graph;

/// Samples that run at once where the network takes any batch: enough to keep all threads busy.
const BATCH: usize = 64;

/// How many samples a network got right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top1 {
    /// Those tried.
    pub samples: usize,
    /// Those whose largest output is that of their label; the first of several that are equally large.
    pub right: usize,
    /// Damaged samples that were left out, and why.
    pub left_out: Vec<String>,
}

impl Top1 {
    /// The share of right answers, 0 to 1.
    pub fn share(&self) -> f64 {
        self.right as f64 / self.samples.max(1) as f64
    }
}

/// Runs `graph`, for which `data` was opened, on all of it, and counts how often the first output, `[n, classes]`, is
/// largest at the label. `progress` is called with the fraction (0 to 1) that is done.
///
/// # Errors
/// [`Error::Run`](crate::Error::Run) when the graph cannot be run, [`Error::Data`](crate::Error::Data) when the data cannot
/// be read, has no labels, or such as the output has no class for.
pub fn top1(graph: &Graph, data: &Data, mut progress: impl FnMut(f64)) -> Result<Top1> {
    let interpreter = Interpreter::<f32>::new(graph)?;
    // A batch that is a number is the only one that the network takes.
    let fixed = graph.inputs().first();
    let fixed = fixed.and_then(|input| graph.ty((*input).into()).len(0));
    let batch = fixed.unwrap_or(BATCH).max(1);
    let mut count = Top1::default();
    for start in (0..data.len()).step_by(batch) {
        progress(start as f64 / data.len() as f64);
        let end = data.len().min(start.saturating_add(batch));
        let positions: Vec<usize> = (start..end).collect();
        let samples = data.read(&positions)?;
        count.left_out.extend(samples.left_out);
        let Some(labels) = samples.labels else {
            return Err(data.no_labels("top-1"));
        };
        if labels.is_empty() {
            continue;
        }
        let images = match fixed {
            Some(fixed) => padded(samples.images, fixed),
            None => samples.images,
        };
        let n = images.shape()[0];
        let outputs = interpreter.run(vec![images.into()])?;
        let output = outputs.first().map(Array::view);
        let classes = |shape: &[usize]| match shape {
            [m, classes, ones @ ..] if *m == n && ones.iter().all(|k| *k == 1) => Some(*classes),
            _ => None,
        };
        let shape = output.as_ref().map_or(&[][..], |output| output.shape());
        let (Some(output), Some(classes)) = (&output, classes(shape)) else {
            return Err(data.wrong(
                &format!("top-1 needs a network whose output is [batch, classes]; for a batch of {n} this one gives {shape:?}"),
                "leave out --eval",
            ));
        };
        for (label, scores) in labels.iter().zip(output.axis_iter(Axis(0))) {
            let class = data.class(*label, classes)?;
            count.samples += 1;
            count.right += usize::from(argmax(scores.iter()) == Some(class));
        }
    }
    if count.samples == 0 {
        return Err(data.wrong(
            &format!(
                "no sample can be read; {}",
                count.left_out.first().map_or("", |why| why)
            ),
            "",
        ));
    }
    Ok(count)
}

/// `images` with the last repeated until there are `n`.
pub(super) fn padded(images: ArrayD<f32>, n: usize) -> ArrayD<f32> {
    match images.shape()[0] {
        have if have < n => {
            let rows: Vec<usize> = (0..n).map(|i| i.min(have - 1)).collect();
            images.select(Axis(0), &rows)
        }
        _ => images,
    }
}
