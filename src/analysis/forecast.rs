//! What a change of weights does to a network's outputs, forecast by running it.
//!
//! A bound on what each layer loses says little about the outputs: some layers count a hundred times as much as others, and
//! losses add up. So the original and the changed network are run on the same inputs: the user's samples where there are any,
//! else noise, half of it with equal power at all frequencies and half, as in photographs and sound, with less at high ones. Each
//! half counts by itself, for the outputs of one may vary a hundred times as much as those of the other. On noise, outputs vary
//! less than on data, and what is lost is as large: measured on networks with data at hand, the forecast is one to three times what
//! the data says.

use std::ops::Range;
use std::sync::Arc;

use ndarray::{ArrayD, Axis};
use rayon::prelude::*;

use super::cost::known_macs;
use crate::data::Feeds;
use crate::exec::inputs::{self, BATCH, LENGTHS, refuse_unknown_sizes};
use crate::exec::{Array, Foreign, Interpreter, Sampled};
use crate::ir::{Graph, Op, Value};
use crate::{Error, Result};

/// The multiply-adds that one forecast may take, about; and the least and the most inputs.
const WORK: u64 = 5_000_000_000;
const INPUTS: [u64; 2] = [2, 16];

/// How strongly neighbours in smooth noise go together.
const SMOOTH: f64 = 0.9;

/// For each trial, an array for each input of the network.
type Inputs = Vec<Vec<ArrayD<f32>>>;
/// For each trial, an array for each output.
type Outputs = Vec<Vec<ArrayD<f32>>>;

/// A network's outputs, to compare those of changed ones with.
pub struct Forecast {
    inputs: Inputs,
    outputs: Outputs,
    /// What runs operators that optc does not know.
    foreign: Option<Arc<dyn Foreign>>,
    work: u64,
    /// The kinds of inputs: samples, or either kind of noise.
    kinds: Vec<Kind>,
}

/// Inputs that are alike.
struct Kind {
    /// Which of all inputs.
    trials: Range<usize>,
    /// The squared deviation of each output from its mean, over these inputs; `None` for one that is no number.
    spread: Vec<Option<f64>>,
}

impl Forecast {
    /// Runs `graph` on some of `samples`, or on noise made from `seed`.
    ///
    /// # Errors
    /// Why it cannot be run.
    pub fn new(graph: &Graph, sampled: Option<&Sampled>, seed: u64) -> Result<Forecast> {
        let foreign = sampled.and_then(|sampled| sampled.foreign.clone());
        let samples = sampled.map(|sampled| &*sampled.samples);
        let opaque = graph.nodes().find_map(|node| match graph.op(node) {
            Some(Op::Opaque(opaque)) => {
                let known = foreign.as_ref().is_some_and(|f| f.knows(opaque));
                (!known).then(|| (node, opaque.name.clone()))
            }
            _ => None,
        });
        if let Some((node, name)) = opaque {
            return Err(Error::Run {
                node: graph.node(node).name.to_string(),
                what: format!("optc does not know what the operator {name} computes"),
            });
        }
        let [least, most] = INPUTS;
        let count = (WORK / known_macs(graph).max(1)).clamp(least, most) as usize;
        let (inputs, outputs) = match samples {
            Some(samples) => {
                let feeds = Feeds::new(graph, samples, 1)?;
                let runs = feeds.runs().iter().take(count);
                let inputs: Vec<_> = runs.map(|run| feeds.arrays(run)).collect::<Result<_>>()?;
                let outputs = run(graph, &inputs, foreign.as_deref())?;
                (inputs, outputs)
            }
            None => on_noise(graph, count, seed)?,
        };
        let first = match samples {
            Some(_) => inputs.len(),
            None => inputs.len().div_ceil(2),
        };
        let trials = [0..first, first..inputs.len()].into_iter();
        let trials = trials.filter(|trials| !trials.is_empty());
        let spread_of = |trials: &Range<usize>, k: usize| {
            let is_float = graph.ty(graph.outputs()[k].value).dtype()?.is_float();
            let outputs = &outputs[trials.clone()];
            is_float.then(|| spread(outputs.iter().map(|of_input| &of_input[k])))
        };
        let kind = |trials: Range<usize>| Kind {
            spread: (0..graph.outputs().len())
                .map(|k| spread_of(&trials, k))
                .collect(),
            trials,
        };
        Ok(Forecast {
            kinds: trials.map(kind).collect(),
            work: known_macs(graph).saturating_mul(inputs.len() as u64),
            inputs,
            outputs,
            foreign,
        })
    }

