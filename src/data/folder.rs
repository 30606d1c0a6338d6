//! `folder:DIR`: images, in a folder for each class or all together, on disk or in a tar archive.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Seek};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageError, ImageReader, ImageResult};
use indexmap::{IndexMap, IndexSet};
use rayon::prelude::*;
use walkdir::WalkDir;

use super::images::{self, Classes, Pictures};
use super::spec::Kind;
use super::training::Augment;
use super::{DataSpec, Opened, Split, Wanted, Wrong};
use crate::ir::Bytes;
use crate::{Error, Result};

pub(super) static FOLDER: Kind = Kind {
    name: "folder",
    takes: "DIR",
    help: "JPEG and PNG images below DIR, or in a file DIR.tar; labels if each class has a folder",
    options: &["split", "mean", "std", "resize", "flip", "crop"],
    mean_std: None,
    augment: Augment::NONE,
    open,
};

const SUFFIXES: [&str; 3] = ["jpg", "jpeg", "png"];

/// Whether the name is an image's.
fn is_image(path: &Path) -> bool {
    let suffix = path.extension().map(|suffix| suffix.to_ascii_lowercase());
    suffix.is_some_and(|suffix| SUFFIXES.iter().any(|known| suffix == *known))
}

/// Images by their path below the folder or in the archive, in order of it.
type Files = IndexMap<PathBuf, Place>;

/// Where an image's bytes are.
#[derive(Debug)]
enum Place {
    Disk(PathBuf),
    Archive(Bytes),
}

#[derive(Debug)]
struct Folder(Files);

fn open(spec: &DataSpec, wanted: &Wanted) -> Result<Opened> {
    match fs::metadata(&spec.path) {
        Ok(meta) if meta.is_file() => read(spec, wanted, super::map(&spec.path)?),
        _ => of_files(spec, wanted, on_disk(&spec.path)?),
    }
}

/// As [`open`], of a tar archive.
pub(super) fn read(spec: &DataSpec, wanted: &Wanted, archive: Bytes) -> Result<Opened> {
    let files = in_archive(&archive).map_err(|w| spec.wrong(w))?;
    of_files(spec, wanted, files)
}

fn of_files(spec: &DataSpec, wanted: &Wanted, files: Files) -> Result<Opened> {
    if files.is_empty() {
        return Err(spec.wrong(Wrong::new(
            "there are no images in it",
            "images are files named .jpg, .jpeg or .png",
        )));
    }
    let Chosen {
        files,
        classes,
        split,
    } = choose(spec, files).map_err(|w| spec.wrong(w))?;
    images::open(spec, wanted, Box::new(Folder(files)), classes, split)
}

/// All images below a folder, in order of path.
fn on_disk(root: &Path) -> Result<Files> {
    let mut files = Files::new();
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::Io {
            doing: "read",
            path: error.path().unwrap_or(root).to_path_buf(),
            source: match error.loop_ancestor() {
                Some(_) => io::Error::other("the link leads to a folder that it is in"),
                None => error
                    .into_io_error()
                    .unwrap_or_else(|| io::Error::other("unknown")),
            },
        })?;
        if is_image(entry.path()) && entry.file_type().is_file() {
            let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
            let path = path.to_path_buf();
            files.insert(path, Place::Disk(entry.into_path()));
        }
    }
    Ok(files)
}

/// All images in a tar archive, in order of path. Nothing is unpacked: each is a stretch of the archive.
fn in_archive(archive: &Bytes) -> Result<Files, Wrong> {
    const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"];
    if { COMPRESSED.iter() }.any(|magic| archive.as_ref().starts_with(magic)) {
        return Err(Wrong::new(
            "it is compressed",
            "unpack it to a plain .tar, or to a folder; images do not get smaller by it",
        ));
    }
    // What the reason quotes of a file that is no archive is of no use to anybody.
    let damaged = |_: io::Error| {
        Wrong::new(
            "it is no tar archive, or a damaged one",
            "give a folder of images, or a .tar of one",
        )
    };
    let mut files = Files::new();
    let mut tar = tar::Archive::new(Cursor::new(archive.as_ref()));
    for entry in tar.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let path = entry.path().map_err(damaged)?.into_owned();
        if !is_image(&path) || entry.header().entry_type().is_dir() {
            continue;
        }
        let wrong = |what: &str, help: &str| {
            Wrong::new(format!("the entry {} {what}", path.display()), help)
        };
        if !entry.header().entry_type().is_file() {
            return Err(wrong(
                "is a link, or is stored in pieces",
                "write the archive with tar --dereference --hard-dereference, without --sparse",
            ));
        }
        // Nothing is ever written there; but whoever wrote this archive meant no good.
        let Some(inside) = inside(&path) else {
            return Err(wrong("leads out of the archive", "do not trust it"));
        };
        let content = usize::try_from(entry.raw_file_position())
            .ok()
            .zip(usize::try_from(entry.size()).ok())
            .and_then(|(start, size)| archive.slice(start..start.checked_add(size)?));
        let content = content.ok_or_else(|| {
            wrong(
                "reaches past the end of the file",
                "the file was cut short; fetch it again",
            )
        })?;
        files.insert(inside, Place::Archive(content));
    }
    files.sort_unstable_keys();
    Ok(files)
}

/// The path without `.`; `None` when it is absolute or goes up.
fn inside(path: &Path) -> Option<PathBuf> {
    use std::path::Component::{CurDir, Normal};
    let parts = path.components().filter(|part| *part != CurDir);
    let part = |part| match part {
        Normal(name) => Some(name),
        _ => None,
    };
    parts.map(part).collect()
}

