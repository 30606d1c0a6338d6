//! Samples of a network's inputs, and the runs in which they are fed to it.

use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use ndarray::ArrayD;

use crate::ir::{Bindings, Graph, NodeId, Real, Tensor, Type};
use crate::{Error, Result};

/// Samples that are held out, at least.
const LEAST_HELD_OUT: usize = 4;

/// Samples of a network's inputs.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The specification they come from, for reports.
    #[doc(hidden)]
    pub name: String,
    /// What there is for each input; for all of them as many samples.
    #[doc(hidden)]
    pub inputs: Vec<InputSamples>,
    /// Inputs that the data has nothing for, and what they get.
    #[doc(hidden)]
    pub filled: Vec<Filled>,
    /// The class of each sample, where the data says so.
    #[doc(hidden)]
    pub labels: Option<Vec<i64>>,
    /// Damaged samples that were left out, and why.
    #[doc(hidden)]
    pub left_out: Vec<String>,
}

/// The samples of one input.
#[derive(Clone, Debug)]
pub struct InputSamples {
    /// The input's name.
    pub name: Arc<str>,
    /// Whether a sample is all that the input takes at once, and not a row of its batch.
    pub whole: bool,
    /// An array a sample, of floats `f32`, else of the input's own type. Where sizes are free they may differ.
    pub samples: Vec<Tensor>,
}

/// An input that the data has nothing for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Its name.
    pub name: Arc<str>,
    /// What its elements are.
    pub with: Fill,
}

/// What the elements of an input are that the data has nothing for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Of states before the first step, and types of tokens.
    Zeros,
    /// Of masks.
    Ones,
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fill::Zeros => "zeros",
            Fill::Ones => "ones",
        })
    }
}

impl Samples {
    /// The rows of `[n, ...]`, for a network with one input.
    #[doc(hidden)]
    pub fn of_array(name: &str, rows: &ArrayD<f32>) -> Samples {
        let row = |row: ndarray::ArrayViewD<'_, f32>| {
            Tensor::from_vec(row.shape(), row.iter().copied().collect())
        };
        let samples = match rows.ndim() {
            0 => Vec::new(),
            _ => rows.outer_iter().map(row).collect(),
        };
        Samples {
            name: name.to_string(),
            inputs: vec![InputSamples {
                name: "".into(),
                whole: false,
                samples,
            }],
            filled: Vec::new(),
            labels: None,
            left_out: Vec::new(),
        }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.inputs.first().map_or(0, |input| input.samples.len())
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The samples of the first input as one array `[n, ...]`; `None` where their sizes differ.
    #[doc(hidden)]
    pub fn stacked(&self) -> Option<ArrayD<f32>> {
        let samples = &self.inputs.first()?.samples;
        stack(&samples.iter().collect::<Vec<_>>())
    }

    /// The elements of the largest sample, over all inputs.
    #[doc(hidden)]
    pub fn largest(&self) -> usize {
        let of_sample = |i: usize| {
            let inputs = self.inputs.iter();
            inputs.map(|input| input.samples[i].len()).sum()
        };
        (0..self.len()).map(of_sample).max().unwrap_or(0)
    }

    /// The first of them alone.
    #[doc(hidden)]
    pub fn first(&self) -> Samples {
        self.at((0..self.len().min(1)).collect())
    }

    /// So many of them at most, from all over them.
    #[doc(hidden)]
    pub fn few(&self, most: usize) -> Samples {
        let every = self.len().div_ceil(most.max(1)).max(1);
        self.at((0..self.len()).step_by(every).collect())
    }

    /// How many samples it takes to fit to `fitted` of them and [hold out](Samples::hold_out) the others.
    #[doc(hidden)]
    pub fn with_held_out(fitted: usize) -> usize {
        fitted.saturating_add(fitted.div_ceil(4).max(LEAST_HELD_OUT))
    }

    /// Takes a fifth of the samples away, at least four, from all over them: what is fitted to the others is judged on these.
    /// `None` where that would leave fewer to fit to.
    #[doc(hidden)]
    pub fn hold_out(self) -> (Samples, Option<Samples>) {
        let held = (self.len() / 5).max(LEAST_HELD_OUT);
        if self.len() < 2 * held {
            return (self, None);
        }
        // The last of each of so many stretches of equal length.
        let last: Vec<usize> = (1..=held).map(|i| i * self.len() / held - 1).collect();
        let (held, fitted) = (0..self.len()).partition(|i| last.binary_search(i).is_ok());
        let held = self.at(held);
        (self.at(fitted), Some(held))
    }

