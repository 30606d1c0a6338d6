//! `npz:FILE`: arrays in an archive of NumPy's, or a folder of such archives with one sample in each.

use std::path::Path;

use ndarray::ArrayD;

use super::arrays::{self, Arrays};
use super::spec::Kind;
use super::training::Augment;
use super::{DataSpec, Opened, Wanted, Wrong, npz_folder};
use crate::files::archive::{Archive, ArchiveWriter};
use crate::files::write_whole;
use crate::ir::{Bytes, Tensor};
use crate::{Error, Result};

pub(super) static NPZ: Kind = Kind {
    name: "npz",
    takes: "FILE",
    help: "arrays [n, ...] named like the inputs (x if one), y [n] for labels; or a folder",
    options: &["x", "y", "mean", "std", "flip", "crop"],
    mean_std: None,
    augment: Augment::NONE,
    open,
};

fn open(spec: &DataSpec, wanted: &Wanted) -> Result<Opened> {
    if spec.path.is_dir() {
        return npz_folder::open(spec, wanted);
    }
    read(spec, wanted, super::map(&spec.path)?)
}

/// As [`open`], for a file that is in memory.
pub(super) fn read(spec: &DataSpec, wanted: &Wanted, map: Bytes) -> Result<Opened> {
    arrays::open(spec, wanted, &Npz::open(spec, map)?)
}

/// An archive of NumPy's.
pub(super) struct Npz<'s> {
    spec: &'s DataSpec,
    archive: Archive,
}

impl<'s> Npz<'s> {
    pub(super) fn open(spec: &'s DataSpec, map: Bytes) -> Result<Npz<'s>> {
        if !map.as_ref().starts_with(b"PK") {
            return Err(spec.wrong(Wrong::new(
                "it is not an .npz archive",
                "write one with numpy.savez(\"data.npz\", x=inputs, y=labels)",
            )));
        }
        let archive = Archive::open(map).map_err(|e| Error::format(&spec.path, e))?;
        Ok(Npz { spec, archive })
    }
}

impl Arrays for Npz<'_> {
    fn names(&self) -> Vec<String> {
        let names = self.archive.names();
        names
            .map(|name| name.strip_suffix(".npy").unwrap_or(name).to_string())
            .collect()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let entry = format!("{name}.npy");
        let bytes = self.archive.read(&entry);
        let bytes = bytes.map_err(|source| Error::format(&self.spec.path, source))?;
        super::npy::read(name, &bytes).map_err(|w| self.spec.wrong(w))
    }
}

/// Writes an archive that has the array `x`, whole or not at all.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`] when the system refuses.
pub(crate) fn write(path: &Path, x: &ArrayD<f32>) -> Result<()> {
    let mut bytes = super::npy::header(x.shape());
    bytes.extend(x.iter().flat_map(|x| x.to_le_bytes()));
    write_whole(path, |file| {
        let mut archive = ArchiveWriter::new(file, "");
        let written = archive
            .entry("x.npy", &bytes)
            .and_then(|()| archive.finish());
        written.map_err(|source| Error::format(path, source))
    })
}
