//! Files that appear whole or not at all, and several of them together.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempDir};

use crate::{Error, Result};

/// Makes the file at `path` with what `fill` writes: under another name first, so that it appears whole or not at all.
///
/// # Errors
/// [`Error::Io`] when the system refuses, or what `fill` returns.
pub fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
) -> Result<()> {
    Staged(vec![PendingFile::new(path, fill)?]).commit()
}

/// A pending file: written, and not there under its own name yet. It is removed when nobody commits it.
#[derive(Debug)]
pub(crate) struct PendingFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl PendingFile {
    /// The file that is to appear at `path`, with what `fill` writes.
    pub(crate) fn new(
        path: &Path,
        fill: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
    ) -> Result<PendingFile> {
        let refused = |source| refused(path, source);
        // A link is written through, not replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder(&path)).map_err(refused)?;
        let mut writer = BufWriter::with_capacity(1 << 20, file.as_file_mut());
        fill(&mut writer)?;
        writer.flush().map_err(refused)?;
        drop(writer);
        Ok(PendingFile { file, path })
    }
}

/// Files that are written, and not there under their own names yet; the last is the one that others stand beside. They are
/// removed when nobody [commits](Staged::commit) them.
#[derive(Debug)]
pub struct Staged(pub(crate) Vec<PendingFile>);

/// A look at files that are pending, under their names in a folder of their own, which goes with this.
#[derive(Debug)]
pub struct Viewed {
    /// The last of the files.
    pub path: PathBuf,
    _folder: TempDir,
}

impl Staged {
    /// The files under their names in another folder, to be opened by whoever checks them.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn view(&self) -> Result<Viewed> {
        let main = self.0.last().map_or(Path::new(""), |file| &file.path);
        let refused = |source| refused(main, source);
        let mut builder = tempfile::Builder::new();
        let viewed = builder
            .prefix(PREFIX)
            .tempdir_in(folder(main))
            .map_err(refused)?;
        let mut path = viewed.path().to_path_buf();
        for file in &self.0 {
            path = viewed
                .path()
                .join(file.path.file_name().unwrap_or_default());
            // Not every file system has links.
            fs::hard_link(file.file.path(), &path)
                .or_else(|_| fs::copy(file.file.path(), &path).map(drop))
                .map_err(refused)?;
        }
        Ok(Viewed {
            path,
            _folder: viewed,
        })
    }

    /// Gives the files their names, in this order. Where that fails for one, those before it are again what they were.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses.
    pub fn commit(self) -> Result<()> {
        let mut replaced: Vec<Replaced> = Vec::new();
        let mut files = self.0.into_iter().peekable();
        while let Some(PendingFile { file, path }) = files.next() {
            // Nothing can fail after the last.
            let kept = match files.peek() {
                Some(_) => Replaced::keep(&path).map(Some),
                None => Ok(None),
            };
            let committed = kept.and_then(|kept| {
                file.persist(&path).map_err(|error| error.error)?;
                Ok(kept)
            });
            match committed {
                Ok(kept) => replaced.extend(kept),
                Err(source) => {
                    replaced.into_iter().rev().for_each(Replaced::restore);
                    return Err(refused(&path, source));
                }
            }
        }
        Ok(())
    }
}

const PREFIX: &str = ".optc-";
/// The name in a folder of its own of what was there before.
const OLD: &str = "old";

/// What a committed file has taken the place of: a file in this folder, or nothing.
struct Replaced {
    path: PathBuf,
    old: Option<TempDir>,
}

impl Replaced {
    /// Keeps what is at `path` under another name, too.
    fn keep(path: &Path) -> io::Result<Replaced> {
        let mut old = None;
        if path.exists() {
            let kept = tempfile::Builder::new()
                .prefix(PREFIX)
                .tempdir_in(folder(path))?;
            let name = kept.path().join(OLD);
            // Not every file system has links; without them it is gone for a moment.
            fs::hard_link(path, &name).or_else(|_| fs::rename(path, &name))?;
            old = Some(kept);
        }
        let path = path.to_path_buf();
        Ok(Replaced { path, old })
    }

    /// As far as the system lets it: there is a failure to tell of already.
    fn restore(self) {
        let _ = match &self.old {
            Some(old) => fs::rename(old.path().join(OLD), &self.path),
            None => fs::remove_file(&self.path),
        };
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn refused(path: &Path, source: io::Error) -> Error {
    Error::Io {
        doing: "write",
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publishes `data` and `model` in `folder`.
    fn commit_pair(folder: &Path) -> Result<()> {
        let file = |name: &str| {
            PendingFile::new(&folder.join(name), |out| {
                out.write_all(b"new").map_err(|e| refused(folder, e))
            })
        };
        Staged(vec![file("data")?, file("model")?]).commit()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn files_of_a_pair_appear_together_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let at = |name: &str| folder.join(name);
        // A file cannot take the place of a folder.
        fs::create_dir(at("model")).unwrap();
        let error = commit_pair(folder).unwrap_err().to_string();
        assert!(error.contains("model"), "{error}");
        assert_eq!(names(folder), ["model"]);

        fs::write(at("data"), "old").unwrap();
        commit_pair(folder).unwrap_err();
        assert_eq!(fs::read(at("data")).unwrap(), b"old");
        assert_eq!(names(folder), ["data", "model"]);

        fs::remove_dir(at("model")).unwrap();
        fs::write(at("model"), "old").unwrap();
        commit_pair(folder).unwrap();
        assert_eq!(fs::read(at("data")).unwrap(), b"new");
        assert_eq!(fs::read(at("model")).unwrap(), b"new");
        assert_eq!(names(folder), ["data", "model"]);
    }
}
