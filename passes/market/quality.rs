//! Quality: how much of what the original answers a changed network still answers, on samples that nothing is fitted to.

use std::fmt;
use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewD};
use rayon::prelude::*;

use super::answers::{Answer, overlap};
use crate::analysis::cost::known_macs;
use crate::data::{Feeds, Samples};
use crate::exec::difference::{Difference, class_axis};
use crate::exec::{Array, Interpreter, Sampled};
use crate::ir::{Graph, Output};
use crate::pipeline::PassContext;
use crate::{Error, Result};

/// How many of the samples that are fitted to are looked at, too, at most and at least.
const MOST_FITTED: usize = 32;
const LEAST_FITTED: usize = 4;
/// The multiply-adds that they take, if more than the least are looked at.
const MOST_WORK: u64 = 20_000_000_000;

/// The longest sequence of classes that is one answer, such as a line of text; of what is longer the share of its positions counts.
const LONGEST: usize = 256;

/// For each run, an array for each output.
type Outputs = Vec<Vec<ArrayD<f32>>>;

/// The original's answers.
pub struct Quality {
    parts: Vec<Part>,
    /// What each output is.
    answers: Vec<Answer>,
}

/// Samples, and what the original makes of them.
struct Part {
    sampled: Sampled,
    outputs: Outputs,
}

/// How alike the answers are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alike {
    /// The share of the same answers, or of the variance that is explained: whichever is less, of the output where it is least. What
    /// an answer is, a class, a sequence of them or the places in a map, each output's own numbers say.
    pub agreement: f64,
    /// The cosine of the angle between both, of the sample and the output where it is smallest.
    pub cosine: f64,
}

/// `agreement 0.9912, cosine 0.9950`.
impl fmt::Display for Alike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Alike { agreement, cosine } = self;
        write!(f, "agreement {agreement:.4}, cosine {cosine:.4}")
    }
}

impl Quality {
    /// Runs the original on the samples that are held out, and on some of those that are fitted to: few samples say little.
    ///
    /// # Errors
    /// [`Error::Usage`] without samples; [`Error::Run`] when the network cannot be run.
    pub fn new(graph: &Graph, context: &PassContext<'_>) -> Result<Quality> {
        let Some(fitted) = context.sampled() else {
            return Err(Error::Usage {
                what: "how much of the answers is kept is measured on samples, and there are none"
                    .into(),
                help: "give some by --data, or say what to save instead: --target macs=0.7".into(),
            });
        };
        let mut parts = Vec::new();
        let few = (MOST_WORK / known_macs(graph).max(1)) as usize;
        let few = few.clamp(LEAST_FITTED, MOST_FITTED);
        let few: Arc<Samples> = fitted.samples.few(few).into();
        for samples in context.held_out.clone().into_iter().chain([few]) {
            let sampled = Sampled {
                samples,
                ..fitted.clone()
            };
            let outputs = run(graph, &sampled)?;
            parts.push(Part { sampled, outputs });
        }
        let answer = |(k, output): (usize, &Output)| {
            let of_parts = parts.iter().flat_map(|part: &Part| &part.outputs);
            match graph.ty(output.value).dtype() {
                Some(dtype) if !dtype.is_float() => Answer::Whole,
                _ => Answer::of(of_parts.map(|outputs| outputs[k].view())),
            }
        };
        let answers = graph.outputs().iter().enumerate().map(answer).collect();
        Ok(Quality { parts, answers })
    }

    /// How many samples it is measured on.
    pub fn samples(&self) -> usize {
        self.parts.iter().map(|part| part.outputs.len()).sum()
    }

    /// How alike the answers of a network are with the same inputs and outputs: of the held out samples or the others, whichever are
    /// less alike.
    ///
    /// # Errors
    /// That it cannot be run.
    pub fn of(&self, graph: &Graph) -> Result<Alike> {
        let mut alike = Alike {
            agreement: 1.0,
            cosine: 1.0,
        };
        for part in &self.parts {
            let outputs = run(graph, &part.sampled)?;
            for (k, output) in graph.outputs().iter().enumerate() {
                let failed = |what| Error::Run {
                    node: output.name.to_string(),
                    what,
                };
                let pairs = part.outputs.iter().zip(&outputs);
                let pairs = pairs.map(|(a, b)| (a[k].view(), b[k].view()));
                let [agreement, cosine] = alike_in(pairs, self.answers[k]).map_err(failed)?;
                alike.agreement = alike.agreement.min(agreement);
                alike.cosine = alike.cosine.min(cosine);
            }
        }
        Ok(alike)
    }
}

