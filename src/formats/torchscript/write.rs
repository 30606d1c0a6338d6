//! The archive: stored entries, tensors aligned and straight from their memory.

use std::io::{Seek, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::interface::Source;
use super::write_code::{Layout, write_code};
use super::write_pickle::{write_constants, write_modules};
use crate::formats::error::FormatError;
use crate::ir::{Graph, NodeKind, Op, Tensor};

/// What PyTorch aligns tensors to, so that they can be mapped.
const ALIGNMENT: u16 = 64;
/// The name of the field that PyTorch pads with.
const PADDING_FIELD: u16 = u16::from_le_bytes(*b"FB");

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
    let mut archive = Output {
        zip: ZipWriter::new(out),
        root,
    };
    archive.entry("data.pkl", &data)?;
    archive.entry("code/__torch__.py", code.text.as_bytes())?;
    archive.tensors("data", &storages)?;
    archive.entry("constants.pkl", &write_constants(&code.constants))?;
    archive.tensors("constants", &code.constants)?;
    for (name, bytes) in &source.extra {
        archive.entry(name, bytes.as_ref())?;
    }
    archive.entry("version", version(graph, source).as_bytes())?;
    archive.entry("byteorder", b"little")?;
    archive.zip.finish().map_err(zip_error)?;
    Ok(())
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

/// The name of an archive's root folder: the file's own.
pub(crate) fn root_name(path: &Path) -> String {
    let stem = path
        .file_stem()
        .map(|s| s.to_string_lossy().into_owned())
        .unwrap_or_default();
    let name: String = stem
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    if name.trim_matches('.').is_empty() {
        "archive".to_owned()
    } else {
        name
    }
}

struct Output<'r, W: Write + Seek> {
    zip: ZipWriter<W>,
    root: &'r str,
}

impl<W: Write + Seek> Output<'_, W> {
    fn entry(&mut self, name: &str, bytes: &[u8]) -> Result<(), FormatError> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .with_alignment_and_header_id(ALIGNMENT, PADDING_FIELD)
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX));
        self.zip
            .start_file(format!("{}/{name}", self.root), options)
            .map_err(zip_error)?;
        self.zip.write_all(bytes).map_err(|source| FormatError::Io {
            doing: "cannot write",
            source,
        })
    }

    fn tensors(&mut self, folder: &str, tensors: &[Tensor]) -> Result<(), FormatError> {
        tensors
            .iter()
            .enumerate()
            .try_for_each(|(key, tensor)| self.entry(&format!("{folder}/{key}"), tensor.bytes()))
    }
}

fn zip_error(error: zip::result::ZipError) -> FormatError {
    let source = match error {
        zip::result::ZipError::Io(source) => source,
        other => std::io::Error::other(other.to_string()),
    };
    FormatError::Io {
        doing: "cannot write",
        source,
    }
}
