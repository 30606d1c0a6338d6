//! The text form as a model file, `.ir`, with every element of every weight: for small networks, tests and bug reports.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::content::Content;
use super::{Format, Origin, ReadOptions};
use crate::error::FormatError;
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

    fn read(&self, content: &Content<'_>, _: &ReadOptions) -> Result<Model> {
        let source = content.text()?;
        let graph = text::parse(source, &Graph::new("")).map_err(|error| Error::Model {
            path: content.name().to_path_buf(),
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
        write!(out, "{graph:#}").map_err(|source| Error::Io {
            doing: "write",
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Vec::new())
    }

    fn write_bytes(&self, graph: Validated<'_>, _: &Origin) -> Result<Vec<u8>, FormatError> {
        let graph: &Graph = &graph;
        Ok(format!("{graph:#}").into_bytes())
    }
}

/// Whether bytes look like the text form: a graph, perhaps after comments.
pub(super) fn recognises(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii_start();
    text.starts_with(b"graph ") || text.starts_with(b"//")
}