/// The images of the part that is asked for.
struct Chosen {
    files: Files,
    classes: Classes,
    split: Option<Split>,
}

/// Takes one part where there are two. Classes are those of both, so that a label means the same in each.
fn choose(spec: &DataSpec, files: Files) -> Result<Chosen, Wrong> {
    let mut files = without_root(files);
    let tops: IndexSet<&OsStr> = files.keys().filter_map(|path| nth(path, 0)).collect();
    let test = if tops.contains(OsStr::new("test")) {
        "test"
    } else {
        "val"
    };
    let is_part = |top: &&OsStr| ["train", "test", "val"].iter().any(|part| top == part);
    let has = |part: &str| tops.contains(OsStr::new(part));
    let divided = has("train") && has(test) && tops.iter().all(is_part);
    let split = match (divided, spec.split) {
        (true, _) => Some(spec.part()),
        (false, None) => None,
        (false, Some(split)) => {
            return Err(Wrong::new(
                format!("it has no parts, of which {split} could be taken"),
                "data with parts is a folder `train` and a folder `test` or `val`, and nothing beside them",
            ));
        }
    };
    let depth = usize::from(divided);
    // What is in a class has a name below the class's.
    let class = |path: &Path| {
        nth(path, depth + 1)
            .and(nth(path, depth))
            .map(OsStr::to_owned)
    };
    let mut classes: IndexSet<OsString> = files.keys().filter_map(|path| class(path)).collect();
    classes.sort_unstable();
    if let Some(split) = split {
        let part = match split {
            Split::Train => "train",
            Split::Test => test,
        };
        files.retain(|path, _| path.starts_with(part));
    }
    let label = |path: &PathBuf| Some(classes.get_index_of(&class(path)?)? as i64);
    let labels: Option<Vec<i64>> = files.keys().map(label).collect();
    Ok(Chosen {
        classes: labels.map(|labels| (labels, classes.len())),
        files,
        split,
    })
}

/// Paths below the innermost folder that holds all folders of classes, or of parts.
fn without_root(files: Files) -> Files {
    let Some((first, _)) = files.first() else {
        return files;
    };
    let shared = |path: &PathBuf| {
        let parts = path.components().zip(first.components());
        let same = parts.take_while(|(one, other)| one == other).count();
        // A class and a name stay.
        same.min(path.components().count().saturating_sub(2))
    };
    let depth = files.keys().map(shared).min().unwrap_or_default();
    let below = |(path, place): (PathBuf, Place)| (path.components().skip(depth).collect(), place);
    files.into_iter().map(below).collect()
}

/// A path's part at this position.
fn nth(path: &Path, position: usize) -> Option<&OsStr> {
    path.components().nth(position).map(|part| part.as_os_str())
}

impl Pictures for Folder {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn channels(&self) -> usize {
        3
    }

    fn alike(&self) -> bool {
        false
    }

    fn size(&self) -> Result<[usize; 2], Wrong> {
        let sizes: Vec<_> = (0..self.len())
            .into_par_iter()
            .map(|position| Ok((self.dimensions(position)?, position)))
            .collect();
        let mut readable = sizes.iter().flatten();
        let Some((size, position)) = readable.next() else {
            let why: String = sizes.into_iter().find_map(Result::err).unwrap_or_default();
            return Err(Wrong::new(
                format!("no image can be read; the first is {why}"),
                "",
            ));
        };
        match readable.find(|(other, _)| other != size) {
            None => Ok(*size),
            Some((other, other_position)) => Err(Wrong::new(
                format!(
                    "its images are of several sizes: {} has {}x{} pixels, and {} {}x{}",
                    self.name(*position),
                    size[1],
                    size[0],
                    self.name(*other_position),
                    other[1],
                    other[0]
                ),
                "say which size the network is to get: resize=N, or --input 1x3xHxW",
            )),
        }
    }

    fn decode(&self, position: usize) -> Result<DynamicImage, String> {
        let image = self.file(position).and_then(ImageReader::decode);
        image.map_err(|why| self.damage(position, why))
    }
}

/// What images are read from.
trait Stream: BufRead + Seek {}
impl<T: BufRead + Seek> Stream for T {}

impl Folder {
    fn name(&self, position: usize) -> String {
        let name = |(path, place): (&PathBuf, &Place)| match place {
            Place::Disk(path) => path.display().to_string(),
            Place::Archive(_) => path.display().to_string(),
        };
        self.0.get_index(position).map_or_else(String::new, name)
    }

    fn damage(&self, position: usize, why: ImageError) -> String {
        // Some decoders end their messages with a line break.
        format!("{}: {}", self.name(position), why.to_string().trim_end())
    }

    /// Height and width of an image, of which only the beginning is read.
    fn dimensions(&self, position: usize) -> Result<[usize; 2], String> {
        let file = self.file(position);
        let dimensions = file.and_then(ImageReader::into_dimensions);
        let (width, height) = dimensions.map_err(|why| self.damage(position, why))?;
        Ok([height as usize, width as usize])
    }

    fn file(&self, position: usize) -> ImageResult<ImageReader<Box<dyn Stream + '_>>> {
        let file: Box<dyn Stream> = match self.0.get_index(position) {
            Some((_, Place::Archive(content))) => Box::new(Cursor::new(content.as_ref())),
            Some((_, Place::Disk(path))) => Box::new(BufReader::new(File::open(path)?)),
            None => Box::new(io::empty()), // Positions are below `len`.
        };
        images::reader(file)
    }
}
