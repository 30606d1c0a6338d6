//! The text form as a model file, `.ir`, with every element of every weight: for small networks, tests and bug reports.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use super::{Format, Origin, ReadOptions};
use crate::files::PendingFile;
use crate::ir::{Dialect, Graph, Validated, text};
use crate::{Error, Model, Result};

/// The suffix of such files.
pub(super) const SUFFIX: &str = "ir";

pub(super) struct TextForm;

impl Format for TextForm {
    fn suffixes(&self) -> &'static [&'static str] {
        &[SUFFIX]
    }

    fn dialect(&self) -> Option<Dialect> {
        None
    }

    fn read(&self, path: &Path, _: &ReadOptions) -> Result<Model> {
        let source = fs::read_to_string(path).map_err(|source| io("read", path, source))?;
        let graph = text::parse(&source, &Graph::new("")).map_err(|error| Error::Model {
            path: path.to_path_buf(),
            what: error.to_string(),
            help: String::new(),
        })?;
        Ok(Model::new(graph))
    }

    fn write(
        &self,
        graph: Validated<'_>,
        _: &Origin,
        path: &Path,
        out: &mut BufWriter<&mut File>,
    ) -> Result<Vec<PendingFile>> {
        let graph: &Graph = &graph;
        write!(out, "{graph:#}").map_err(|source| io("write", path, source))?;
        Ok(Vec::new())
    }
}

fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        doing,
        path: path.to_path_buf(),
        source,
    }
}
