//! What is in a model, looked at and not changed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Model;
use crate::analysis::{Macs, Sparsity, Stats, node_macs};
use crate::formats::FileFacts;
use crate::ir::{Dim, Graph, NodeId, NodeKind, Op, Role, Tensor, Type};

/// What is in a model. As JSON it is what `optc inspect --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// The model's file; empty for a model that did not come from one.
    pub model: String,
    /// The format, and what the file says of itself.
    pub file: FileFacts,
    /// The network's name.
    pub name: String,
    /// What it takes, in order.
    pub inputs: Vec<Typed>,
    /// What it returns, in order.
    pub outputs: Vec<Typed>,
    /// Size and cost of the whole.
    #[serde(flatten)]
    pub stats: Stats,
    /// How many operations of each operator there are.
    pub operators: BTreeMap<String, usize>,
    /// The operators among them that passes leave alone, as optc does not know them.
    pub opaque: Vec<String>,
    /// The operations that read weights, or multiply and add, in order.
    pub layers: Vec<Layer>,
    /// Weights that several operations read, or that the file keeps under several names.
    pub tied: Vec<Tied>,
    /// What masks hold at zero; null where no constant is masked.
    pub sparsity: Option<Sparsity>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Typed {
    /// Its name.
    pub name: String,
    /// Its type, such as `f32[N,3,224,224]`.
    #[serde(rename = "type")]
    pub ty: String,
}

/// An operation that reads weights, or multiplies and adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layer {
    /// The operation's name.
    pub name: String,
    /// The operator's.
    pub operator: String,
    /// Elements of the floating-point constants that it reads, buffers left out; tied ones count for each reader.
    pub params: u64,
    /// How many of them are zero, masked or not.
    pub zeros: u64,
    /// Multiply-adds; `None` where they depend on a size without a number, or are not counted.
    pub macs: Option<u64>,
    /// The type of its first result, its sizes as numbers where they have some.
    #[serde(rename = "type")]
    pub ty: String,
}

/// A constant with several readers or names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tied {
    /// Its names in the file.
    pub names: Vec<String>,
    /// The operations that read it.
    pub readers: Vec<String>,
}

impl Inspection {
    /// Looks at a model; sizes have the numbers that its graph's bindings give them.
    pub fn of(model: &Model) -> Inspection {
        let graph = &model.graph;
        let typed = |name: &str, ty: &Type| Typed {
            name: name.to_string(),
            ty: ty.to_string(),
        };
        let inputs = graph.inputs().iter();
        let inputs = inputs.map(|input| typed(&graph.node(*input).name, graph.ty((*input).into())));
        let outputs = graph
            .outputs()
            .iter()
            .map(|o| typed(&o.name, graph.ty(o.value)));
        let mut stats = Stats::of(graph);
        let operators = std::mem::take(&mut stats.operators).into_iter().collect();
        let order = graph.topological_order();
        let order = order.unwrap_or_else(|_| graph.nodes().collect());
        let mut opaque: Vec<String> = Vec::new();
        for node in &order {
            if let Some(Op::Opaque(op)) = graph.op(*node)
                && !opaque.iter().any(|name| **name == *op.name)
            {
                opaque.push(op.name.to_string());
            }
        }
        Inspection {
            model: String::new(),
            file: model.origin.facts(),
            name: graph.name.clone(),
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            stats,
            operators,
            opaque,
            layers: order.iter().filter_map(|n| layer(graph, *n)).collect(),
            tied: graph.nodes().filter_map(|n| tied(graph, n)).collect(),
            sparsity: Sparsity::of(graph),
        }
    }

    /// The inspection as indented JSON, ending in a newline.
    pub fn to_json(&self) -> String {
        // Nothing in it fails to serialise: its keys are texts.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

fn layer(graph: &Graph, node: NodeId) -> Option<Layer> {
    let op = graph.op(node)?;
    let operands = graph.operands(node);
    let weights: Vec<&Tensor> = operands
        .iter()
        .filter_map(|value| graph.constant(value.node))
        .filter(|c| c.tensor.dtype().is_float() && c.role != Role::Buffer)
        .map(|c| &c.tensor)
        .collect();
    let params: usize = weights.iter().map(|tensor| tensor.len()).sum();
    let zeros = |tensor: &&Tensor| {
        let elements = tensor.elements::<f32>();
        elements.iter().filter(|x| **x == 0.0).count()
    };
    let macs = node_macs(graph, node);
    if params == 0 && macs.as_ref().is_some_and(Macs::is_zero) {
        return None;
    }
    let macs = macs.and_then(|macs| macs.eval(&graph.bindings));
    Some(Layer {
        name: graph.node(node).name.to_string(),
        operator: match op {
            Op::Opaque(opaque) => opaque.name.to_string(),
            op => op.name().to_string(),
        },
        params: params as u64,
        zeros: weights.iter().map(zeros).sum::<usize>() as u64,
        macs,
        ty: graph
            .node(node)
            .outputs
            .first()
            .map_or_else(String::new, |ty| with_numbers(ty, graph).to_string()),
    })
}

fn with_numbers(ty: &Type, graph: &Graph) -> Type {
    let number = |dim: &Dim| dim.eval(&graph.bindings).map_or(dim.clone(), Dim::from);
    match ty {
        Type::Tensor(dtype, Some(shape)) => Type::tensor(*dtype, shape.iter().map(number)),
        other => other.clone(),
    }
}

fn tied(graph: &Graph, node: NodeId) -> Option<Tied> {
    let NodeKind::Constant(constant) = &graph.node(node).kind else {
        return None;
    };
    if constant.role == Role::Literal {
        return None;
    }
    let readers = graph.readers(node.into()).into_iter();
    let mut readers: Vec<NodeId> = readers.map(|(reader, _)| reader).collect();
    readers.dedup();
    let names = std::iter::once(&graph.node(node).name).chain(&constant.aliases);
    let tied = Tied {
        names: names.map(|name| name.to_string()).collect(),
        readers: readers
            .iter()
            .map(|reader| graph.node(*reader).name.to_string())
            .collect(),
    };
    (tied.readers.len() > 1 || tied.names.len() > 1).then_some(tied)
}
