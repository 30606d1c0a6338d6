//! The equalities that saturation works with, one file each; `README.md` beside them says how to write one.

mod absorb_gather;
mod compose_linear;
mod dense;
mod drop_unread;
mod fold_batch_norm;
mod fold_constant_channel;
mod gather_algebra;
mod gather_through;
mod hoist_gather;
mod merge_equal;
mod separate_depthwise;
mod share_weights;

pub use absorb_gather::AbsorbGather;
pub use compose_linear::ComposeLinear;
pub use dense::Dense;
pub use drop_unread::DropUnread;
pub use fold_batch_norm::FoldBatchNorm;
pub use fold_constant_channel::FoldConstantChannel;
pub use gather_algebra::{GatherGather, GatherIdentity, MovementAsGather};
pub use gather_through::GatherThrough;
pub use hoist_gather::{GatherOfConcat, HoistGather};
pub use merge_equal::{MergeEqual, MergeProportional};
pub use separate_depthwise::SeparateDepthwise;
pub use share_weights::ShareWeights;

use crate::egraph::Rule;

/// Every rule. The harness proves each of them; the order has no meaning, as saturation tries all of them in every round.
pub static ALL: &[&'static dyn Rule] = &[
    &FoldBatchNorm,
    &MergeEqual,
    &MergeProportional,
    &ShareWeights,
    &GatherThrough,
    &HoistGather,
    &AbsorbGather,
    &GatherGather,
    &GatherIdentity,
    &GatherOfConcat,
    &MovementAsGather,
    &DropUnread,
    &FoldConstantChannel,
    &ComposeLinear,
    &SeparateDepthwise,
];
