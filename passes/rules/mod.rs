//! The equalities that saturation works with, one file each; `README.md` beside them says how to write one.

mod absorb_gather;
mod compose_linear;
mod contract_gather;
mod dense;
mod drop_unread;
mod fold_batch_norm;
mod fold_constant_channel;
mod gather_algebra;
mod gather_through;
mod group_columns;
mod group_rows;
mod grouped;
mod hoist_gather;
mod merge_equal;
mod merge_groups;
mod regroup;
mod separate_depthwise;
mod share_weights;

pub use absorb_gather::AbsorbGather;
pub use compose_linear::ComposeLinear;
pub use contract_gather::ContractGather;
pub use dense::Dense;
pub use drop_unread::DropUnread;
pub use fold_batch_norm::FoldBatchNorm;
pub use fold_constant_channel::FoldConstantChannel;
pub use gather_algebra::{GatherGather, GatherIdentity, GatherOfConcat, MovementAsGather};
pub use gather_through::GatherThrough;
pub use group_columns::{AbsorbInGroups, DropInGroups};
pub use group_rows::MergeInGroups;
pub use grouped::Grouped;
pub use hoist_gather::HoistGather;
pub use merge_equal::{MergeEqual, MergeProportional};
pub use merge_groups::MergeGroups;
pub use regroup::ShuffleAsGather;
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
    &ContractGather,
    &GatherGather,
    &GatherIdentity,
    &GatherOfConcat,
    &MovementAsGather,
    &ShuffleAsGather,
    &DropUnread,
    &FoldConstantChannel,
    &MergeInGroups,
    &AbsorbInGroups,
    &DropInGroups,
    &MergeGroups,
    &ComposeLinear,
    &SeparateDepthwise,
];
