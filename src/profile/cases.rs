//! What is timed, and the networks it is timed in.

use std::fmt;

use smallvec::smallvec;

use crate::ir::{Constant, DType, Graph, Op, Padding, Role, Tensor, Type, Value};

/// A layer of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Case {
    /// What it computes.
    pub layer: Layer,
    /// Channels of its operand.
    pub channels_in: usize,
    /// Channels of its result.
    pub channels_out: usize,
    /// Height and width of its operand; for a linear layer the number of rows.
    pub side: usize,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// A convolution with a window of `kernel` x `kernel`.
    Conv {
        /// The side of the window.
        kernel: usize,
        /// The stride.
        stride: usize,
    },
    /// A convolution with one kernel for each channel.
    Depthwise {
        /// The side of the window.
        kernel: usize,
        /// The stride.
        stride: usize,
    },
    /// A linear layer.
    Linear,
    /// A gather over channels in front of a depthwise convolution, and one back.
    Gather,
    /// A ReLU behind a depthwise convolution.
    Relu,
    /// A sum around a depthwise convolution.
    Add,
    /// A batch normalisation behind a depthwise convolution.
    BatchNorm,
    /// A maximum over 3 x 3.
    MaxPool,
    /// A 3 x 3 convolution as a gather, a depthwise convolution with so many kernels, and a convolution of one point.
    Separated {
        /// The kernels.
        kernels: usize,
    },
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case {
            layer,
            channels_in,
            channels_out,
            side,
        } = self;
        match layer {
            Layer::Conv { kernel, .. } => write!(f, "conv {kernel}x{kernel}"),
            Layer::Depthwise { kernel, .. } => write!(f, "depthwise conv {kernel}x{kernel}"),
            Layer::Linear => write!(f, "linear"),
            Layer::Gather => write!(f, "gather"),
            Layer::Relu => write!(f, "relu"),
            Layer::Add => write!(f, "add"),
            Layer::BatchNorm => write!(f, "batch norm"),
            Layer::MaxPool => write!(f, "max pool"),
            Layer::Separated { kernels } => write!(f, "separated conv of {kernels} kernels"),
        }?;
        write!(f, ", {channels_in} -> {channels_out} channels at {side}")
    }
}

impl Case {
    /// The layers that this one is timed together with, one for each of its own operators.
    pub(super) fn beside(&self) -> Vec<Case> {
        let square = |layer: Layer, channels: usize| Case {
            layer,
            channels_in: channels,
            channels_out: channels,
            side: self.side,
        };
        match self.layer {
            Layer::Gather => [self.channels_in, self.channels_out]
                .map(|channels| square(DEPTHWISE, channels))
                .to_vec(),
            Layer::Relu | Layer::Add | Layer::BatchNorm => {
                vec![square(DEPTHWISE, self.channels_in)]
            }
            _ => Vec::new(),
        }
    }

    /// How many layers the longer of the two networks has that are compared. Few of those that take long: the longer a network
    /// runs, the less likely it is alone on the machine.
    pub(super) fn layers(&self) -> usize {
        let area = match self.layer {
            Layer::Conv { kernel, stride } => kernel * kernel / (stride * stride),
            _ => 1,
        };
        let macs = self.channels_in * self.channels_out * self.side * self.side * area;
        if macs > LONG { 2 } else { 4 }
    }

    /// How many operators of nearly the same time a layer of the network has: where the channels change, one changes them back.
    pub(super) fn operators(&self) -> usize {
        match self.layer {
            Layer::Conv { stride: 1, .. } | Layer::Linear
                if self.channels_in != self.channels_out =>
            {
                2
            }
            Layer::Gather => 2,
            _ => 1,
        }
    }

    /// Whether this is an operator that the case is about.
    pub(super) fn is_timed(&self, op: &Op) -> bool {
        match self.layer {
            Layer::Conv { .. } | Layer::Depthwise { .. } => matches!(op, Op::Conv { .. }),
            Layer::Linear => matches!(op, Op::Linear {}),
            Layer::Gather => matches!(op, Op::Gather { .. }),
            Layer::Relu => matches!(op, Op::Relu {}),
            Layer::Add => matches!(op, Op::Add {}),
            Layer::BatchNorm => matches!(op, Op::BatchNorm { .. }),
            Layer::MaxPool => matches!(op, Op::MaxPool { .. }),
            Layer::Separated { .. } => true,
        }
    }

    /// A network of so many of these layers.
    ///
    /// # Errors
    /// When the case makes no sense, such as a stride over a linear layer.
    pub(super) fn graph(&self, layers: usize) -> Result<Graph, String> {
        let Case {
            layer,
            channels_in: inner,
            channels_out: outer,
            side,
        } = *self;
        let mut net = Net(Graph::new("timed"));
        let shape: Vec<usize> = match layer {
            Layer::Linear => vec![side, inner],
            _ => vec![1, inner, side, side],
        };
        let ty = Type::tensor(DType::F32, shape.into_iter().map(Into::into));
        let input = net.0.add_input("input", ty).into();
        // Behind a cheap operator that brings its input into the runtime's own layout. A network's first layer has none.
        let first = inner < 4;
        let mut x = match layer {
            Layer::Linear => input,
            _ if first => input,
            _ => net.conv("stem", input, [inner, inner], 3, 1, inner)?,
        };
        let mut sum: Option<Value> = None;
        for _ in 0..layers {
            // Where the result is smaller, layers stand side by side.
            let (kernel, stride, groups) = match layer {
                Layer::Conv { kernel, stride } if stride != 1 => (kernel, stride, 1),
                Layer::Depthwise { kernel, stride } if stride != 1 => (kernel, stride, inner),
                _ => {
                    x = self.behind(&mut net, x)?;
                    continue;
                }
            };
            let y = net.conv("layer", x, [inner, outer], kernel, stride, groups)?;
            sum = Some(match sum {
                None => y,
                Some(sum) => net.op("sum", Op::Add {}, &[sum, y])?,
            });
        }
        net.0.add_output("output", sum.unwrap_or(x));
        Ok(net.0)
    }

