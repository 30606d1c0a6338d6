//! Running a graph on many samples at once, operator by operator.
//!
//! All samples stand at the same place in the graph, so a caller can stop before any operator, look at what it reads over all
//! samples, even give it other weights, and go on. Only values that are still to be read are kept.

use std::sync::Arc;

use ndarray::{ArcArray, IxDyn};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::array::Array;
use super::evaluate::evaluate;
use super::foreign::{Foreign, Returned, Sampled, learn};
use super::interpreter::{bind, run_error};
use crate::Result;
use crate::data::{Feeds, Run};
use crate::ir::{Bindings, Graph, NodeId, NodeKind, Op, Value};

/// Samples in a batch.
const BATCH: usize = 16;
/// In how many batches samples are run at least, where there are as many.
const LEAST_BATCHES: usize = 4;

/// Gives sizes that only a run tells the numbers that they have for the first sample, as far as the network can be run on it. They go
/// to [`Graph::bindings`].
pub(crate) fn learn_sizes(graph: &mut Graph, sampled: &Sampled) {
    let first = Sampled {
        samples: sampled.samples.first().into(),
        foreign: sampled.foreign.clone(),
    };
    let Ok(mut frontier) = Frontier::new(graph, &first) else {
        return;
    };
    // Where it ends early, what was learnt so far is as true.
    let _ = frontier.run(graph, usize::MAX);
    let found = { frontier.batches }.into_iter().next();
    for (symbol, n) in found.map(|batch| batch.bindings).unwrap_or_default() {
        graph.bindings.entry(symbol).or_insert(n);
    }
}

/// The values of all samples that operators not yet run will read.
pub struct Frontier {
    order: Vec<NodeId>,
    /// The position in `order` of the operator that runs next.
    next: usize,
    /// How often each value is still read.
    reads: FxHashMap<Value, usize>,
    batches: Vec<Batch>,
    foreign: Option<Arc<dyn Foreign>>,
}

struct Batch {
    bindings: Bindings,
    values: FxHashMap<Value, ArcArray<f32, IxDyn>>,
    returned: Returned,
}

impl Frontier {
    /// Before the first operator of `graph`, on samples of its inputs.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) when the samples do not fit the inputs; [`Error::Run`](crate::Error::Run) on a cycle.
    pub fn new(graph: &Graph, sampled: &Sampled) -> Result<Frontier> {
        let order = graph
            .topological_order()
            .map_err(|node| run_error(graph, node, "it is on a cycle"))?;
        let mut reads: FxHashMap<Value, usize> = FxHashMap::default();
        let operands = order.iter().flat_map(|node| graph.operands(*node));
        for value in operands.chain(graph.outputs().iter().map(|o| o.value)) {
            *reads.entry(value).or_default() += 1;
        }
        // In as many as it takes to tell samples from each other.
        let batch = (sampled.samples.len() / LEAST_BATCHES).clamp(1, BATCH);
        let feeds = Feeds::new(graph, &sampled.samples, batch)?;
        let batch = |run: &Run| {
            let arrays = feeds.arrays::<f32>(run)?.into_iter();
            let inputs: Vec<ArcArray<f32, IxDyn>> = arrays.map(|x| x.into_shared()).collect();
            let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape()).collect();
            let bindings = bind(graph, &shapes)?;
            let values = graph.inputs().iter().map(|input| Value::from(*input));
            Ok(Batch {
                bindings,
                values: values.zip(inputs).collect(),
                returned: Returned::default(),
            })
        };
        Ok(Frontier {
            next: 0,
            reads,
            batches: feeds.runs().iter().map(batch).collect::<Result<_>>()?,
            order,
            foreign: sampled.foreign.clone(),
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
                batch.returned.forget(value);
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
    /// [`Error::Run`](crate::Error::Run) with the operator that cannot be computed, such as an opaque one.
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
            // What is made of constants only is the same for all samples, unless the interpreter has it where it lies.
            let once = matches!(op, Op::Opaque(_))
                && operands
                    .iter()
                    .all(|value| graph.constant(value.node).is_some());
            let foreign = self.foreign.as_deref();
            let compute = |batch: &mut Batch| -> Result<()> {
                let results = batch.compute(graph, node, op, &reads, foreign)?;
                for (port, array) in (0..).zip(results) {
                    let result = Value { node, port };
                    if self.reads.contains_key(&result) {
                        batch.values.insert(result, array);
                    } else {
                        batch.returned.forget(result);
                    }
                }
                Ok(())
            };
            match self.batches.split_first_mut() {
                Some((first, others)) if once => {
                    compute(first)?;
                    for other in others {
                        other.copy_results(graph, node, first);
                    }
                }
                _ => self.batches.par_iter_mut().try_for_each(compute)?,
            }
        }
        Ok(())
    }

    /// A value that was computed and is still to be read, one array `[samples, ...]` a batch.
    ///
    /// # Errors
    /// [`Error::Run`](crate::Error::Run) when it was not, or is not.
    pub fn arrays(&self, graph: &Graph, value: Value) -> Result<Vec<&ArcArray<f32, IxDyn>>> {
        let arrays = self.batches.iter().map(|batch| batch.values.get(&value));
        let arrays: Option<Vec<_>> = arrays.collect();
        arrays.ok_or_else(|| run_error(graph, value.node, "its value is not at hand"))
    }
}

impl Batch {
    /// The results of an operator.
    fn compute(
        &mut self,
        graph: &Graph,
        node: NodeId,
        op: &Op,
        reads: &[(Value, bool)],
        foreign: Option<&dyn Foreign>,
    ) -> Result<Vec<ArcArray<f32, IxDyn>>> {
        let failed = |what: String| run_error(graph, node, &what);
        let operands: SmallVec<[Array<'_, f32>; 4]> = reads
            .iter()
            .map(|(value, last)| self.take(graph, *value, *last))
            .collect::<Result<_>>()?;
        let results = match op {
            Op::Opaque(_) => {
                let returned = &mut self.returned;
                returned.run(graph, node, &operands, &mut self.bindings, foreign)
            }
            op => evaluate(op, operands, &self.bindings).map(|result| vec![result]),
        };
        for (value, _) in reads.iter().filter(|(_, last)| *last) {
            self.returned.forget(*value);
        }
        let results = results.map_err(failed)?.into_iter();
        let shared = |array| match array {
            Array::Shared(array) => array,
            Array::Borrowed(view) => view.to_owned().into_shared(),
        };
        Ok(results.map(shared).collect())
    }

    /// Takes the results of a node from another batch.
    fn copy_results(&mut self, graph: &Graph, node: NodeId, from: &Batch) {
        for port in 0..graph.node(node).outputs.len() as u32 {
            let value = Value { node, port };
            if let Some(array) = from.values.get(&value) {
                self.values.insert(value, array.clone());
                self.returned.copy(&from.returned, value);
                learn(graph, value, array.shape(), &mut self.bindings);
            }
        }
    }

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
