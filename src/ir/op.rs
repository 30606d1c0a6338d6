//! The operators, one list: name, operands, attributes, meaning.
//!
//! Activations are laid out `[N, C, ...]`: batch, channels, then up to three spatial dimensions. An *axis* counts from 0.
//! Operand shapes below use `k` for kernel sizes and `[?]` for an operand that may be left out.

use std::ops::RangeInclusive;
use std::sync::Arc;

use indexmap::IndexMap;
use smallvec::SmallVec;

use super::attribute::{Attribute, Float, Index, Ints, PadMode, Padding, ResizeMode};
use super::dim::{Dim, Dims};
use super::tensor::DType;
use super::types::Type;

macro_rules! operators {
    ($($(#[$doc:meta])* $variant:ident = $name:literal($arity:expr) { $($field:ident: $ty:ty),* $(,)? })*) => {
        /// What a node computes. Attributes are part of the operator, so equal operators compute the same function.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "a variant's documentation says what its attributes mean")]
        pub enum Op {
            $($(#[$doc])* $variant { $($field: $ty),* },)*
            /// An operator of the source format that the IR does not know: kept as it is, a wall to every pass.
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
        }
    };
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

operators! {
    /// Convolution: `x [N,C,..]`, `W [O,C/groups,k..]`, `[b [O]]` -> `[N,O,..]`. 1 to 3 spatial dimensions.
    Conv = "conv"(2..=3) { stride: Ints, pad: Padding, dilation: Ints, groups: usize }
    /// Transposed convolution: `x [N,C,..]`, `W [C,O/groups,k..]`, `[b [O]]` -> `[N,O,..]`.
    ConvTranspose = "conv_transpose"(2..=3) { stride: Ints, pad: Padding, output_pad: Ints, dilation: Ints, groups: usize }
    /// `x [..,I]`, `W [O,I]`, `[b [O]]` -> `[..,O]`, that is `x W^T + b`.
    Linear = "linear"(2..=3) {}
    /// Matrix product over the last two axes, the others broadcast.
    MatMul = "matmul"(2..=2) {}
    /// `x [N,C,..]`, then scale, shift, mean and variance `[C]` each: `(x - mean) / sqrt(variance + eps) * scale + shift`.
    BatchNorm = "batch_norm"(5..=5) { eps: Float }
    /// Normalisation over the last `axes` axes; `[scale]`, `[shift]` of their shape.
    LayerNorm = "layer_norm"(1..=3) { axes: usize, eps: Float }
    /// Normalisation of `[N,C,..]` within each of `groups` groups of channels; `[scale [C]]`, `[shift [C]]`.
    GroupNorm = "group_norm"(1..=3) { groups: usize, eps: Float }

    /// max(x, 0).
    Relu = "relu"(1..=1) {}
    /// x where positive, `slope * x` elsewhere.
    LeakyRelu = "leaky_relu"(1..=1) { slope: Float }
    /// x where positive, `slope * x` elsewhere; slope `[C]` or `[1]`, C the size of axis 1.
    PRelu = "prelu"(2..=2) {}
    /// x limited to `[min, max]`; ReLU6 is `clip{min=0.0,max=6.0}`.
    Clip = "clip"(1..=1) { min: Float, max: Float }
    /// x where positive, `alpha * (exp(x) - 1)` elsewhere.
    Elu = "elu"(1..=1) { alpha: Float }
    /// x * sigmoid(x).
    Silu = "silu"(1..=1) {}
    /// x * Phi(x), by `tanh` if so said.
    Gelu = "gelu"(1..=1) { tanh: bool }
    /// 1 / (1 + exp(-x)).
    Sigmoid = "sigmoid"(1..=1) {}
    /// clip(x / 6 + 1/2, 0, 1).
    HardSigmoid = "hard_sigmoid"(1..=1) {}
    /// x * clip(x / 6 + 1/2, 0, 1).
    HardSwish = "hard_swish"(1..=1) {}
    /// tanh(x).
    Tanh = "tanh"(1..=1) {}
    /// log(1 + exp(x)).
    Softplus = "softplus"(1..=1) {}
    /// x * tanh(log(1 + exp(x))).
    Mish = "mish"(1..=1) {}
    /// exp(x).
    Exp = "exp"(1..=1) {}
    /// The natural logarithm.
    Log = "log"(1..=1) {}
    /// The square root.
    Sqrt = "sqrt"(1..=1) {}
    /// 1 / sqrt(x).
    Rsqrt = "rsqrt"(1..=1) {}
    /// The error function.
    Erf = "erf"(1..=1) {}
    /// |x|.
    Abs = "abs"(1..=1) {}
    /// -x.
    Neg = "neg"(1..=1) {}

    /// a + b, broadcast from the last axis as NumPy does; so are the next six.
    Add = "add"(2..=2) {}
    /// a - b.
    Sub = "sub"(2..=2) {}
    /// a * b.
    Mul = "mul"(2..=2) {}
    /// a / b.
    Div = "div"(2..=2) {}
    /// a to the power b.
    Pow = "pow"(2..=2) {}
    /// The larger of both.
    Maximum = "maximum"(2..=2) {}
    /// The smaller of both.
    Minimum = "minimum"(2..=2) {}

    /// exp(x) over its sum along `axis`.
    Softmax = "softmax"(1..=1) { axis: usize }
    /// log(softmax(x)).
    LogSoftmax = "log_softmax"(1..=1) { axis: usize }
    /// Attention: q `[..,L,E]`, k `[..,S,E]`, v `[..,S,F]`, `[mask]` added to the scores -> `[..,L,F]`. The scale is
    /// 1/sqrt(E) unless given; `causal` hides keys after the query.
    Attention = "attention"(3..=4) { scale: Option<Float>, causal: bool }

    /// Maximum over windows of the spatial dimensions; `ceil` counts a last window that starts inside.
    MaxPool = "max_pool"(1..=1) { kernel: Dims, stride: Dims, pad: Padding, dilation: Ints, ceil: bool }
    /// Mean over windows of the spatial dimensions; zeros of the pad count if `count_pad`.
    AvgPool = "avg_pool"(1..=1) { kernel: Dims, stride: Dims, pad: Padding, ceil: bool, count_pad: bool }
    /// Mean over `output` windows as even as they can be.
    AdaptiveAvgPool = "adaptive_avg_pool"(1..=1) { output: Dims }
    /// Maximum over `output` windows as even as they can be.
    AdaptiveMaxPool = "adaptive_max_pool"(1..=1) { output: Dims }
    /// Mean over axes, which stay as 1 if `keep`.
    ReduceMean = "mean"(1..=1) { axes: Ints, keep: bool }
    /// Sum over axes, which stay as 1 if `keep`.
    ReduceSum = "sum"(1..=1) { axes: Ints, keep: bool }
    /// Maximum over axes, which stay as 1 if `keep`.
    ReduceMax = "max"(1..=1) { axes: Ints, keep: bool }

    /// `before` and `after` positions added to every axis; negative amounts cut.
    Pad = "pad"(1..=1) { before: Dims, after: Dims, mode: PadMode, value: Float }
    /// Spatial dimensions resampled to `size`.
    Resize = "resize"(1..=1) { size: Dims, mode: ResizeMode }
    /// Operands one after the other along `axis`.
    Concat = "concat"(1..=usize::MAX) { axis: usize }
    /// Positions `start`, `start + step`, .. before `end` of `axis`; both within 0..=size, `step` at least 1.
    Slice = "slice"(1..=1) { axis: usize, start: Dim, end: Dim, step: usize }
    /// Position `index[i]` of `axis` at position i.
    Gather = "gather"(1..=1) { axis: usize, index: Index }
    /// Axes `start..=end` joined into one.
    Flatten = "flatten"(1..=1) { start: usize, end: usize }
    /// The same elements in row-major order under another shape.
    Reshape = "reshape"(1..=1) { shape: Dims }
    /// Axis `perm[i]` of the operand becomes axis i.
    Transpose = "transpose"(1..=1) { perm: Ints }
    /// Axes of length 1 removed.
    Squeeze = "squeeze"(1..=1) { axes: Ints }
    /// Axes of length 1 inserted, at these positions of the result.
    Unsqueeze = "unsqueeze"(1..=1) { axes: Ints }
    /// Axes of length 1 repeated, new axes put in front.
    Expand = "expand"(1..=1) { shape: Dims }

    /// The element type changed.
    Cast = "cast"(1..=1) { dtype: DType }
    /// Nothing, at inference.
    Dropout = "dropout"(1..=1) { p: Float }
    /// Nothing.
    Identity = "identity"(1..=1) {}
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
        let name = { Dialect::NAMES.iter() }.find(|(dialect, _)| dialect == self);
        name.map_or("", |(_, name)| name).to_string()
    }
    fn parse(text: &str) -> Result<Dialect, String> {
        let known = { Dialect::NAMES.iter() }.find(|(_, name)| *name == text);
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

impl Opaque {
    /// Whether it quantises, or computes with what is quantised, in ONNX (`QuantizeLinear`, `QLinearConv`, `ConvInteger`, ..) or in
    /// PyTorch (`quantized::conv2d`, `quantized_decomposed::..`, `aten::quantize_per_tensor`).
    pub fn is_quantised(&self) -> bool {
        let (domain, name) = self.name.rsplit_once("::").unwrap_or(("", &self.name));
        domain.starts_with("quantized")
            || ["Quantize", "quantize", "QLinear", "QGemm", "QAttention"]
                .iter()
                .any(|word| name.contains(word))
            || name.ends_with("Integer")
    }
}

impl Op {
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
