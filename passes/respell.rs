//! Respell: operators are written as ONNX Runtime is fastest with them.
//!
//! What is computed stays the same. A PReLU goes element by element there, with a branch that costs the more the less signs repeat: on
//! noise it takes twelve times as long as a product and a maximum, which are the same where no slope is over 1.

use crate::Result;
use crate::ir::{Constant, DType, Graph, NodeId, Op, Tensor, Value};
use crate::pipeline::{Changed, Kind, Options, Pass, PassContext, PassInfo};

/// `respell`.
pub static RESPELL: PassInfo = PassInfo {
    name: "respell",
    summary: "write operators as ONNX Runtime is fastest with them: PReLU as a maximum",
    kind: Kind::Exact,
    options: &[],
    build,
};

fn build(_: &Options) -> Result<Box<dyn Pass>> {
    Ok(Box::new(Respell))
}

struct Respell;

impl Pass for Respell {
    fn info(&self) -> &'static PassInfo {
        &RESPELL
    }

    fn run(&self, graph: &mut Graph, context: &mut PassContext<'_>) -> Result<Changed> {
        let changed = as_maximum(graph, context);
        graph.remove_dead();
        Ok(changed)
    }
}

/// `max(x, slope x)` in the place of each PReLU of which no slope is over 1.
fn as_maximum(graph: &mut Graph, context: &mut PassContext<'_>) -> Changed {
    let mut changed = Changed::No;
    for node in graph.nodes().collect::<Vec<_>>() {
        if let Some(slopes) = slopes(graph, node) {
            changed |= replace(graph, node, slopes, context);
        }
    }
    changed
}

/// The slopes of a PReLU, in the shape in which they are multiplied with what it reads.
fn slopes(graph: &Graph, node: NodeId) -> Option<Constant> {
    if graph.op(node)? != &(Op::PRelu {}) {
        return None;
    }
    let [x, slope] = graph.operands(node)[..] else {
        return None;
    };
    let constant = graph.constant(slope.node)?;
    let elements = constant.tensor.elements::<f64>();
    let rank = graph.ty(x).rank()?;
    let fits =
        graph.ty(x).dtype() == Some(DType::F32) && elements.iter().all(|slope| *slope <= 1.0);
    let mut shape = vec![1; rank.saturating_sub(1)];
    match (elements.len(), shape.first_mut()) {
        (1, _) => shape.clear(),
        (count, Some(channels)) => *channels = count,
        (_, None) => return None,
    }
    let tensor = || Tensor::from_f64(DType::F32, &shape, elements.iter().copied());
    fits.then(|| Constant::new(tensor(), constant.role))
}

fn replace(
    graph: &mut Graph,
    node: NodeId,
    slopes: Constant,
    context: &mut PassContext<'_>,
) -> Changed {
    let [x, slope] = graph.operands(node)[..] else {
        return Changed::No;
    };
    let [name, of] = [node, slope.node].map(|node| graph.node(node).name.to_string());
    let slopes = graph.add_constant(&format!("{of}.shaped"), slopes);
    let Ok(scaled) = graph.add_op(&format!("{name}.scaled"), Op::Mul {}, &[x, slopes.into()])
    else {
        return Changed::No;
    };
    let same_type = graph.ty(scaled.into()) == graph.ty(node.into());
    let maximum = [x, Value::from(scaled)];
    if !same_type || graph.replace_op(node, Op::Maximum {}, &maximum).is_err() {
        return Changed::No;
    }
    context.applied(
        &name,
        "prelu as a product and a maximum, as no slope is over 1",
    );
    Changed::Yes
}
