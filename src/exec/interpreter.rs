//! Running a whole graph.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::array::Array;
use super::evaluate::evaluate;
use super::foreign::{Foreign, Returned};
use crate::error::{Error, Result};
use crate::ir::{Bindings, Dim, Graph, NodeId, NodeKind, Opaque, Real, Type, Value};

/// Computes the results of opaque operators: the node, its operator, its operands -> one array a result.
pub(super) type OpaqueHandler<'h, 'g, T> = dyn FnMut(NodeId, &Opaque, &mut Bindings, &[Array<'g, T>]) -> Result<Vec<Array<'g, T>>, String>
    + 'h;

/// Elements of the largest weight that is converted once for all runs.
const MAX_CONVERTED: usize = 1 << 16;

/// A graph made ready to run on arrays of `T`.
///
/// Weights of `T`'s type are used where they lie. Of others small ones are converted once, here, and large ones whenever they are
/// used: a network may be larger than memory.
pub struct Interpreter<'g, T: Real> {
    graph: &'g Graph,
    order: Vec<NodeId>,
    /// The small ones.
    constants: FxHashMap<NodeId, Array<'g, T>>,
    /// How often each value is read, by operations and outputs.
    reads: FxHashMap<Value, usize>,
}

impl<'g, T: Real> Interpreter<'g, T> {
    /// Prepares `graph`.
    ///
    /// # Errors
    /// [`Error::Run`] if the graph has a cycle.
    pub fn new(graph: &'g Graph) -> Result<Self> {
        let order = graph
            .topological_order()
            .map_err(|node| run_error(graph, node, "it is on a cycle"))?;
        let mut reads: FxHashMap<Value, usize> = FxHashMap::default();
        let operands = order.iter().flat_map(|node| graph.operands(*node));
        for value in operands.chain(graph.outputs().iter().map(|o| o.value)) {
            *reads.entry(value).or_default() += 1;
        }
        let constants = order
            .iter()
            .filter(|node| reads.contains_key(&Value::from(**node)))
            .filter_map(|node| Some((*node, &graph.constant(*node)?.tensor)))
            .filter(|(_, tensor)| tensor.len() <= MAX_CONVERTED)
            .map(|(node, tensor)| (node, Array::from(tensor)))
            .collect();
        Ok(Interpreter {
            graph,
            order,
            constants,
            reads,
        })
    }

    /// The nodes, each after those it reads.
    pub(super) fn order(&self) -> &[NodeId] {
        &self.order
    }

    /// The outputs, in the graph's order. Symbols of the inputs' types get their numbers from the actual shapes.
    ///
    /// # Errors
    /// [`Error::Usage`] if the inputs do not fit the graph's; [`Error::Run`] with the node that cannot be computed.
    pub fn run(&self, inputs: Vec<Array<'g, T>>) -> Result<Vec<Array<'g, T>>> {
        self.run_with(inputs, &mut |_, opaque, _, _| {
            Err(format!(
                "optc does not know what the operator {} computes",
                opaque.name
            ))
        })
    }

    /// As [`run`](Self::run), opaque operators being computed by `opaque`.
    pub(super) fn run_with(
        &self,
        inputs: Vec<Array<'g, T>>,
        opaque: &mut OpaqueHandler<'_, 'g, T>,
    ) -> Result<Vec<Array<'g, T>>> {
        let shapes: Vec<&[usize]> = inputs.iter().map(Array::shape).collect();
        let mut bindings = bind(self.graph, &shapes)?;
        let mut values: FxHashMap<Value, Array<'g, T>> = FxHashMap::default();
        let mut reads = self.reads.clone();
        for (node, input) in self.graph.inputs().iter().zip(inputs) {
            values.insert(Value::from(*node), input);
        }
        for node in &self.order {
            let NodeKind::Op(op) = &self.graph.node(*node).kind else {
                continue;
            };
            let operands: SmallVec<[Array<'g, T>; 4]> = self
                .graph
                .operands(*node)
                .into_iter()
                .map(|value| self.take(value, &mut values, &mut reads))
                .collect::<Result<_>>()?;
            let failed = |what: String| run_error(self.graph, *node, &what);
            let results = match op {
                crate::ir::Op::Opaque(op) => {
                    opaque(*node, op, &mut bindings, &operands).map_err(failed)?
                }
                op => vec![evaluate(op, operands, &bindings).map_err(failed)?],
            };
            for (port, result) in results.into_iter().enumerate() {
                let value = Value {
                    node: *node,
                    port: port as u32,
                };
                if reads.contains_key(&value) {
                    values.insert(value, result);
                }
            }
        }
        self.graph
            .outputs()
            .iter()
            .map(|output| self.take(output.value, &mut values, &mut reads))
            .collect()
    }

    /// A value for one of its readers; the last one gets it as its only owner.
    fn take(
        &self,
        value: Value,
        values: &mut FxHashMap<Value, Array<'g, T>>,
        reads: &mut FxHashMap<Value, usize>,
    ) -> Result<Array<'g, T>> {
        if let Some(constant) = self.constants.get(&value.node) {
            return Ok(constant.clone());
        }
        if let Some(constant) = self.graph.constant(value.node) {
            return Ok(Array::from(&constant.tensor));
        }
        let left = reads.entry(value).or_default();
        *left = left.saturating_sub(1);
        match *left {
            0 => values.remove(&value),
            _ => values.get(&value).cloned(),
        }
        .ok_or_else(|| run_error(self.graph, value.node, "it has no such result"))
    }
}

impl<'g> Interpreter<'g, f32> {
    /// As [`run`](Self::run), operators that optc does not know being run by `foreign`.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_by(
        &self,
        inputs: Vec<Array<'g, f32>>,
        foreign: Option<&dyn Foreign>,
    ) -> Result<Vec<Array<'g, f32>>> {
        let mut returned = Returned::default();
        self.run_with(inputs, &mut |node, _, bindings, operands| {
            returned.run(self.graph, node, operands, bindings, foreign)
        })
    }
}

