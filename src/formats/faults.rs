//! Faults that are planted in the reader or the writer, to see that the judge finds them. Builds without debug assertions have none.

use crate::ir::{Graph, NodeKind, Op};

/// Where the environment variable says a fault is: `reader` or `writer`.
pub const VARIABLE: &str = "OPTC_PLANTED_FAULT";

fn planted(place: &str) -> bool {
    cfg!(debug_assertions) && std::env::var_os(VARIABLE).is_some_and(|value| value == *place)
}

/// A reader that loses activations.
pub(crate) fn of_reader(graph: &mut Graph) {
    if !planted("reader") {
        return;
    }
    let is_relu = |node| matches!(graph.op(node), Some(Op::Relu {}));
    for node in graph.nodes().filter(|n| is_relu(*n)).collect::<Vec<_>>() {
        let operand = graph.operands(node)[0];
        graph.replace_uses(node.into(), operand);
        graph.remove(node);
    }
}

/// A writer that turns weights around; `None` where it writes what it was given.
pub(crate) fn of_writer(graph: &Graph) -> Option<Graph> {
    if !planted("writer") {
        return None;
    }
    let mut wrong = graph.clone();
    for node in graph.nodes().collect::<Vec<_>>() {
        let NodeKind::Constant(constant) = &graph.node(node).kind else {
            continue;
        };
        let tensor = &constant.tensor;
        if tensor.dtype().is_float() && tensor.shape().len() > 1 {
            let mut elements = tensor.elements::<f64>().into_owned();
            elements.reverse();
            let turned = crate::ir::Tensor::from_f64(tensor.dtype(), tensor.shape(), elements);
            wrong.set_tensor(node, turned);
        }
    }
    Some(wrong)
}
