//! Random small networks with redundancy planted in their weights.

mod layouts;
mod operators;

pub use operators::Planted;

use smallvec::SmallVec;

use super::choices::Choices;
use super::weights::{self, Plan};
use crate::ir::{
    Bindings, Constant, DType, Dim, Float, Graph, Mask, NodeId, Op, PadMode, Padding, ResizeMode,
    Role, Tensor, Type, Value,
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

    /// A convolution, grouped, depthwise or tied at times.
    fn convolution(&mut self, x: NodeId) -> Added {
        let inputs = self.channels(x);
        let groups = match self.choices.below(4) {
            3 => inputs,
            2 if inputs.is_multiple_of(2) => 2,
            _ => 1,
        };
        let outputs = groups * (1 + self.choices.below(12 / groups.min(12)));
        let kernel = self.choices.pick(&[3, 1, 2]);
        let stride = self.choices.pick(&[1, 1, 2]);
        let op = Op::Conv {
            stride: [stride, stride].into_iter().collect(),
            pad: self.padding(kernel),
            dilation: [1, self.choices.pick(&[1, 1, 2])].into_iter().collect(),
            groups,
        };
        self.conv(x, op, &[outputs, inputs / groups, kernel, kernel])
    }

    fn padding(&mut self, kernel: usize) -> Padding {
        match self.choices.below(3) {
            0 => Padding::symmetric([kernel / 2, kernel / 2]),
            1 => Padding::symmetric([0, 0]),
            _ => Padding {
                before: [0, kernel / 2].into_iter().collect(),
                after: [1, 0].into_iter().collect(),
            },
        }
    }

    fn conv(&mut self, x: NodeId, op: Op, shape: &[usize]) -> Added {
        let plan = self.plan(shape[0]);
        let name = self.graph.fresh_name("conv");
        let tied = self.weights.iter().copied().find(|w| {
            let has = self.graph.constant(*w).map(|c| c.tensor.shape());
            has == Some(shape)
        });
        let weight = match tied {
            Some(weight) if self.choices.one_in(2) => weight,
            _ => {
                let tensor = weights::weight(&mut self.choices, &plan, shape);
                self.parameter(&format!("{name}.weight"), tensor)
            }
        };
        self.weights.push(weight);
        let mut operands = vec![x, weight];
        if self.choices.below(3) > 0 {
            let tensor = weights::vector(&mut self.choices, &plan, 0.0, 0.5);
            operands.push(self.parameter(&format!("{name}.bias"), tensor));
        }
        self.op(&name, op, &operands)
    }

    fn transposed_convolution(&mut self, x: NodeId) -> Added {
        let (inputs, outputs) = (self.channels(x), 1 + self.choices.below(4));
        let plan = self.plan(inputs);
        let tensor = weights::weight(&mut self.choices, &plan, &[inputs, outputs, 2, 2]);
        let weight = self.parameter("up.weight", tensor);
        let op = Op::ConvTranspose {
            stride: [2, 1].into_iter().collect(),
            pad: Padding::symmetric([0, 1]),
            output_pad: [0, 0].into_iter().collect(),
            dilation: [1, 1].into_iter().collect(),
            groups: 1,
        };
        self.op("up", op, &[x, weight])
    }

    fn batch_norm(&mut self, x: NodeId) -> Added {
        let plan = self.plan(self.channels(x));
        let name = self.graph.fresh_name("norm");
        let tensors = [
            (
                "weight",
                weights::vector(&mut self.choices, &plan, 1.0, 0.3),
            ),
            ("bias", weights::vector(&mut self.choices, &plan, 0.0, 0.3)),
            (
                "running_mean",
                weights::vector(&mut self.choices, &plan, 0.0, 0.3),
            ),
            ("running_var", weights::positive(&mut self.choices, &plan)),
        ];
        let mut operands = vec![x];
        for (field, tensor) in tensors {
            operands.push(self.parameter(&format!("{name}.{field}"), tensor));
        }
        let eps = Float::from(self.choices.pick(&[1e-5, 1e-3]));
        self.op(&name, Op::BatchNorm { eps }, &operands)
    }

    fn activation(&mut self, x: NodeId) -> Added {
        let op = match self.choices.below(16) {
            0..6 => Op::Relu {},
            6 => Op::LeakyRelu { slope: 0.25.into() },
            7 => Op::Clip {
                min: 0.0.into(),
                max: 6.0.into(),
            },
            8 => Op::Silu {},
            9 => Op::HardSwish {},
            10 => Op::Sigmoid {},
            11 => Op::Tanh {},
            12 => Op::Gelu { tanh: false },
            13 => Op::Elu { alpha: 1.0.into() },
            14 => Op::Dropout { p: 0.5.into() },
            _ => {
                let plan = self.plan(self.channels(x));
                let tensor = weights::vector(&mut self.choices, &plan, 0.25, 0.1);
                let slope = self.parameter("prelu.weight", tensor);
                return self.op("prelu", Op::PRelu {}, &[x, slope]);
            }
        };
        let name = op.name();
        self.op(name, op, &[x])
    }

    /// `x + f(x)`.
    fn residual(&mut self, x: NodeId) -> Added {
        let channels = self.channels(x);
        let conv = Op::Conv {
            stride: [1, 1].into_iter().collect(),
            pad: Padding::symmetric([1, 1]),
            dilation: [1, 1].into_iter().collect(),
            groups: 1,
        };
        let mut branch = self.conv(x, conv.clone(), &[channels, channels, 3, 3])?;
        if self.choices.one_in(2) {
            branch = self.activation(branch)?;
            branch = self.conv(branch, conv, &[channels, channels, 3, 3])?;
        }
        if self.choices.one_in(2) {
            branch = self.batch_norm(branch)?;
        }
        let sum = self.op("add", Op::Add {}, &[branch, x])?;
        if self.choices.one_in(2) {
            self.op("relu", Op::Relu {}, &[sum])
        } else {
            Ok(sum)
        }
    }

    /// An element-wise operation with another feature of the same type.
    fn binary(&mut self, x: NodeId) -> Added {
        let ty = self.graph.ty(x.into());
        let fits = |y: &&NodeId| self.graph.ty((**y).into()) == ty;
        let fitting: Vec<NodeId> = self.features.iter().filter(fits).copied().collect();
        let y = self.choices.pick(&fitting);
        let op = match self.choices.below(6) {
            0..3 => Op::Add {},
            3 => Op::Sub {},
            4 => Op::Mul {},
            _ => Op::Maximum {},
        };
        let name = op.name();
        self.op(name, op, &[x, y])
    }

    /// Squeeze and excitation.
    fn gate(&mut self, x: NodeId) -> Added {
        let channels = self.channels(x);
        let output = [1.into(), 1.into()].into_iter().collect();
        let mean = self.op("squeeze", Op::AdaptiveAvgPool { output }, &[x])?;
        let conv = Op::Conv {
            stride: [1, 1].into_iter().collect(),
            pad: Padding::symmetric([0, 0]),
            dilation: [1, 1].into_iter().collect(),
            groups: 1,
        };
        let hidden = self.conv(mean, conv.clone(), &[2, channels, 1, 1])?;
        let hidden = self.op("relu", Op::Relu {}, &[hidden])?;
        let gate = self.conv(hidden, conv, &[channels, 2, 1, 1])?;
        let gate = self.op("sigmoid", Op::Sigmoid {}, &[gate])?;
        self.op("scale", Op::Mul {}, &[x, gate])
    }

    /// Features of the same height and width, one after the other.
    fn concat(&mut self, x: NodeId) -> Added {
        if self.channels(x) > 16 {
            return Err("wide enough".to_string());
        }
        let others = |node: NodeId| {
            let mut shape = self.graph.ty(node.into()).shape()?.to_vec();
            shape.remove(1);
            Some(shape)
        };
        let fits = |y: &&NodeId| others(**y) == others(x);
        let fitting: Vec<NodeId> = self.features.iter().filter(fits).copied().collect();
        let mut operands = vec![x];
        for _ in 0..1 + self.choices.below(2) {
            operands.push(self.choices.pick(&fitting));
        }
        self.op("concat", Op::Concat { axis: 1 }, &operands)
    }

    /// Some channels, or every other row.
    fn part(&mut self, x: NodeId) -> Added {
        let channels = self.channels(x);
        let op = match self.choices.below(3) {
            0 => Op::Slice {
                axis: 1,
                start: self.choices.below(channels).into(),
                end: channels.into(),
                step: 1 + self.choices.below(2),
            },
            1 => {
                let index: Vec<u32> = (0..1 + self.choices.below(8))
                    .map(|_| self.choices.below(channels) as u32)
                    .collect();
                Op::Gather {
                    axis: 1,
                    index: index.into(),
                }
            }
            _ => {
                let end = self
                    .graph
                    .ty(x.into())
                    .shape()
                    .map(|shape| shape[2].clone());
                Op::Slice {
                    axis: 2,
                    start: 0.into(),
                    end: end.unwrap_or_else(|| 1.into()),
                    step: 2,
                }
            }
        };
        let name = op.name();
        self.op(name, op, &[x])
    }

    fn pool(&mut self, x: NodeId) -> Added {
        let kernel = [2.into(), 2.into()].into_iter().collect();
        let stride = [2.into(), 1.into()].into_iter().collect();
        let pad = self.padding(1);
        let op = match self.choices.below(2) {
            0 => Op::MaxPool {
                kernel,
                stride,
                pad,
                dilation: [1, 1].into_iter().collect(),
                ceil: self.choices.one_in(2),
            },
            _ => Op::AvgPool {
                kernel,
                stride,
                pad,
                ceil: false,
                count_pad: self.choices.one_in(2),
            },
        };
        let name = op.name();
        self.op(name, op, &[x])
    }

    /// Zeros (or another value) around, or zero channels as in a shortcut without parameters.
    fn pad(&mut self, x: NodeId) -> Added {
        let (before, after): ([i64; 4], [i64; 4]) = match self.choices.below(3) {
            0 => ([0, 1, 0, 0], [0, 2, 0, 0]),
            1 => ([0, 0, 1, 0], [0, 0, 1, 1]),
            _ => ([0, 0, 1, 1], [0, 0, 0, -1]),
        };
        let op = Op::Pad {
            before: before.map(Dim::from).into_iter().collect(),
            after: after.map(Dim::from).into_iter().collect(),
            mode: PadMode::Constant,
            value: self.choices.pick(&[0.0, 0.0, 1.0]).into(),
        };
        self.op("pad", op, &[x])
    }

    /// A constant a channel, or one for all, added or multiplied.
    fn per_channel(&mut self, x: NodeId) -> Added {
        let channels = self.channels(x);
        let plan = self.plan(channels);
        let tensor = weights::vector(&mut self.choices, &plan, 1.0, 0.5);
        let shape: &[usize] = match self.choices.below(3) {
            0 => &[channels, 1, 1],
            1 => &[1, channels, 1, 1],
            _ => &[],
        };
        let tensor = match shape {
            [] => Tensor::from_vec(&[], vec![0.5f32]),
            shape => tensor.reshaped(shape)?,
        };
        let constant = self.parameter("factor", tensor);
        let op = match self.choices.below(3) {
            0 => Op::Add {},
            1 => Op::Mul {},
            _ => Op::Sub {},
        };
        let name = op.name();
        if self.choices.one_in(3) {
            self.op(name, op, &[constant, x])
        } else {
            self.op(name, op, &[x, constant])
        }
    }

    /// A channel shuffle, as in ShuffleNet: reshape, transpose, reshape.
    fn shuffle(&mut self, x: NodeId) -> Added {
        let channels = self.channels(x);
        let Some([n, c, h, w]) = self
            .graph
            .ty(x.into())
            .shape()
            .map(|s| s.to_vec())
            .and_then(|s| <[Dim; 4]>::try_from(s).ok())
        else {
            return Err("not four axes".to_string());
        };
        if channels % 2 == 1 {
            return Err("an odd number of channels".to_string());
        }
        let shape = SmallVec::from_iter([
            n.clone(),
            2.into(),
            (channels / 2).into(),
            h.clone(),
            w.clone(),
        ]);
        let split = self.op("split", Op::Reshape { shape }, &[x])?;
        let perm = [0, 2, 1, 3, 4].into_iter().collect();
        let shuffled = self.op("deal", Op::Transpose { perm }, &[split])?;
        let shape = SmallVec::from_iter([n, c, h, w]);
        self.op("join", Op::Reshape { shape }, &[shuffled])
    }

    fn resize(&mut self, x: NodeId) -> Added {
        let shape = self.graph.ty(x.into()).shape().unwrap_or_default().to_vec();
        let op = Op::Resize {
            size: shape
                .into_iter()
                .skip(2)
                .map(|d| d + Dim::from(1))
                .collect(),
            mode: self
                .choices
                .pick(&[ResizeMode::Nearest, ResizeMode::Linear]),
        };
        self.op("resize", op, &[x])
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
