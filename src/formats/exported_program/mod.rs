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
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use super::{Format, Origin, ReadOptions};
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

    fn read(&self, path: &Path, _: &ReadOptions) -> Result<Model> {
        let (graph, source) = read::read(path).map_err(|e| Error::format(path, e))?;
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
        let source = match origin {
            Origin::ExportedProgram(source) => Some(&**source),
            _ => None,
        };
        let root = archive::root_name(path);
        write(&graph, source, &root, out).map_err(|e| Error::format(path, e))?;
        Ok(Vec::new())
    }
}
