//! Zip archives, as PyTorch and NumPy write them: a mapped file, its entries as byte ranges of the map.
//!
//! Stored entries are never copied; deflated ones are inflated under a bound that their size in the file justifies.

mod foreign;
mod write;

use std::io::{Cursor, Read};
use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexMap;
use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use crate::error::FormatError;
use crate::ir::Bytes;
pub(crate) use foreign::other_zip;
use foreign::without_zip;
pub(crate) use write::{ArchiveWriter, UNNAMED, root_name};

/// Deflate cannot expand by more than 1032; what claims more is lying.
pub(crate) const MAX_RATIO: u64 = 1100;
/// Code and pickles are text about the network, never the bulk of it.
const MAX_TEXT: u64 = 256 << 20;
/// Entries in an archive: two a tensor and a few a module, with room.
const MAX_ENTRIES: usize = 1 << 20;

#[derive(Clone, Debug)]
struct Entry {
    index: usize,
    range: Range<usize>,
    deflated: bool,
    size: u64,
}

impl Entry {
    fn bomb(&self, name: &str, unpacked: u64, limit: u64) -> FormatError {
        FormatError::Bomb {
            entry: name.to_owned(),
            packed: self.range.len() as u64,
            unpacked,
            limit,
        }
    }
}

/// An open archive; names are relative to its one root folder.
pub(crate) struct Archive {
    map: Bytes,
    zip: ZipArchive<Cursor<Bytes>>,
    entries: IndexMap<String, Entry>,
}

impl Archive {
    /// Opens the archive and checks its directory; unpacks nothing.
    pub(crate) fn open(map: Bytes) -> Result<Self, FormatError> {
        let bytes = map.as_ref();
        if bytes.is_empty() {
            return Err(FormatError::Empty);
        }
        if !bytes.starts_with(b"PK\x03\x04") {
            return Err(FormatError::Foreign(without_zip(bytes)));
        }
        let mut zip = ZipArchive::with_config(
            Config {
                archive_offset: ArchiveOffset::Known(0),
            },
            Cursor::new(map.clone()),
        )
        .map_err(|e| damaged(e.to_string()))?;
        if zip.len() > MAX_ENTRIES {
            return Err(damaged(format!("it lists {} entries", zip.len())));
        }
        if zip.has_duplicate_names() {
            return Err(damaged("two entries have the same name"));
        }
        let mut raw = Vec::with_capacity(zip.len());
        for index in 0..zip.len() {
            if let Some(found) = entry(&mut zip, index, bytes.len())? {
                raw.push(found);
            }
        }
        let root = root_of(raw.iter().map(|(name, _)| name.as_str()));
        let mut entries = IndexMap::with_capacity(raw.len());
        for (name, entry) in raw {
            let short = name.strip_prefix(&root).unwrap_or(&name).to_owned();
            if entries.insert(short, entry).is_some() {
                return Err(FormatError::Duplicate { entry: name });
            }
        }
        Ok(Self { map, zip, entries })
    }