    /// The samples at these positions.
    fn at(&self, positions: Vec<usize>) -> Samples {
        let labels = self.labels.as_ref();
        let of_input = |input: &InputSamples| InputSamples {
            name: input.name.clone(),
            whole: input.whole,
            samples: positions
                .iter()
                .map(|i| input.samples[*i].clone())
                .collect(),
        };
        Samples {
            name: self.name.clone(),
            inputs: self.inputs.iter().map(of_input).collect(),
            filled: self.filled.clone(),
            labels: labels.map(|labels| positions.iter().map(|i| labels[*i]).collect()),
            left_out: self.left_out.clone(),
        }
    }
}

/// What an input of the network gets.
enum Gets<'a> {
    /// Samples.
    Samples(&'a InputSamples),
    /// The same in each run.
    Always(&'a Tensor),
    /// One number.
    Number(Fill),
}

/// The runs in which samples are fed to a network. Each is of samples with the same sizes, as many as the network takes at once.
pub struct Feeds<'a> {
    graph: &'a Graph,
    /// In the order of the graph's inputs.
    inputs: Vec<Gets<'a>>,
    runs: Vec<Run>,
}

/// What is fed at once.
#[derive(Clone, Debug)]
pub struct Run {
    /// The positions of the samples.
    pub positions: Vec<usize>,
    /// How many there are. The network's own batch may be larger; the rest of it are some of them again.
    pub fresh: usize,
    /// Whether it is one sample that is no row of a batch.
    pub whole: bool,
}

impl<'a> Feeds<'a> {
    /// Plans runs of at most `most` samples, or of the network's own batch where that is a number.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is nothing for an input.
    pub fn new(graph: &'a Graph, samples: &'a Samples, most: usize) -> Result<Feeds<'a>> {
        let inputs = graph.inputs().iter();
        let inputs: Vec<Gets> = inputs
            .map(|node| gets(graph, samples, *node))
            .collect::<Result<_>>()?;
        let whole = samples.inputs.iter().any(|input| input.whole);
        // A state of fixed sizes is that of one sample.
        let of_one = |(node, gets): (&NodeId, &Gets)| {
            let shape = graph.ty((*node).into()).shape().unwrap_or_default();
            let fixed = shape.iter().all(|dim| dim.as_number().is_some());
            matches!(gets, Gets::Number(_)) && fixed && !shape.is_empty()
        };
        let alone = whole || graph.inputs().iter().zip(&inputs).any(of_one);
        let own = own_batch(graph, &inputs);
        let size = match own {
            _ if whole => 1,
            Some(own) => own,
            None if alone => 1,
            None => most,
        };
        let run = |positions: &[usize]| {
            let fresh = positions.len();
            let size = own.filter(|_| !whole).unwrap_or(fresh);
            Run {
                positions: positions.iter().copied().cycle().take(size).collect(),
                fresh,
                whole,
            }
        };
        let runs = alike(samples)
            .iter()
            .flat_map(|positions| positions.chunks(size.max(1)))
            .map(run)
            .collect();
        Ok(Feeds {
            graph,
            inputs,
            runs,
        })
    }

    /// The runs, in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The arrays of all inputs, in the graph's order, for a run.
    ///
    /// # Errors
    /// [`Error::Usage`] when no sample says how large an input is that the data has nothing for.
    pub fn arrays<T: Real>(&self, run: &Run) -> Result<Vec<ArrayD<T>>> {
        let mut bindings = self.graph.bindings.clone();
        let mut arrays: Vec<Option<ArrayD<T>>> = Vec::new();
        for (node, gets) in self.graph.inputs().iter().zip(&self.inputs) {
            let array = match gets {
                Gets::Samples(input) if input.whole => {
                    let sample = run.positions.first().and_then(|at| input.samples.get(*at));
                    sample.and_then(array)
                }
                Gets::Samples(input) => {
                    let rows = run.positions.iter().map(|at| &input.samples[*at]);
                    stack(&rows.collect::<Vec<_>>())
                }
                Gets::Always(tensor) => array(tensor),
                Gets::Number(_) => None,
            };
            if let (Some(array), Gets::Samples(_)) = (&array, gets) {
                bind(self.graph.ty((*node).into()), array.shape(), &mut bindings);
            }
            arrays.push(array);
        }
        let nodes = self.graph.inputs().iter().zip(&self.inputs);
        let complete = |((node, gets), array): ((&NodeId, &Gets), Option<ArrayD<T>>)| match array {
            Some(array) => Ok(array),
            None => {
                let number = match gets {
                    Gets::Number(Fill::Ones) => 1.0,
                    _ => 0.0,
                };
                let shape = sizes(self.graph.ty((*node).into()), &bindings);
                let shape = shape.ok_or_else(|| self.unknown_size(*node))?;
                Ok(ArrayD::from_elem(shape, T::from_f64(number)))
            }
        };
        nodes.zip(arrays).map(complete).collect()
    }

    fn unknown_size(&self, node: NodeId) -> Error {
        Error::Usage {
            what: format!(
                "the samples do not say how large the input `{}` is, which is {}",
                self.graph.node(node).name,
                self.graph.ty(node.into())
            ),
            help: "give an array of this name".to_string(),
        }
    }
}

