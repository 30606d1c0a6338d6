//! Files mapped into memory: read where they lie, and never kept there as a whole.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

use memmap2::Mmap;

use crate::error::FormatError;
use crate::ir::{Bytes, Memory};

/// Bytes of what was read that stay in memory beside the part that is read.
const KEPT: usize = 16 << 20;
/// Bytes of the smallest part that is worth telling the system about.
const SMALLEST: usize = 16 << 10;

/// A file mapped into memory.
///
/// The system counts every page that was read as this process's own, as long as it has room. A file may be larger than that, so
/// when another part is read, those that were read before it are given back; whoever reads them again gets them from the file.
#[derive(Debug)]
pub struct MappedFile {
    map: Mmap,
    /// The parts that were read last, the latest at the end.
    recent: Mutex<VecDeque<Range<usize>>>,
}

impl MappedFile {
    /// Maps a file.
    pub fn open(path: &Path) -> Result<Bytes, FormatError> {
        let io = |doing| move |source| FormatError::Io { doing, source };
        let file = File::open(path).map_err(io("cannot open the file"))?;
        let meta = file.metadata().map_err(io("cannot read the file's size"))?;
        if meta.is_dir() {
            return Err(FormatError::Io {
                doing: "cannot open the file",
                source: std::io::Error::other("it is a directory"),
            });
        }
        if meta.len() == 0 {
            return Err(FormatError::Empty);
        }
        MappedFile::of(&file).map_err(io("cannot map the file into memory"))
    }

    /// Maps a file that is open.
    pub fn of(file: &File) -> std::io::Result<Bytes> {
        // SAFETY: the map is private and read-only. Another process that truncates the file while it is mapped can
        // still kill this one; every reader of large files by map accepts that.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(file) }?;
        Ok(Bytes::new(Arc::new(MappedFile {
            map,
            recent: Mutex::default(),
        })))
    }

    /// Gives the pages of a part back to the system.
    #[cfg(unix)]
    fn release(&self, part: &Range<usize>) {
        // SAFETY: nothing was ever written to the map, so pages that are read again hold what the file holds, as before.
        #[allow(unsafe_code)]
        let released = unsafe {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            self.map
                .unchecked_advise_range(advice, part.start, part.len())
        };
        // A system that keeps them is no worse off than before.
        let _ = released;
    }

    #[cfg(not(unix))]
    fn release(&self, _part: &Range<usize>) {}
}

impl Memory for MappedFile {
    fn bytes(&self) -> &[u8] {
        &self.map
    }

    fn expect_read(&self, part: &Range<usize>) {
        if part.len() < SMALLEST {
            return;
        }
        let Ok(mut recent) = self.recent.lock() else {
            return;
        };
        recent.retain(|other| other != part);
        let mut kept: usize = recent.iter().map(ExactSizeIterator::len).sum();
        // The larger the part, the less may stay beside it.
        let room = KEPT.saturating_sub(part.len());
        while kept > room
            && let Some(oldest) = recent.pop_front()
        {
            kept -= oldest.len();
            self.release(&oldest);
        }
        recent.push_back(part.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_were_given_back_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let part = KEPT / 2 + 1;
        let content: Vec<u8> = (0..3 * part).map(|i| (i / 7) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let bytes = MappedFile::open(&path).unwrap();
        for i in [0, 1, 2, 0, 2, 1, 0] {
            let range = i * part..(i + 1) * part;
            let slice = bytes.slice(range.clone()).unwrap();
            slice.expect_read();
            assert!(slice.as_ref() == &content[range]);
        }
    }
}
