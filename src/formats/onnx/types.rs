//! The types of what opaque nodes compute: as far as ONNX's definition of the operator tells, and as the file declares them.
//!
//! What a file declares may be stale: of an export with a batch of 1, say, whose inputs were made dynamic afterwards. Element types
//! and names of sizes are believed where nothing better is known; numbers only say what a size probably is.

use smallvec::SmallVec;

use super::import::Importer;
use super::proto::GraphProto;
use super::tensor;
use super::view::View;
use crate::formats::sizes::position;
use crate::formats::spelling;
use crate::formats::words::among;
use crate::ir::infer::broadcast;
use crate::ir::{DType, Dim, Dims, Type, Value};

/// What a result is called of which nothing is known.
pub(super) const UNKNOWN: &str = "unknown";

/// The types of the results that have names.
pub(super) fn results<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    operands: &[Value],
) -> SmallVec<[Type; 1]> {
    let own = matches!(view.node.domain.as_deref(), None | Some("" | "ai.onnx"))
        && !im.functions.contains(&(view.node.domain(), view.op()));
    let mut types = SmallVec::new();
    for (i, name) in view.node.output.iter().enumerate() {
        if name.is_empty() {
            continue;
        }
        let known = im.symbol_count();
        let derived = if own {
            result(im, view, operands, i)
        } else {
            None
        };
        types.push(match (im.declared_type(name), derived) {
            (Some(Type::Tensor(dtype, Some(shape))), derived) => {
                let derived = derived.as_ref().and_then(Type::shape);
                Type::Tensor(dtype, Some(believed(im, name, shape, derived, known)))
            }
            (Some(Type::Tensor(dtype, None)), Some(Type::Tensor(_, shape))) => {
                Type::Tensor(dtype, shape)
            }
            (Some(Type::Other(name)), Some(derived)) if *name == *UNKNOWN => derived,
            (Some(declared), _) => declared,
            (None, Some(derived)) => derived,
            (None, None) => Type::Other(UNKNOWN.into()),
        });
    }
    types
}

/// What is believed of a shape that the file declares: what `derived` does not tell, as far as its symbols are among the first
/// `known` ones, but for numbers: these become sizes that probably have them.
fn believed(
    im: &mut Importer<'_>,
    name: &str,
    declared: Dims,
    derived: Option<&[Dim]>,
    known: usize,
) -> Dims {
    let told = |axis: usize| derived?.get(axis).filter(|dim| !im.is_newer(dim, known));
    match derived {
        Some(derived) if derived.len() != declared.len() => return derived.into(),
        _ => {}
    }
    let told: Vec<Option<Dim>> = (0..declared.len())
        .map(|axis| told(axis).cloned())
        .collect();
    let sizes = declared.into_iter().zip(told).enumerate();
    let size = |(axis, (declared, told)): (usize, (Dim, Option<Dim>))| match (
        told,
        declared.as_number(),
    ) {
        (Some(told), _) => told,
        // What is broadcast stays so; but a batch of 1 is what exporters are given.
        (None, Some(1)) if axis > 0 => declared,
        (None, Some(n)) => im.probable_size(&format!("{name}.{axis}"), n),
        (None, None) => declared,
    };
    sizes.map(size).collect()
}

/// Operators whose result has type and shape of the first operand, beside those that all formats spell.
const LIKE_FIRST: &str = "
    Acos Acosh Asin Asinh Atanh BatchNormalization Bernoulli BitwiseNot Ceil Celu Clip Cosh CumProd CumSum Dropout
    Floor GroupNormalization Hardmax Identity InstanceNormalization LRN LayerNormalization LogSoftmax LpNormalization
    MeanVarianceNormalization Not PRelu RMSNormalization Reciprocal ReverseSequence RotaryEmbedding Round Scatter
    ScatterElements ScatterND Shrink Sign Sinh Softmax Tan ThresholdedRelu Trilu";

/// Operators of two operands that broadcast, with a result of their type, beside those that all formats spell.
const ARITHMETIC: &str = "BitShift BitwiseAnd BitwiseOr BitwiseXor Mean Mod Sum";

/// The same with truth values as results.
const COMPARISONS: &str = "And Equal Greater GreaterOrEqual Less LessOrEqual Or Xor";

/// Operators whose result has the type of the first operand, and a shape that is not worked out here.
const TYPE_OF_FIRST: &str = "
    CenterCropPad Col2Im Compress Concat Conv ConvTranspose DepthToSpace Einsum Expand Flatten GRU GatherND Gemm
    GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample LSTM MatMul MaxUnpool Pad RNN Range ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Reshape RoiAlign Slice SpaceToDepth
    Split Squeeze Tile Transpose Unique Unsqueeze";

