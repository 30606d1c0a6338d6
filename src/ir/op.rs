//! The operators, one list: name, operands, attributes, meaning.
//!
//! Activations are laid out `[N, C, ...]`: batch, channels, then up to three spatial dimensions. An *axis* counts from 0.
//! Operand shapes below use `k` for kernel sizes and `[?]` for an operand that may be left out.

use std::f64::consts::FRAC_1_SQRT_2;
use std::ops::RangeInclusive;
use std::sync::Arc;

use indexmap::IndexMap;
use smallvec::SmallVec;

use super::attribute::{Attribute, Float, Index, Ints, PadMode, Padding, ResizeMode};
use super::channels::Factors;
use super::dim::{Dim, Dims};
use super::functions::{cast, clip, each, erf, gelu_tanh, hard_sigmoid, real, sigmoid, softplus};
use super::tensor::{DType, Real};
use super::types::Type;

macro_rules! operators {
    ($(
        $(#[$doc:meta])* $variant:ident = $name:literal($arity:expr) { $($field:ident: $ty:ty),* $(,)? }
        $class:ident($numbers:ident, $factors:expr) $(= $function:expr)?;
    )*) => {
        /// What a node computes. Attributes are part of the operator, so equal operators compute the same function.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "a variant's documentation says what its attributes mean")]
        pub enum Op {
            $($(#[$doc])* $variant { $($field: $ty),* },)*
            /// An operator of the source format that the IR does not know: kept as it is, an optimization barrier to every pass.
            Opaque(Arc<Opaque>),
        }

        impl Op {
            /// The operator's name in the text form.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Op::$variant { .. } => $name,)*
                    Op::Opaque(_) => "opaque",
                }
            }

            /// How many operands the operator takes.
            pub fn arity(&self) -> RangeInclusive<usize> {
                match self {
                    $(Op::$variant { .. } => $arity,)*
                    Op::Opaque(_) => 0..=usize::MAX,
                }
            }

            /// The attributes as the text form prints them; an opaque operator's are printed by the text form itself.
            pub fn attributes(&self) -> Vec<(&'static str, String)> {
                match self {
                    $(Op::$variant { $($field),* } => vec![$((stringify!($field), $field.print())),*],)*
                    Op::Opaque(_) => Vec::new(),
                }
            }

            /// The operator with this name and these printed attributes; takes each attribute that it uses out of the map.
            pub fn parse(name: &str, attributes: &mut IndexMap<String, String>) -> Result<Op, String> {
                match name {
                    $($name => Ok(Op::$variant { $($field: take(attributes, name, stringify!($field))?),* }),)*
                    _ => Err(format!("there is no operator `{name}`")),
                }
            }

            /// The names of all operators but `opaque`.
            pub const NAMES: &[&str] = &[$($name),*];

            /// What kind of operator it is.
            pub fn class(&self) -> Class {
                match self {
                    $(Op::$variant { .. } => Class::$class,)*
                    Op::Opaque(_) => Class::Opaque,
                }
            }

            /// Whether it has no meaning on whole numbers.
            pub fn needs_float(&self) -> bool {
                match self {
                    $(Op::$variant { .. } => Numbers::$numbers == Numbers::Floats,)*
                    Op::Opaque(_) => false,
                }
            }

            /// Which factors of operand 0 are factors of the result: f(s x) = s f(x).
            #[allow(unused_variables, reason = "few of the operators ask their attributes")]
            pub fn factors(&self) -> Factors {
                use Factors::{All, None, Positive};
                match self {
                    $(Op::$variant { $($field),* } => $factors,)*
                    Op::Opaque(_) => None,
                }
            }

            /// Applies a function of one operand to every element; false if the operator is none.
            ///
            /// As in libtorch, what compares lets NaN through.
            #[allow(unused_variables, reason = "few of the operators ask their attributes")]
            pub fn apply<T: Real>(&self, xs: &mut [T]) -> bool {
                match self {
                    $(Op::$variant { $($field),* } => operators!(@apply xs $class $(, $function)?),)*
                    Op::Opaque(_) => false,
                }
            }
        }

        operators! { @patterns [] [] $($variant $class)* }
    };
    (@patterns [$($f:ident)*] [$($b:ident)*] $variant:ident Function $($rest:tt)*) => {
        operators! { @patterns [$($f)* $variant] [$($b)*] $($rest)* }
    };
    (@patterns [$($f:ident)*] [$($b:ident)*] $variant:ident Binary $($rest:tt)*) => {
        operators! { @patterns [$($f)*] [$($b)* $variant] $($rest)* }
    };
    (@patterns [$($f:ident)*] [$($b:ident)*] $variant:ident $class:ident $($rest:tt)*) => {
        operators! { @patterns [$($f)*] [$($b)*] $($rest)* }
    };
    (@patterns [$f0:ident $($f:ident)*] [$b0:ident $($b:ident)*]) => {
        /// The pattern of all functions of one element.
        macro_rules! functions { () => { $crate::ir::Op::$f0 { .. } $(| $crate::ir::Op::$f { .. })* } }
        /// The pattern of all functions of two elements.
        macro_rules! binaries { () => { $crate::ir::Op::$b0 { .. } $(| $crate::ir::Op::$b { .. })* } }
        pub(crate) use {binaries, functions};
    };
    (@apply $xs:ident Function) => { compile_error!("a function of one element says what it computes") };
    (@apply $xs:ident $class:ident) => { false };
    (@apply $xs:ident $class:ident, $function:expr) => { each($xs, $function) };
}

/// What kind of operator one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A function of each element by itself; with attributes, but one operand.
    Function,
    /// A function of two elements.
    Binary,
    /// A function of each element, another for each channel.
    Channelwise,
    /// Sums of products: what counts as multiply-adds.
    Product,
    /// Over windows of positions, channel by channel.
    Window,
    /// Elements set in relation to others.
    Normalisation,
    /// One element of many.
    Reduction,
    /// Elements moved to other places.
    Layout,
    /// The operand's memory, seen in another way.
    View,
    /// What is not known.
    Opaque,
}

