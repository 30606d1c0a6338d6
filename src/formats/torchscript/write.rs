//! The archive of a graph: objects, code, tensors.

use std::io::{Seek, Write};

use super::interface::Source;
use super::write_code::{Layout, write_code};
use super::write_pickle::{write_constants, write_modules};
use crate::error::FormatError;
use crate::files::archive::ArchiveWriter;
use crate::ir::{Graph, NodeKind, Op, Tensor};

/// Writes a graph as a TorchScript archive whose root folder has the given name.
pub(crate) fn write(
    graph: &Graph,
    source: &Source,
    root: &str,
    out: impl Write + Seek,
) -> Result<(), FormatError> {
    let layout = Layout::new(graph, source);
    let code = write_code(graph, source, &layout)?;
    let (data, storages) = write_modules(&layout, &code.classes);
    let mut archive = ArchiveWriter::new(out, root);
    archive.entry("data.pkl", &data)?;
    archive.entry("code/__torch__.py", code.text.as_bytes())?;
    tensors(&mut archive, "data", &storages)?;
    archive.entry("constants.pkl", &write_constants(&code.constants))?;
    tensors(&mut archive, "constants", &code.constants)?;
    for (name, bytes) in &source.extra {
        archive.entry(name, bytes.as_ref())?;
    }
    archive.entry("version", version(graph, source).as_bytes())?;
    archive.entry("byteorder", b"little")?;
    archive.finish()
}

/// The original's version, as its operators mean what they meant then; raised where an operator needs a later one.
fn version(graph: &Graph, source: &Source) -> String {
    // `gelu` has its argument since version 10.
    let newer = graph
        .nodes()
        .any(|n| matches!(&graph.node(n).kind, NodeKind::Op(Op::Gelu { tanh: true })));
    match source.version.trim().parse::<u32>() {
        Ok(version) if !newer || version >= 10 => source.version.clone(),
        Err(_) if !newer => "3\n".to_owned(),
        _ => "10\n".to_owned(),
    }
}

fn tensors(
    archive: &mut ArchiveWriter<'_, impl Write + Seek>,
    folder: &str,
    tensors: &[Tensor],
) -> Result<(), FormatError> {
    let mut entries = tensors.iter().enumerate();
    entries.try_for_each(|(key, tensor)| archive.entry(&format!("{folder}/{key}"), &tensor.bytes()))
}