/// The type of result `i`.
fn result<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    operands: &[Value],
    i: usize,
) -> Option<Type> {
    let op = view.op();
    if matches!(op, "If" | "Loop" | "Scan") {
        return of_subgraph(im, view, i);
    }
    let first = view.input(0).and_then(|name| im.value(name));
    let first_type = first.map(|value| im.ty(value).clone());
    let spelled = spelling::of_onnx(op).next().map(|(row, _)| row.operands());
    if (among(LIKE_FIRST, op) || spelled == Some(1)) && i == 0 {
        return first_type;
    }
    let dtype = first_type.as_ref().and_then(Type::dtype);
    let shape = first_type.as_ref().and_then(Type::shape).map(Dims::from);
    if among(ARITHMETIC, op) || spelled == Some(2) {
        return Some(Type::Tensor(dtype?, all_broadcast(im, operands)));
    }
    if among(COMPARISONS, op) {
        return Some(Type::Tensor(DType::Bool, all_broadcast(im, operands)));
    }
    quantized(im, view, shape.clone(), i)
        .or_else(|| indexed(im, view, (dtype, shape.clone()), i))
        .or_else(|| resized(im, view, operands, (dtype, shape), i))
}

/// The type of operand `i`.
fn of_input<'m>(im: &mut Importer<'m>, view: &View<'m>, i: usize) -> Option<Type> {
    let value = im.operand(view, i)?;
    Some(im.ty(value).clone())
}

/// The type of result `i` of an operator on positions; the first operand has this element type and this shape.
fn indexed<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    (dtype, shape): (Option<DType>, Option<Dims>),
    i: usize,
) -> Option<Type> {
    Some(match (view.op(), i) {
        ("ArgMax" | "ArgMin", 0) => {
            let reduced = shape.and_then(|mut shape| {
                let axis = position(view.int("axis", 0), shape.len())?;
                match view.int("keepdims", 1) {
                    0 => drop(shape.remove(axis)),
                    _ => shape[axis] = Dim::from(1),
                }
                Some(shape)
            });
            Type::Tensor(DType::I64, reduced)
        }
        ("TopK", _) => {
            let first = im.operand(view, 0)?;
            let count = im.sizes(view, 1, first).and_then(|k| k.first().cloned());
            let shape = shape.zip(count).and_then(|(mut shape, count)| {
                let axis = position(view.int("axis", -1), shape.len())?;
                shape[axis] = count;
                Some(shape)
            });
            Type::Tensor(if i == 0 { dtype? } else { DType::I64 }, shape)
        }
        ("Gather", 0) => {
            let index = of_input(im, view, 1)?;
            let gathered = shape.zip(index.shape()).and_then(|(shape, index)| {
                let axis = position(view.int("axis", 0), shape.len())?;
                let parts = shape[..axis].iter().chain(index).chain(&shape[axis + 1..]);
                Some(parts.cloned().collect())
            });
            Type::Tensor(dtype?, gathered)
        }
        ("GatherElements", 0) => {
            let index = of_input(im, view, 1)?;
            Type::Tensor(dtype?, index.shape().map(Dims::from))
        }
        ("NonZero", 0) => {
            let rank = shape.map(|shape| Dim::from(shape.len()));
            let count = im.fresh_size(view.name());
            Type::Tensor(DType::I64, rank.map(|rank| Dims::from_iter([rank, count])))
        }
        ("NonMaxSuppression", 0) => {
            let count = im.fresh_size(view.name());
            Type::tensor(DType::I64, [count, Dim::from(3)])
        }
        ("OneHot", 0) => Type::Tensor(of_input(im, view, 2)?.dtype()?, None),
        _ => return None,
    })
}

/// The same of an operator on quantized numbers.
fn quantized<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    shape: Option<Dims>,
    i: usize,
) -> Option<Type> {
    Some(match (view.op(), i) {
        ("DequantizeLinear", 0) => Type::Tensor(of_input(im, view, 1)?.dtype()?, shape),
        ("QuantizeLinear", 0) => match view.input(2) {
            Some(_) => match of_input(im, view, 2)? {
                Type::Tensor(dtype, _) => Type::Tensor(dtype, shape),
                other => other,
            },
            None if view.int("output_dtype", 0) == 0 => Type::Tensor(DType::U8, shape),
            None => Type::Tensor(
                tensor::dtype(i32::try_from(view.int("output_dtype", 0)).ok()?)?,
                shape,
            ),
        },
        ("DynamicQuantizeLinear", 0) => Type::Tensor(DType::U8, shape),
        ("DynamicQuantizeLinear", 1) => Type::Tensor(DType::F32, Some(Dims::new())),
        ("DynamicQuantizeLinear", 2) => Type::Tensor(DType::U8, Some(Dims::new())),
        ("QLinearConv" | "QLinearMatMul", 0) => Type::Tensor(of_input(im, view, 7)?.dtype()?, None),
        ("ConvInteger" | "MatMulInteger", 0) => Type::Tensor(DType::I32, None),
        _ => return None,
    })
}

