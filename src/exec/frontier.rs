//! Running a graph on many samples at once, operator by operator.
//!
//! All samples stand at the same place in the graph, so a caller can stop before any operator, look at what it reads over all
//! samples, even give it other weights, and go on. From one stop to the next batches run by themselves, a few at a time. Between
//! stops only values are kept that are still to be read: in memory as far as there is room, else in a temporary file.

use std::sync::Arc;

use ndarray::{ArcArray, IxDyn};
use rayon::prelude::*;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::array::Array;
use super::evaluate::evaluate;
use super::foreign::{Foreign, Returned, Sampled, learn};
use super::interpreter::{bind, run_error};
use super::store::{Store, Stored};
use crate::Result;
use crate::data::{Feeds, Run};
use crate::ir::{Bindings, Graph, NodeId, Op, Value};

/// Samples in a batch, at most.
const BATCH: usize = 16;
/// Elements of the inputs of a batch, where that leaves a sample in it: batches of large images are what memory is taken by.
const BATCH_ELEMENTS: usize = 1 << 20;
/// In how many batches samples are run at least, where there are as many.
const LEAST_BATCHES: usize = 4;

/// Gives sizes that only a run tells the numbers that they have for the first sample, as far as the network can be run on it. They go
/// to [`Graph::bindings`].
pub(crate) fn learn_sizes(graph: &mut Graph, sampled: &Sampled) {
    let first = Sampled {
        samples: sampled.samples.first().into(),
        ..sampled.clone()
    };
    let Ok(mut frontier) = Frontier::new(graph, &first) else {
        return;
    };
    // Where it ends early, what was learnt so far is as true.
    let _ = frontier.run(graph, usize::MAX);
    let first = frontier.batches.into_iter().next();
    for (symbol, n) in first.map(|batch| batch.bindings).unwrap_or_default() {
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
    /// Of how many samples a batch is, at most.
    size: usize,
    sampled: Sampled,
    store: Arc<Store>,
}

struct Batch {
    /// Which samples it is of, until it has run.
    unfed: Option<Run>,
    bindings: Bindings,
    /// Values that wait for an operator after the next stop.
    waiting: FxHashMap<Value, Stored>,
    /// Values at hand while operators run.
    values: FxHashMap<Value, ArcArray<f32, IxDyn>>,
    returned: Returned,
}

/// An operator that runs next.
struct Step {
    node: NodeId,
    /// What it reads, and whether that is for the last time, so that it may be overwritten.
    reads: SmallVec<[(Value, bool); 4]>,
    /// Whether it gives the same for all samples.
    once: bool,
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
        let samples = &sampled.samples;
        let room = BATCH_ELEMENTS / samples.largest().max(1);
        // In as many batches as it takes to tell samples from each other.
        let size = (samples.len() / LEAST_BATCHES).min(room).clamp(1, BATCH);
        let feeds = Feeds::new(graph, samples, size)?;
        let batch = |run: &Run| Batch {
            unfed: Some(run.clone()),
            bindings: Bindings::default(),
            waiting: FxHashMap::default(),
            values: FxHashMap::default(),
            returned: Returned::default(),
        };
        Ok(Frontier {
            next: 0,
            reads,
            batches: feeds.runs().iter().map(batch).collect(),
            order,
            size,
            store: Store::new(sampled.in_memory),
            sampled: sampled.clone(),
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
                batch.waiting.remove(&value);
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
        let end = end.min(self.order.len());
        loop {
            let steps = self.stretch(graph, end);
            self.run_stretch(graph, &steps)?;
            if self.next >= end {
                return Ok(());
            }
        }
    }

    /// The operators that run next, up to this position or to one that gives the same for all samples; their reads count as done.
    fn stretch(&mut self, graph: &Graph, end: usize) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        while self.next < end && !steps.last().is_some_and(|step| step.once) {
            let node = self.order[self.next];
            if let Some(op) = graph.op(node) {
                let operands = graph.operands(node);
                // The interpreter has what is made of constants only where it lies.
                let constant = |value: &Value| graph.constant(value.node).is_some();
                let once = matches!(op, Op::Opaque(_)) && operands.iter().all(constant);
                if once && !steps.is_empty() {
                    break;
                }
                let reads = operands.iter().map(|value| (*value, self.read(*value)));
                let reads = reads.collect();
                steps.push(Step { node, reads, once });
            }
            self.next += 1;
        }
        steps
    }

    fn run_stretch(&mut self, graph: &Graph, steps: &[Step]) -> Result<()> {
        let feeds = Feeds::new(graph, &self.sampled.samples, self.size)?;
        let (reads, store) = (&self.reads, &self.store);
        let foreign = self.sampled.foreign.as_deref();
        let run = |batch: &mut Batch, steps: &[Step]| {
            batch.feed(graph, &feeds)?;
            for step in steps {
                batch.run(graph, step, reads, foreign)?;
            }
            batch.wait(reads, store)
        };
        match (steps, self.batches.split_first_mut()) {
            ([step], Some((first, others))) if step.once => {
                run(first, steps)?;
                for other in others {
                    run(other, &[])?;
                    other.copy_results(graph, step.node, first, store)?;
                }
            }
            _ => {
                // A thread that waits for a part of its batch would take on another one, and hold both.
                for batches in self.batches.chunks_mut(rayon::current_num_threads()) {
                    let batches = batches.par_iter_mut();
                    batches.try_for_each(|batch| run(batch, steps))?;
                }
            }
        }
        Ok(())
    }

    /// A value that was computed and is still to be read, one array `[samples, ...]` a batch.
    ///
    /// # Errors
    /// [`Error::Run`](crate::Error::Run) when it was not, or is not.
    pub fn arrays(&self, graph: &Graph, value: Value) -> Result<Vec<&Stored>> {
        let arrays = self.batches.iter().map(|batch| batch.waiting.get(&value));
        let arrays: Option<Vec<_>> = arrays.collect();
        arrays.ok_or_else(|| run_error(graph, value.node, "its value is not at hand"))
    }
}

impl Batch {
    /// Takes the samples in, if it has not.
    fn feed(&mut self, graph: &Graph, feeds: &Feeds) -> Result<()> {
        let Some(run) = self.unfed.take() else {
            return Ok(());
        };
        let arrays = feeds.arrays::<f32>(&run)?;
        let shapes: Vec<&[usize]> = arrays.iter().map(|input| input.shape()).collect();
        self.bindings = bind(graph, &shapes)?;
        let values = graph.inputs().iter().map(|input| Value::from(*input));
        self.values = values
            .zip(arrays.into_iter().map(|x| x.into_shared()))
            .collect();
        Ok(())
    }

    /// Runs an operator.
    fn run(
        &mut self,
        graph: &Graph,
        step: &Step,
        reads: &FxHashMap<Value, usize>,
        foreign: Option<&dyn Foreign>,
    ) -> Result<()> {
        let Some(op) = graph.op(step.node) else {
            return Ok(());
        };
        let results = self.compute(graph, step.node, op, &step.reads, foreign)?;
        for (port, array) in (0..).zip(results) {
            let result = Value {
                node: step.node,
                port,
            };
            if reads.contains_key(&result) {
                self.values.insert(result, row_by_row(array));
            } else {
                self.returned.forget(result);
            }
        }
        Ok(())
    }

    /// Stores what is still to be read after this stop.
    fn wait(&mut self, reads: &FxHashMap<Value, usize>, store: &Arc<Store>) -> Result<()> {
        for (value, array) in self.values.drain() {
            let is_read = reads.get(&value).is_some_and(|left| *left > 0);
            if is_read && !self.waiting.contains_key(&value) {
                self.waiting.insert(value, store.put(array)?);
            }
        }
        Ok(())
    }

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
    fn copy_results(
        &mut self,
        graph: &Graph,
        node: NodeId,
        from: &Batch,
        store: &Arc<Store>,
    ) -> Result<()> {
        for port in 0..graph.node(node).outputs.len() as u32 {
            let value = Value { node, port };
            if let Some(stored) = from.waiting.get(&value) {
                self.waiting.insert(value, store.put(stored.read()?)?);
                self.returned.copy(&from.returned, value);
                learn(graph, value, stored.shape(), &mut self.bindings);
            }
        }
        Ok(())
    }

    fn take<'g>(&mut self, graph: &'g Graph, value: Value, last: bool) -> Result<Array<'g, f32>> {
        if let Some(constant) = graph.constant(value.node) {
            return Ok(Array::from(&constant.tensor));
        }
        let array = match self.values.remove(&value) {
            Some(array) => array,
            None => match self.waiting.get(&value) {
                Some(stored) => stored.read()?,
                None => return Err(run_error(graph, value.node, "it has no such result")),
            },
        };
        if last {
            self.waiting.remove(&value);
        } else {
            self.values.insert(value, array.clone());
        }
        Ok(Array::Shared(array))
    }
}

/// An array whose elements lie row by row: so they do in a file, and sums depend on the order.
fn row_by_row(array: ArcArray<f32, IxDyn>) -> ArcArray<f32, IxDyn> {
    if array.is_standard_layout() {
        array
    } else {
        array.as_standard_layout().into_owned().into_shared()
    }
}
