//! The passes, one file or folder each, and their registry.

use crate::pipeline::PassInfo;

/// Every pass, in the order in which `optc --list-passes` shows them.
pub static ALL: &[&PassInfo] = &[];
