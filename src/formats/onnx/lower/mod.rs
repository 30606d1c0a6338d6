//! Operators that the IR knows, read: one table, by ONNX's names, of those that are not in that of all formats.
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
    "Dropout" ["ratio" "seed"] layout::dropout;
    "Expand" [] move_elements::expand;
    "Flatten" ["axis"] layout::flatten;
    "Gather" ["axis"] move_elements::gather;
    "Gemm" ["alpha" "beta" "transA" "transB"] product::gemm;
    "GlobalAveragePool" [] window::global_pool;
    "GlobalMaxPool" [] window::global_pool;
    "GroupNormalization" ["epsilon" "num_groups" "stash_type"] normalisation::group;
    "HardSigmoid" ["alpha" "beta"] pointwise::hard_sigmoid;
    "Identity" [] layout::identity;
    "InstanceNormalization" ["epsilon"] normalisation::instance;
    "LayerNormalization" ["axis" "epsilon" "stash_type"] normalisation::layer;
    "LogSoftmax" ["axis"] reduce::softmax;
    "MatMul" [] product::matmul;
    "Max" [] pointwise::fold;
    "MaxPool" ["auto_pad" "ceil_mode" "dilations" "kernel_shape" "pads" "storage_order" "strides"] window::max_pool;
    "Min" [] pointwise::fold;
    "PRelu" [] pointwise::prelu;
    "Pad" ["mode" "pads" "value"] move_elements::pad;
    "Reciprocal" [] pointwise::reciprocal;
    "ReduceL2" ["axes" "keepdims" "noop_with_empty_axes"] reduce::reduce;
    "ReduceMax" ["axes" "keepdims" "noop_with_empty_axes"] reduce::reduce;
    "ReduceMean" ["axes" "keepdims" "noop_with_empty_axes"] reduce::reduce;
    "ReduceSum" ["axes" "keepdims" "noop_with_empty_axes"] reduce::reduce;
    "ReduceSumSquare" ["axes" "keepdims" "noop_with_empty_axes"] reduce::reduce;
    "Reshape" ["allowzero"] layout::reshape;
    "Resize" ["antialias" "axes" "coordinate_transformation_mode" "cubic_coeff_a" "exclude_outside" "extrapolation_value" "keep_aspect_ratio_policy" "mode" "nearest_mode"] resample::resize;
    "Slice" ["axes" "ends" "starts"] slices::slice;
    "Softmax" ["axis"] reduce::softmax;
    "SpaceToDepth" ["blocksize"] move_elements::space_to_depth;
    "Squeeze" ["axes"] layout::squeeze;
    "Sum" [] pointwise::fold;
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
    // Further results, such as the indices of a maximum, are not computed.
    let first_only = view.output(0).is_some()
        && (1..view.node.output.len()).all(|i| view.output(i).is_none_or(|n| !im.read.contains(n)));
    if !first_only {
        return None;
    }
    let at = ENTRIES.binary_search_by_key(&view.op(), |entry| entry.name);
    let value = match at.map(|at| &ENTRIES[at]) {
        Ok(entry) if view.only(entry.attributes) => (entry.lower)(im, view),
        Ok(_) => None,
        Err(_) => pointwise::function(im, view),
    };
    value.map(|value| smallvec![value])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_in_order_of_their_names() {
        assert!(ENTRIES.is_sorted_by_key(|entry| entry.name));
    }
}