/// The mean share of a sample's answers that are the same, or the share of the outputs' variance that is explained, whichever is
/// less; and the least cosine.
fn alike_in<'x>(
    pairs: impl Iterator<Item = (ArrayViewD<'x, f32>, ArrayViewD<'x, f32>)>,
    answer: Answer,
) -> Result<[f64; 2], String> {
    let (mut same, mut samples, mut least) = (0.0, 0.0, 1.0f64);
    let mut spread = Spread::default();
    for (a, b) in pairs {
        let mut difference = Difference::default();
        difference.add(a.clone(), b.clone())?;
        spread.add(&a, &b);
        least = least.min(difference.cosine());
        same += same_share(a, b, answer);
        samples += 1.0;
    }
    let share = if samples > 0.0 { same / samples } else { 1.0 };
    Ok([share.min(spread.explained()), least])
}

/// The share of a sample's answers that are the same. A short sequence of classes is one answer.
fn same_share(a: ArrayViewD<f32>, b: ArrayViewD<f32>, answer: Answer) -> f64 {
    let of_classes = class_axis(a.ndim()).map_or(1, |axis| a.len() / a.len_of(axis).max(1));
    let are_many = a.ndim() > 3 || of_classes > LONGEST;
    let mut same = Difference::default();
    match answer {
        Answer::Number => return 1.0,
        Answer::Places => return overlap(&a, &b),
        Answer::Whole => same.add_equal(a, b),
        Answer::Class => same.add_classes(a, b),
    }
    match same.agreement() {
        None => 1.0,
        Some(share) if are_many => share,
        Some(share) => f64::from(u8::from(share == 1.0)),
    }
}

/// How far an output is from what it was, and from its mean.
#[derive(Default)]
struct Spread {
    count: f64,
    sum: f64,
    squares: f64,
    moved: f64,
}

impl Spread {
    fn add(&mut self, before: &ArrayViewD<f32>, after: &ArrayViewD<f32>) {
        for (a, b) in before.iter().zip(after) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            self.count += 1.0;
            self.sum += a;
            self.squares += a * a;
            self.moved += (a - b).powi(2);
        }
    }

    /// The share of the variance that is explained; 1 where nothing moved.
    fn explained(&self) -> f64 {
        let variance = self.squares - self.sum * self.sum / f64::max(self.count, 1.0);
        match self.moved {
            0.0 => 1.0,
            moved if moved.is_finite() => 1.0 - moved / variance.max(f64::MIN_POSITIVE),
            _ => f64::NEG_INFINITY,
        }
    }
}

fn run(graph: &Graph, sampled: &Sampled) -> Result<Outputs> {
    let interpreter = Interpreter::<f32>::new(graph)?;
    // One by one, so that each has its own answer.
    let feeds = Feeds::new(graph, &sampled.samples, 1)?;
    let one = |run| {
        let arrays = feeds.arrays::<f32>(run)?.into_iter().map(Array::from);
        let outputs = interpreter.run_by(arrays.collect(), sampled.foreign.as_deref())?;
        Ok(outputs.into_iter().map(Array::into_owned).collect())
    };
    feeds.runs().par_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores of three classes at so many places, of which the last has another class than the first ones.
    fn scores(places: usize, last: usize) -> ArrayD<f32> {
        let class = |place: usize| if place + 1 == places { last } else { 0 };
        let score = |i: usize| f32::from(u8::from(class(i / 3) == i % 3));
        let elements = (0..places * 3).map(score).collect();
        ArrayD::from_shape_vec(vec![1, places, 3], elements).unwrap_or_default()
    }

    #[test]
    fn a_line_of_text_is_one_answer_and_the_places_of_a_detector_are_many() {
        let share = |places: usize, answer| {
            let [a, b] = [scores(places, 1), scores(places, 2)];
            same_share(a.view(), b.view(), answer)
        };
        assert_eq!(share(40, Answer::Class), 0.0);
        assert_eq!(share(LONGEST + 144, Answer::Class), 399.0 / 400.0);
        // Differences of numbers are for the variance to say.
        assert_eq!(share(40, Answer::Number), 1.0);
    }
}
