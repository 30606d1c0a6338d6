//! Files as they lie on a disk: mapped, zipped, and written whole or not at all.

pub(crate) mod archive;
mod mapped;
mod whole;

pub(crate) use mapped::MappedFile;
pub(crate) use whole::PendingFile;
pub use whole::{Staged, Viewed, write_whole};
