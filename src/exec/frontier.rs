//! Running a graph on many samples at once, operator by operator.
//!
//! All samples stand at the same place in the graph, so a caller can stop before any operator, look at what it reads over all
//! samples, even give it other weights, and go on. Only values that are still to be read are kept.

use ndarray::{ArcArray, IxDyn};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::array::Array;
use super::evaluate::evaluate;
use super::interpreter::{bind, run_error};
use crate::Result;
use crate::data::{Feeds, Run, Samples};
use crate::ir::{Bindings, Graph, NodeId, NodeKind, Value};

/// Samples in a batch.
const BATCH: usize = 16;

/// The values of all samples that operators not yet run will read.
pub struct Frontier {
    order: Vec<NodeId>,
    /// The position in `order` of the operator that runs next.
    next: usize,
    /// How often each value is still read.
    reads: FxHashMap<Value, usize>,
    batches: Vec<Batch>,
}

struct Batch {
    bindings: Bindings,
    values: FxHashMap<Value, ArcArray<f32, IxDyn>>,
}

impl Frontier {
    /// Before the first operator of `graph`, on samples of its inputs.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) when the samples do not fit the inputs; [`Error::Run`](crate::Error::Run) on a cycle.
    pub fn new(graph: &Graph, samples: &Samples) -> Result<Frontier> {
        let order = graph
            .topological_order()
            .map_err(|node| run_error(graph, node, "it is on a cycle"))?;
        let mut reads: FxHashMap<Value, usize> = FxHashMap::default();
        let operands = order.iter().flat_map(|node| graph.operands(*node));
        for value in operands.chain(graph.outputs().iter().map(|o| o.value)) {
            *reads.entry(value).or_default() += 1;
        }
        let feeds = Feeds::new(graph, samples, BATCH)?;
        let batch = |run: &Run| {
            let arrays = feeds.arrays::<f32>(run)?.into_iter();
            let inputs: Vec<ArcArray<f32, IxDyn>> = arrays.map(|x| x.into_shared()).collect();
            let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape()).collect();
            let bindings = bind(graph, &shapes)?;
            let values = graph.inputs().iter().map(|input| Value::from(*input));
            Ok(Batch {
                bindings,
                values: values.zip(inputs).collect(),
            })
        };
        Ok(Frontier {
            next: 0,
            reads,
            batches: feeds.runs().iter().map(batch).collect::<Result<_>>()?,
            order,
        })
    }

    /// Keeps a value from now on until it is [released](Frontier::release).
    pub fn hold(&mut self, value: Value) {
        *self.reads.entry(value).or_default() += 1;
    }

    /// Gives a held value up.
    pub fn release(&mut self, value: Value) {
        if self.read(value) {
            for batch in &mut self.batches {
                batch.values.remove(&value);
            }
        }
    }

    /// Counts a read; whether it was the last.
    fn read(&mut self, value: Value) -> bool {
        let left = self.reads.entry(value).or_default();
        *left = left.saturating_sub(1);
        *left == 0
    }

    /// Runs every operator before `node`: what it reads is there then. Nothing happens if that is past.
    ///
    /// # Errors
    /// [`Error::Run`] with the operator that cannot be computed, such as an opaque one.
    pub fn run_to(&mut self, graph: &Graph, node: NodeId) -> Result<()> {
        let end = self.position(node);
        self.run(graph, end)
    }

    /// Runs every operator up to `node` and that itself.
    ///
    /// # Errors
    /// As [`Frontier::run_to`].
    pub fn run_past(&mut self, graph: &Graph, node: NodeId) -> Result<()> {
        let end = self.position(node) + 1;
        self.run(graph, end)
    }

    fn position(&self, node: NodeId) -> usize {
        self.order.iter().position(|n| *n == node).unwrap_or(0)
    }

    fn run(&mut self, graph: &Graph, end: usize) -> Result<()> {
        while self.next < end.min(self.order.len()) {
            let node = self.order[self.next];
            self.next += 1;
            let NodeKind::Op(op) = &graph.node(node).kind else {
                continue;
            };
            let operands = graph.operands(node);
            // An operand that is read for the last time may be overwritten.
            let reads: SmallVec<[(Value, bool); 4]> = operands
                .iter()
                .map(|value| (*value, self.read(*value)))
                .collect();
            let result = Value::from(node);
            let wanted = self.reads.contains_key(&result);
            self.batches.par_iter_mut().try_for_each(|batch| {
                let operands: Result<SmallVec<[Array<'_, f32>; 4]>> = reads
                    .iter()
                    .map(|(value, last)| batch.take(graph, *value, *last))
                    .collect();
                let array = evaluate(op, operands?, &batch.bindings)
                    .map_err(|what| run_error(graph, node, &what))?;
                let array = match array {
                    Array::Shared(array) => array,
                    Array::Borrowed(view) => view.to_owned().into_shared(),
                };
                if wanted {
                    batch.values.insert(result, array);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// A value that was computed and is still to be read, one array `[samples, ...]` a batch.
    ///
    /// # Errors
    /// [`Error::Run`] when it was not, or is not.
    pub fn arrays(&self, graph: &Graph, value: Value) -> Result<Vec<&ArcArray<f32, IxDyn>>> {
        let arrays = self.batches.iter().map(|batch| batch.values.get(&value));
        let arrays: Option<Vec<_>> = arrays.collect();
        arrays.ok_or_else(|| run_error(graph, value.node, "its value is not at hand"))
    }
}

impl Batch {
    fn take<'g>(&mut self, graph: &'g Graph, value: Value, last: bool) -> Result<Array<'g, f32>> {
        if let Some(constant) = graph.constant(value.node) {
            return Ok(Array::from(&constant.tensor));
        }
        let array = if last {
            self.values.remove(&value)
        } else {
            self.values.get(&value).cloned()
        };
        let array = array.ok_or_else(|| run_error(graph, value.node, "it has no such result"))?;
        Ok(Array::Shared(array))
    }
}