    /// One more layer behind `x`, whose result is as large.
    fn behind(&self, net: &mut Net, x: Value) -> Result<Value, String> {
        let (inner, outer) = (self.channels_in, self.channels_out);
        let beside = |net: &mut Net| net.conv("beside", x, [inner, inner], 3, 1, inner);
        match self.layer {
            Layer::Conv { kernel, .. } if inner == outer => {
                net.conv("layer", x, [inner, outer], kernel, 1, 1)
            }
            Layer::Conv { kernel, .. } => {
                let wide = net.conv("layer", x, [inner, outer], kernel, 1, 1)?;
                net.conv("layer", wide, [outer, inner], kernel, 1, 1)
            }
            Layer::Depthwise { kernel, .. } => {
                net.conv("layer", x, [inner, inner], kernel, 1, inner)
            }
            Layer::Linear => {
                let y = net.linear(x, [inner, outer])?;
                if inner == outer {
                    Ok(y)
                } else {
                    net.linear(y, [outer, inner])
                }
            }
            Layer::Gather => {
                let y = net.gather(x, inner, outer)?;
                let y = net.conv("beside", y, [outer, outer], 3, 1, outer)?;
                let y = net.gather(y, outer, inner)?;
                net.conv("beside", y, [inner, inner], 3, 1, inner)
            }
            Layer::Relu => {
                let y = beside(net)?;
                net.op("layer", Op::Relu {}, &[y])
            }
            Layer::Add => {
                let y = beside(net)?;
                net.op("layer", Op::Add {}, &[y, x])
            }
            Layer::BatchNorm => {
                let y = beside(net)?;
                let ones: Vec<Value> = (0..4)
                    .map(|_| net.constant(&[inner], vec![1.0; inner]))
                    .collect();
                let operands = [&[y], &ones[..]].concat();
                net.op("layer", Op::BatchNorm { eps: 1e-5.into() }, &operands)
            }
            Layer::MaxPool => {
                let pool = Op::MaxPool {
                    kernel: smallvec![3.into(), 3.into()],
                    stride: smallvec![1.into(), 1.into()],
                    pad: Padding::symmetric([1, 1]),
                    dilation: smallvec![1, 1],
                    ceil: false,
                };
                net.op("layer", pool, &[x])
            }
            Layer::Separated { kernels } => {
                let y = net.gather(x, inner, kernels)?;
                let y = net.conv("layer", y, [kernels, kernels], 3, 1, kernels)?;
                net.conv("layer", y, [kernels, outer], 1, 1, 1)
            }
        }
    }
}

/// A network being built.
struct Net(Graph);

impl Net {
    fn op(&mut self, name: &str, op: Op, operands: &[Value]) -> Result<Value, String> {
        Ok(self.0.add_op(name, op, operands)?.into())
    }

    fn constant(&mut self, shape: &[usize], elements: Vec<f32>) -> Value {
        let constant = Constant::new(Tensor::from_vec(shape, elements), Role::Parameter);
        self.0.add_constant("weight", constant).into()
    }

    /// A weight that neither blows values up nor lets them vanish: arithmetic on the smallest numbers is slow.
    fn weight(&mut self, shape: &[usize]) -> Value {
        let reads: usize = shape[1..].iter().product();
        let elements = numbers(shape.iter().product(), (3.0 / reads as f32).sqrt());
        self.constant(shape, elements)
    }

    fn conv(
        &mut self,
        name: &str,
        x: Value,
        [inner, outer]: [usize; 2],
        kernel: usize,
        stride: usize,
        groups: usize,
    ) -> Result<Value, String> {
        let weight = self.weight(&[outer, inner / groups, kernel, kernel]);
        let bias = self.constant(&[outer], vec![0.0; outer]);
        let conv = Op::Conv {
            stride: smallvec![stride, stride],
            pad: Padding::symmetric([kernel / 2, kernel / 2]),
            dilation: smallvec![1, 1],
            groups,
        };
        self.op(name, conv, &[x, weight, bias])
    }

    fn linear(&mut self, x: Value, [inner, outer]: [usize; 2]) -> Result<Value, String> {
        let weight = self.weight(&[outer, inner]);
        let bias = self.constant(&[outer], vec![0.0; outer]);
        self.op("layer", Op::Linear {}, &[x, weight, bias])
    }

    /// Each channel about as often as any other, neighbours together.
    fn gather(&mut self, x: Value, inner: usize, outer: usize) -> Result<Value, String> {
        let index = (0..outer).map(|i| (i * inner / outer) as u32).collect();
        self.op("layer", Op::Gather { axis: 1, index }, &[x])
    }
}

/// Numbers between `-most` and `most`, always the same.
pub(super) fn numbers(n: usize, most: f32) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..n).map(|_| (random.f32() * 2.0 - 1.0) * most).collect()
}

/// A convolution of one point.
pub(super) const POINT: Layer = Layer::Conv {
    kernel: 1,
    stride: 1,
};

/// A 3 x 3 depthwise convolution.
pub(super) const DEPTHWISE: Layer = Layer::Depthwise {
    kernel: 3,
    stride: 1,
};

/// Multiply-adds of a layer that takes long.
const LONG: usize = 30_000_000;
