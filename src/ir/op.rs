//! What a node computes, made of the table of operators in `table.rs`.

use std::f64::consts::FRAC_1_SQRT_2;
use std::ops::RangeInclusive;
use std::sync::Arc;

use indexmap::IndexMap;
use smallvec::SmallVec;

use super::attribute::{Attribute, Float, Index, Ints, PadMode, Padding, ResizeMode};
use super::channels::Factors;
use super::dim::{Dim, Dims};
use super::functions::{cast, clip, each, erf, gelu_tanh, hard_sigmoid, real, sigmoid, softplus};
use super::table::operators;
use super::tensor::{DType, Real};
use super::types::Type;

macro_rules! define {
    ($(
        $(#[$doc:meta])* $variant:ident = $name:literal($arity:expr) { $($field:ident: $ty:ty),* $(,)? }
        $class:ident($numbers:ident, $factors:expr) $(= $function:expr)? $(=> $others:tt)?;
    )*) => {
        /// What a node computes. Attributes are part of the operator, so equal operators compute the same function.
        ///
        /// [`Graph::add`](crate::ir::Graph::add) makes one of its text, such as `conv{pad=[1,1]}`, and [`Op::name`] and
        /// [`Op::attributes`] read it: that stays when operators get attributes. Which variants there are, and their fields,
        /// changes with releases.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Op {
            $($(#[$doc])* #[doc(hidden)] $variant { $($field: $ty),* },)*
            /// An operator of the source format that the IR does not know: kept as it is, an optimization barrier to every pass.
            #[doc(hidden)]
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
            #[doc(hidden)]
            pub fn parse(name: &str, attributes: &mut IndexMap<String, String>) -> Result<Op, String> {
                match name {
                    $($name => Ok(Op::$variant { $($field: take(attributes, name, stringify!($field))?),* }),)*
                    _ => Err(format!("there is no operator `{name}`")),
                }
            }

            /// The names of all operators but `opaque`.
            #[doc(hidden)]
            pub const NAMES: &[&str] = &[$($name),*];

            /// What kind of operator it is.
            #[doc(hidden)]
            pub fn class(&self) -> Class {
                match self {
                    $(Op::$variant { .. } => Class::$class,)*
                    Op::Opaque(_) => Class::Opaque,
                }
            }

            /// Whether it has no meaning on whole numbers.
            pub(crate) fn needs_float(&self) -> bool {
                match self {
                    $(Op::$variant { .. } => Numbers::$numbers == Numbers::Floats,)*
                    Op::Opaque(_) => false,
                }
            }

            /// Which factors of operand 0 are factors of the result: f(s x) = s f(x).
            #[allow(unused_variables, reason = "few of the operators ask their attributes")]
            pub(crate) fn factors(&self) -> Factors {
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
            #[doc(hidden)]
            pub fn apply<T: Real>(&self, xs: &mut [T]) -> bool {
                match self {
                    $(Op::$variant { $($field),* } => define!(@apply xs $class $(, $function)?),)*
                    Op::Opaque(_) => false,
                }
            }
        }

        define! { @patterns [] [] [] [] $($variant $class)* }
    };
    (@patterns [$($f:ident)*] [$($b:ident)*] [$($m:ident)*] [$($n:ident)*] $variant:ident Function $($rest:tt)*) => {
        define! { @patterns [$($f)* $variant] [$($b)*] [$($m)*] [$($n)* $variant] $($rest)* }
    };
    (@patterns [$($f:ident)*] [$($b:ident)*] [$($m:ident)*] [$($n:ident)*] $variant:ident Binary $($rest:tt)*) => {
        define! { @patterns [$($f)*] [$($b)* $variant] [$($m)*] [$($n)* $variant] $($rest)* }
    };
    (@patterns [$($f:ident)*] [$($b:ident)*] [$($m:ident)*] [$($n:ident)*] $variant:ident Layout $($rest:tt)*) => {
        define! { @patterns [$($f)*] [$($b)*] [$($m)* $variant] [$($n)* $variant] $($rest)* }
    };
    (@patterns [$($f:ident)*] [$($b:ident)*] [$($m:ident)*] [$($n:ident)*] $variant:ident Shape $($rest:tt)*) => {
        define! { @patterns [$($f)*] [$($b)*] [$($m)* $variant] [$($n)* $variant] $($rest)* }
    };
    (@patterns [$($f:ident)*] [$($b:ident)*] [$($m:ident)*] [$($n:ident)*] $variant:ident Order $($rest:tt)*) => {
        define! { @patterns [$($f)*] [$($b)*] [$($m)* $variant] [$($n)* $variant] $($rest)* }
    };
    (@patterns [$($f:ident)*] [$($b:ident)*] [$($m:ident)*] [$($n:ident)*] $variant:ident Product $($rest:tt)*) => {
        define! { @patterns [$($f)*] [$($b)*] [$($m)*] [$($n)*] $($rest)* }
    };
    (@patterns [$($f:ident)*] [$($b:ident)*] [$($m:ident)*] [$($n:ident)*] $variant:ident $class:ident $($rest:tt)*) => {
        define! { @patterns [$($f)*] [$($b)*] [$($m)*] [$($n)* $variant] $($rest)* }
    };
    (@patterns [$($f:ident)*] [$($b:ident)*] [$($m:ident)*] [$($n:ident)*]) => {
        /// The pattern of all functions of one element.
        macro_rules! functions { () => { $(| $crate::ir::Op::$f { .. })* } }
        /// The pattern of all functions of two elements.
        macro_rules! binaries { () => { $(| $crate::ir::Op::$b { .. })* } }
        /// The pattern of all that only moves elements, or repeats them. A slice, which is nothing but a view, is one more.
        macro_rules! movements { () => { $crate::ir::Op::Slice { .. } $(| $crate::ir::Op::$m { .. })* } }
        /// The pattern of all operators that are known and no sums of products.
        macro_rules! no_products { () => { $(| $crate::ir::Op::$n { .. })* } }
        pub(crate) use {binaries, functions, movements, no_products};
    };
    (@apply $xs:ident Function) => { compile_error!("a function of one element says what it computes") };
    (@apply $xs:ident Binary, $function:expr) => { false };
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
    /// Some elements moved to other places, or new ones put in.
    Layout,
    /// All elements, each once, in another order.
    Order,
    /// All elements in the same order under another shape.
    Shape,
    /// A part of the operand, or all of it, as it lies in memory.
    View,
    /// What is not known.
    Opaque,
}

impl Class {
    /// Whether runtimes look at the operand's memory in another way, and move nothing.
    pub fn moves_nothing(self) -> bool {
        matches!(self, Class::Shape | Class::View)
    }
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

operators!(define);

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
    pub(crate) fn slice(axis: usize, start: Dim, end: Dim) -> Op {
        Op::Slice {
            axis,
            start,
            end,
            step: 1,
        }
    }

    /// A convolution of one point, over channels only, of so many spatial dimensions.
    pub(crate) fn pointwise(dims: usize, groups: usize) -> Op {
        Op::Conv {
            stride: Ints::from_elem(1, dims),
            pad: Padding::symmetric(Ints::from_elem(0, dims)),
            dilation: Ints::from_elem(1, dims),
            groups,
        }
    }

    /// The spatial kernel-independent geometry of a convolution of either kind: stride, pad, dilation, groups.
    pub(crate) fn convolution(&self) -> Option<(&Ints, &Padding, &Ints, usize)> {
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
