//! Whether two graphs compute the same: both run on the same random inputs.
//!
//! Opaque operators cannot be run, so they are cut out: what one reads is compared as an output is, and what it returns is the
//! same random array in both graphs. A scalar stands for a result without a known shape.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Zip};

use super::array::{Array, element_count};
use super::evaluate::length;
use super::interpreter::Interpreter;
use crate::ir::{Bindings, DType, Graph, NodeId, Opaque, Real, Type, Value};
use crate::report::Verification;
use crate::{Error, Result};

/// What a graph returned for random inputs, kept to compare other graphs with it.
pub struct Reference<T> {
    seed: u64,
    trials: Vec<Trial<T>>,
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

/// The batch for an input whose batch is a symbol without a number: one that is not frozen by mistake.
const BATCH: i64 = 2;
/// The channels of an image.
const CHANNELS: i64 = 3;
/// Lengths of other dimensions without a number, in the order in which they are tried.
const LENGTHS: [i64; 6] = [32, 224, 64, 28, 299, 128];

impl<T: Real> Reference<T> {
    /// Runs `graph` on `inputs` random inputs of unit variance, made from `seed`. A symbol without a number gets one that works.
    ///
    /// # Errors
    /// Why the graph cannot be run.
    pub fn new(graph: &Graph, inputs: usize, seed: u64) -> Result<Reference<T>> {
        let has_number = |symbol: &Arc<str>| graph.bindings.contains_key(symbol);
        let mut complete = true;
        for input in graph.inputs() {
            let dims = graph.ty(Value::from(*input)).shape().unwrap_or_default();
            for dim in dims {
                dim.for_each_symbol(&mut |symbol| complete &= has_number(symbol));
            }
        }
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
        let shapes = input_shapes(graph, length)?;
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
        Ok(Reference { seed, trials })
    }

