//! `.pt2`: the ExportedPrograms of `torch.export.save`, as exported or decomposed.
//!
//! - `package`: the archive, its tensors; `schema`: its JSON; `symbolic`: sizes as SymPy's expressions;
//! - `read` makes a graph of a program, `node` of each of its nodes by the table of `aten`, `opaque` keeps
//!   those that the IR does not know;
//! - `write` and what is in it make a program of a graph, from scratch or in place of the one that was read.

mod builder;
pub(crate) mod evaluate;
mod node;
mod numbers;
mod opaque;
mod package;
mod read;
mod schema;
mod source;
mod symbolic;
mod write;

use std::fs::File;
use std::io::{BufWriter, Cursor};
use std::path::Path;
use std::sync::Arc;

use super::content::Content;
use super::{Format, Origin, ReadOptions};
use crate::error::FormatError;
use crate::files::{PendingFile, archive};
use crate::ir::{Dialect, Validated};
use crate::{Error, Model, Result};
pub(crate) use read::{read_bytes, recognises};
pub use source::Source;
pub(crate) use write::write;

/// Exported programs as a format.
pub(super) struct ExportedProgram;

impl Format for ExportedProgram {
    fn suffixes(&self) -> &'static [&'static str] {
        &["pt2"]
    }

    fn dialect(&self) -> Option<Dialect> {
        Some(Dialect::ExportedProgram)
    }

    fn read(&self, content: &Content<'_>, _: &ReadOptions) -> Result<Model> {
        let read = read_bytes(content.bytes.clone());
        let (graph, mut source) = read.map_err(|e| content.wrong(e))?;
        source.path = content.path.map(Path::to_path_buf);
        let origin = Origin::ExportedProgram(Arc::new(source));
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
        write(&graph, source(origin), &root, out).map_err(|e| Error::format(path, e))?;
        Ok(Vec::new())
    }

    fn write_bytes(&self, graph: Validated<'_>, origin: &Origin) -> Result<Vec<u8>, FormatError> {
        let mut out = Cursor::new(Vec::new());
        write(&graph, source(origin), archive::UNNAMED, &mut out)?;
        Ok(out.into_inner())
    }
}

/// What the graph's file had beside it, if that was such a file.
fn source(origin: &Origin) -> Option<&Source> {
    match origin {
        Origin::ExportedProgram(source) => Some(source),
        _ => None,
    }
}