    /// Names of all entries, in the order of the directory.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> u64 {
        self.map.as_ref().len() as u64
    }

    /// Whether there is such an entry.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Whether there is an entry under such a folder.
    pub(crate) fn contains_under(&self, folder: &str) -> bool {
        self.names().any(|n| n.starts_with(folder))
    }

    fn entry(&self, name: &str) -> Result<&Entry, FormatError> {
        self.entries.get(name).ok_or_else(|| FormatError::Missing {
            entry: format!("`{name}`"),
        })
    }

    /// An entry's bytes, without a copy when it is stored.
    pub(crate) fn read(&self, name: &str) -> Result<Bytes, FormatError> {
        let entry = self.entry(name)?;
        if entry.deflated {
            return Ok(Bytes::new(Arc::new(self.unpack(name, entry)?)));
        }
        let slice = self.map.slice(entry.range.clone());
        slice.ok_or_else(|| damaged(format!("entry `{name}` reaches past the end of the file")))
    }

    /// An entry that is text about the network: bounded in size and checked against its sum.
    pub(crate) fn read_text(&self, name: &str) -> Result<Vec<u8>, FormatError> {
        let entry = self.entry(name)?;
        if entry.size > MAX_TEXT {
            return Err(entry.bomb(name, entry.size, MAX_TEXT));
        }
        self.unpack(name, entry)
    }

    fn unpack(&self, name: &str, entry: &Entry) -> Result<Vec<u8>, FormatError> {
        let mut zip = self.zip.clone();
        let file = zip
            .by_index(entry.index)
            .map_err(|e| damaged(e.to_string()))?;
        // The declared size was checked against the packed one; the stream itself may still say otherwise.
        let mut out = Vec::with_capacity(entry.size.min(1 << 20) as usize);
        let read = file.take(entry.size + 1).read_to_end(&mut out);
        if out.len() as u64 > entry.size {
            return Err(entry.bomb(name, out.len() as u64, entry.size));
        }
        read.map_err(|e| damaged(format!("entry `{name}` does not unpack: {e}")))?;
        if (out.len() as u64) < entry.size {
            return Err(damaged(format!(
                "entry `{name}` ends after {} of {} bytes",
                out.len(),
                entry.size
            )));
        }
        Ok(out)
    }
}

/// Reads one line of the directory; `None` for a folder.
fn entry(
    zip: &mut ZipArchive<Cursor<Bytes>>,
    index: usize,
    file_len: usize,
) -> Result<Option<(String, Entry)>, FormatError> {
    let file = zip
        .by_index_raw(index)
        .map_err(|e| damaged(e.to_string()))?;
    let name = String::from_utf8_lossy(file.name_raw()).into_owned();
    if escapes(&name) {
        return Err(FormatError::UnsafePath { entry: name });
    }
    if file.is_dir() {
        return Ok(None);
    }
    if file.encrypted() {
        return Err(FormatError::Encrypted { entry: name });
    }
    let deflated = match file.compression() {
        CompressionMethod::Stored => false,
        CompressionMethod::Deflated => true,
        other => {
            return Err(FormatError::Compression {
                entry: name,
                method: other.to_string(),
            });
        }
    };
    let (packed, size) = (file.compressed_size(), file.size());
    let start = file
        .data_start()
        .ok_or_else(|| damaged(format!("entry `{name}` has no data")))?;
    let end = start
        .checked_add(packed)
        .filter(|&end| end <= file_len as u64);
    let end =
        end.ok_or_else(|| damaged(format!("entry `{name}` reaches past the end of the file")))?;
    let entry = Entry {
        index,
        range: start as usize..end as usize,
        deflated,
        size,
    };
    if !deflated && packed != size {
        return Err(damaged(format!(
            "stored entry `{name}` claims {size} bytes in {packed}"
        )));
    }
    let limit = packed.saturating_mul(MAX_RATIO);
    if size > limit {
        return Err(entry.bomb(&name, size, limit));
    }
    Ok(Some((name, entry)))
}

/// The folder that holds everything, with its slash; empty when there is none.
fn root_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut root: Option<&str> = None;
    for name in names {
        let first = match name.find('/') {
            Some(slash) => &name[..=slash],
            None => return String::new(),
        };
        match root {
            None => root = Some(first),
            Some(root) if root == first => {}
            Some(_) => return String::new(),
        }
    }
    root.unwrap_or_default().to_owned()
}

/// Whether a name leads out of the archive's own folder on some system.
fn escapes(name: &str) -> bool {
    let absolute = name.starts_with(['/', '\\']) || name.as_bytes().get(1) == Some(&b':');
    absolute || name.contains('\0') || name.split(['/', '\\']).any(|part| part == "..")
}

fn damaged(detail: impl Into<String>) -> FormatError {
    FormatError::Damaged {
        detail: detail.into(),
    }
}
