//! Random small networks with redundancy planted in their weights.

mod layers;
mod layouts;
mod operators;
mod parts;
mod planted;

pub use planted::Planted;

use super::choices::Choices;
use super::weights::{self, Plan};
use crate::ir::{
    Bindings, Constant, DType, Dim, Graph, Mask, NodeId, Op, Role, Tensor, Type, Value,
};

/// A valid network for these bytes, the same on every run: convolutions of all kinds, normalisations, activations, residual
/// adds, gates, concatenations, slices, attention, other layouts, pools, any operator of the IR, and a classifier, with equal,
/// proportional and zero channels. Every size of its one input has a number in the bindings; the interpreter can run it.
pub fn random_graph(bytes: &[u8]) -> Graph {
    let mut builder = Builder::new(bytes);
    for _ in 0..3 + builder.choices.below(12) {
        builder.step();
    }
    builder.finish()
}

/// A network in which a channel of the first layer, `planted`, is redundant, the operator of this name follows, and a layer reads what
/// it gives; `None` where the bytes give the operator a form that does not fit.
pub fn planted_graph(bytes: &[u8], planted: Planted, name: &str) -> Option<Graph> {
    let mut builder = Builder::new(bytes);
    let x = builder.features[0];
    let first = builder.planted(x, planted).ok()?;
    let middle = builder.named(name, first).ok()?;
    let inputs = builder.graph.ty(middle.into()).len(1)?;
    let weight = Plan::distinct(4).rows(9, 1.0, &[4, inputs]);
    let weight = Tensor::from_vec(&[4, inputs, 1, 1], weight);
    let weight = builder.constant("reader.weight", weight);
    let reader = builder
        .op("reader", Op::pointwise(2, 1), &[middle, weight])
        .ok()?;
    builder.graph.add_output("out", reader.into());
    builder.graph.remove_dead();
    Some(builder.graph)
}

struct Builder<'a> {
    choices: Choices<'a>,
    graph: Graph,
    /// Values of shape `[N,C,H,W]` to go on from.
    features: Vec<NodeId>,
    /// Weights of convolutions, to tie.
    weights: Vec<NodeId>,
}

type Added = Result<NodeId, String>;

impl<'a> Builder<'a> {
    /// A network of one input so far.
    fn new(bytes: &'a [u8]) -> Builder<'a> {
        let mut choices = Choices::new(bytes);
        let mut graph = Graph::new("random");
        let channels = 1 + choices.below(4);
        let side = 4 + choices.below(5);
        let sizes = match choices.below(2) {
            0 => [Dim::from(side), Dim::from(side + 1)],
            _ => [Dim::symbol("H"), Dim::symbol("W")],
        };
        let [height, width] = sizes;
        let shape = [Dim::symbol("N"), channels.into(), height, width];
        let x = graph.add_input("x", Type::tensor(DType::F32, shape));
        graph.bindings = Bindings::from_iter([
            ("N".into(), 2),
            ("H".into(), side as i64),
            ("W".into(), side as i64 + 1),
        ]);
        Builder {
            choices,
            graph,
            features: vec![x],
            weights: Vec::new(),
        }
    }
}

impl Builder<'_> {
    /// Adds a layer or a few. A layer that does not fit leaves the features as they are; what it has added is dead.
    fn step(&mut self) {
        let x = self.feature();
        let added = match self.choices.below(32) {
            // What bytes that are used up, or were cleared to make a failing case smaller, give.
            0 => return,
            1..4 | 20 => self.convolution(x),
            4 | 5 => self.batch_norm(x),
            6 | 7 => self.activation(x),
            8 | 9 => self.residual(x),
            10 => self.binary(x),
            11 => self.gate(x),
            12 => self.concat(x),
            13 => self.part(x),
            14 => self.pool(x),
            15 => self.pad(x),
            16 => self.per_channel(x),
            17 => self.shuffle(x),
            18 => self.transposed_convolution(x),
            19 => self.resize(x),
            21..25 => self.layout(x),
            _ => self.operator(x),
        };
        self.features.extend(added);
    }

