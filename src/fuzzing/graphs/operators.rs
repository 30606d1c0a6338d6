//! Every operator of the IR by its name, with attributes of every form.

mod moves;
mod products;

use indexmap::IndexMap;

use super::super::weights;
use super::{Added, Builder};
use crate::ir::{Class, DType, Dim, Dims, Ints, NodeId, Op, Padding, ResizeMode, Tensor};

fn ints(all: impl IntoIterator<Item = usize>) -> Ints {
    all.into_iter().collect()
}

/// The operator of this name that has no attributes.
fn plain(name: &str) -> Result<Op, String> {
    Op::parse(name, &mut IndexMap::new())
}

impl Builder<'_> {
    /// Any operator.
    pub(super) fn operator(&mut self, x: NodeId) -> Added {
        let name = self.choices.pick(Op::NAMES);
        self.named(name, x)
    }

    /// The operator of this name between a feature and a feature, with what it needs to have a finite result. Casts to types that
    /// round more than single precision are left out: what is equal up to rounding would not be so after them.
    pub(super) fn named(&mut self, name: &str, x: NodeId) -> Added {
        match name {
            "conv" => self.any_convolution(x),
            "conv_transpose" => self.any_transposed_convolution(x),
            "linear" | "matmul" => self.product(name, x),
            "batch_norm" => self.batch_norm(x),
            "layer_norm" | "group_norm" => self.norm(name, x),
            "attention" => self.any_attention(x),
            "max_pool" | "avg_pool" | "adaptive_avg_pool" | "adaptive_max_pool" | "resize" => {
                self.sampled(name, x)
            }
            "mean" | "sum" | "max" => self.reduction(name, x),
            "pad" => self.any_pad(x),
            "concat" | "slice" | "gather" => self.selected(name, x),
            "flatten" | "reshape" | "transpose" | "squeeze" | "unsqueeze" | "expand" => {
                self.view(name, x)
            }
            "cast" => {
                let wide = self.op("cast", Op::Cast { dtype: DType::F64 }, &[x])?;
                let wide = self.op("relu", Op::Relu {}, &[wide])?;
                self.op("cast", Op::Cast { dtype: DType::F32 }, &[wide])
            }
            name => match plain(name) {
                Ok(op) if op.class() == Class::Binary => self.any_binary(op, x),
                _ => self.elementwise(name, x),
            },
        }
    }

    fn elementwise(&mut self, name: &str, x: NodeId) -> Added {
        let op = match name {
            "leaky_relu" => Op::LeakyRelu {
                slope: self.choices.pick(&[0.25, 0.01, -0.5]).into(),
            },
            "prelu" => {
                let channels = if self.choices.one_in(3) {
                    1
                } else {
                    self.channels(x)
                };
                let plan = self.plan(channels);
                let tensor = weights::vector(&mut self.choices, &plan, 0.25, 0.1);
                let slope = self.parameter("prelu.weight", tensor);
                return self.op("prelu", Op::PRelu {}, &[x, slope]);
            }
            "clip" => {
                let (min, max) = self.choices.pick(&[
                    (0.0, 6.0),
                    (-1.0, 1.0),
                    (0.5, 2.0),
                    (f64::NEG_INFINITY, 0.0),
                    (-0.5, f64::INFINITY),
                    (f64::NEG_INFINITY, f64::INFINITY),
                ]);
                Op::Clip {
                    min: min.into(),
                    max: max.into(),
                }
            }
            "elu" => Op::Elu {
                alpha: self.choices.pick(&[1.0, 0.5]).into(),
            },
            "gelu" => Op::Gelu {
                tanh: self.choices.one_in(2),
            },
            "dropout" => Op::Dropout { p: 0.5.into() },
            "softmax" => Op::Softmax {
                axis: self.choices.below(4),
            },
            "log_softmax" => Op::LogSoftmax {
                axis: self.choices.below(4),
            },
            "exp" => {
                let small = self.op("tanh", Op::Tanh {}, &[x])?;
                return self.op("exp", Op::Exp {}, &[small]);
            }
            "sqrt" => {
                let positive = self.op("abs", Op::Abs {}, &[x])?;
                return self.op("sqrt", Op::Sqrt {}, &[positive]);
            }
            "log" | "rsqrt" => {
                let positive = self.positive(x)?;
                let op = match name {
                    "log" => Op::Log {},
                    _ => Op::Rsqrt {},
                };
                return self.op(name, op, &[positive]);
            }
            // Defined everywhere.
            name => plain(name)?,
        };
        self.op(name, op, &[x])
    }

    fn scalar(&mut self, value: f32) -> NodeId {
        let tensor = Tensor::from_vec(&[], vec![value]);
        self.parameter("scalar", tensor)
    }

    /// |x| + 1/2.
    fn positive(&mut self, x: NodeId) -> Added {
        let magnitude = self.op("abs", Op::Abs {}, &[x])?;
        let half = self.scalar(0.5);
        self.op("add", Op::Add {}, &[magnitude, half])
    }

    /// Over one axis or several, with a scale and a shift, a scale alone, or neither.
    fn norm(&mut self, name: &str, x: NodeId) -> Added {
        let (channels, parameters) = (self.channels(x), self.choices.below(3));
        let eps = self.choices.pick(&[1e-5, 1e-3]).into();
        let with_parameters = |builder: &mut Self, x: NodeId, op: Op, shape: &[usize]| {
            let mut operands = vec![x];
            for (i, field) in ["weight", "bias"].iter().enumerate().take(parameters) {
                let plan = builder.plan(shape.iter().product());
                let mean = if i == 0 { 1.0 } else { 0.0 };
                let tensor = weights::vector(&mut builder.choices, &plan, mean, 0.3);
                let tensor = tensor.reshaped(shape)?;
                operands.push(builder.parameter(&format!("norm.{field}"), tensor));
            }
            builder.op(name, op, &operands)
        };
        if name == "group_norm" {
            let fits = |groups: &usize| channels.is_multiple_of(*groups);
            let groups: Vec<usize> = [1, 2, channels].into_iter().filter(fits).collect();
            let groups = self.choices.pick(&groups);
            return with_parameters(self, x, Op::GroupNorm { groups, eps }, &[channels]);
        }
        let axes = 1 + self.choices.below(3);
        if axes > 1 {
            let normal = &self.shape(x)?[4 - axes..];
            return match normal.iter().map(Dim::as_len).collect::<Option<Vec<_>>>() {
                Some(shape) => with_parameters(self, x, Op::LayerNorm { axes, eps }, &shape),
                None => self.op(name, Op::LayerNorm { axes, eps }, &[x]),
            };
        }
        let perm = ints([0, 2, 3, 1]);
        let last = self.op("transpose", Op::Transpose { perm }, &[x])?;
        let last = with_parameters(self, last, Op::LayerNorm { axes, eps }, &[channels])?;
        let perm = ints([0, 3, 1, 2]);
        self.op("transpose", Op::Transpose { perm }, &[last])
    }

    /// Of a feature with another, with its own means, with one number for each channel or with a single one; either first.
    fn any_binary(&mut self, op: Op, x: NodeId) -> Added {
        let name = op.name();
        let channels = self.channels(x);
        let y = match self.choices.below(4) {
            0 => self.op("tanh", Op::Tanh {}, &[x])?,
            1 => {
                let axes = ints([2, 3]);
                self.op("mean", Op::ReduceMean { axes, keep: true }, &[x])?
            }
            2 => {
                let plan = self.plan(channels);
                let tensor = weights::positive(&mut self.choices, &plan);
                let shape: &[usize] = if self.choices.one_in(2) {
                    &[channels, 1, 1]
                } else {
                    &[1, channels, 1, 1]
                };
                self.parameter("factor", tensor.reshaped(shape)?)
            }
            _ => self.scalar(2.0),
        };
        let other_first = self.choices.one_in(2);
        let operands = match (name, other_first) {
            // A quotient by what is not zero, a power of what is positive with an exponent that is small.
            ("div", false) => [x, self.positive(y)?],
            ("div", true) => [y, self.positive(x)?],
            ("pow", _) => {
                let exponent = self.op("tanh", Op::Tanh {}, &[y])?;
                [self.positive(x)?, exponent]
            }
            (_, false) => [x, y],
            (_, true) => [y, x],
        };
        self.op(name, op, &operands)
    }

    /// Pools and resizes.
    fn sampled(&mut self, name: &str, x: NodeId) -> Added {
        let dims = |sizes: [usize; 2]| -> Dims { sizes.map(Dim::from).into_iter().collect() };
        let kernel = 1 + self.choices.below(3);
        let pads = self.choices.below(2) * (kernel / 2);
        let pad = Padding {
            before: ints([pads, 0]),
            after: ints([pads * self.choices.below(2), 0]),
        };
        let stride = dims([1 + self.choices.below(2), 1 + self.choices.below(2)]);
        let side = self.shape(x)?.to_vec().split_off(2);
        let op = match name {
            "max_pool" => Op::MaxPool {
                kernel: dims([kernel, 1 + self.choices.below(2)]),
                stride,
                pad,
                dilation: ints([1 + self.choices.below(2), 1]),
                ceil: self.choices.one_in(2),
            },
            "avg_pool" => Op::AvgPool {
                kernel: dims([kernel, 1 + self.choices.below(2)]),
                stride,
                pad,
                ceil: self.choices.one_in(2),
                count_pad: self.choices.one_in(2),
            },
            "adaptive_avg_pool" | "adaptive_max_pool" => {
                let output = dims([1 + self.choices.below(3), 1 + self.choices.below(3)]);
                match name {
                    "adaptive_avg_pool" => Op::AdaptiveAvgPool { output },
                    _ => Op::AdaptiveMaxPool { output },
                }
            }
            _ => {
                let larger = self.choices.below(3);
                let size = |side: Dim| match larger {
                    0 => side + Dim::from(1),
                    1 => side * Dim::from(2),
                    _ => Dim::from(5),
                };
                Op::Resize {
                    size: side.into_iter().map(size).collect(),
                    mode: self.choices.pick(&[
                        ResizeMode::Nearest,
                        ResizeMode::Linear,
                        ResizeMode::LinearAligned,
                    ]),
                }
            }
        };
        self.op(name, op, &[x])
    }

    /// Over space, channels, the batch, several of them in whatever order, or everything; kept or not.
    fn reduction(&mut self, name: &str, x: NodeId) -> Added {
        let over: &[usize] = self.choices.pick(&[
            &[2, 3][..],
            &[1],
            &[3],
            &[2],
            &[0],
            &[3, 1],
            &[1, 2, 3],
            &[0, 2, 3],
            &[0, 1, 2, 3],
        ]);
        let (axes, keep) = (ints(over.iter().copied()), self.choices.one_in(2));
        let op = match name {
            "mean" => Op::ReduceMean { axes, keep },
            "sum" => Op::ReduceSum { axes, keep },
            _ => Op::ReduceMax { axes, keep },
        };
        let reduced = self.op(name, op, &[x])?;
        if keep {
            Ok(reduced)
        } else {
            let axes = ints((0..4).filter(|axis| over.contains(axis)));
            self.op("unsqueeze", Op::Unsqueeze { axes }, &[reduced])
        }
    }
}
