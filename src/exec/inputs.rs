//! Random inputs that fit what a network does with them.
//!
//! Floats have unit variance. Whole numbers follow from what reads them: token ids stay within the table that they are looked up
//! in, masks are zeros and ones, lengths are the length. What nothing is known of gets digits.

use std::hash::{Hash, Hasher};

use ndarray::{ArrayD, Dimension, IxDyn};
use rustc_hash::FxHashSet;

use super::array::element_count;
use super::evaluate::length;
use super::interpreter::bind;
use crate::data::{Feeds, Samples};
use crate::ir::{DType, Dim, Graph, NodeId, Op, Real, Type, Value};
use crate::{Error, Result};

/// The batch where a network takes any: more than 1, so that a batch of 1 that was frozen by mistake shows.
pub const BATCH: i64 = 2;
/// The channels of an image.
const CHANNELS: i64 = 3;
/// Lengths of other dimensions without a number, in the order in which they are tried.
pub const LENGTHS: [i64; 6] = [32, 224, 64, 28, 299, 128];
/// Samples of a second, for inputs that are a sample rate.
const SAMPLE_RATE: f64 = 16_000.0;
/// The share of a mask that is set, at its start.
const MASKED_FROM: f64 = 0.75;

/// The shapes of the inputs. A size that has no number in the graph's bindings gets `batch` on the first axis, 3 where the
/// channels of an image are, and `length` elsewhere.
///
/// # Errors
/// [`Error::Run`] for an input of unknown shape, and a size that comes out negative.
pub fn shapes(graph: &Graph, batch: i64, length: i64) -> Result<Vec<Vec<usize>>> {
    let mut bindings = graph.bindings.clone();
    let types = || graph.inputs().iter().map(|i| graph.ty(Value::from(*i)));
    for dims in types().filter_map(Type::shape) {
        for (axis, dim) in dims.iter().enumerate() {
            let default = match axis {
                0 => batch,
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

/// Whether no size of an input needs a number.
pub fn sizes_are_known(graph: &Graph) -> bool {
    let known = |dim: &Dim| dim.eval(&graph.bindings).is_some();
    let types = graph.inputs().iter().map(|i| graph.ty((*i).into()));
    types.filter_map(Type::shape).flatten().all(known)
}

/// An error unless every size of every input has a number, which `what` needs.
pub(crate) fn refuse_unknown_sizes(what: &str, graph: &Graph) -> Result<()> {
    let unknown = |input: &NodeId| {
        let known = |dim: &Dim| dim.eval(&graph.bindings).is_some();
        let shape = graph.ty((*input).into()).shape();
        !shape.is_some_and(|shape| shape.iter().all(known))
    };
    match graph.inputs().iter().copied().find(unknown) {
        None => Ok(()),
        Some(input) => Err(Error::Usage {
            what: format!(
                "{what} needs the size of the input `{}`, which is {}",
                graph.node(input).name,
                graph.ty(input.into())
            ),
            help: "give its shape, such as --input 1x3x224x224; it freezes no size".to_string(),
        }),
    }
}

/// Inputs of these shapes: the same for the same seed.
///
/// # Errors
/// [`Error::Run`] for an input that would take too much memory.
pub fn random_inputs<T: Real>(
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
        let made = match Meaning::of(graph, node) {
            Meaning::Any => random(shape, dtype, (seed, i)),
            meaning => meaning.array(shape, (seed, i)),
        };
        made.map_err(|what| Error::Run {
            node: graph.node(node).name.to_string(),
            what,
        })
    };
    shapes.iter().enumerate().map(input).collect()
}

/// Checks that samples fit the inputs: their sizes go together, and what is looked up in a table is in it.
///
/// # Errors
/// [`Error::Usage`] or [`Error::Data`] with the first that does not.
pub(crate) fn refuse_unfit_samples(graph: &Graph, samples: &Samples) -> Result<()> {
    let feeds = Feeds::new(graph, samples, 1)?;
    let unfit = |what: String, help: &str| Error::Data {
        path: samples.name.clone().into(),
        what,
        help: help.to_string(),
    };
    for run in feeds.runs() {
        let arrays = feeds.arrays::<f32>(run)?;
        let shapes: Vec<&[usize]> = arrays.iter().map(|array| array.shape()).collect();
        bind(graph, &shapes).map_err(|error| {
            let Error::Usage { what, .. } = error else {
                return error;
            };
            let position = run.positions.first().copied().unwrap_or_default();
            let help = "a name such as N is one size wherever it stands";
            unfit(format!("sample {position}: {what}"), help)
        })?;
    }
    for input in &samples.inputs {
        let node = graph.inputs().iter().copied();
        let Some(node) = { node }.find(|node| graph.node(*node).name == input.name) else {
            continue;
        };
        let Meaning::Rows(rows) = Meaning::of(graph, node) else {
            continue;
        };
        for (position, sample) in input.samples.iter().enumerate() {
            let ids = sample.elements::<f64>();
            if let Some(id) = ids.iter().find(|id| !(0.0..rows as f64).contains(*id)) {
                return Err(unfit(
                    format!(
                        "sample {position} of the input `{}` holds {id}, and the table that it is looked up in has {rows} rows",
                        input.name
                    ),
                    "make the data with the network's own tokenizer",
                ));
            }
        }
    }
    Ok(())
}

/// What the elements of an input stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meaning {
    /// Numbers of which nothing is known.
    Any,
    /// Rows of a table of so many.
    Rows(usize),
    /// 1 for what is there, 0 for what is not.
    Mask,
    /// How much of another input is there.
    Length,
    /// Samples a second.
    SampleRate,
}

impl Meaning {
    /// By what reads the input, and else by its name.
    fn of(graph: &Graph, input: NodeId) -> Meaning {
        let Some(dtype) = graph.ty(input.into()).dtype() else {
            return Meaning::Any;
        };
        let name = graph.node(input).name.to_lowercase();
        let named = |part: &str| name.contains(part);
        match dtype {
            _ if named("mask") => Meaning::Mask,
            dtype if dtype.is_float() => Meaning::Any,
            _ => match rows_of_table(graph, input) {
                Some(rows) => Meaning::Rows(rows),
                None if name == "sr" || named("rate") => Meaning::SampleRate,
                None if named("len") => Meaning::Length,
                None => Meaning::Any,
            },
        }
    }

    fn array<T: Real>(self, shape: &[usize], seed: impl Hash) -> Result<ArrayD<T>, String> {
        element_count::<T>(shape)?;
        let mut generator = generator(seed);
        let last = shape.last().copied().unwrap_or(1);
        let set = ((MASKED_FROM * last as f64) as usize).max(1);
        Ok(ArrayD::from_shape_fn(IxDyn(shape), |at| {
            let at = at.slice().last().copied().unwrap_or_default();
            T::from_f64(match self {
                Meaning::Any => 0.0,
                Meaning::Rows(rows) => generator.usize(0..rows.max(1)) as f64,
                Meaning::Mask if at < set => 1.0,
                Meaning::Mask => 0.0,
                Meaning::Length => last as f64,
                Meaning::SampleRate => SAMPLE_RATE,
            })
        }))
    }
}

/// The rows of the smallest constant matrix that `input` is looked up in, straight or after operators that only carry it there.
fn rows_of_table(graph: &Graph, input: NodeId) -> Option<usize> {
    let mut seen = FxHashSet::from_iter([Value::from(input)]);
    let mut waiting = vec![Value::from(input)];
    let mut rows: Option<usize> = None;
    while let Some(value) = waiting.pop() {
        for (reader, _) in graph.readers(value) {
            let operands = graph.operands(reader);
            let table = operands.iter().find_map(|operand| {
                let shape = graph.constant(operand.node)?.tensor.shape();
                (looks_up(graph.op(reader)) && shape.len() >= 2).then(|| shape[0])
            });
            match table {
                Some(n) => rows = Some(rows.map_or(n, |rows| rows.min(n))),
                None if operands
                    .iter()
                    .all(|o| *o == value || graph.constant(o.node).is_some()) =>
                {
                    let result = Value::from(reader);
                    let carried = graph.ty(result).dtype().is_some_and(|d| !d.is_float());
                    if carried && seen.insert(result) {
                        waiting.push(result);
                    }
                }
                None => {}
            }
        }
    }
    rows
}

/// Whether this is a look-up by computed rows, which each format has a name for.
fn looks_up(op: Option<&Op>) -> bool {
    let Some(Op::Opaque(opaque)) = op else {
        return false;
    };
    let mut parts = opaque.name.split([':', '.']);
    parts.any(|part| ["Gather", "embedding", "index_select", "index"].contains(&part))
}

/// Uniform numbers of mean 0 and variance 1, bytes, or digits for other integers: the same for the same seed.
pub(super) fn random<T: Real>(
    shape: &[usize],
    dtype: DType,
    seed: impl Hash,
) -> Result<ArrayD<T>, String> {
    element_count::<T>(shape)?;
    let mut generator = generator(seed);
    let bound = 3.0f64.sqrt();
    Ok(ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        T::from_f64(match dtype {
            dtype if dtype.is_float() => (2.0 * generator.f64() - 1.0) * bound,
            DType::Bool => f64::from(u8::from(generator.bool())),
            // Pixels.
            DType::U8 => f64::from(generator.u8(..)),
            _ => f64::from(generator.u8(0..10)),
        })
    }))
}

fn generator(seed: impl Hash) -> fastrand::Rng {
    let mut hasher = rustc_hash::FxHasher::default();
    seed.hash(&mut hasher);
    fastrand::Rng::with_seed(hasher.finish())
}
