//! Lossy passes on random graphs, some of whose weights are computed, and some layers all zero.

use super::choices::Choices;
use super::graphs::random_graph;
use crate::ir::{Constant, DType, Graph, Op, Role, Tensor};
use crate::{Error, Model, Pipeline};

/// What is run: every way in which a pass changes weights.
const PIPELINES: [&str; 9] = [
    "red",
    "red{error=0.5}",
    "red{hash=none,alpha=0.5}",
    "red{hash=kernel,error=0.5}",
    "canonicalize,red{alpha=0.2}",
    "lrf",
    "lrf{ratio=0.5}",
    "lrf{ratio=0.5,scope=all}",
    "red{hash=none},lrf{error=0.5,scope=all},red{hash=none}",
];

/// Runs a lossy pipeline on a random graph: what comes out is valid, and finite.
pub fn lossy_passes(bytes: &[u8]) {
    let (head, tail) = bytes.split_at(bytes.len().min(24));
    let mut choices = Choices::new(head);
    let passes = choices.pick(&PIPELINES);
    let mut graph = random_graph(tail);
    spoil(&mut graph, &mut choices);
    let printed = format!("{graph:#}");
    let run = |pipeline: Pipeline| pipeline.run(&mut Model::new(graph));
    match Pipeline::parse(passes).and_then(run) {
        // A random weight may be too large for its type's sums.
        Ok(_) | Err(Error::Usage { .. }) => {}
        Err(error) => panic!("{passes}: {error}\n{printed}"),
    }
}

/// Makes the weights of some layers zero, and others the results of operators.
fn spoil(graph: &mut Graph, choices: &mut Choices<'_>) {
    let layers: Vec<_> = graph
        .nodes()
        .filter(|node| graph.op(*node).is_some_and(|op| op.weight_axes().is_some()))
        .collect();
    for layer in layers {
        let mut operands = graph.operands(layer);
        let Some(constant) = graph.constant(operands[1].node) else {
            continue;
        };
        let shape = constant.tensor.shape().to_vec();
        let ones = Tensor::from_f64(DType::F32, &[1], [1.0]);
        let op = match choices.below(6) {
            0 => Op::Mul {},
            1 => Op::Identity {},
            2 => Op::Abs {},
            3 => {
                let zeros = vec![0.0; shape.iter().product()];
                graph.set_operand_elements(layer, 1, zeros);
                continue;
            }
            _ => continue,
        };
        let mut of = vec![operands[1]];
        if op == (Op::Mul {}) {
            let ones = Constant::new(ones, Role::Literal);
            of.push(graph.add_constant("ones", ones).into());
        }
        if let Ok(computed) = graph.add_op("computed", op, &of) {
            operands[1] = computed.into();
            graph.set_operands(layer, &operands);
        }
    }
}