    /// The latest feature, or any.
    fn feature(&mut self) -> NodeId {
        let last = self.features.len() - 1;
        if self.choices.one_in(4) {
            self.features[self.choices.below(self.features.len())]
        } else {
            self.features[last]
        }
    }

    fn channels(&self, x: NodeId) -> usize {
        self.graph.ty(x.into()).len(1).unwrap_or(1)
    }

    /// Adds an operation, unless nothing is left of the input's sizes.
    fn op(&mut self, name: &str, op: Op, operands: &[NodeId]) -> Added {
        let operands: Vec<Value> = operands.iter().map(|n| (*n).into()).collect();
        let node = self.graph.add_op(name, op, &operands)?;
        let sizes = self.graph.ty(node.into()).shape().unwrap_or_default();
        let is_size = |d: &Dim| d.eval(&self.graph.bindings).is_some_and(|n| n > 0);
        if sizes.iter().all(is_size) {
            Ok(node)
        } else {
            Err("the window is larger than the input".to_string())
        }
    }

    fn parameter(&mut self, name: &str, tensor: Tensor) -> NodeId {
        // Some are masked: where they are zero, or anywhere.
        let mask = match self.choices.below(8) {
            0 if tensor.shape().len() > 1 => Some(Mask::of(&tensor)),
            1 if tensor.shape().len() > 1 => {
                let every = 2 + self.choices.below(3);
                Some(Mask::from_fn(tensor.len(), |i| !i.is_multiple_of(every)))
            }
            _ => None,
        };
        let constant = Constant {
            mask,
            ..Constant::new(tensor, Role::Parameter)
        };
        self.graph.add_constant(name, constant)
    }

    fn constant(&mut self, name: &str, tensor: Tensor) -> NodeId {
        let constant = Constant::new(tensor, Role::Parameter);
        self.graph.add_constant(name, constant)
    }

    fn plan(&mut self, channels: usize) -> Plan {
        if self.choices.one_in(4) {
            Plan::distinct(channels)
        } else {
            Plan::new(&mut self.choices, channels)
        }
    }

    /// A classifier on the latest feature, and at times a second output.
    fn finish(mut self) -> Graph {
        let last = self.features[self.features.len() - 1];
        let mut results = vec![match self.choices.below(3) {
            0 => last,
            _ => self.classifier(last).unwrap_or(last),
        }];
        if self.choices.one_in(3) {
            results.push(self.feature());
        }
        for (i, node) in results.into_iter().enumerate() {
            self.graph.add_output(format!("out{i}"), node.into());
        }
        self.graph.remove_dead();
        self.graph
    }

    fn classifier(&mut self, x: NodeId) -> Added {
        let side = 1 + self.choices.below(2);
        let output = [side.into(), side.into()].into_iter().collect();
        let pooled = match self.choices.below(2) {
            0 => self.op("pool", Op::AdaptiveAvgPool { output }, &[x])?,
            _ => self.op("pool", Op::AdaptiveMaxPool { output }, &[x])?,
        };
        let mut flat = self.op("flatten", Op::Flatten { start: 1, end: 3 }, &[pooled])?;
        for layer in 0..1 + self.choices.below(2) {
            if layer > 0 {
                flat = self.op("relu", Op::Relu {}, &[flat])?;
            }
            let features = self.graph.ty(flat.into()).len(1).unwrap_or(1);
            let plan = self.plan(5);
            let tensor = weights::weight(&mut self.choices, &plan, &[5, features]);
            let weight = self.parameter("linear.weight", tensor);
            let bias = weights::vector(&mut self.choices, &plan, 0.0, 0.5);
            let bias = self.parameter("linear.bias", bias);
            flat = self.op("linear", Op::Linear {}, &[flat, weight, bias])?;
        }
        Ok(flat)
    }
}
