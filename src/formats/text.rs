//! The text form as a model file, `.ir`, with every element of every weight: for small networks, tests and bug reports.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use super::{Origin, ReadOptions, Reader, Writer};
use crate::files::Unpublished;
use crate::ir::{Dialect, Graph, Validated, text};
use crate::{Error, Model, Result};

/// The suffix of such files.
pub(super) const SUFFIX: &str = "ir";

pub(super) struct TextForm;

impl Reader for TextForm {
    fn read(&self, path: &Path, _: &ReadOptions) -> Result<Model> {
        read(path)
    }
}

impl Writer for TextForm {
    fn suffixes(&self) -> &'static [&'static str] {
        &[SUFFIX]
    }

    fn dialect(&self) -> Option<Dialect> {
        None
    }

    fn write(
        &self,
        graph: Validated<'_>,
        _: &Origin,
        path: &Path,
        out: &mut BufWriter<&mut File>,
    ) -> Result<Vec<Unpublished>> {
        write(&graph, path, out)?;
        Ok(Vec::new())
    }
}

fn read(path: &Path) -> Result<Model> {
    let source = fs::read_to_string(path).map_err(|source| Error::Io {
        doing: "read",
        path: path.to_path_buf(),
        source,
    })?;
    let graph = text::parse(&source, &Graph::new("")).map_err(|error| Error::Model {
        path: path.to_path_buf(),
        what: error.to_string(),
        help: String::new(),
    })?;
    Ok(Model::new(graph))
}

fn write(graph: &Graph, path: &Path, out: &mut dyn Write) -> Result<()> {
    write!(out, "{graph:#}").map_err(|source| Error::Io {
        doing: "write",
        path: path.to_path_buf(),
        source,
    })
}