    /// How far the outputs of `graph`, which has the same inputs and outputs, are from the reference's.
    ///
    /// # Errors
    /// [`Error::Run`] if `graph` cannot be run on the same inputs, or an opaque operator in it was not in the reference.
    pub fn compare(&self, graph: &Graph) -> Result<Verification> {
        let interpreter = Interpreter::new(graph)?;
        let mut difference = Difference::default();
        for (i, trial) in self.trials.iter().enumerate() {
            let mut at_cuts = Difference::default();
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
            difference.max_abs = difference.max_abs.max(at_cuts.max_abs);
            difference.max_rel = difference.max_rel.max(at_cuts.max_rel);
            if outputs.len() != trial.outputs.len() {
                return Err(unfit(graph, format!("it has {} outputs", outputs.len())));
            }
            for (k, (a, b)) in trial.outputs.iter().zip(&outputs).enumerate() {
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
            max_abs: difference.max_abs,
            max_rel: difference.max_rel,
            argmax_agreement: match difference.positions {
                0 => 1.0,
                n => difference.same as f64 / n as f64,
            },
        })
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

type CutHandler<'h, 'g, T> = dyn FnMut(NodeId, &Opaque, &Bindings, &[Array<'g, T>]) -> Result<Vec<Array<'g, T>>, String>
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

#[derive(Default)]
struct Difference {
    max_abs: f64,
    max_rel: f64,
    /// Positions at which the largest class was looked for, and is the same.
    positions: usize,
    same: usize,
}

impl Difference {
    fn add<T: Real>(&mut self, a: ArrayViewD<T>, b: ArrayViewD<T>) -> Result<(), String> {
        if a.shape() != b.shape() {
            return Err(format!(
                "its shape is {:?} instead of {:?}",
                b.shape(),
                a.shape()
            ));
        }
        let (mut max_abs, mut largest) = (0.0f64, 0.0f64);
        Zip::from(a).and(b).for_each(|&a, &b| {
            let (a, b) = (a.to_f64(), b.to_f64());
            let difference = match a == b || a.is_nan() && b.is_nan() {
                true => 0.0,
                false => (a - b).abs(),
            };
            // A difference that is no number is larger than every number.
            let difference = if difference.is_nan() {
                f64::INFINITY
            } else {
                difference
            };
            max_abs = max_abs.max(difference);
            if a.is_finite() {
                largest = largest.max(a.abs());
            }
        });
        let max_rel = if max_abs == 0.0 {
            0.0
        } else {
            max_abs / largest
        };
        self.max_abs = self.max_abs.max(max_abs);
        self.max_rel = self.max_rel.max(max_rel);
        Ok(())
    }

    /// Compares the largest class at each position: axis 1 is that of classes for images, the last one otherwise.
    fn add_classes<T: Real>(&mut self, a: ArrayViewD<T>, b: ArrayViewD<T>) {
        let axis = match a.ndim() {
            0 => return,
            rank @ 1..=3 => Axis(rank - 1),
            _ => Axis(1),
        };
        if a.len_of(axis) < 2 {
            return;
        }
        for (a, b) in a.lanes(axis).into_iter().zip(b.lanes(axis)) {
            self.positions += 1;
            self.same += usize::from(argmax(a.iter()) == argmax(b.iter()));
        }
    }
}

pub(super) fn argmax<'x, T: Real>(xs: impl Iterator<Item = &'x T>) -> Option<usize> {
    let larger = |best: Option<(usize, T)>, (i, x): (usize, &T)| match best {
        Some((_, max)) if max >= *x => best,
        _ => Some((i, *x)),
    };
    xs.enumerate().fold(None, larger).map(|(i, _)| i)
}

/// The shapes of the inputs, with a default for each symbol that has no number.
fn input_shapes(graph: &Graph, length: i64) -> Result<Vec<Vec<usize>>> {
    let mut bindings = graph.bindings.clone();
    let types = || graph.inputs().iter().map(|i| graph.ty(Value::from(*i)));
    for dims in types().filter_map(Type::shape) {
        for (axis, dim) in dims.iter().enumerate() {
            let default = match axis {
                0 => BATCH,
                1 if dims.len() > 2 => CHANNELS,
                _ => length,
            };
            dim.for_each_symbol(&mut |symbol| {
                bindings.entry(symbol.clone()).or_insert(default);
            });
        }
    }
    let shape = |(input, ty): (&NodeId, &Type)| {
        let failed = |what: String| Error::Run {
            node: graph.node(*input).name.to_string(),
            what,
        };
        let dims = ty
            .shape()
            .ok_or_else(|| failed(format!("the shape of {ty} is not known")))?;
        dims.iter()
            .map(|dim| self::length(dim, &bindings).map_err(failed))
            .collect()
    };
    graph.inputs().iter().zip(types()).map(shape).collect()
}

fn random_inputs<T: Real>(
    graph: &Graph,
    shapes: &[Vec<usize>],
    seed: (u64, usize),
) -> Result<Vec<ArrayD<T>>> {
    let input = |(i, shape): (usize, &Vec<usize>)| {
        let node = graph.inputs()[i];
        if let Some(default) = graph.defaults.get(&graph.node(node).name)
            && default.shape() == shape.as_slice()
            && let Ok(array) =
                ArrayD::from_shape_vec(shape.clone(), default.elements::<T>().into_owned())
        {
            return Ok(array);
        }
        let dtype = graph.ty(Value::from(node)).dtype().unwrap_or(DType::F32);
        random(shape, dtype, (seed, i)).map_err(|what| Error::Run {
            node: graph.node(node).name.to_string(),
            what,
        })
    };
    shapes.iter().enumerate().map(input).collect()
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

/// Uniform numbers of mean 0 and variance 1, or digits for integers: the same for the same seed.
fn random<T: Real>(shape: &[usize], dtype: DType, seed: impl Hash) -> Result<ArrayD<T>, String> {
    element_count::<T>(shape)?;
    let mut hasher = rustc_hash::FxHasher::default();
    seed.hash(&mut hasher);
    let mut generator = fastrand::Rng::with_seed(hasher.finish());
    let bound = 3.0f64.sqrt();
    Ok(ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        T::from_f64(match dtype {
            dtype if dtype.is_float() => (2.0 * generator.f64() - 1.0) * bound,
            DType::Bool => f64::from(u8::from(generator.bool())),
            _ => f64::from(generator.u8(0..10)),
        })
    }))
}

fn unfit(graph: &Graph, what: String) -> Error {
    Error::Run {
        node: graph.name.clone(),
        what,
    }
}