fn gets<'a>(graph: &'a Graph, samples: &'a Samples, node: NodeId) -> Result<Gets<'a>> {
    let name = &graph.node(node).name;
    let named = samples.inputs.iter().find(|input| input.name == *name);
    // What is for the only input needs no name.
    let only = || match &samples.inputs[..] {
        [only] if graph.sole_input() == Some(node) => Some(only),
        _ => None,
    };
    if let Some(input) = named.or_else(only) {
        return Ok(Gets::Samples(input));
    }
    if let Some(default) = graph.defaults.get(name) {
        return Ok(Gets::Always(default));
    }
    let mut filled = samples.filled.iter();
    match filled.find(|filled| filled.name == *name) {
        Some(filled) => Ok(Gets::Number(filled.with)),
        None => Err(Error::Usage {
            what: format!(
                "the samples of {} have nothing for the input `{name}`",
                samples.name
            ),
            help: "give an array for each input, by its name".to_string(),
        }),
    }
}

/// The batch that the network takes, where that is a number.
fn own_batch(graph: &Graph, inputs: &[Gets]) -> Option<usize> {
    let mut inputs = graph.inputs().iter().zip(inputs);
    inputs.find_map(|(node, gets)| match gets {
        Gets::Samples(input) if !input.whole => graph.ty((*node).into()).len(0),
        _ => None,
    })
}

/// The positions of samples with the same sizes, in order of the first of them.
fn alike(samples: &Samples) -> Vec<Vec<usize>> {
    let mut groups: IndexMap<Vec<&[usize]>, Vec<usize>> = IndexMap::new();
    for position in 0..samples.len() {
        let inputs = samples.inputs.iter();
        let shapes = inputs.map(|input| input.samples[position].shape());
        groups.entry(shapes.collect()).or_default().push(position);
    }
    groups.into_values().collect()
}

/// Gives the symbols of a type the numbers of a shape.
fn bind(ty: &Type, shape: &[usize], bindings: &mut Bindings) {
    for (dim, n) in ty.shape().unwrap_or_default().iter().zip(shape) {
        if let (Some(symbol), Ok(n)) = (dim.as_symbol(), i64::try_from(*n)) {
            bindings.insert(symbol.clone(), n);
        }
    }
}

/// The sizes of a type, where all have numbers.
fn sizes(ty: &Type, bindings: &Bindings) -> Option<Vec<usize>> {
    let size = |dim: &crate::ir::Dim| dim.eval(bindings)?.try_into().ok();
    ty.shape()?.iter().map(size).collect()
}

fn array<T: Real>(tensor: &Tensor) -> Option<ArrayD<T>> {
    ArrayD::from_shape_vec(tensor.shape(), tensor.elements::<T>().into_owned()).ok()
}

/// Arrays of one shape as one, `[n, ...]`.
fn stack<T: Real>(rows: &[&Tensor]) -> Option<ArrayD<T>> {
    let shape = rows.first()?.shape();
    let mut elements = Vec::with_capacity(rows.len() * rows[0].len());
    for row in rows {
        if row.shape() != shape {
            return None;
        }
        elements.extend_from_slice(&row.elements::<T>());
    }
    ArrayD::from_shape_vec([&[rows.len()], shape].concat(), elements).ok()
}
