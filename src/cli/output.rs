//! What the command writes beside the model: texts, to files and to standard output.

use std::io::{self, Write};
use std::path::Path;

use optc::{Error, Result, files};

/// Writes a file that is there as a whole, or not at all.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    files::write_whole(path, |file| {
        file.write_all(text.as_bytes()).map_err(|source| Error::Io {
            doing: "write",
            path: path.to_path_buf(),
            source,
        })
    })
}

/// Prints to standard output. That the reader has gone away, as `head` does, is no failure.
pub fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Io {
            doing: "write to",
            path: "standard output".into(),
            source: error,
        }),
        _ => Ok(()),
    }
}
