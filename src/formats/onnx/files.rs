//! The files of a model: the one with its graph, and those beside it with weights.
//!
//! All are mapped, never read as a whole. What is written back unchanged is copied from file to file.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use super::error::OnnxError;
use super::proto::TensorProto;
use crate::error::FormatError;
use crate::files::MappedFile;
use crate::ir::Bytes;

/// A mapped file that can also be copied from.
#[derive(Debug)]
pub(super) struct Mapped {
    pub path: PathBuf,
    pub bytes: Bytes,
    file: File,
}

impl Mapped {
    pub(super) fn open(path: &Path) -> Result<Mapped, FormatError> {
        Mapped::over(MappedFile::open(path)?, path)
    }

    /// The file at `path`, which is mapped already.
    pub(super) fn over(bytes: Bytes, path: &Path) -> Result<Mapped, FormatError> {
        let file = File::open(path).map_err(|source| FormatError::Io {
            doing: "cannot open the file",
            source,
        })?;
        Ok(Mapped {
            path: path.to_path_buf(),
            bytes,
            file,
        })
    }

    /// Where in the file this part of the map is, if it is one.
    pub(super) fn offset(&self, part: &[u8]) -> Option<u64> {
        let whole = self.bytes.as_ref();
        let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
        let inside = start <= whole.len() && part.len() <= whole.len() - start;
        inside.then_some(start as u64)
    }

    /// Copies a part of the file without bringing it into this process's memory.
    pub(super) fn copy(&self, offset: u64, len: u64, out: &mut File) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        let copied = io::copy(&mut io::Read::take(file, len), out)?;
        if copied == len {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "`{}` has become shorter",
                self.path.display()
            )))
        }
    }
}

/// A tensor's place in another file, as the model gives it.
struct Place<'t> {
    location: &'t str,
    offset: u64,
    length: Option<u64>,
}

impl Place<'_> {
    /// The error of a tensor whose elements cannot be had from there.
    fn refused(&self, name: &str, what: String, help: &'static str) -> OnnxError {
        OnnxError::External {
            name: name.to_owned(),
            location: self.location.to_owned(),
            what,
            help,
        }
    }
}

/// The files with external data of one model.
#[derive(Debug, Default)]
pub(super) struct External {
    /// The folder of the model; `None` where the model comes from no file.
    folder: Option<PathBuf>,
    pub files: Vec<(String, Mapped)>,
    /// What is used of each file: where it begins and ends, and by which tensor.
    used: Vec<Vec<(usize, usize, String)>>,
}

impl External {
    /// For a model at `path`.
    pub(super) fn beside(path: &Path) -> External {
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder.to_path_buf(),
            _ => PathBuf::from("."),
        };
        External {
            folder: Some(folder),
            ..External::default()
        }
    }

    /// The bytes of a tensor whose data is in another file, `needed` of them.
    pub(super) fn tensor(
        &mut self,
        tensor: &TensorProto,
        name: &str,
        needed: usize,
    ) -> Result<Bytes, OnnxError> {
        let place = place(tensor, name)?;
        let refused = |what, help| place.refused(name, what, help);
        if let Some(length) = place.length
            && length != needed as u64
        {
            return Err(refused(
                format!("{length} bytes of it, and the tensor's shape and type take {needed}"),
                "the model is damaged; export it again",
            ));
        }
        if needed == 0 {
            return Ok(Bytes::new(std::sync::Arc::new(Vec::new())));
        }
        let index = self.file(&place, name)?;
        let bytes = &self.files[index].1.bytes;
        let start = usize::try_from(place.offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(needed);
        let Some(part) = bytes.slice(start..end) else {
            let what = format!(
                "bytes {start} to {end}, and the file has {}",
                bytes.as_ref().len()
            );
            return Err(refused(
                what,
                "the file was cut short; fetch or export it again, together with the model",
            ));
        };
        self.used[index].push((start, end, name.to_owned()));
        Ok(part)
    }

    /// The mapped file at `place`, opened once.
    fn file(&mut self, place: &Place<'_>, name: &str) -> Result<usize, OnnxError> {
        let known = self.files.iter().position(|(l, _)| l == place.location);
        if let Some(index) = known {
            return Ok(index);
        }
        let refused = |what, help| place.refused(name, what, help);
        const OUTSIDE: &str =
            "put the file into the model's own folder; do not trust a model that reads elsewhere";
        let location = Path::new(place.location);
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        let windows = place.location.contains('\\') || place.location.contains(':');
        if place.location.is_empty() || windows || !location.components().all(plain) {
            return Err(refused(
                "this is no path within the model's folder".to_owned(),
                OUTSIDE,
            ));
        }
        let Some(folder) = &self.folder else {
            return Err(refused(
                "the model is read from bytes, which have no folder".to_owned(),
                "read it from its path, beside that file; or put the weights into the model: onnx.save(onnx.load(path), \"whole.onnx\")",
            ));
        };
        let path = folder.join(location);
        const MISSING: &str =
            "the file belongs to the model: copy or export it again, together with the model";
        let missing = |error: io::Error| refused(error.to_string(), MISSING);
        let real = path.canonicalize().map_err(missing)?;
        let root = folder.canonicalize().map_err(missing)?;
        if !real.starts_with(root) {
            return Err(refused(
                "this is a link to a file outside of the model's folder".to_owned(),
                OUTSIDE,
            ));
        }
        let mapped = Mapped::open(&real).map_err(|error| {
            let what = match error {
                FormatError::Empty => "the file is empty".to_owned(),
                error => error.to_string(),
            };
            refused(what, MISSING)
        })?;
        self.files.push((place.location.to_owned(), mapped));
        self.used.push(Vec::new());
        Ok(self.files.len() - 1)
    }

    /// Checks that no two tensors share a part of their bytes: all or none.
    pub(super) fn check_overlaps(&mut self) -> Result<(), OnnxError> {
        for ((location, _), used) in self.files.iter().zip(&mut self.used) {
            used.sort();
            for pair in used.windows(2) {
                let [(start, end, first), (other, other_end, second)] = pair else {
                    continue;
                };
                if (start, end) != (other, other_end) && other < end {
                    return Err(OnnxError::External {
                        name: second.clone(),
                        location: location.clone(),
                        what: format!(
                            "bytes {other} to {other_end}, and `{first}` has {start} to {end}"
                        ),
                        help: "two tensors may share all bytes or none; export the model again",
                    });
                }
            }
        }
        Ok(())
    }
}

fn place<'t>(tensor: &'t TensorProto, name: &str) -> Result<Place<'t>, OnnxError> {
    let entry = |key: &str| {
        let found = tensor
            .external_data
            .iter()
            .find(|e| e.key.as_deref() == Some(key));
        found.and_then(|entry| entry.value.as_deref())
    };
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text.trim().parse::<u64>().map(Some).map_err(|_| {
            OnnxError::tensor(name, format!("its `{key}` in another file is `{text}`"))
        }),
    };
    Ok(Place {
        location: entry("location")
            .ok_or_else(|| OnnxError::tensor(name, "its data is in another file without a name"))?,
        offset: number("offset")?.unwrap_or(0),
        length: number("length")?,
    })
}
