//! Every operator of PyTorch's that is read: its names, its parameters, which function reads it, and whether its result is a view.

use super::{
    Builder, Call, Read, arithmetic, convolution, layout, normalisation, pointwise, pool, reduce,
    slices,
};
use crate::formats::spelling;

/// An operator as it is called.
#[derive(Clone, Copy)]
pub(in crate::formats) struct Entry {
    names: &'static [&'static str],
    /// The names of its parameters, in order.
    pub parameters: &'static [&'static str],
    pub lower: fn(&mut dyn Builder, &Call<'_>) -> Read,
    sharing: Sharing,
}

/// How the result of an operator shares its first argument's memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::formats) enum Sharing {
    /// Not at all.
    Copy,
    /// Always.
    View,
    /// It shows at run time.
    Either,
}

macro_rules! entries {
    () => { Sharing::Copy };
    (view) => { Sharing::View };
    (either) => { Sharing::Either };
    ($($($name:literal)+ ($($parameter:ident)*) $family:ident::$lower:ident $($sharing:ident)?;)*) => {
        &[$(Entry {
            names: &[$($name),+],
            parameters: &[$(stringify!($parameter)),*],
            lower: $family::$lower,
            sharing: entries!($($sharing)?),
        }),*]
    };
}

/// Operators that are not in the table of all formats.
#[rustfmt::skip]
const ENTRIES: &[Entry] = entries! {
    "prelu" "_prelu_kernel" (self weight) pointwise::prelu;
    "hardtanh" (self min_val max_val) pointwise::hardtanh;
    "relu6" (self) pointwise::relu6;
    "clamp" "clip" (self min max) pointwise::clamp;
    "clamp_min" (self min) pointwise::clamp;
    "clamp_max" (self max) pointwise::clamp;
    "dropout" "feature_dropout" "alpha_dropout" "feature_alpha_dropout" (input p train) pointwise::dropout view;
    "detach" "alias" "positive" "lift_fresh" (self) pointwise::same view;
    "contiguous" (self) pointwise::same either;
    "clone" "lift_fresh_copy" (self) pointwise::clone;
    "to" "type_as" (self dtype copy other) pointwise::to view;
    "_to_copy" (self dtype copy other) pointwise::to;

    "rsub" (self other alpha) arithmetic::rsub;
    "square" (self) arithmetic::square;
    "reciprocal" (self) arithmetic::reciprocal;
    "linear" (input weight bias) arithmetic::linear;
    "matmul" (self other) arithmetic::matmul;
    "bmm" "mm" (self mat2) arithmetic::matmul;
    "addmm" (self mat1 mat2 beta alpha) arithmetic::addmm;
    "baddbmm" (self batch1 batch2 beta alpha) arithmetic::addmm;
    "scaled_dot_product_attention" (query key value attn_mask dropout_p is_causal scale enable_gqa) arithmetic::attention;
    "_scaled_dot_product_flash_attention_for_cpu"
        (query key value dropout_p is_causal attn_mask scale) arithmetic::kernel_attention;

    "_convolution" "convolution" (input weight bias stride padding dilation transposed output_padding groups) convolution::either;
    "conv1d" "conv2d" "conv3d" (input weight bias stride padding dilation groups) convolution::forward;
    "conv_transpose1d" "conv_transpose2d" "conv_transpose3d"
        (input weight bias stride padding output_padding groups dilation) convolution::transposed;

    "batch_norm" (input weight bias running_mean running_var training momentum eps cudnn_enabled) normalisation::batch_norm;
    "_native_batch_norm_legit_no_training" (input weight bias running_mean running_var momentum eps) normalisation::native;
    "native_layer_norm" (input normalized_shape weight bias eps) normalisation::native;
    "native_group_norm" (input weight bias N C HxW group eps) normalisation::native;
    "layer_norm" (input normalized_shape weight bias eps cudnn_enable) normalisation::layer_norm;
    "group_norm" (input num_groups weight bias eps cudnn_enabled) normalisation::group_norm;
    "instance_norm"
        (input weight bias running_mean running_var use_input_stats momentum eps cudnn_enabled) normalisation::instance_norm;
    "_weight_norm" (v g dim) normalisation::weight_norm;

    "max_pool1d" "max_pool2d" "max_pool3d" (self kernel_size stride padding dilation ceil_mode) pool::max_pool;
    "max_pool2d_with_indices" "max_pool3d_with_indices" (self kernel_size stride padding dilation ceil_mode) pool::with_indices;
    "adaptive_max_pool1d" "adaptive_max_pool2d" "adaptive_max_pool3d" (self output_size) pool::adaptive_max_pool;
    "avg_pool1d" "avg_pool2d" "avg_pool3d"
        (self kernel_size stride padding ceil_mode count_include_pad divisor_override) pool::avg_pool;
    "adaptive_avg_pool1d" "adaptive_avg_pool2d" "adaptive_avg_pool3d" "_adaptive_avg_pool2d" "_adaptive_avg_pool3d"
        (self output_size) pool::adaptive_avg_pool;
    "upsample_nearest1d" "upsample_nearest2d" "upsample_nearest3d" (input output_size scale_factors) pool::nearest;
    "upsample_linear1d" "upsample_bilinear2d" "upsample_trilinear3d" (input output_size align_corners scale_factors) pool::linear;

    "mean" "sum" (self dim keepdim dtype) reduce::mean;
    "amax" (self dim keepdim) reduce::mean;
    "softmax" "log_softmax" "_safe_softmax" (self dim dtype) reduce::softmax;
    "_softmax" "_log_softmax" (self dim half_to_float) reduce::softmax;

    "reshape" (self shape) layout::reshape either;
    "view" (self size) layout::reshape view;
    "_unsafe_view" (self size) layout::reshape either;
    "view_as" (self other) layout::reshape_as view;
    "reshape_as" (self other) layout::reshape_as either;
    "flatten" (self start_dim end_dim) layout::flatten either;
    "unflatten" (self dim sizes) layout::unflatten view;
    "transpose" "swapdims" (self dim0 dim1) layout::transpose view;
    "swapaxes" (self axis0 axis1) layout::transpose view;
    "t" "numpy_T" "mT" (self) layout::t view;
    "permute" (self dims) layout::permute view;
    "squeeze" (self dim) layout::squeeze view;
    "unsqueeze" (self dim) layout::unsqueeze view;
    "expand" (self size) layout::expand view;
    "expand_as" (self other) layout::expand_as view;
    "cat" "concat" "concatenate" (tensors dim) slices::cat;
    "stack" (tensors dim) slices::stack;
    "slice" (self dim start end step) slices::slice view;
    "narrow" (self dim start length) slices::narrow view;
    "select" (self dim index) slices::select view;
    "chunk" "unsafe_chunk" (self chunks dim) slices::chunk view;
    "split" "unsafe_split" (self split_size dim) slices::split view;
    "split_with_sizes" (self split_sizes dim) slices::split view;
    "tensor_split" (self indices dim) slices::tensor_split view;
    "unbind" (self dim) slices::unbind view;
    "index_select" (self dim index) slices::index_select;
    "pad" (self pad mode value) layout::pad;
    "constant_pad_nd" (self pad value) layout::pad;
    "reflection_pad1d" "reflection_pad2d" "reflection_pad3d" "replication_pad1d" "replication_pad2d" "replication_pad3d"
        (self padding) layout::pad;

    // Of these only that they share memory is known.
    "mH" "adjoint" "movedim" "moveaxis" "hsplit" "vsplit" "dsplit" "unfold" "diagonal" "as_strided" "real" "imag" "view_as_real"
        "view_as_complex" "_reshape_alias" "data" () layout::unknown view;
    "ravel" "atleast_1d" "atleast_2d" "atleast_3d" "einsum" () layout::unknown either;
};

/// The entry of an operator.
pub(in crate::formats) fn find(name: &str) -> Option<Entry> {
    if let Some(row) = spelling::of_aten(name).next() {
        return Some(Entry {
            names: row.aten.names,
            parameters: row.aten.parameters,
            lower: match row.operands() {
                1 => pointwise::function,
                _ => arithmetic::function,
            },
            sharing: Sharing::Copy,
        });
    }
    ENTRIES
        .iter()
        .find(|entry| entry.names.contains(&name))
        .copied()
}

/// How the result of an operator shares its first argument's memory.
pub(in crate::formats) fn sharing(name: &str) -> Sharing {
    find(name).map_or(Sharing::Copy, |entry| entry.sharing)
}
