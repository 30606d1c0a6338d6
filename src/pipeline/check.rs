//! What the pass manager checks: the rules of the IR, the interface, and the outputs.

use rustc_hash::FxHashSet;

use super::run_options::RunOptions;
use crate::exec::Verification;
use crate::ir::{DType, Graph, Interface, NodeId, Op, Type, Violation, verify};
use crate::{Error, Result, exec};

/// The interface of the graph that a pipeline starts from, and how to compare with its outputs.
pub(super) struct Check {
    interface: Interface,
    /// Random inputs for a comparison, and the seed that they are made from.
    inputs: usize,
    seed: u64,
    /// The largest error of exact passes.
    pub(super) tolerance: f64,
}

/// How far the outputs of `graph` may move by rounding alone, relative to the largest: by the coarsest type of its values.
pub fn rounding(graph: &Graph) -> f64 {
    let types = graph.nodes().flat_map(|node| &graph.node(node).outputs);
    let types = types
        .filter_map(Type::dtype)
        .filter(|dtype| dtype.is_float());
    match types.max_by(|a, b| a.epsilon().total_cmp(&b.epsilon())) {
        // Ten units in the last place: sums have few terms of one size, but these may cancel.
        Some(dtype @ (DType::F16 | DType::BF16)) => 10.0 * dtype.epsilon(),
        // Longer sums, in double precision too: the interpreter has single.
        _ => 1e-4,
    }
}

impl Check {
    /// Checks the graph that a pipeline starts from, and remembers its interface.
    pub(super) fn new(original: &Graph, options: &RunOptions) -> Result<Check> {
        let tolerance = options.tolerance.unwrap_or_else(|| rounding(original));
        let original = verify(original).map_err(|v| invalid("the reader", v))?;
        Ok(Check {
            interface: Interface::of(original),
            inputs: options.inputs,
            seed: options.seed,
            tolerance,
        })
    }

    /// Checks the rules of the IR in what `stage` made, and that the interface is the original's.
    pub(super) fn graph(&self, stage: &str, graph: &Graph) -> Result<()> {
        let graph = verify(graph).map_err(|v| invalid(stage, v))?;
        let interface = Interface::of(graph);
        self.interface
            .check(&interface)
            .map_err(|v| invalid(stage, v))
    }

    /// Runs both graphs on the same random inputs; what `stage` made must run if what was before it does.
    pub(super) fn compare(
        &self,
        stage: &str,
        before: &Graph,
        after: &Graph,
    ) -> Result<Verification> {
        let moved = exec::compare::<f32>(before, after, self.inputs, self.seed);
        moved.map_err(|error| Error::Verification {
            stage: stage.to_string(),
            what: error.to_string(),
        })
    }
}

fn invalid(stage: &str, violations: Vec<Violation>) -> Error {
    Error::Invalid {
        stage: stage.to_string(),
        violations: violations.iter().map(Violation::to_string).collect(),
    }
}

/// Refuses NaN and infinite weights in what `stage` made of weights that had none. Those that lie where they lay are not read.
///
/// # Errors
/// [`Error::Invalid`], which names each.
pub(super) fn refuse_new_non_finite(stage: &str, before: &Graph, after: &Graph) -> Result<()> {
    let constants = before.nodes().filter_map(|n| before.constant(n));
    let known: FxHashSet<_> = constants.map(|c| c.tensor.place()).collect();
    let is_new = |node: &NodeId| {
        let constant = after.constant(*node);
        constant.is_some_and(|c| !known.contains(&c.tensor.place()) && c.tensor.has_non_finite())
    };
    let new = after.nodes().filter(|n| is_weight(after, *n) && is_new(n));
    let violations: Vec<String> = new
        .map(|node| {
            format!(
                "the parameter `{}` has become NaN or infinite",
                after.node(node).name
            )
        })
        .collect();
    // What is made of numbers that are not finite need not be.
    if violations.is_empty() || non_finite(before).is_some() {
        Ok(())
    } else {
        Err(Error::Invalid {
            stage: stage.to_string(),
            violations,
        })
    }
}

/// Whether a layer multiplies or adds this value.
fn is_weight(graph: &Graph, node: NodeId) -> bool {
    let readers = graph.readers(node.into()).into_iter();
    readers
        .filter_map(|(reader, _)| graph.op(reader))
        .any(|op| {
            matches!(
                op,
                Op::Conv { .. }
                    | Op::ConvTranspose { .. }
                    | Op::Linear {}
                    | Op::MatMul {}
                    | Op::BatchNorm { .. }
                    | Op::LayerNorm { .. }
                    | Op::GroupNorm { .. }
                    | Op::PRelu {}
            )
        })
}

/// A weight that holds NaN or infinite values. What hides scores is infinite, and no weight.
fn non_finite(graph: &Graph) -> Option<NodeId> {
    graph.nodes().find(|n| {
        let constant = graph.constant(*n).filter(|_| is_weight(graph, *n));
        constant.is_some_and(|c| c.tensor.has_non_finite())
    })
}

/// Comparing weights means nothing where some are not numbers.
pub(crate) fn refuse_non_finite(pass: &str, graph: &Graph) -> Result<()> {
    match non_finite(graph) {
        None => Ok(()),
        Some(node) => Err(Error::Usage {
            what: format!(
                "the parameter `{}` holds NaN or infinite values",
                graph.node(node).name
            ),
            help: format!("repair the network before comparing its weights, or leave `{pass}` out"),
        }),
    }
}
