//! Reverse mode: what of a value in the graph, or of many, changes with the network's input.
//!
//! Only the input's gradient is computed, not that of weights. An operator's gradient is one function here, in a file for each
//! family; [`operator`] has the list, which is exhaustive: an operator without a gradient says so, and none is silently zero.

mod attention;
mod convolution;
mod direct;
mod layout;
mod norm;
mod operator;
mod pointwise;
mod product;
mod window;

use ndarray::{ArcArray, ArrayD, IxDyn};
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::array::Array;
use super::evaluate::evaluate;
use super::interpreter::{bind, run_error};
use crate::ir::{Bindings, Graph, NodeId, Op, Real, Value};
use crate::{Error, Result};
use convolution::Direct;
use operator::{Saved, back, differentiable, saved};

/// The part of a graph between its one input and some values, made ready to be run and differentiated.
pub struct Gradient<'g, T: Real> {
    graph: &'g Graph,
    steps: Vec<Step<'g>>,
    constants: FxHashMap<NodeId, Array<'g, T>>,
    input: Value,
    /// How often each value is read, targets counting as readers.
    reads: FxHashMap<Value, usize>,
    targets: FxHashSet<Value>,
    /// What the way back needs.
    saved: FxHashSet<Value>,
    /// What depends on the input.
    active: FxHashSet<Value>,
}

struct Step<'g> {
    node: NodeId,
    op: &'g Op,
    operands: SmallVec<[Value; 4]>,
    direct: Option<Direct>,
}

/// The values of a run that are still needed.
pub struct Run<'g, T: Real> {
    values: FxHashMap<Value, Array<'g, T>>,
    shapes: FxHashMap<Value, Vec<usize>>,
    bindings: Bindings,
}

/// Adds to what was propagated back to a target, `[elements]` in row-major order, the derivative of what is minimised by the target
/// itself.
pub type Seed<'s, T> = dyn Fn(Value, &Array<T>, &mut [T]) + Sync + 's;

impl<'g, T: Real> Gradient<'g, T> {
    /// Prepares what lies between the input of `graph` and `targets`, all of which must depend on it.
    ///
    /// # Errors
    /// [`Error::Usage`] where the network has not one input; [`Error::Run`] with an operator that has no gradient, and on a cycle.
    pub fn new(graph: &'g Graph, targets: &[Value]) -> Result<Self> {
        let input = graph.sole_input().ok_or_else(|| Error::Usage {
            what: format!("the network has {} inputs", graph.inputs().len()),
            help: "gradients are those of networks with one".into(),
        })?;
        let order = graph
            .topological_order()
            .map_err(|node| run_error(graph, node, "it is on a cycle"))?;
        let mut needed: FxHashSet<NodeId> = targets.iter().map(|value| value.node).collect();
        for node in order.iter().rev().filter(|n| graph.op(**n).is_some()) {
            if needed.contains(node) {
                needed.extend(graph.operands(*node).iter().map(|value| value.node));
            }
        }
        let mut gradient = Gradient {
            graph,
            steps: Vec::new(),
            constants: FxHashMap::default(),
            input: input.into(),
            reads: targets.iter().map(|value| (*value, 1)).collect(),
            targets: targets.iter().copied().collect(),
            saved: targets.iter().copied().collect(),
            active: FxHashSet::from_iter([Value::from(input)]),
        };
        for node in order.into_iter().filter(|node| needed.contains(node)) {
            match (graph.constant(node), graph.op(node)) {
                (Some(constant), _) => {
                    gradient
                        .constants
                        .insert(node, Array::from(&constant.tensor));
                }
                (_, Some(op)) => gradient.add(node, op)?,
                _ => {}
            }
        }
        Ok(gradient)
    }

    fn add(&mut self, node: NodeId, op: &'g Op) -> Result<()> {
        let operands = self.graph.operands(node);
        for value in &operands {
            *self.reads.entry(*value).or_default() += 1;
        }
        let active: SmallVec<[bool; 4]> =
            operands.iter().map(|v| self.active.contains(v)).collect();
        if active.contains(&true) {
            differentiable(op, &active).map_err(|what| run_error(self.graph, node, &what))?;
            let Saved {
                operands: kept,
                result,
            } = saved(op);
            self.saved.extend(operands.iter().filter(|_| kept));
            self.saved.extend(result.then_some(Value::from(node)));
            self.active.insert(node.into());
        }
        let weight = |i: usize| self.constants.get(&operands.get(i)?.node);
        let direct = match (weight(1), operands.len(), weight(2)) {
            (Some(weight), 2, _) => Direct::new(op, weight, None),
            (Some(weight), 3, Some(bias)) => Direct::new(op, weight, Some(bias)),
            _ => None,
        };
        self.steps.push(Step {
            node,
            op,
            operands,
            direct,
        });
        Ok(())
    }

