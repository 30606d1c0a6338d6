//! What a model is read from: the bytes of a file, or bytes that a caller has.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use super::text;
use crate::error::FormatError;
use crate::files::MappedFile;
use crate::ir::Bytes;
use crate::{Error, Result};

/// The bytes of a model, and the file that they are of.
pub(super) struct Content<'p> {
    pub bytes: Bytes,
    /// `None` for bytes of a caller's.
    pub path: Option<&'p Path>,
}

impl<'p> Content<'p> {
    /// A file, mapped; of the text form, read.
    pub fn open(path: &'p Path) -> Result<Content<'p>> {
        let bytes = if suffix(path) == text::SUFFIX {
            let read = std::fs::read(path).map_err(|source| Error::Io {
                doing: "read",
                path: path.to_path_buf(),
                source,
            })?;
            Bytes::new(std::sync::Arc::new(read))
        } else {
            MappedFile::open(path).map_err(|error| Error::format(path, error))?
        };
        Ok(Content {
            bytes,
            path: Some(path),
        })
    }

    /// The suffix of the file's name; empty where there is none.
    pub fn suffix(&self) -> &'p str {
        self.path.map_or("", suffix)
    }

    /// The file's name, for messages.
    pub fn name(&self) -> &'p Path {
        self.path.unwrap_or(Path::new(Error::IN_MEMORY))
    }

    /// A mistake in it.
    pub fn wrong(&self, error: FormatError) -> Error {
        Error::format(self.name(), error)
    }

    /// The bytes as text.
    pub fn text(&self) -> Result<&str> {
        std::str::from_utf8(self.bytes.as_ref()).map_err(|error| Error::Io {
            doing: "read",
            path: self.name().to_path_buf(),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }
}

/// What follows the last dot of a name.
pub(super) fn suffix(path: &Path) -> &str {
    path.extension().and_then(OsStr::to_str).unwrap_or_default()
}