/// What an operator computes with.
#[derive(PartialEq)]
enum Numbers {
    Any,
    Floats,
}

fn take<T: Attribute>(
    attributes: &mut IndexMap<String, String>,
    op: &str,
    field: &str,
) -> Result<T, String> {
    let text = attributes
        .shift_remove(field)
        .ok_or_else(|| format!("{op} needs the attribute `{field}`"))?;
    T::parse(&text).map_err(|e| format!("attribute `{field}`: {e}"))
}

// Each row: name, number of operands and attributes; then the class, what numbers it takes, and which factors pass through; then
// what a function of one element computes.
#[rustfmt::skip]
operators! {
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
    Relu = "relu"(1..=1) {} Function(Any, Positive) = |x| if x < T::zero() { T::zero() } else { x };
    /// x where positive, `slope * x` elsewhere.
    LeakyRelu = "leaky_relu"(1..=1) { slope: Float } Function(Floats, Positive) = |x| if x < T::zero() { x * real(slope.0) } else { x };
    /// x where positive, `slope * x` elsewhere; slope `[C]` or `[1]`, C the size of axis 1.
    PRelu = "prelu"(2..=2) {} Channelwise(Floats, Positive);
    /// x limited to `[min, max]`; ReLU6 is `clip{min=0.0,max=6.0}`.
    Clip = "clip"(1..=1) { min: Float, max: Float } Function(Any, None) = |x| clip(x, real(min.0), real(max.0));
    /// x where positive, `alpha * (exp(x) - 1)` elsewhere.
    Elu = "elu"(1..=1) { alpha: Float } Function(Floats, None) = |x| if x < T::zero() { real::<T>(alpha.0) * x.exp_m1() } else { x };
    /// x * sigmoid(x).
    Silu = "silu"(1..=1) {} Function(Floats, None) = |x| x * sigmoid(x);
    /// x * Phi(x), by `tanh` if so said.
    Gelu = "gelu"(1..=1) { tanh: bool } Function(Floats, None) = |x| x * real(0.5) * (T::one() + if *tanh { gelu_tanh(x) } else { erf(x * real(FRAC_1_SQRT_2)) });
    /// 1 / (1 + exp(-x)).
    Sigmoid = "sigmoid"(1..=1) {} Function(Floats, None) = sigmoid;
    /// clip(x / 6 + 1/2, 0, 1).
    HardSigmoid = "hard_sigmoid"(1..=1) {} Function(Floats, None) = hard_sigmoid;
    /// x * clip(x / 6 + 1/2, 0, 1).
    HardSwish = "hard_swish"(1..=1) {} Function(Floats, None) = |x| x * hard_sigmoid(x);
    /// tanh(x).
    Tanh = "tanh"(1..=1) {} Function(Floats, None) = T::tanh;
    /// log(1 + exp(x)).
    Softplus = "softplus"(1..=1) {} Function(Floats, None) = softplus;
    /// x * tanh(log(1 + exp(x))).
    Mish = "mish"(1..=1) {} Function(Floats, None) = |x| x * softplus(x).tanh();
    /// x / (1 + |x|).
    Softsign = "softsign"(1..=1) {} Function(Floats, None) = |x| x / (T::one() + x.abs());
    /// sin(x).
    Sin = "sin"(1..=1) {} Function(Floats, None) = T::sin;
    /// cos(x).
    Cos = "cos"(1..=1) {} Function(Floats, None) = T::cos;
    /// The arc tangent.
    Atan = "atan"(1..=1) {} Function(Floats, None) = T::atan;
    /// exp(x).
    Exp = "exp"(1..=1) {} Function(Floats, None) = T::exp;
    /// The natural logarithm.
    Log = "log"(1..=1) {} Function(Floats, None) = T::ln;
    /// The square root.
    Sqrt = "sqrt"(1..=1) {} Function(Floats, None) = T::sqrt;
    /// 1 / sqrt(x).
    Rsqrt = "rsqrt"(1..=1) {} Function(Floats, None) = |x| x.sqrt().recip();
    /// The error function.
    Erf = "erf"(1..=1) {} Function(Floats, None) = erf;
    /// |x|.
    Abs = "abs"(1..=1) {} Function(Any, Positive) = T::abs;
    /// -x.
    Neg = "neg"(1..=1) {} Function(Any, All) = |x| -x;

    /// a + b, broadcast from the last axis as NumPy does; so are the next six.
    Add = "add"(2..=2) {} Binary(Any, None);
    /// a - b.
    Sub = "sub"(2..=2) {} Binary(Any, None);
    /// a * b.
    Mul = "mul"(2..=2) {} Binary(Any, None);
    /// a / b.
    Div = "div"(2..=2) {} Binary(Floats, None);
    /// a to the power b.
    Pow = "pow"(2..=2) {} Binary(Any, None);
    /// The larger of both.
    Maximum = "maximum"(2..=2) {} Binary(Any, None);
    /// The smaller of both.
    Minimum = "minimum"(2..=2) {} Binary(Any, None);

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
    Flatten = "flatten"(1..=1) { start: usize, end: usize } View(Any, All);
    /// The same elements in row-major order under another shape.
    Reshape = "reshape"(1..=1) { shape: Dims } View(Any, All);
    /// Axis `perm[i]` of the operand becomes axis i.
    Transpose = "transpose"(1..=1) { perm: Ints } Layout(Any, All);
    /// Axes of length 1 removed.
    Squeeze = "squeeze"(1..=1) { axes: Ints } View(Any, All);
    /// Axes of length 1 inserted, at these positions of the result.
    Unsqueeze = "unsqueeze"(1..=1) { axes: Ints } View(Any, All);
    /// Axes of length 1 repeated, new axes put in front.
    Expand = "expand"(1..=1) { shape: Dims } Layout(Any, All);

    /// The element type changed.
    Cast = "cast"(1..=1) { dtype: DType } Function(Any, None) = |x| cast(*dtype, x);
    /// Nothing, at inference.
    Dropout = "dropout"(1..=1) { p: Float } View(Any, All) = |x| x;
    /// Nothing.
    Identity = "identity"(1..=1) {} View(Any, All) = |x| x;
}

