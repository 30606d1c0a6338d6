//! Operators that the IR knows, read: one table, by ONNX's names.
//!
//! Each function gives the node's first result, or `None` where the IR has no operator that computes exactly this: the node is
//! then opaque. So it is with an attribute that is not listed here.

mod layout;
mod move_elements;
mod normalisation;
mod pointwise;
mod product;
mod reduce;
mod resample;
mod slices;
mod window;

use smallvec::{SmallVec, smallvec};

use super::import::Importer;
use super::view::View;
use crate::ir::Value;

type Lower = for<'m> fn(&mut Importer<'m>, &View<'m>) -> Option<Value>;

/// An operator: its name, the attributes that may be there, how it is read.
struct Entry {
    name: &'static str,
    attributes: &'static [&'static str],
    lower: Lower,
}

macro_rules! entries {
    ($($name:literal [$($attribute:literal)*] $lower:path;)*) => {
        &[$(Entry { name: $name, attributes: &[$($attribute),*], lower: $lower }),*]
    };
}

/// By name.
const ENTRIES: &[Entry] = entries! {
    "Abs" [] pointwise::unary;
    "Add" [] product::sum;
    "AveragePool" ["auto_pad" "ceil_mode" "count_include_pad" "dilations" "kernel_shape" "pads" "strides"] window::average_pool;
    "BatchNormalization" ["epsilon" "momentum" "spatial" "training_mode"] normalisation::batch;
    "Cast" ["to" "saturate"] layout::cast;
    "CastLike" ["saturate"] layout::cast_like;
    "Clip" ["min" "max"] pointwise::clip;
    "Concat" ["axis"] layout::concat;
    "ConstantOfShape" ["value"] move_elements::filled;
    "Conv" ["auto_pad" "dilations" "group" "kernel_shape" "pads" "strides"] window::conv;
    "ConvTranspose" ["auto_pad" "dilations" "group" "kernel_shape" "output_padding" "output_shape" "pads" "strides"] window::conv_transpose;
    "DepthToSpace" ["blocksize" "mode"] move_elements::depth_to_space;
    "Div" [] pointwise::binary;
    "Dropout" ["ratio" "seed"] layout::dropout;
    "Elu" ["alpha"] pointwise::elu;
    "Erf" [] pointwise::unary;
    "Exp" [] pointwise::unary;
    "Expand" [] move_elements::expand;
    "Flatten" ["axis"] layout::flatten;
    "Gather" ["axis"] move_elements::gather;
    "Gelu" ["approximate"] pointwise::gelu;
    "Gemm" ["alpha" "beta" "transA" "transB"] product::gemm;
    "GlobalAveragePool" [] window::global_pool;
    "GlobalMaxPool" [] window::global_pool;
    "GroupNormalization" ["epsilon" "num_groups" "stash_type"] normalisation::group;
    "HardSigmoid" ["alpha" "beta"] pointwise::hard_sigmoid;
    "HardSwish" [] pointwise::unary;
    "Identity" [] layout::identity;
    "InstanceNormalization" ["epsilon"] normalisation::instance;
    "LayerNormalization" ["axis" "epsilon" "stash_type"] normalisation::layer;
    "LeakyRelu" ["alpha"] pointwise::leaky_relu;
    "Log" [] pointwise::unary;
    "LogSoftmax" ["axis"] reduce::softmax;
    "MatMul" [] product::matmul;
    "Max" [] pointwise::fold;
    "MaxPool" ["auto_pad" "ceil_mode" "dilations" "kernel_shape" "pads" "storage_order" "strides"] window::max_pool;
    "Min" [] pointwise::fold;
    "Mish" [] pointwise::unary;
    "Mul" [] pointwise::binary;
    "Neg" [] pointwise::unary;
    "PRelu" [] pointwise::prelu;
    "Pad" ["mode" "pads" "value"] move_elements::pad;
    "Pow" [] pointwise::binary;
    "Reciprocal" [] pointwise::reciprocal;
    "ReduceL2" ["axes" "keepdims" "noop_with_empty_axes"] reduce::reduce;
    "ReduceMax" ["axes" "keepdims" "noop_with_empty_axes"] reduce::reduce;
    "ReduceMean" ["axes" "keepdims" "noop_with_empty_axes"] reduce::reduce;
    "ReduceSum" ["axes" "keepdims" "noop_with_empty_axes"] reduce::reduce;
    "ReduceSumSquare" ["axes" "keepdims" "noop_with_empty_axes"] reduce::reduce;
    "Relu" [] pointwise::unary;
    "Reshape" ["allowzero"] layout::reshape;
    "Resize" ["antialias" "axes" "coordinate_transformation_mode" "cubic_coeff_a" "exclude_outside" "extrapolation_value" "keep_aspect_ratio_policy" "mode" "nearest_mode"] resample::resize;
    "Sigmoid" [] pointwise::unary;
    "Slice" ["axes" "ends" "starts"] slices::slice;
    "Softmax" ["axis"] reduce::softmax;
    "Softplus" [] pointwise::unary;
    "SpaceToDepth" ["blocksize"] move_elements::space_to_depth;
    "Sqrt" [] pointwise::unary;
    "Squeeze" ["axes"] layout::squeeze;
    "Sub" [] pointwise::binary;
    "Sum" [] pointwise::fold;
    "Swish" ["alpha"] pointwise::swish;
    "Tanh" [] pointwise::unary;
    "Tile" [] move_elements::tile;
    "Transpose" ["perm"] layout::transpose;
    "Unsqueeze" ["axes"] layout::unsqueeze;
    "Upsample" ["mode" "scales"] resample::upsample;
};

/// The results of a node, if the IR has operators for it.
pub(super) fn lower<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<SmallVec<[Value; 1]>> {
    if view.op() == "Split" {
        return slices::split(im, view);
    }
    let at = ENTRIES
        .binary_search_by_key(&view.op(), |entry| entry.name)
        .ok()?;
    let entry = &ENTRIES[at];
    // Further results, such as the indices of a maximum, are not computed.
    let first_only = view.output(0).is_some()
        && (1..view.node.output.len()).all(|i| view.output(i).is_none_or(|n| !im.read.contains(n)));
    if !first_only || !view.only(entry.attributes) {
        return None;
    }
    (entry.lower)(im, view).map(|value| smallvec![value])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_in_order_of_their_names() {
        assert!(ENTRIES.is_sorted_by_key(|entry| entry.name));
    }
}
