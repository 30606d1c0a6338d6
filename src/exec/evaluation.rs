//! How good a network is on data: how often it is right, and how often what passes made of it answers as the original does.

use ndarray::{ArrayViewD, Axis, Slice};

use super::array::Array;
use super::difference::{Difference, argmax};
use super::foreign::Foreign;
use super::interpreter::Interpreter;
use crate::Result;
use crate::data::{Data, Feeds, Run, Samples};
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

/// How the answers of what passes made of a network are to those of the original.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// The original's right answers and those of the result, where the data has labels.
    pub top1: Option<[Top1; 2]>,
    /// The samples tried.
    pub samples: usize,
    /// The share of samples, or of positions where an output has several, whose largest class is the same in the first output;
    /// `None` where that has no classes.
    pub agreement: Option<f64>,
    /// The mean over samples of the cosine of the angle between both, of the output where it is smallest.
    pub cosine: f64,
    /// Damaged samples that were left out, and why.
    pub left_out: Vec<String>,
}

/// Runs `graph`, for which `data` was opened, on all of it, and counts how often the first output, `[n, classes]`, is
/// largest at the label. `progress` is called with the fraction (0 to 1) that is done.
///
/// # Errors
/// [`Error::Run`](crate::Error::Run) when the graph cannot be run, [`Error::Data`](crate::Error::Data) when the data cannot
/// be read, has no labels, or such as the output has no class for.
pub fn top1(graph: &Graph, data: &Data, mut progress: impl FnMut(f64)) -> Result<Top1> {
    let interpreter = Interpreter::<f32>::new(graph)?;
    let mut count = Top1::default();
    for start in (0..data.len()).step_by(batch(graph)) {
        progress(start as f64 / data.len() as f64);
        let samples = read(graph, data, start)?;
        count.left_out.extend(samples.left_out.iter().cloned());
        if samples.labels.is_none() {
            return Err(data.no_labels("top-1"));
        }
        let feeds = Feeds::new(graph, &samples, BATCH)?;
        for run in feeds.runs() {
            let outputs = interpreter.run(fed(&feeds, run)?)?;
            let labels = labels(&samples, run).unwrap_or_default();
            count.add(&labels, outputs.first().map(Array::view), data)?;
        }
    }
    require_one(count.samples, &count.left_out, data)?;
    Ok(count)
}

/// Runs both graphs, for which `data` was opened, on all of it, operators that optc does not know by `foreign`. `progress` is called with the fraction that is done.
///
/// # Errors
/// As [`top1`]; data without labels is no error.
pub fn agree(
    before: &Graph,
    after: &Graph,
    data: &Data,
    foreign: Option<&dyn Foreign>,
    mut progress: impl FnMut(f64) -> Result<()>,
) -> Result<Evaluated> {
    let networks = [
        Interpreter::<f32>::new(before)?,
        Interpreter::<f32>::new(after)?,
    ];
    let mut top1 = [Top1::default(), Top1::default()];
    let mut labelled = false;
    let mut left_out = Vec::new();
    let (mut samples, mut cosines) = (0, 0.0);
    let mut first = Difference::default();
    for start in (0..data.len()).step_by(batch(before)) {
        progress(start as f64 / data.len() as f64)?;
        let read = read(before, data, start)?;
        left_out.extend(read.left_out.iter().cloned());
        let feeds = Feeds::new(before, &read, BATCH)?;
        for run in feeds.runs() {
            let old = networks[0].run_by(fed(&feeds, run)?, foreign)?;
            let fed_after = fed(&Feeds::new(after, &read, BATCH)?, run)?;
            let new = networks[1].run_by(fed_after, foreign)?;
            if let Some(labels) = labels(&read, run) {
                labelled = true;
                for (count, outputs) in top1.iter_mut().zip([&old, &new]) {
                    count.add(&labels, outputs.first().map(Array::view), data)?;
                }
            }
            for i in 0..run.fresh {
                let mut cosine = 1.0;
                for (k, (a, b)) in old.iter().zip(&new).enumerate() {
                    let (Some(a), Some(b)) = (sample(a, i, run), sample(b, i, run)) else {
                        continue;
                    };
                    let unfit = |what: String| data.wrong(&format!("an output moved: {what}"), "");
                    let mut difference = Difference::default();
                    difference.add(a.clone(), b.clone()).map_err(unfit)?;
                    cosine = difference.cosine().min(cosine);
                    if k == 0 {
                        first.add_classes(a, b);
                    }
                }
                cosines += cosine;
            }
        }
        samples += read.len();
    }
    require_one(samples, &left_out, data)?;
    Ok(Evaluated {
        top1: labelled.then_some(top1),
        samples,
        agreement: first.agreement(),
        cosine: cosines / samples as f64,
        left_out,
    })
}