/// The same of an operator whose result has other sizes.
fn resized<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    operands: &[Value],
    (dtype, shape): (Option<DType>, Option<Dims>),
    i: usize,
) -> Option<Type> {
    let op = view.op();
    Some(match (op, i) {
        ("Shape", 0) => {
            let rank = shape.map(|shape| Dims::from_iter([Dim::from(shape.len())]));
            let whole = view.node.attribute.is_empty();
            Type::Tensor(DType::I64, rank.filter(|_| whole))
        }
        ("Size", 0) => Type::Tensor(DType::I64, Some(Dims::new())),
        ("IsNaN" | "IsInf", 0) => Type::Tensor(DType::Bool, shape),
        ("Where", 0) => {
            let dtype = of_input(im, view, 1)?.dtype()?;
            Type::Tensor(dtype, all_broadcast(im, operands))
        }
        ("Cast", 0) => Type::Tensor(
            tensor::dtype(i32::try_from(view.int("to", 0)).ok()?)?,
            shape,
        ),
        ("Reshape", 0) => {
            let target = view.input(1)?;
            let target = im.value(target).map(|value| im.ty(value).clone())?;
            Type::Tensor(dtype?, unknown_sizes(im, view, target.len(0)))
        }
        ("MaxPool", 1) | ("Unique", 1..) => Type::Tensor(DType::I64, None),
        ("ConstantOfShape", 0) => match view.attribute("value").and_then(|a| a.t.as_deref()) {
            None => Type::Tensor(DType::F32, None),
            Some(value) => Type::Tensor(tensor::dtype(value.data_type?)?, None),
        },
        ("AveragePool" | "LpPool" | "MaxPool" | "MaxRoiPool" | "Resize" | "Upsample", 0) => {
            let rank = shape.as_ref().map(|shape| shape.len());
            let mut sizes = unknown_sizes(im, view, rank);
            let resampled = matches!(op, "Resize" | "Upsample");
            // Batch and channels stay.
            if let (Some(sizes), Some(shape), false) = (&mut sizes, shape, resampled) {
                let from = usize::from(op == "MaxRoiPool");
                for (size, was) in sizes.iter_mut().zip(shape).take(2).skip(from) {
                    *size = was;
                }
            }
            Type::Tensor(dtype?, sizes)
        }
        ("Concat" | "Slice" | "Pad" | "Tile" | "Transpose" | "GridSample", 0) => {
            let rank = shape.map(|shape| shape.len());
            Type::Tensor(dtype?, unknown_sizes(im, view, rank))
        }
        _ if among(TYPE_OF_FIRST, op) => Type::Tensor(dtype?, None),
        _ => return None,
    })
}

/// As many sizes of which nothing is known.
fn unknown_sizes<'m>(im: &mut Importer<'m>, view: &View<'m>, rank: Option<usize>) -> Option<Dims> {
    let rank = rank.filter(|rank| *rank <= 16)?;
    let size = |axis| im.fresh_size(&format!("{}.{axis}", view.name()));
    Some((0..rank).map(size).collect())
}

/// The shape that all operands broadcast to.
fn all_broadcast<'m>(im: &Importer<'m>, operands: &[Value]) -> Option<Dims> {
    let mut shape = Dims::new();
    for value in operands {
        shape = broadcast(&shape, im.ty(*value).shape()?).ok()?;
    }
    Some(shape)
}

/// Result `i` of a node that runs subgraphs, as these declare it.
fn of_subgraph<'m>(im: &mut Importer<'m>, view: &View<'m>, i: usize) -> Option<Type> {
    // The body of a loop gives the condition first; what a scan gives may be stacked.
    let at = if view.op() == "Loop" { i + 1 } else { i };
    let mut types = Vec::new();
    let graphs: Vec<&GraphProto> = view.graphs().collect();
    for graph in graphs {
        let proto = graph.output.get(at)?.r#type.as_ref()?;
        types.push(im.type_of(proto, view.name()));
    }
    let (first, rest) = types.split_first()?;
    match first {
        Type::Tensor(dtype, _) if rest.iter().all(|ty| ty.dtype() == Some(*dtype)) => {
            Some(Type::Tensor(*dtype, None))
        }
        Type::Other(_) if rest.iter().all(|ty| ty == first) => Some(first.clone()),
        _ => None,
    }
}
