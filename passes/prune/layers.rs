//! The layers that can be pruned.

use std::sync::Arc;

use super::layer::Layer;
use crate::analysis::kernels::KernelLayout;
use crate::analysis::pruning::Zeros;
use crate::ir::{Graph, NodeId, Op};
use crate::passes::activations::{Activations, PriorMoments, activations_of};
use crate::pipeline::PassContext;
use crate::{Result, words};

/// The most features whose joint covariance is measured: those of the largest convolution of a ResNet-50.
const MOST_JOINT: usize = 4608;

words! {
    /// By what weights are chosen.
    pub enum By {
        Covariance = "covariance",
        Magnitude = "magnitude",
    }
}

/// The layers that can be pruned in this form, in the order in which they run, and remarks on those that cannot.
///
/// # Errors
/// When the samples do not fit the network.
pub fn layers(
    graph: &Graph,
    zeros: &Zeros,
    by: By,
    damping: f64,
    prior: &PriorMoments,
    context: &mut PassContext<'_>,
) -> Result<Vec<Arc<Layer>>> {
    let mut places = Vec::new();
    for node in graph.topological_order().unwrap_or_default() {
        match place(graph, node, zeros) {
            Some(Ok(layout)) => places.push((node, layout)),
            Some(Err(why)) => context.missed(&graph.node(node).name, format!("left dense: {why}")),
            None => {}
        }
    }
    let reads: Vec<Option<Activations>> = match by {
        By::Magnitude => vec![None; places.len()],
        By::Covariance => activations_of(graph, &places, MOST_JOINT, prior, context)?
            .into_iter()
            .map(Some)
            .collect(),
    };
    let mut layers = Vec::new();
    for (i, ((node, layout), reads)) in places.iter().zip(reads).enumerate() {
        let name = &graph.node(*node).name;
        context.progress(name, 0.3 + 0.05 * i as f64 / places.len() as f64)?;
        let features = layout.inputs / layout.groups * layout.taps;
        if let Some(Activations {
            count: Some(count), ..
        }) = reads
            && count < features as f64
        {
            context.analysis(name, format!("the samples have {count} positions for its {features} features: what they do not say, the damping of {damping} does"));
        }
        match Layer::new(graph, *node, layout, reads, damping, zeros) {
            Some(layer) => layers.push(Arc::new(layer)),
            None => context.missed(
                name,
                "left dense: the covariance of what it reads is not finite",
            ),
        }
    }
    Ok(layers)
}

/// How the weight of a layer lies; why it cannot be pruned, or `None` for what is no layer.
fn place(graph: &Graph, node: NodeId, zeros: &Zeros) -> Option<Result<KernelLayout, String>> {
    let op = graph.op(node)?;
    let weight = *graph.operands(node).get(1)?;
    match op {
        Op::Conv { .. } | Op::Linear {} => {}
        Op::ConvTranspose { .. } => {
            return Some(Err(
                "its kernels lie by input channel, as it is transposed".into()
            ));
        }
        Op::MatMul {} => {
            let constant = graph
                .operands(node)
                .iter()
                .any(|v| graph.constant(v.node).is_some());
            return constant
                .then(|| Err("it is a product with a constant of several matrices".into()));
        }
        _ => return None,
    }
    let Some(constant) = graph
        .constant(weight.node)
        .filter(|c| c.tensor.dtype().is_float())
    else {
        return Some(Err(
            "its weight is not a constant of floating point numbers".into(),
        ));
    };
    if constant.mask.is_some() {
        return Some(Err("its weight is masked already".into()));
    }
    if graph.only_reader(weight).is_none() {
        return Some(Err("its weight has other readers".into()));
    }
    let layout = KernelLayout::dense(op, constant.tensor.shape())?;
    if constant.tensor.is_empty() || layout.groups == 0 {
        return None;
    }
    let (rows, row) = (layout.outputs, layout.inputs / layout.groups * layout.taps);
    let [tall, wide] = zeros.unit();
    let why = match zeros {
        Zeros::Pattern { .. } if row % wide != 0 => {
            format!("its rows of {row} weights are not whole groups of {wide}")
        }
        Zeros::Share { .. } if row % wide != 0 || rows % tall != 0 => {
            format!("its {rows} rows of {row} weights are not whole blocks of {tall}x{wide}")
        }
        _ => return Some(Ok(layout)),
    };
    Some(Err(why))
}