    /// The multiply-adds of one forecast.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// How far the outputs of a network with the same inputs and outputs are from these: the root of the mean squared difference,
    /// relative to the output's deviation, for the output and the kind of inputs where that is largest.
    ///
    /// # Errors
    /// That it cannot be run.
    pub fn change(&self, graph: &Graph) -> Result<f64> {
        let outputs = run(graph, &self.inputs, self.foreign.as_deref())?;
        let of_output = |kind: &Kind, k: usize| {
            let spread = kind.spread[k]?;
            let trials = kind.trials.clone();
            let pairs = self.outputs[trials.clone()].iter().zip(&outputs[trials]);
            let squares = pairs.map(|(a, b)| {
                let elements = a[k].iter().zip(&b[k]);
                elements.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
            });
            let squares: f64 = squares.sum();
            Some(if squares == 0.0 {
                0.0
            } else {
                (squares / spread).sqrt()
            })
        };
        let of_output = &of_output;
        let changes = self
            .kinds
            .iter()
            .flat_map(|kind| (0..kind.spread.len()).filter_map(move |k| of_output(kind, k)));
        Ok(changes.fold(0.0, |most, change| {
            if change.is_nan() {
                f64::INFINITY
            } else {
                change.max(most)
            }
        }))
    }
}

fn run(graph: &Graph, inputs: &Inputs, foreign: Option<&dyn Foreign>) -> Result<Outputs> {
    let interpreter = Interpreter::<f32>::new(graph)?;
    let one = |inputs: &Vec<ArrayD<f32>>| {
        let inputs = inputs.iter().map(|x| x.clone().into()).collect();
        let outputs = interpreter.run_by(inputs, foreign)?;
        Ok(outputs.into_iter().map(Array::into_owned).collect())
    };
    inputs.par_iter().map(one).collect()
}

/// The sum of squared differences to the mean of all elements.
fn spread<'x>(arrays: impl Iterator<Item = &'x ArrayD<f32>> + Clone) -> f64 {
    let elements = || {
        arrays
            .clone()
            .flat_map(|x| x.iter().copied().map(f64::from))
    };
    let (count, sum) = elements().fold((0.0, 0.0), |(n, sum), x| (n + 1.0, sum + x));
    let mean = sum / f64::max(count, 1.0);
    elements().map(|x| (x - mean).powi(2)).sum()
}

/// Noise, and what the network makes of it. Sizes without a number get one that works.
fn on_noise(graph: &Graph, count: usize, seed: u64) -> Result<(Inputs, Outputs)> {
    let mut failed = None;
    for length in LENGTHS {
        let inputs = noise(graph, count, seed, length)?;
        match run(graph, &inputs, None) {
            Ok(outputs) => return Ok((inputs, outputs)),
            Err(error) => failed = failed.or(Some(error)),
        }
        if refuse_unknown_sizes("", graph).is_ok() {
            break; // It would be the same again.
        }
    }
    Err(failed.unwrap_or_else(|| Error::Run {
        node: graph.name.clone(),
        what: "it has no inputs".into(),
    }))
}

/// Inputs of unit variance, the second half of them smooth.
fn noise(graph: &Graph, count: usize, seed: u64, length: i64) -> Result<Inputs> {
    let shapes = inputs::shapes(graph, BATCH, length)?;
    let one = |trial: usize| {
        let mut arrays = inputs::random_inputs::<f32>(graph, &shapes, (seed, trial))?;
        for (node, array) in graph.inputs().iter().zip(&mut arrays) {
            let dtype = graph.ty(Value::from(*node)).dtype();
            if dtype.is_some_and(|dtype| dtype.is_float()) && trial >= count.div_ceil(2) {
                smooth(array);
            }
        }
        Ok(arrays)
    };
    (0..count).map(one).collect()
}

