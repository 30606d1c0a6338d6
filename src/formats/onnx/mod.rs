//! ONNX: models of operator sets 7 to 28, with weights in the file or beside it.
//!
//! - `proto`: the messages; `files`: the mapped files; `tensor`: the elements of weights;
//! - `read` orders the nodes, `import` makes them nodes of the graph: `lower` those that the IR knows, `opaque` the others, with
//!   `types` for their results and `captures` for what subgraphs read;
//! - `limits` refuses files whose messages would take more memory than their size justifies;
//! - `content`, `fold` and `rearrange` follow sizes through the nodes that compute them;
//! - `kept` keeps each node with what it became;
//! - `single` makes a model of one opaque operator, for a runtime to run it;
//! - `write` makes a model of a graph: what is `unchanged` as it was, while `emit` says each other operator in the model's own
//!   version, `sizes` computes what is symbolic, and `store` writes the messages and the weights.

mod attributes;
mod captures;
mod content;
mod emit;
mod files;
mod finish;
mod fold;
mod import;
mod kept;
mod limits;
mod lower;
mod opaque;
mod proto;
mod read;
mod rearrange;
#[cfg(feature = "onnxruntime")]
pub(crate) mod single;
mod sizes;
mod source;
mod store;
mod tensor;
mod types;
mod unchanged;
mod view;
mod write;

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use super::content::Content;
use super::{Format, Origin, ReadOptions};
use crate::error::FormatError;
use crate::files::PendingFile;
use crate::ir::{Dialect, Graph, Validated};
use crate::{Error, Model, Result};

pub use error::OnnxError;

use crate::error::onnx as error;
pub(crate) use read::{read_bytes, recognises};
pub use source::Source;

/// ONNX as a format.
pub(super) struct Onnx;

impl Format for Onnx {
    fn suffixes(&self) -> &'static [&'static str] {
        &[read::SUFFIX]
    }

    fn dialect(&self) -> Option<Dialect> {
        Some(Dialect::Onnx)
    }

    fn read(&self, content: &Content<'_>, options: &ReadOptions) -> Result<Model> {
        let bytes = content.bytes.clone();
        let read = match content.path {
            Some(path) => read::read(bytes, path, options),
            None => read_bytes(bytes, options),
        };
        let (graph, source) = read.map_err(|e| content.wrong(e))?;
        let origin = Origin::Onnx(Arc::new(source));
        Ok(Model { graph, origin })
    }

    /// Where the weights are large, gives the file with them that will stand beside it.
    fn write(
        &self,
        graph: Validated<'_>,
        origin: &Origin,
        path: &Path,
        out: &mut BufWriter<&mut File>,
    ) -> Result<Vec<PendingFile>> {
        let none = Source::default();
        let source = source(origin).unwrap_or(&none);
        let refused = |error: OnnxError| Error::format(path, FormatError::from(error));
        let written = write::write(&graph, source).map_err(refused)?;
        store::store(written, source, path, out)
    }

    fn write_bytes(&self, graph: Validated<'_>, origin: &Origin) -> Result<Vec<u8>, FormatError> {
        let none = Source::default();
        write_bytes(&graph, source(origin).unwrap_or(&none))
    }
}

/// What the graph's file had beside it, if that was such a file.
fn source(origin: &Origin) -> Option<&Source> {
    match origin {
        Origin::Onnx(source) => Some(source),
        _ => None,
    }
}

/// The bytes of a graph as an ONNX file with all weights in it.
pub(crate) fn write_bytes(graph: &Graph, source: &Source) -> Result<Vec<u8>, FormatError> {
    let mut bytes = Vec::new();
    store::encode(write::write(graph, source)?, source, &mut bytes)?;
    Ok(bytes)
}
