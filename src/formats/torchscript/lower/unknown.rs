//! What is known of operators that the IR does not know.

use crate::formats::spelling;
use crate::formats::words::among;
use crate::ir::DType;

/// Whether an operator that the IR does not know keeps its first argument's shape; `beside`: it has another tensor argument.
pub(super) fn keeps_shape(name: &str, beside: bool) -> bool {
    const ALONE: &str = "
        tan asin acos sinh cosh asinh acosh atanh log2 log10 log1p expm1 exp2 floor ceil round trunc frac sign
        square erfc erfinv logical_not bitwise_not isnan isinf isfinite celu hardshrink softshrink tanhshrink softsign
        log_sigmoid threshold cumsum cumprod flip roll tril triu zeros_like ones_like full_like empty_like rand_like randn_like
        nan_to_num channel_shuffle local_response_norm fill zero rrelu sgn deg2rad rad2deg lgamma digamma sinc logit rsub clamp
        clamp_min clamp_max";
    const BESIDE: &str = "instance_norm fill scatter scatter_add index_fill index_add index_copy index_put slice_scatter";
    if beside {
        among(BESIDE, name)
    } else {
        among(ALONE, name) || spelling::of_aten(name).any(|row| row.operands() == 1)
    }
}

/// Whether the shape of what an operator that the IR does not know makes is that which its tensors have once they are as large as
/// each other.
pub(super) fn broadcasts(name: &str) -> bool {
    const NAMES: &str = "
        eq ne lt le gt ge remainder fmod floor_divide atan2 maximum minimum logical_and logical_or
        logical_xor bitwise_and bitwise_or bitwise_xor __and__ __or__ __xor__ masked_fill";
    among(NAMES, name) || spelling::of_aten(name).any(|row| row.aten.numbers)
}

/// Which arguments of a reduction that the IR does not know are its axes, and whether they stay, with a size of 1.
pub(super) fn reduction(name: &str) -> Option<(usize, usize)> {
    match name {
        "norm" | "linalg_vector_norm" => Some((2, 3)),
        "amin" | "logsumexp" | "prod" | "argmax" | "argmin" | "any" | "all" => Some((1, 2)),
        _ => None,
    }
}

/// Whether the result of an operator, by its full name, has another number of dimensions than what it is called on.
pub(super) fn changes_rank(name: &str) -> bool {
    const NAMES: &str = "
        select squeeze unsqueeze view reshape flatten unflatten unbind stack unfold expand repeat diagonal sum mean amax amin
        max min";
    name.strip_prefix("aten::")
        .is_some_and(|name| among(NAMES, name))
}

/// Which argument of an operator lists the shape of the tensor that it makes.
pub(super) fn shape_argument(name: &str) -> Option<usize> {
    match name {
        "zeros" | "ones" | "full" | "empty" | "rand" | "randn" => Some(0),
        "new_zeros" | "new_ones" | "new_full" | "new_empty" => Some(1),
        _ => None,
    }
}

/// The element type of an unknown operator's result, where it is not that of its argument, `first`; `fractions`: there is a number
/// or a tensor that is not whole among its arguments.
pub(super) fn result_dtype(name: &str, first: DType, fractions: bool) -> Option<DType> {
    let made_of_all = ["add", "sub", "rsub", "mul", "pow", "remainder", "fmod"].contains(&name);
    match name {
        "arange" if fractions => Some(DType::F32),
        "div" if !first.is_float() => Some(DType::F32),
        _ if made_of_all && fractions && !first.is_float() => Some(DType::F32),
        _ if !first.is_float() && gives_fractions(name) => Some(DType::F32),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "isnan" | "isinf" | "isfinite"
        | "logical_not" | "logical_and" | "logical_or" | "logical_xor" | "isin" => {
            Some(DType::Bool)
        }
        "argmax" | "argmin" | "argsort" | "nonzero" | "bincount" | "searchsorted" | "arange" => {
            Some(DType::I64)
        }
        _ => None,
    }
}

/// Whether a function of one element gives numbers of floating point whatever its operand has.
fn gives_fractions(name: &str) -> bool {
    const NAMES: &str = "
        tan asin acos sinh cosh asinh acosh atanh log2 log10 log1p expm1 exp2 erfc erfinv deg2rad rad2deg lgamma digamma sinc
        logit";
    let mut rows = spelling::of_aten(name);
    among(NAMES, name) || rows.any(|row| row.operands() == 1 && row.needs_float())
}

/// What an operator returns that is no tensor.
pub(super) fn result_type(name: &str) -> Option<&'static str> {
    Some(match name {
        "len" | "dim" | "numel" | "sym_size" | "Int" | "IntImplicit" | "floordiv" => "int",
        "item" | "Float" | "FloatImplicit" => "Scalar",
        "Bool" | "is_nonzero" | "equal" | "allclose" => "bool",
        "chunk" | "split" | "split_with_sizes" | "unbind" | "tensor_split" | "hsplit"
        | "vsplit" | "dsplit" | "broadcast_tensors" | "meshgrid" | "unsafe_chunk"
        | "unsafe_split" | "where_list" => "List[Tensor]",
        _ => return None,
    })
}
