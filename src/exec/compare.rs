//! Whether two graphs compute the same: both run on the same random inputs.
//!
//! Opaque operators cannot be run, so they are cut out: what one reads is compared as an output is, and what it returns is the
//! same random array in both graphs. A scalar stands for a result without a known shape. Outputs behind a cut say nothing of
//! what the network computes, and a [`Verification`] names them.

use std::sync::Arc;

use ndarray::ArrayD;

use rustc_hash::FxHashSet;

use super::array::Array;
use super::difference::Difference;
use super::evaluate::length;
use super::inputs::{self, BATCH, LENGTHS, random, random_inputs};
use super::interpreter::Interpreter;
use super::verification::{Behind, Moved, Verification};
use crate::ir::{Bindings, DType, Graph, NodeId, Op, Opaque, Real, Type};
use crate::{Error, Result};

/// What a graph returned for random inputs, kept to compare other graphs with it.
pub struct Reference<T> {
    seed: u64,
    trials: Vec<Trial<T>>,
    /// The positions of outputs that an opaque operator leads to.
    behind: FxHashSet<usize>,
    /// The names of those operators, each once.
    operators: Vec<String>,
}

struct Trial<T> {
    inputs: Vec<ArrayD<T>>,
    outputs: Vec<ArrayD<T>>,
    cuts: Vec<Cut<T>>,
}

/// An opaque operator that was cut out.
struct Cut<T> {
    node: Arc<str>,
    template: Arc<str>,
    sizes: Vec<Option<i64>>,
    operands: Vec<ArrayD<T>>,
    /// Says which random arrays it returns: equal operators on equal operands return equal ones.
    key: usize,
}

