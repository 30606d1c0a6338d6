//! Model files: read and write.

mod input;
mod text;

pub use input::{InputShape, bind_inputs};

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::{Error, Model, Result};

/// What to know about a model before it is read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Shapes of inputs: they give a rank where the file does not, and numbers to sizes. They freeze no size.
    pub inputs: Vec<InputShape>,
}

/// Reads a model file.
///
/// # Errors
/// See [`read_with`].
pub fn read(path: impl AsRef<Path>) -> Result<Model> {
    read_with(path, &ReadOptions::default())
}

/// Reads a model file.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Model`] when it is not a model that can be taken, and
/// [`Error::Usage`] when an input shape does not fit the model.
pub fn read_with(path: impl AsRef<Path>, options: &ReadOptions) -> Result<Model> {
    let path = path.as_ref();
    let mut model = match suffix(path) {
        text::SUFFIX => text::read(path)?,
        _ => return Err(unknown_format(path)),
    };
    bind_inputs(&mut model.graph, &options.inputs)?;
    Ok(model)
}

/// Writes a model file, whole or not at all.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written, [`Error::Usage`] when the suffix is of no format.
pub fn write(model: &Model, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    match suffix(path) {
        text::SUFFIX => write_whole(path, |out| text::write(model, path, out)),
        _ => Err(unknown_format(path)),
    }
}

/// Checks that a model file can have this name, before there is a model to write.
///
/// # Errors
/// [`Error::Usage`] when the suffix is of no format.
pub fn check_name(path: &Path) -> Result<()> {
    match suffix(path) {
        text::SUFFIX => Ok(()),
        _ => Err(unknown_format(path)),
    }
}

fn suffix(path: &Path) -> &str {
    path.extension().and_then(OsStr::to_str).unwrap_or_default()
}

fn unknown_format(path: &Path) -> Error {
    let path_text = path.display();
    Error::Usage {
        what: match suffix(path) {
            "" => format!("{path_text}: the name has no suffix to tell the format by"),
            suffix => format!("{path_text}: `.{suffix}` is no model format"),
        },
        help: "the formats are .ir (text)".to_string(),
    }
}

/// Makes the file at `path` with what `fill` writes: under another name first, so that it appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] when the system refuses, or what `fill` returns.
pub fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
) -> Result<()> {
    let refused = |source| Error::Io {
        doing: "write",
        path: path.to_path_buf(),
        source,
    };
    // A link is written through, not replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".optc-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(refused)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file.as_file_mut());
    fill(&mut writer)?;
    writer.flush().map_err(refused)?;
    drop(writer);
    file.persist(path).map_err(|error| refused(error.error))?;
    Ok(())
}
