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
use std::io::{BufWriter, Cursor, Seek, Write};
use std::path::Path;
use std::sync::Arc;

use super::content::Content;
use super::{Format, Origin, ReadOptions};
use crate::error::FormatError;
use crate::files::{PendingFile, archive};
use crate::ir::{Dialect, Graph, Validated};
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

    fn read(&self, content: &Content<'_>, options: &ReadOptions) -> Result<Model> {
        let read = read_bytes(content.bytes.clone(), options);
        let (graph, mut source) = read.map_err(|e| content.wrong(e))?;
        source.path = content.path.map(Path::to_path_buf);
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
        let root = archive::root_name(path);
        write_from(&graph, origin, &root, out).map_err(|e| Error::format(path, e))?;
        Ok(Vec::new())
    }

    fn write_bytes(&self, graph: Validated<'_>, origin: &Origin) -> Result<Vec<u8>, FormatError> {
        let mut out = Cursor::new(Vec::new());
        write_from(&graph, origin, archive::UNNAMED, &mut out)?;
        Ok(out.into_inner())
    }
}

/// Writes a graph with what its file had beside it, if that was such a file.
fn write_from(
    graph: &Graph,
    origin: &Origin,
    root: &str,
    out: impl Write + Seek,
) -> Result<(), FormatError> {
    match origin {
        Origin::TorchScript(source) => write(graph, source, root, out),
        _ => write(graph, &Source::default(), root, out),
    }
}