/// The format in whose terms an opaque operator is kept; no other format can write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// TorchScript: the template is an expression of its Python.
    #[default]
    TorchScript,
    /// `torch.export`: the template is a node of the graph's JSON.
    ExportedProgram,
    /// ONNX: the template is a node with its attributes.
    Onnx,
}

impl Dialect {
    const NAMES: [(Dialect, &str); 3] = [
        (Dialect::TorchScript, "torchscript"),
        (Dialect::ExportedProgram, "exported_program"),
        (Dialect::Onnx, "onnx"),
    ];
}

impl Dialect {
    /// The format's name, as people write it.
    pub fn title(self) -> &'static str {
        match self {
            Dialect::TorchScript => "TorchScript",
            Dialect::ExportedProgram => "ExportedProgram",
            Dialect::Onnx => "ONNX",
        }
    }
}

impl Attribute for Dialect {
    fn print(&self) -> String {
        let name = Dialect::NAMES.iter().find(|(dialect, _)| dialect == self);
        name.map_or("", |(_, name)| name).to_string()
    }
    fn parse(text: &str) -> Result<Dialect, String> {
        let known = Dialect::NAMES.iter().find(|(_, name)| *name == text);
        let names = Dialect::NAMES.map(|(_, name)| name).join(", ");
        known
            .map(|(dialect, _)| *dialect)
            .ok_or_else(|| format!("`{text}` is no dialect; there are {names}"))
    }
}

/// A node of the source format, kept to be written back unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Opaque {
    /// The format it is of.
    pub dialect: Dialect,
    /// The operator's name in its format, such as `aten::foo`, for messages.
    pub name: Arc<str>,
    /// The node as its format writes it. In TorchScript `{0}`, `{1}` .. stand for operands, `{$0}`, `{$1}` .. for `sizes`.
    pub template: Arc<str>,
    /// Sizes that the template refers to.
    pub sizes: SmallVec<[Dim; 2]>,
    /// The types of its results, as far as they are known.
    pub outputs: SmallVec<[Type; 1]>,
}

impl Op {
    /// What lies from `start` to before `end` of an axis.
    pub fn slice(axis: usize, start: Dim, end: Dim) -> Op {
        Op::Slice {
            axis,
            start,
            end,
            step: 1,
        }
    }

    /// A convolution of one point, over channels only, of so many spatial dimensions.
    pub fn pointwise(dims: usize, groups: usize) -> Op {
        Op::Conv {
            stride: Ints::from_elem(1, dims),
            pad: Padding::symmetric(Ints::from_elem(0, dims)),
            dilation: Ints::from_elem(1, dims),
            groups,
        }
    }

    /// The spatial kernel-independent geometry of a convolution of either kind: stride, pad, dilation, groups.
    pub fn convolution(&self) -> Option<(&Ints, &Padding, &Ints, usize)> {
        match self {
            Op::Conv {
                stride,
                pad,
                dilation,
                groups,
            }
            | Op::ConvTranspose {
                stride,
                pad,
                dilation,
                groups,
                ..
            } => Some((stride, pad, dilation, *groups)),
            _ => None,
        }
    }
}