impl<T: Real> Reference<T> {
    /// Runs `graph` on `inputs` random inputs of unit variance, made from `seed`. A symbol without a number gets one that works.
    ///
    /// # Errors
    /// Why the graph cannot be run.
    pub fn new(graph: &Graph, inputs: usize, seed: u64) -> Result<Reference<T>> {
        let complete = inputs::sizes_are_known(graph);
        let lengths = if complete { &LENGTHS[..1] } else { &LENGTHS };
        let mut failure = None;
        for length in lengths {
            match Reference::with_length(graph, inputs, seed, *length) {
                Ok(reference) => return Ok(reference),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let error = failure.unwrap_or_else(|| unfit(graph, "it has no size that works".into()));
        Err(match error {
            Error::Run { node, what } if !complete => Error::Run {
                node,
                what: format!("{what} (sizes were guessed: give the inputs' shapes)"),
            },
            error => error,
        })
    }

    fn with_length(graph: &Graph, inputs: usize, seed: u64, length: i64) -> Result<Reference<T>> {
        let interpreter = Interpreter::new(graph)?;
        let shapes = inputs::shapes(graph, BATCH, length)?;
        let trials = (0..inputs)
            .map(|trial| {
                let inputs = random_inputs(graph, &shapes, (seed, trial))?;
                let mut cuts: Vec<Cut<T>> = Vec::new();
                let outputs = run(
                    &interpreter,
                    &inputs,
                    &mut |node, opaque, bindings, operands| {
                        let mut cut = Cut::new(graph, node, opaque, bindings, operands);
                        cut.key = cuts.len();
                        if let Some(equal) = cuts.iter().find(|c| c.distance(&cut) == Some(0.0)) {
                            cut.key = equal.key;
                        }
                        let results = random_results(graph, node, bindings, (seed, trial, cut.key));
                        cuts.push(cut);
                        results
                    },
                )?;
                Ok(Trial {
                    inputs,
                    outputs,
                    cuts,
                })
            })
            .collect::<Result<_>>()?;
        let (behind, operators) = behind(graph, interpreter.order());
        Ok(Reference {
            seed,
            trials,
            behind,
            operators,
        })
    }

    /// How far the outputs of `graph`, which has the same inputs and outputs, are from the reference's.
    ///
    /// # Errors
    /// [`Error::Run`] if `graph` cannot be run on the same inputs, or an opaque operator in it was not in the reference.
    pub fn compare(&self, graph: &Graph) -> Result<Verification> {
        let interpreter = Interpreter::new(graph)?;
        let mut at_outputs = Difference::default();
        let mut at_cuts = Difference::default();
        for (i, trial) in self.trials.iter().enumerate() {
            let outputs = run(
                &interpreter,
                &trial.inputs,
                &mut |node, opaque, bindings, operands| {
                    let cut = Cut::new(graph, node, opaque, bindings, operands);
                    let original = trial.counterpart(&cut).ok_or_else(|| {
                    format!(
                        "the original graph has no operator {} that reads arrays of these shapes",
                        opaque.name
                    )
                })?;
                    for (a, b) in original.operands.iter().zip(&cut.operands) {
                        at_cuts.add(a.view(), b.view())?;
                    }
                    random_results(graph, node, bindings, (self.seed, i, original.key))
                },
            )?;
            if outputs.len() != trial.outputs.len() {
                return Err(unfit(graph, format!("it has {} outputs", outputs.len())));
            }
            for (k, (a, b)) in trial.outputs.iter().zip(&outputs).enumerate() {
                let behind = self.behind.contains(&k);
                let difference = if behind {
                    &mut at_cuts
                } else {
                    &mut at_outputs
                };
                difference
                    .add(a.view(), b.view())
                    .map_err(|what| Error::Run {
                        node: graph.outputs()[k].name.to_string(),
                        what,
                    })?;
                difference.add_classes(a.view(), b.view());
            }
        }
        Ok(Verification::Measured {
            inputs: self.trials.len(),
            shapes: self.trials.first().map_or_else(Vec::new, Trial::shapes),
            moved: moved(&at_outputs),
            behind: (!self.behind.is_empty()).then(|| self.behind(graph, &at_cuts)),
        })
    }

    /// What the comparison with `graph` does not say, and how far apart is what the opaque operators read.
    fn behind(&self, graph: &Graph, at_cuts: &Difference) -> Behind {
        let outputs = graph.outputs().iter().enumerate();
        let behind = outputs.filter(|(k, _)| self.behind.contains(k));
        Behind {
            outputs: behind.map(|(_, output)| output.name.to_string()).collect(),
            all: self.behind.len() == graph.outputs().len(),
            operators: self.operators.clone(),
            moved: moved(at_cuts),
        }
    }
}

/// How far the outputs of `after` are from those of `before` on `inputs` random inputs made from `seed`.
///
/// # Errors
/// As [`Reference::compare`]. A `before` that cannot be run is no error: there is nothing to compare with.
pub fn compare<T: Real>(
    before: &Graph,
    after: &Graph,
    inputs: usize,
    seed: u64,
) -> Result<Verification> {
    match Reference::<T>::new(before, inputs, seed) {
        Ok(reference) => reference.compare(after),
        Err(error) => Ok(Verification::Skipped {
            skipped: error.to_string(),
        }),
    }
}

/// Which outputs opaque operators lead to, and the names of these operators.
fn behind(graph: &Graph, order: &[NodeId]) -> (FxHashSet<usize>, Vec<String>) {
    let mut reached: FxHashSet<NodeId> = FxHashSet::default();
    let mut operators: Vec<String> = Vec::new();
    for node in order {
        if let Some(Op::Opaque(opaque)) = graph.op(*node) {
            reached.insert(*node);
            let name = opaque.name.to_string();
            if !operators.contains(&name) {
                operators.push(name);
            }
        } else if graph
            .operands(*node)
            .iter()
            .any(|v| reached.contains(&v.node))
        {
            reached.insert(*node);
        }
    }
    let outputs = graph.outputs().iter().enumerate();
    let behind = outputs.filter(|(_, output)| reached.contains(&output.value.node));
    (behind.map(|(k, _)| k).collect(), operators)
}

type CutHandler<'h, 'g, T> = dyn FnMut(NodeId, &Opaque, &mut Bindings, &[Array<'g, T>]) -> Result<Vec<Array<'g, T>>, String>
    + 'h;

fn run<'g, T: Real>(
    interpreter: &Interpreter<'g, T>,
    inputs: &[ArrayD<T>],
    cut: &mut CutHandler<'_, 'g, T>,
) -> Result<Vec<ArrayD<T>>> {
    let inputs: Vec<Array<T>> = inputs.iter().map(|x| x.clone().into()).collect();
    let outputs = interpreter.run_with(inputs, cut)?;
    Ok(outputs.into_iter().map(Array::into_owned).collect())
}

impl<T: Real> Trial<T> {
    /// The shapes of the inputs, as the command takes them: `1x3x32x32`.
    fn shapes(&self) -> Vec<String> {
        let printed = |x: &ArrayD<T>| {
            let lengths: Vec<String> = x.shape().iter().map(usize::to_string).collect();
            lengths.join("x")
        };
        self.inputs.iter().map(printed).collect()
    }

    /// The original of an opaque operator: the one of the same name, or else the one whose operands are nearest.
    fn counterpart(&self, cut: &Cut<T>) -> Option<&Cut<T>> {
        let fitting = || self.cuts.iter().filter_map(|c| Some((c, c.distance(cut)?)));
        let named = fitting().find(|(c, _)| c.node == cut.node);
        let nearest = || fitting().min_by(|(_, a), (_, b)| a.total_cmp(b));
        named.or_else(nearest).map(|(c, _)| c)
    }
}

impl<T: Real> Cut<T> {
    fn new(
        graph: &Graph,
        node: NodeId,
        opaque: &Opaque,
        bindings: &Bindings,
        operands: &[Array<T>],
    ) -> Cut<T> {
        Cut {
            node: graph.node(node).name.clone(),
            template: opaque.template.clone(),
            sizes: opaque.sizes.iter().map(|dim| dim.eval(bindings)).collect(),
            operands: operands.iter().map(|x| x.view().to_owned()).collect(),
            key: 0,
        }
    }

    /// How far apart the operands of two equal operators are; `None` if these are not equal.
    fn distance(&self, other: &Cut<T>) -> Option<f64> {
        let shapes = |cut: &Cut<T>| -> Vec<Vec<usize>> {
            cut.operands.iter().map(|x| x.shape().to_vec()).collect()
        };
        let same = self.template == other.template && self.sizes == other.sizes;
        if !same || shapes(self) != shapes(other) {
            return None;
        }
        let mut difference = Difference::default();
        for (a, b) in self.operands.iter().zip(&other.operands) {
            difference.add(a.view(), b.view()).ok()?;
        }
        Some(difference.max_rel)
    }
}

fn moved(difference: &Difference) -> Moved {
    Moved {
        max_abs: difference.max_abs,
        max_rel: difference.max_rel,
        change: difference.change(),
        argmax_agreement: difference.agreement().unwrap_or(1.0),
    }
}

/// Random arrays for the results of an opaque operator.
fn random_results<'g, T: Real>(
    graph: &Graph,
    node: NodeId,
    bindings: &Bindings,
    seed: (u64, usize, usize),
) -> Result<Vec<Array<'g, T>>, String> {
    let result = |(port, ty): (usize, &Type)| {
        let shape = ty
            .shape()
            .map(|dims| dims.iter().map(|dim| length(dim, bindings)).collect())
            .transpose()?;
        let shape: Vec<usize> = shape.unwrap_or_default();
        let dtype = ty.dtype().unwrap_or(DType::F32);
        random(&shape, dtype, (seed, port)).map(Array::from)
    };
    let types = graph.node(node).outputs.iter();
    types.enumerate().map(result).collect()
}

fn unfit(graph: &Graph, what: String) -> Error {
    Error::Run {
        node: graph.name.clone(),
        what,
    }
}
