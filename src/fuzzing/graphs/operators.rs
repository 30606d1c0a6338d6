//! Every operator of the IR by its name, with attributes of every form.

use indexmap::IndexMap;

use super::super::weights::{self, Plan};
use super::{Added, Builder};
use crate::ir::{DType, Dim, Dims, Ints, NodeId, Op, PadMode, Padding, ResizeMode, Tensor};

fn ints(all: impl IntoIterator<Item = usize>) -> Ints {
    all.into_iter().collect()
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
            "add" | "sub" | "mul" | "div" | "pow" | "maximum" | "minimum" => {
                self.any_binary(name, x)
            }
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
            name => self.elementwise(name, x),
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
            // Without attributes, and defined everywhere.
            name => Op::parse(name, &mut IndexMap::new())?,
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

    /// Of one, two or three spatial dimensions.
    fn any_convolution(&mut self, x: NodeId) -> Added {
        let dims = 1 + self.choices.below(3);
        let inputs = self.channels(x);
        let x = match dims {
            1 => self.op("flatten", Op::Flatten { start: 2, end: 3 }, &[x])?,
            2 => return self.convolution(x),
            _ => self.op("unsqueeze", Op::Unsqueeze { axes: ints([2]) }, &[x])?,
        };
        let groups = if self.choices.one_in(3) { inputs } else { 1 };
        let outputs = groups * (1 + self.choices.below(8 / groups.min(8)));
        let mut shape = vec![outputs, inputs / groups];
        let kernel = 1 + self.choices.below(3);
        shape.extend((0..dims).map(|d| if dims == 3 && d == 0 { 1 } else { kernel }));
        let stride = 1 + self.choices.below(2);
        let op = Op::Conv {
            stride: ints((0..dims).map(|d| if dims == 3 && d == 0 { 1 } else { stride })),
            pad: Padding {
                before: ints((0..dims).map(|d| if dims == 3 && d == 0 { 0 } else { kernel / 2 })),
                after: ints((0..dims).map(|d| if d + 1 == dims { kernel / 2 } else { 0 })),
            },
            dilation: ints((0..dims).map(|d| {
                if d + 1 == dims {
                    1 + self.choices.below(2)
                } else {
                    1
                }
            })),
            groups,
        };
        let y = self.conv(x, op, &shape)?;
        match dims {
            1 => self.op("unsqueeze", Op::Unsqueeze { axes: ints([3]) }, &[y]),
            _ => self.op("squeeze", Op::Squeeze { axes: ints([2]) }, &[y]),
        }
    }

    fn any_transposed_convolution(&mut self, x: NodeId) -> Added {
        let inputs = self.channels(x);
        let groups = match self.choices.below(3) {
            0 => 1,
            1 => inputs,
            _ if inputs.is_multiple_of(2) => 2,
            _ => 1,
        };
        let each = 1 + self.choices.below(3);
        let kernel = 1 + self.choices.below(3);
        let (stride, dilation) = (1 + self.choices.below(2), 1 + self.choices.below(2));
        let plan = self.plan(inputs);
        let shape = [inputs, each, kernel, kernel];
        let tensor = weights::weight(&mut self.choices, &plan, &shape);
        let mut operands = vec![x, self.parameter("up.weight", tensor)];
        if self.choices.one_in(2) {
            let plan = self.plan(groups * each);
            let bias = weights::vector(&mut self.choices, &plan, 0.0, 0.5);
            operands.push(self.parameter("up.bias", bias));
        }
        // ONNX Runtime takes none of the stride or more.
        let extra = (stride - 1).min(self.choices.below(2));
        let op = Op::ConvTranspose {
            stride: ints([stride, 1]),
            pad: Padding::symmetric([0, (kernel / 2).min(self.choices.below(2))]),
            output_pad: ints([extra, 0]),
            dilation: ints([dilation, 1]),
            groups,
        };
        self.op("up", op, &operands)
    }

    /// A layer on the channels as the last axis, with a bias or without, or a product of two features.
    fn product(&mut self, name: &str, x: NodeId) -> Added {
        let inputs = self.channels(x);
        if name == "matmul" && self.choices.one_in(2) {
            let small = self.op("tanh", Op::Tanh {}, &[x])?;
            let perm = ints([0, 1, 3, 2]);
            let turned = self.op("transpose", Op::Transpose { perm }, &[small])?;
            return self.op("matmul", Op::MatMul {}, &[small, turned]);
        }
        let perm = ints([0, 2, 3, 1]);
        let last = self.op("transpose", Op::Transpose { perm }, &[x])?;
        let outputs = 1 + self.choices.below(6);
        let shape = match name {
            "linear" => [outputs, inputs],
            _ => [inputs, outputs],
        };
        let plan = self.plan(shape[0]);
        let tensor = weights::weight(&mut self.choices, &plan, &shape);
        let mut operands = vec![last, self.parameter("product.weight", tensor)];
        if name == "linear" && self.choices.one_in(2) {
            let plan = self.plan(outputs);
            let bias = weights::vector(&mut self.choices, &plan, 0.0, 0.5);
            operands.push(self.parameter("product.bias", bias));
        }
        let op = match name {
            "linear" => Op::Linear {},
            _ => Op::MatMul {},
        };
        let y = self.op(name, op, &operands)?;
        let perm = ints([0, 3, 1, 2]);
        self.op("transpose", Op::Transpose { perm }, &[y])
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
    fn any_binary(&mut self, name: &str, x: NodeId) -> Added {
        let op = match name {
            "add" => Op::Add {},
            "sub" => Op::Sub {},
            "mul" => Op::Mul {},
            "div" => Op::Div {},
            "pow" => Op::Pow {},
            "maximum" => Op::Maximum {},
            _ => Op::Minimum {},
        };
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

    /// Of rows as they are, with a scale of its own, causal or not, with a mask or without.
    fn any_attention(&mut self, x: NodeId) -> Added {
        let small = self.op("tanh", Op::Tanh {}, &[x])?;
        let mut operands = vec![small, small, x];
        if self.choices.one_in(2) {
            let mask = Tensor::from_vec(&[1, 1], vec![0.5f32]);
            operands.push(self.parameter("mask", mask));
        }
        // ONNX has no such scale for queries whose width only the run tells.
        let width = self.shape(x)?[3].as_len();
        let scale = self.choices.pick(&[None, Some(0.5.into())]);
        let op = Op::Attention {
            scale: scale.or((width.is_none()).then(|| 0.5.into())),
            causal: self.choices.one_in(2),
        };
        self.op("attention", op, &operands)
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

    fn any_pad(&mut self, x: NodeId) -> Added {
        let mode = self.choices.pick(&[
            PadMode::Constant,
            PadMode::Reflect,
            PadMode::Replicate,
            PadMode::Circular,
        ]);
        let mut forms = vec![
            [[0, 0, 1, 0], [0, 0, 1, 0]],
            [[0, 0, 0, 1], [0, 0, 1, 1]],
            [[0, 0, 1, 1], [0, 0, 0, 0]],
        ];
        match mode {
            PadMode::Constant => forms.extend([
                [[0, 1, 0, 0], [0, 0, 2, 0]],
                [[0, 0, -1, 2], [0, 0, 1, -1]],
                [[1, 0, 0, 0], [-1, 0, 0, 0]],
            ]),
            _ if self.channels(x) > 1 => forms.push([[0, 1, 0, 1], [0, 0, 1, 0]]),
            _ => {}
        }
        let amounts: [[i64; 4]; 2] = self.choices.pick(&forms);
        let [before, after] = amounts.map(|all| all.map(Dim::from).into_iter().collect());
        let value = match mode {
            PadMode::Constant => self.choices.pick(&[0.0, -1.0]),
            _ => 0.0,
        };
        let op = Op::Pad {
            before,
            after,
            mode,
            value: value.into(),
        };
        self.op("pad", op, &[x])
    }

    /// Positions of any axis.
    fn selected(&mut self, name: &str, x: NodeId) -> Added {
        let axis = self.choices.below(4);
        let size = self.shape(x)?[axis].clone();
        let op = match name {
            "concat" => {
                let other = self.op("neg", Op::Neg {}, &[x])?;
                return self.op("concat", Op::Concat { axis }, &[x, other]);
            }
            "slice" => {
                let end = match (size.as_number(), self.choices.one_in(2)) {
                    (Some(n), true) if n > 1 => Dim::from(n - 1),
                    _ => size,
                };
                let room = end.as_number().map_or(0, |end| usize::from(end > 1));
                Op::Slice {
                    axis,
                    start: self.choices.below(1 + room).into(),
                    end,
                    step: 1 + self.choices.below(3),
                }
            }
            _ => {
                let positions = size.as_len().unwrap_or(1);
                let picked = 1 + self.choices.below(4);
                let index: Vec<u32> = (0..picked)
                    .map(|_| self.choices.below(positions) as u32)
                    .collect();
                let index = index.into();
                Op::Gather { axis, index }
            }
        };
        self.op(name, op, &[x])
    }

    /// The same elements under another shape.
    fn view(&mut self, name: &str, x: NodeId) -> Added {
        let [n, c, h, w] = self.shape(x)?;
        match name {
            "flatten" => {
                let ranges = [(2, 3), (1, 3), (0, 1), (1, 2), (0, 3)];
                let (start, end) = self.choices.pick(&ranges);
                let flat = self.op("flatten", Op::Flatten { start, end }, &[x])?;
                let flat = self.op("relu", Op::Relu {}, &[flat])?;
                let shape = [n, c, h, w].into_iter().collect();
                self.op("reshape", Op::Reshape { shape }, &[flat])
            }
            "reshape" => {
                let shape = [n, c, h * w, 1.into()].into_iter().collect();
                self.op("reshape", Op::Reshape { shape }, &[x])
            }
            "transpose" => {
                let perm =
                    self.choices
                        .pick(&[[0, 1, 3, 2], [0, 2, 1, 3], [0, 3, 1, 2], [3, 1, 0, 2]]);
                let turned = self.op("transpose", Op::Transpose { perm: ints(perm) }, &[x])?;
                let turned = self.op("relu", Op::Relu {}, &[turned])?;
                let back = (0..4).map(|i| perm.iter().position(|p| *p == i).unwrap_or(i));
                let back = Op::Transpose { perm: ints(back) };
                self.op("transpose", back, &[turned])
            }
            "expand" => {
                let over: &[usize] = self.choices.pick(&[&[2, 3][..], &[1], &[0, 3]]);
                let axes = ints(over.iter().copied());
                let mean = self.op("mean", Op::ReduceMean { axes, keep: true }, &[x])?;
                let mut shape: Dims = [n, c, h, w].into_iter().collect();
                if self.choices.one_in(2) {
                    return self.op("expand", Op::Expand { shape }, &[mean]);
                }
                shape.insert(0, 2.into());
                let twice = self.op("expand", Op::Expand { shape }, &[mean])?;
                let (axes, keep) = (ints([0]), false);
                self.op("sum", Op::ReduceSum { axes, keep }, &[twice])
            }
            _ => {
                let axes: &[usize] =
                    self.choices
                        .pick(&[&[0][..], &[1], &[2], &[3], &[4], &[0, 3], &[2, 1]]);
                let [unsqueeze, squeeze] = [
                    Op::Unsqueeze {
                        axes: ints(axes.iter().copied()),
                    },
                    Op::Squeeze {
                        axes: ints(axes.iter().rev().copied()),
                    },
                ];
                let wide = self.op("unsqueeze", unsqueeze, &[x])?;
                let wide = self.op("relu", Op::Relu {}, &[wide])?;
                self.op("squeeze", squeeze, &[wide])
            }
        }
    }
}

/// What some channels of a layer have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Channel 3 is channel 0.
    Equal,
    /// Channel 3 is twice channel 0.
    Proportional,
    /// Channel 3 is zero.
    Zero,
    /// Channel 3 is one number that is not zero.
    Constant,
}

impl Builder<'_> {
    /// A layer of six channels, named `planted`, of which one is redundant.
    pub(super) fn planted(&mut self, x: NodeId, planted: Planted) -> Added {
        let inputs = self.channels(x);
        let mut rows = Plan::distinct(6).rows(7, 1.0, &[6, inputs]);
        let mut bias = Plan::distinct(6).rows(8, 0.5, &[6]);
        let first = rows[..inputs].to_vec();
        let (factor, constant) = match planted {
            Planted::Equal => (1.0, None),
            Planted::Proportional => (2.0, None),
            Planted::Zero => (0.0, Some(0.0)),
            Planted::Constant => (0.0, Some(0.75)),
        };
        let other = first.iter().map(|x| x * factor);
        rows.splice(3 * inputs..4 * inputs, other);
        bias[3] = constant.unwrap_or(bias[0] * factor);
        let weight = Tensor::from_vec(&[6, inputs, 1, 1], rows);
        let weight = self.constant("planted.weight", weight);
        let bias = self.constant("planted.bias", Tensor::from_vec(&[6], bias));
        self.op("planted", Op::pointwise(2, 1), &[x, weight, bias])
    }
}