    /// Whether a value depends on the input.
    pub fn depends(&self, value: Value) -> bool {
        self.active.contains(&value)
    }

    /// Runs the network on samples `[n, ...]`.
    ///
    /// # Errors
    /// [`Error::Usage`] when they do not fit the input; [`Error::Run`] with the operator that cannot be computed.
    pub fn run(&self, samples: ArcArray<T, IxDyn>) -> Result<Run<'g, T>> {
        let inputs = self.inputs(samples)?;
        let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape()).collect();
        let bindings = bind(self.graph, &shapes)?;
        let names = self.graph.inputs().iter().map(|input| Value::from(*input));
        let mut run = Run {
            values: names.zip(inputs.into_iter().map(Array::Shared)).collect(),
            shapes: FxHashMap::default(),
            bindings,
        };
        let mut reads = self.reads.clone();
        for step in &self.steps {
            let failed = |what: String| run_error(self.graph, step.node, &what);
            let operands: SmallVec<[Array<'g, T>; 4]> = step
                .operands
                .iter()
                .map(|value| self.take(*value, &mut run, &mut reads))
                .collect::<Result<_>>()?;
            for (value, array) in step.operands.iter().zip(&operands) {
                run.shapes
                    .entry(*value)
                    .or_insert_with(|| array.shape().to_vec());
            }
            let result = match &step.direct {
                Some(direct) => direct.run(&operands[0]),
                None => evaluate(step.op, operands, &run.bindings),
            };
            run.values.insert(step.node.into(), result.map_err(failed)?);
        }
        Ok(run)
    }

    /// The arrays of all inputs: of the others what they hold where a caller gives nothing.
    fn inputs(&self, samples: ArcArray<T, IxDyn>) -> Result<Vec<ArcArray<T, IxDyn>>> {
        let array = |node: &NodeId| {
            if Value::from(*node) == self.input {
                return Some(samples.clone());
            }
            let default = self.graph.defaults.get(&self.graph.node(*node).name)?;
            let elements = default.elements::<T>().into_owned();
            let array = ArrayD::from_shape_vec(default.shape(), elements).ok()?;
            Some(array.into_shared())
        };
        let nodes = self.graph.inputs().iter();
        nodes
            .map(|node| array(node).ok_or_else(|| run_error(self.graph, *node, "it has no value")))
            .collect()
    }

    /// A value for one of its readers; the last one gets it as its only owner, unless the way back needs it.
    fn take(
        &self,
        value: Value,
        run: &mut Run<'g, T>,
        reads: &mut FxHashMap<Value, usize>,
    ) -> Result<Array<'g, T>> {
        if let Some(constant) = self.constants.get(&value.node) {
            return Ok(constant.clone());
        }
        let left = reads.entry(value).or_default();
        *left = left.saturating_sub(1);
        let found = if *left == 0 && !self.saved.contains(&value) {
            run.values.remove(&value)
        } else {
            run.values.get(&value).cloned()
        };
        found.ok_or_else(|| run_error(self.graph, value.node, "it has no such result"))
    }

    /// The derivative by the samples of what `seed` says the derivatives by targets are of, `[n, ...]`.
    ///
    /// # Errors
    /// [`Error::Run`] with the operator whose gradient cannot be computed.
    pub fn back(&self, mut run: Run<'g, T>, seed: &Seed<T>) -> Result<Vec<T>> {
        let mut adjoints: FxHashMap<Value, Array<'g, T>> = FxHashMap::default();
        for step in self.steps.iter().rev() {
            let result = Value::from(step.node);
            let failed = |what: String| run_error(self.graph, step.node, &what);
            let Some(adjoint) = self
                .adjoint(result, &run, &mut adjoints, seed)
                .map_err(failed)?
            else {
                continue;
            };
            let known: SmallVec<[Option<Array<'g, T>>; 4]> = step
                .operands
                .iter()
                .map(|v| {
                    self.constants
                        .get(&v.node)
                        .or_else(|| run.values.get(v))
                        .cloned()
                })
                .collect();
            let shapes: SmallVec<[&[usize]; 4]> = step
                .operands
                .iter()
                .map(|value| run.shapes.get(value).map_or(&[][..], Vec::as_slice))
                .collect();
            let value = run.values.get(&result).cloned();
            let site = operator::Site {
                op: step.op,
                operands: &known,
                shapes: &shapes,
                result: value.as_ref(),
                bindings: &run.bindings,
            };
            let wanted: SmallVec<[usize; 4]> = (0..step.operands.len())
                .filter(|i| self.active.contains(&step.operands[*i]))
                .collect();
            let mut adjoint = Some(adjoint);
            for (i, operand) in wanted.iter().enumerate() {
                // The last one may write over it.
                let given = if i + 1 == wanted.len() {
                    adjoint.take()
                } else {
                    adjoint.clone()
                };
                let Some(given) = given else { continue };
                let share = match &step.direct {
                    Some(direct) if *operand == 0 => direct.back(&given),
                    _ => back(&site, *operand, given),
                };
                let share = share.map_err(failed)?;
                let value = step.operands[*operand];
                let sum = match adjoints.remove(&value) {
                    Some(others) => {
                        evaluate(&Op::Add {}, [others, share], &run.bindings).map_err(failed)?
                    }
                    None => share,
                };
                adjoints.insert(value, sum);
            }
            run.values.remove(&result);
        }
        let adjoint = self.adjoint(self.input, &run, &mut adjoints, seed);
        let adjoint = adjoint.map_err(|what| run_error(self.graph, self.input.node, &what))?;
        Ok(adjoint.map(Array::into_vec).unwrap_or_default())
    }

    /// The derivative with respect to a value: what was propagated back to it, and what it adds itself; `None` where nothing depends on it.
    fn adjoint(
        &self,
        value: Value,
        run: &Run<'g, T>,
        adjoints: &mut FxHashMap<Value, Array<'g, T>>,
        seed: &Seed<T>,
    ) -> Result<Option<Array<'g, T>>, String> {
        let propagated = adjoints.remove(&value);
        let Some(own) = run
            .values
            .get(&value)
            .filter(|_| self.targets.contains(&value))
        else {
            return Ok(propagated);
        };
        let mut elements = match propagated {
            Some(propagated) => propagated.into_vec(),
            None => super::array::zeros(own.shape())?,
        };
        seed(value, own, &mut elements);
        super::array::from_vec(own.shape(), elements).map(Some)
    }
}

