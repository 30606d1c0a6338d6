//! TorchScript: the archives of `torch.jit.save`, traced, scripted or frozen.
//!
//! - `objects`: what the archive's pickles hold; `code`: its Python, parsed;
//! - `eval` runs that code with the input's values unknown, `scalar` does Python's own arithmetic, `lower` turns operators
//!   into graph nodes by the table of `aten`;
//! - `write_code`, `write_pickle` and `write` make an archive of a graph.

mod code;
mod eval;
mod interface;
mod lower;
mod objects;
mod read;
mod scalar;
mod value;
mod write;
mod write_code;
mod write_pickle;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use super::{Format, Origin, ReadOptions};
use crate::files::{PendingFile, archive};
use crate::ir::{Dialect, Validated};
use crate::{Error, Model, Result};
pub use interface::Source;
pub(crate) use read::read_bytes;
pub(crate) use write::write;

/// TorchScript as a format.
pub(super) struct TorchScript;

impl Format for TorchScript {
    fn suffixes(&self) -> &'static [&'static str] {
        &["pt", "pth", "ptc"]
    }

    fn dialect(&self) -> Option<Dialect> {
        Some(Dialect::TorchScript)
    }

    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Model> {
        let (graph, source) = read::read(path, options).map_err(|e| Error::format(path, e))?;
        let origin = Origin::TorchScript(Arc::new(source));
        Ok(Model { graph, origin })
    }

    fn write(
        &self,
        graph: Validated<'_>,
        origin: &Origin,
        path: &Path,
        out: &mut BufWriter<&mut File>,
    ) -> Result<Vec<PendingFile>> {
        let none = Source::default();
        let source = match origin {
            Origin::TorchScript(source) => source,
            _ => &none,
        };
        let root = archive::root_name(path);
        write(&graph, source, &root, out).map_err(|e| Error::format(path, e))?;
        Ok(Vec::new())
    }
}
