//! Writing: stored entries, aligned, so that tensors can be mapped.

use std::io::{Seek, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::error::FormatError;

/// What PyTorch aligns tensors to, so that they can be mapped.
const ALIGNMENT: u16 = 64;
/// The name of the field that PyTorch pads with.
const PADDING_FIELD: u16 = u16::from_le_bytes(*b"FB");

/// An archive being written, all its entries in one root folder.
pub(crate) struct ArchiveWriter<'r, W: Write + Seek> {
    zip: ZipWriter<W>,
    root: &'r str,
}

impl<'r, W: Write + Seek> ArchiveWriter<'r, W> {
    /// An archive without entries; with an empty name for the root folder, it has none.
    pub(crate) fn new(out: W, root: &'r str) -> Self {
        let zip = ZipWriter::new(out);
        ArchiveWriter { zip, root }
    }

    /// Adds an entry; its name is relative to the root folder.
    pub(crate) fn entry(&mut self, name: &str, bytes: &[u8]) -> Result<(), FormatError> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default())
            .with_alignment_and_header_id(ALIGNMENT, PADDING_FIELD)
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX));
        let slash = if self.root.is_empty() { "" } else { "/" };
        self.zip
            .start_file(format!("{}{slash}{name}", self.root), options)
            .map_err(zip_error)?;
        self.zip.write_all(bytes).map_err(|source| FormatError::Io {
            doing: "cannot write",
            source,
        })
    }

    /// Writes the directory.
    pub(crate) fn finish(self) -> Result<(), FormatError> {
        self.zip.finish().map_err(zip_error)?;
        Ok(())
    }
}

/// The name of an archive's root folder where the archive is in no file, as PyTorch has it.
pub(crate) const UNNAMED: &str = "archive";

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
        UNNAMED.to_owned()
    } else {
        name
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