impl<'g, T: Real> Run<'g, T> {
    /// A target, as it was computed.
    pub fn value(&self, value: Value) -> Option<&Array<'g, T>> {
        self.values.get(&value)
    }

    /// Elements of all values that are kept.
    pub fn elements(&self) -> usize {
        self.values.values().map(|value| value.view().len()).sum()
    }
}

/// The values from which a gradient comes back to the one input, and the first operator that keeps others from that.
///
/// # Errors
/// As [`Gradient::new`], but for operators without a gradient.
pub fn reachable(graph: &Graph) -> Result<(FxHashSet<Value>, Option<Error>)> {
    let input = Gradient::<f32>::new(graph, &[])?.input;
    let (mut reached, mut beyond, mut obstacle) =
        (FxHashSet::from_iter([input]), FxHashSet::default(), None);
    for node in graph.topological_order().unwrap_or_default() {
        let Some(op) = graph.op(node) else { continue };
        let operands = graph.operands(node);
        let active: SmallVec<[bool; 4]> = operands
            .iter()
            .map(|value| reached.contains(value))
            .collect();
        let blocked = operands.iter().any(|value| beyond.contains(&value.node));
        match differentiable(op, &active) {
            Ok(()) if blocked => {
                beyond.insert(node);
            }
            Err(what) if active.contains(&true) || blocked => {
                beyond.insert(node);
                obstacle.get_or_insert_with(|| run_error(graph, node, &what));
            }
            // What an operator that is not known makes of constants cannot be computed either.
            Err(_) => {
                beyond.insert(node);
            }
            Ok(()) if active.contains(&true) => {
                reached.insert(node.into());
            }
            Ok(()) => {}
        }
    }
    Ok((reached, obstacle))
}
