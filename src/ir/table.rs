//! The table of operators: name, operands, attributes, meaning, and what others call it.
//!
//! Activations are laid out `[N, C, ...]`: batch, channels, then up to three spatial dimensions. An *axis* counts from 0.
//! Operand shapes below use `k` for kernel sizes and `[?]` for an operand that may be left out.
//!
//! An operator without attributes that the others have one to one takes its row here and nothing else. `operators! { m }` gives all
//! rows to the macro `m`: [`super::op`] makes the operators of them, `formats::spelling` reads the names of PyTorch and ONNX, and
//! `exec::torch` calls libtorch.

// Each row: name, number of operands and attributes; then the class, what numbers it takes, and which factors pass through; then
// what a function of one element or of two computes. In brackets, tch's method; PyTorch's names, the one to write first, and a second operand,
// which is a `tensor`, or a `number` that may also be one; ONNX's name and the first version with it; attributes that a format has
// and the operator has not; and what the operator is made of where a format or a version lacks it.
#[rustfmt::skip]
macro_rules! operators {
    ($rows:ident) => {
        $rows! {
            /// Convolution: `x [N,C,..]`, `W [O,C/groups,k..]`, `[b [O]]` -> `[N,O,..]`. 1 to 3 spatial dimensions.
            Conv = "conv"(2..=3) { stride: Ints, pad: Padding, dilation: Ints, groups: usize } Product(Floats, None);
            /// Transposed convolution: `x [N,C,..]`, `W [C,O/groups,k..]`, `[b [O]]` -> `[N,O,..]`.
            ConvTranspose = "conv_transpose"(2..=3) { stride: Ints, pad: Padding, output_pad: Ints, dilation: Ints, groups: usize } Product(Floats, None);
            /// `x [..,I]`, `W [O,I]`, `[b [O]]` -> `[..,O]`, that is `x W^T + b`.
            Linear = "linear"(2..=3) {} Product(Floats, None);
            /// Matrix product over the last two axes, the others broadcast.
            MatMul = "matmul"(2..=2) {} Product(Any, All);
            /// `x [N,C,..]`, then scale, shift, mean and variance `[C]` each: `(x - mean) / sqrt(variance + eps) * scale + shift`.
            BatchNorm = "batch_norm"(5..=5) { eps: Float } Channelwise(Floats, None);
            /// Normalisation over the last `axes` axes; `[scale]`, `[shift]` of their shape.
            LayerNorm = "layer_norm"(1..=3) { axes: usize, eps: Float } Normalisation(Floats, None);
            /// Normalisation of `[N,C,..]` within each of `groups` groups of channels; `[scale [C]]`, `[shift [C]]`.
            GroupNorm = "group_norm"(1..=3) { groups: usize, eps: Float } Normalisation(Floats, None);

            /// max(x, 0).
            Relu = "relu"(1..=1) {} Function(Any, Positive) = |x| if x < T::zero() { T::zero() } else { x } => [libtorch(f_relu) aten("relu") onnx("Relu" 1)];
            /// x where positive, `slope * x` elsewhere.
            LeakyRelu = "leaky_relu"(1..=1) { slope: Float } Function(Floats, Positive) = |x| if x < T::zero() { x * real(slope.0) } else { x };
            /// x where positive, `slope * x` elsewhere; slope `[C]` or `[1]`, C the size of axis 1.
            PRelu = "prelu"(2..=2) {} Channelwise(Floats, Positive);
            /// x limited to `[min, max]`; ReLU6 is `clip{min=0.0,max=6.0}`.
            Clip = "clip"(1..=1) { min: Float, max: Float } Function(Any, None) = |x| clip(x, real(min.0), real(max.0));
            /// x where positive, `alpha * (exp(x) - 1)` elsewhere.
            Elu = "elu"(1..=1) { alpha: Float } Function(Floats, None) = |x| if x < T::zero() { real::<T>(alpha.0) * x.exp_m1() } else { x };
            /// x * sigmoid(x).
            Silu = "silu"(1..=1) {} Function(Floats, None) = |x| x * sigmoid(x)
                => [libtorch(f_silu) aten("silu") onnx("Swish" 24, "alpha" = Only(Real(1.0))) else X * of(Op::Sigmoid {})];
            /// x * Phi(x), by `tanh` if so said.
            Gelu = "gelu"(1..=1) { tanh: bool } Function(Floats, None) = |x| x * real(0.5) * (T::one() + if *tanh { gelu_tanh(x) } else { erf(x * real(FRAC_1_SQRT_2)) });
            /// 1 / (1 + exp(-x)).
            Sigmoid = "sigmoid"(1..=1) {} Function(Floats, None) = sigmoid => [libtorch(f_sigmoid) aten("sigmoid") onnx("Sigmoid" 1)];
            /// clip(x / 6 + 1/2, 0, 1).
            HardSigmoid = "hard_sigmoid"(1..=1) {} Function(Floats, None) = hard_sigmoid
                => [libtorch(f_hardsigmoid) aten("hardsigmoid") onnx("HardSigmoid" 1, "alpha" = Is(Real(1.0 / 6.0), Real(0.2)), "beta" = Is(Real(0.5), Real(0.5)))];
            /// x * clip(x / 6 + 1/2, 0, 1).
            HardSwish = "hard_swish"(1..=1) {} Function(Floats, None) = |x| x * hard_sigmoid(x)
                => [libtorch(f_hardswish) aten("hardswish") onnx("HardSwish" 14) else X * of(Op::HardSigmoid {})];
            /// tanh(x).
            Tanh = "tanh"(1..=1) {} Function(Floats, None) = T::tanh => [libtorch(f_tanh) aten("tanh") onnx("Tanh" 1)];
            // Above 20 the logarithm and its linear continuation agree to the last bit of a float.
            /// log(1 + exp(x)).
            Softplus = "softplus"(1..=1) {} Function(Floats, None) = softplus
                => [libtorch(f_softplus) aten("softplus", "beta" = Only(Real(1.0)), "threshold" = AtLeast(20.0)) onnx("Softplus" 1)];
            /// x * tanh(log(1 + exp(x))).
            Mish = "mish"(1..=1) {} Function(Floats, None) = |x| x * softplus(x).tanh()
                => [libtorch(f_mish) aten("mish") onnx("Mish" 18) else X * of(Op::Softplus {}).then(Op::Tanh {})];
            /// x / (1 + |x|).
            Softsign = "softsign"(1..=1) {} Function(Floats, None) = |x| x / (T::one() + x.abs()) => [onnx("Softsign" 1) else X / (of(Op::Abs {}) + 1.0)];
            /// x where positive, 1.67 (exp(x) - 1) elsewhere, times 1.05; such that means of 0 and variances of 1 stay.
            Selu = "selu"(1..=1) {} Function(Floats, None) = |x| real::<T>(1.0507009873554805) * if x < T::zero() { real::<T>(1.6732632423543772) * x.exp_m1() } else { x }
                => [libtorch(f_selu) aten("selu") onnx("Selu" 6, "alpha" = Only(Real(1.6732631921768188)), "gamma" = Only(Real(1.0507010221481323)))];
            /// sin(x).
            Sin = "sin"(1..=1) {} Function(Floats, None) = T::sin => [libtorch(f_sin) aten("sin") onnx("Sin" 7)];
            /// cos(x).
            Cos = "cos"(1..=1) {} Function(Floats, None) = T::cos => [libtorch(f_cos) aten("cos") onnx("Cos" 7)];
            /// The arc tangent.
            Atan = "atan"(1..=1) {} Function(Floats, None) = T::atan => [libtorch(f_atan) aten("atan" "arctan") onnx("Atan" 7)];
            /// exp(x).
            Exp = "exp"(1..=1) {} Function(Floats, None) = T::exp => [libtorch(f_exp) aten("exp") onnx("Exp" 1)];
            /// The natural logarithm.
            Log = "log"(1..=1) {} Function(Floats, None) = T::ln => [libtorch(f_log) aten("log") onnx("Log" 1)];
            /// The square root.
            Sqrt = "sqrt"(1..=1) {} Function(Floats, None) = T::sqrt => [libtorch(f_sqrt) aten("sqrt") onnx("Sqrt" 1)];
            /// 1 / sqrt(x).
            Rsqrt = "rsqrt"(1..=1) {} Function(Floats, None) = |x| x.sqrt().recip() => [libtorch(f_rsqrt) aten("rsqrt") else Number(1.0) / of(Op::Sqrt {})];
            /// The error function.
            Erf = "erf"(1..=1) {} Function(Floats, None) = erf => [libtorch(f_erf) aten("erf") onnx("Erf" 9)];
            /// |x|.
            Abs = "abs"(1..=1) {} Function(Any, Positive) = T::abs => [libtorch(f_abs) aten("abs") onnx("Abs" 1)];
            /// -x.
            Neg = "neg"(1..=1) {} Function(Any, All) = |x| -x => [libtorch(f_neg) aten("neg") onnx("Neg" 1)];

            /// a + b, broadcast from the last axis as NumPy does; so are the next six.
            Add = "add"(2..=2) {} Binary(Any, None) = |a, b| a + b => [libtorch(f_add) aten("add" (number "other"), "alpha" = Factor) onnx("Add" 1)];
            /// a - b.
            Sub = "sub"(2..=2) {} Binary(Any, None) = |a, b| a - b => [libtorch(f_sub) aten("sub" "subtract" (number "other"), "alpha" = Factor) onnx("Sub" 1)];
            /// a * b.
            Mul = "mul"(2..=2) {} Binary(Any, None) = |a, b| a * b => [libtorch(f_mul) aten("mul" "multiply" (number "other")) onnx("Mul" 1)];
            /// a / b.
            Div = "div"(2..=2) {} Binary(Floats, None) = |a, b| a / b => [libtorch(f_div) aten("div" "divide" "true_divide" (number "other"), "rounding_mode" = Absent) onnx("Div" 1)];
            /// a to the power b.
            Pow = "pow"(2..=2) {} Binary(Any, None) = T::powf => [libtorch(f_pow) aten("pow" "__pow__" (number "exponent")) onnx("Pow" 1)];
            // In ATen, `max(x)` and `max(x, axis)` are other operators; the same goes for the next.
            /// The larger of both.
            Maximum = "maximum"(2..=2) {} Binary(Any, None) = maximum => [libtorch(f_maximum) aten("maximum" "max" (tensor "other")) onnx("Max" 1)];
            /// The smaller of both.
            Minimum = "minimum"(2..=2) {} Binary(Any, None) = minimum => [libtorch(f_minimum) aten("minimum" "min" (tensor "other")) onnx("Min" 1)];

            /// exp(x) over its sum along `axis`.
            Softmax = "softmax"(1..=1) { axis: usize } Normalisation(Floats, None);
            /// log(softmax(x)).
            LogSoftmax = "log_softmax"(1..=1) { axis: usize } Normalisation(Floats, None);
            /// Attention: q `[..,L,E]`, k `[..,S,E]`, v `[..,S,F]`, `[mask]` added to the scores -> `[..,L,F]`. The scale is
            /// 1/sqrt(E) unless given; `causal` hides keys after the query.
            Attention = "attention"(3..=4) { scale: Option<Float>, causal: bool } Product(Floats, None);

            /// Maximum over windows of the spatial dimensions; `ceil` counts a last window that starts inside.
            MaxPool = "max_pool"(1..=1) { kernel: Dims, stride: Dims, pad: Padding, dilation: Ints, ceil: bool } Window(Any, Positive);
            /// Mean over windows of the spatial dimensions; zeros of the pad count if `count_pad`.
            AvgPool = "avg_pool"(1..=1) { kernel: Dims, stride: Dims, pad: Padding, ceil: bool, count_pad: bool } Window(Floats, All);
            /// Mean over `output` windows as even as they can be.
            AdaptiveAvgPool = "adaptive_avg_pool"(1..=1) { output: Dims } Window(Floats, All);
            /// Maximum over `output` windows as even as they can be.
            AdaptiveMaxPool = "adaptive_max_pool"(1..=1) { output: Dims } Window(Any, Positive);
            /// Mean over axes, which stay as 1 if `keep`.
            ReduceMean = "mean"(1..=1) { axes: Ints, keep: bool } Reduction(Floats, All);
            /// Sum over axes, which stay as 1 if `keep`.
            ReduceSum = "sum"(1..=1) { axes: Ints, keep: bool } Reduction(Any, All);
            /// Maximum over axes, which stay as 1 if `keep`.
            ReduceMax = "max"(1..=1) { axes: Ints, keep: bool } Reduction(Any, Positive);

            /// `before` and `after` positions added to every axis; negative amounts cut.
            Pad = "pad"(1..=1) { before: Dims, after: Dims, mode: PadMode, value: Float } Layout(Any, if *mode == PadMode::Constant && value.0 != 0.0 { None } else { All });
            /// Spatial dimensions resampled to `size`.
            Resize = "resize"(1..=1) { size: Dims, mode: ResizeMode } Window(Any, All);
            /// Operands one after the other along `axis`.
            Concat = "concat"(1..=usize::MAX) { axis: usize } Layout(Any, None);
            /// Positions `start`, `start + step`, .. before `end` of `axis`; both within 0..=size, `step` at least 1.
            Slice = "slice"(1..=1) { axis: usize, start: Dim, end: Dim, step: usize } View(Any, All);
            /// Position `index[i]` of `axis` at position i.
            Gather = "gather"(1..=1) { axis: usize, index: Index } Layout(Any, All);
            /// Axes `start..=end` joined into one.
            Flatten = "flatten"(1..=1) { start: usize, end: usize } Shape(Any, All);
            /// The same elements in row-major order under another shape.
            Reshape = "reshape"(1..=1) { shape: Dims } Shape(Any, All);
            /// Axis `perm[i]` of the operand becomes axis i.
            Transpose = "transpose"(1..=1) { perm: Ints } Order(Any, All);
            /// Axes of length 1 removed.
            Squeeze = "squeeze"(1..=1) { axes: Ints } Shape(Any, All);
            /// Axes of length 1 inserted, at these positions of the result.
            Unsqueeze = "unsqueeze"(1..=1) { axes: Ints } Shape(Any, All);
            /// Axes of length 1 repeated, new axes put in front.
            Expand = "expand"(1..=1) { shape: Dims } Layout(Any, All);

            /// The element type changed.
            Cast = "cast"(1..=1) { dtype: DType } Function(Any, None) = |x| cast(*dtype, x);
            /// Nothing, at inference.
            Dropout = "dropout"(1..=1) { p: Float } View(Any, All) = |x| x;
            /// Nothing.
            Identity = "identity"(1..=1) {} View(Any, All) = |x| x;
        }
    };
}

pub(crate) use operators;