/// Lets neighbours along the axes after the channels go together, by a filter forth and back along each, and keeps the variance at 1.
fn smooth(array: &mut ArrayD<f32>) {
    let first = if array.ndim() > 2 { 2 } else { 1 };
    for axis in first..array.ndim() {
        for mut lane in array.lanes_mut(Axis(axis)) {
            let mut state = 0.0;
            lane.iter_mut().for_each(|x| {
                state = SMOOTH as f32 * state + *x;
                *x = state;
            });
            state = 0.0;
            lane.iter_mut().rev().for_each(|x| {
                state = SMOOTH as f32 * state + *x;
                *x = state;
            });
        }
    }
    let count = array.len().max(1) as f64;
    let deviation = (spread(std::iter::once(&*array)) / count).sqrt();
    if deviation > 0.0 {
        let mean = array.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        array.mapv_inplace(|x| ((f64::from(x) - mean) / deviation) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: &str = "
        graph net(%x: f32[1,2,8,8]) {
          @a.weight = parameter [[[[1.0]], [[0.0]]], [[[0.0]], [[1.0]]]] : f32[2,2,1,1]
          @b.weight = parameter FACTORS : f32[2,2,1,1]
          %a = conv(%x, @a.weight)
          %b = conv(%a, @b.weight)
          return %b
        }";

    fn network(second: f64) -> Graph {
        let factors = format!("[[[[2.0]], [[0.0]]], [[[0.0]], [[{second:.3}]]]]");
        NETWORK.replace("FACTORS", &factors).parse().unwrap()
    }

    #[test]
    fn a_change_is_relative_to_the_deviation_of_the_output() {
        let forecast = Forecast::new(&network(2.0), None, 0).unwrap();
        assert_eq!(forecast.change(&network(2.0)).unwrap(), 0.0);
        // One of two channels of the same deviation is off by a tenth of it.
        let change = forecast.change(&network(2.2)).unwrap();
        assert!((change - 0.1 / 2.0f64.sqrt()).abs() < 0.01, "{change}");
        let mut broken = network(2.0);
        let layer = broken.find("b").unwrap();
        broken.set_operand_elements(layer, 1, vec![f64::NAN; 4]);
        assert_eq!(forecast.change(&broken).unwrap(), f64::INFINITY);
    }

    #[test]
    fn the_kind_of_noise_on_which_outputs_move_most_counts() {
        // Differences of neighbours, and a hundredth of their sum more. In noise both vary alike; where it is smooth, differences
        // are small and sums are not, and next to the differences of the other half that would not show.
        let network = |more: f64| -> Graph {
            let (left, right) = (1.0 + more, more - 1.0);
            format!(
                "graph net(%x: f32[1,1,1,64]) {{
                  @w = parameter [[[[{left:.2}, {right:.2}]]]] : f32[1,1,1,2]
                  %y = conv(%x, @w)
                  return %y
                }}"
            )
            .parse()
            .unwrap()
        };
        let forecast = Forecast::new(&network(0.0), None, 0).unwrap();
        let change = forecast.change(&network(0.01)).unwrap();
        assert!(change > 0.05, "{change}");
    }

    #[test]
    fn noise_has_unit_variance_and_half_of_it_is_smooth() {
        let graph: Graph = "graph net(%x: f32[1,3,64,64]) {
            return %x
        }"
        .parse()
        .unwrap();
        for (trial, input) in noise(&graph, 4, 7, 32).unwrap().into_iter().enumerate() {
            let x = &input[0];
            let variance = spread(std::iter::once(x)) / x.len() as f64;
            assert!((variance - 1.0).abs() < 0.05, "{variance}");
            let pair = |a: [usize; 4], b: [usize; 4]| f64::from(x[&a[..]] * x[&b[..]]);
            let places =
                (0..3).flat_map(|c| (0..64).flat_map(move |i| (0..63).map(move |j| (c, i, j))));
            let pairs: Vec<f64> = places
                .map(|(c, i, j)| pair([0, c, i, j], [0, c, i, j + 1]))
                .collect();
            let correlation = pairs.iter().sum::<f64>() / pairs.len() as f64;
            assert_eq!(correlation > 0.5, trial >= 2, "{correlation}");
        }
    }
}