impl Top1 {
    /// Counts the right answers in the first output of a batch, of which the first `labels.len()` are samples.
    fn add(
        &mut self,
        labels: &[i64],
        output: Option<ArrayViewD<'_, f32>>,
        data: &Data,
    ) -> Result<()> {
        let classes = |shape: &[usize]| match shape {
            [n, classes, ones @ ..] if *n >= labels.len() && ones.iter().all(|k| *k == 1) => {
                Some(*classes)
            }
            _ => None,
        };
        let shape = output.as_ref().map_or(&[][..], |output| output.shape());
        let (Some(output), Some(classes)) = (&output, classes(shape)) else {
            return Err(data.wrong(
                &format!(
                    "top-1 needs a network whose output is [batch, classes]; for a batch of {} this one gives {shape:?}",
                    labels.len()
                ),
                "leave out --eval",
            ));
        };
        for (label, scores) in labels.iter().zip(output.axis_iter(Axis(0))) {
            let class = data.class(*label, classes)?;
            self.samples += 1;
            self.right += usize::from(argmax(scores.iter()) == Some(class));
        }
        Ok(())
    }
}

/// The arrays of all inputs.
fn fed<'a>(feeds: &Feeds, run: &Run) -> Result<Vec<Array<'a, f32>>> {
    Ok(feeds.arrays(run)?.into_iter().map(Array::from).collect())
}

/// The labels of a run's samples, where there are labels.
fn labels(samples: &Samples, run: &Run) -> Option<Vec<i64>> {
    let labels = samples.labels.as_ref()?;
    let fresh = &run.positions[..run.fresh];
    Some(fresh.iter().map(|at| labels[*at]).collect())
}

/// How many samples are read at once: a multiple of the only batch that the network takes, where that is a number.
fn batch(graph: &Graph) -> usize {
    let mut inputs = graph.inputs().iter();
    let fixed = inputs.find_map(|input| graph.ty((*input).into()).len(0));
    fixed.unwrap_or(BATCH).max(1)
}

/// The samples that begin at `start`.
fn read(graph: &Graph, data: &Data, start: usize) -> Result<Samples> {
    let end = data.len().min(start.saturating_add(batch(graph)));
    data.read(&(start..end).collect::<Vec<_>>())
}

fn require_one(samples: usize, left_out: &[String], data: &Data) -> Result<()> {
    match samples {
        0 => {
            let first = left_out.first().map_or("", |why| why);
            Err(data.wrong(&format!("no sample can be read; {first}"), ""))
        }
        _ => Ok(()),
    }
}

/// What an output has for the sample at position `i` of a run, as a batch of one; `None` where it has not a row for each.
fn sample<'a>(output: &'a Array<'_, f32>, i: usize, run: &Run) -> Option<ArrayViewD<'a, f32>> {
    let output = output.view();
    if run.whole {
        return Some(output);
    }
    (i < *output.shape().first()?).then(|| output.slice_axis_move(Axis(0), Slice::from(i..=i)))
}