/// Numbers for the symbols, from the inputs' shapes; what these do not say comes from the graph's own numbers.
pub(super) fn bind(graph: &Graph, inputs: &[&[usize]]) -> Result<Bindings> {
    let wanted = graph.inputs();
    if wanted.len() != inputs.len() {
        return Err(Error::Usage {
            what: format!(
                "{} inputs for a graph that takes {}",
                inputs.len(),
                wanted.len()
            ),
            help: String::new(),
        });
    }
    let mut bindings = graph.bindings.clone();
    let shapes = || {
        let types = wanted.iter().map(|node| graph.ty(Value::from(*node)));
        types.zip(inputs).filter_map(|(ty, shape)| match ty {
            Type::Tensor(_, Some(dims)) => Some((dims, *shape)),
            _ => None,
        })
    };
    for (dims, shape) in shapes() {
        for (dim, n) in dims.iter().zip(shape) {
            if let (Some(symbol), Some(n)) = (dim.as_symbol(), Dim::from(*n).as_number()) {
                bindings.insert(symbol.clone(), n);
            }
        }
    }
    for (i, (dims, shape)) in shapes().enumerate() {
        let fits = dims.len() == shape.len()
            && dims
                .iter()
                .zip(shape)
                .all(|(dim, n)| dim.eval(&bindings) == Dim::from(*n).as_number());
        if !fits {
            return Err(Error::Usage {
                what: format!(
                    "the input `{}` has the type {}, which the shape {shape:?} does not fit",
                    graph.node(wanted[i]).name,
                    graph.ty(Value::from(wanted[i]))
                ),
                help: String::new(),
            });
        }
    }
    Ok(bindings)
}

pub(super) fn run_error(graph: &Graph, node: NodeId, what: &str) -> Error {
    Error::Run {
        node: graph.node(node).name.to_string(),
        what: what.to_string(),
    }
}
