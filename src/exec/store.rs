//! Where activations wait until they are read: in memory up to a bound, in a temporary file beyond it.

use std::collections::BTreeMap;
use std::env::temp_dir;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ndarray::{ArcArray, IxDyn};

use crate::{Error, Result};

/// The activations of all samples that wait at one time.
#[derive(Debug)]
pub(super) struct Store {
    /// Bytes that stay in memory at most.
    most: usize,
    /// Bytes that are there.
    kept: AtomicUsize,
    spill: Mutex<Spill>,
}

impl Store {
    pub(super) fn new(most: usize) -> Arc<Store> {
        Arc::new(Store {
            most,
            kept: AtomicUsize::new(0),
            spill: Mutex::default(),
        })
    }

    /// Stores an array whose elements lie row by row.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no room in the folder of temporary files.
    pub(super) fn put(self: &Arc<Store>, array: ArcArray<f32, IxDyn>) -> Result<Stored> {
        let shape = array.shape().to_vec();
        let bytes = size_of::<f32>() * array.len();
        let kept = self.kept.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let place = match array.as_slice() {
            Some(elements) if kept > self.most => {
                self.kept.fetch_sub(bytes, Ordering::Relaxed);
                let elements = bytemuck::cast_slice(elements);
                Place::Spilled(self.spilled(|spill| spill.write(elements))?)
            }
            _ => Place::Kept(array),
        };
        Ok(Stored {
            shape,
            place,
            store: self.clone(),
        })
    }

    fn spilled<T>(&self, with: impl FnOnce(&mut Spill) -> io::Result<T>) -> Result<T> {
        // Another thread's panic leaves nothing half done that matters: the run ends.
        let mut spill = self.spill.lock().unwrap_or_else(PoisonError::into_inner);
        with(&mut spill).map_err(|source| Error::Io {
            doing: "keep activations that memory has no room for in",
            path: temp_dir(),
            source,
        })
    }
}

/// An activation that waits, of the samples of one batch.
#[derive(Debug)]
pub struct Stored {
    shape: Vec<usize>,
    place: Place,
    store: Arc<Store>,
}

#[derive(Debug)]
enum Place {
    Kept(ArcArray<f32, IxDyn>),
    /// Where it begins in the file.
    Spilled(u64),
}

impl Stored {
    /// Its sizes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many elements it has.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its elements, row by row.
    ///
    /// # Errors
    /// [`Error::Io`] when they are in a file that cannot be read.
    pub fn read(&self) -> Result<ArcArray<f32, IxDyn>> {
        let at = match &self.place {
            Place::Kept(array) => return Ok(array.clone()),
            Place::Spilled(at) => *at,
        };
        let mut elements = vec![0.0f32; self.elements()];
        let bytes = bytemuck::cast_slice_mut(&mut elements);
        self.store.spilled(|spill| spill.read(at, bytes))?;
        let array = ArcArray::from_shape_vec(self.shape.as_slice(), elements);
        // As many as were written.
        array.map_err(|error| Error::Io {
            doing: "read activations in",
            path: temp_dir(),
            source: io::Error::other(error),
        })
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        let bytes = size_of::<f32>() * self.elements();
        match &self.place {
            Place::Kept(_) => {
                self.store.kept.fetch_sub(bytes, Ordering::Relaxed);
            }
            Place::Spilled(at) => {
                // There is nothing in it that fails.
                let _ = self.store.spilled(|spill| {
                    spill.give_back(*at, bytes as u64);
                    Ok(())
                });
            }
        }
    }
}

/// The temporary file, made when it is first needed. It has no name, so that nothing is left of it however the run ends.
#[derive(Debug, Default)]
struct Spill {
    file: Option<File>,
    /// Stretches of it that nothing is in: where they begin, and how long they are. No two are beside each other.
    free: BTreeMap<u64, u64>,
    /// Where the file ends.
    end: u64,
}

impl Spill {
    /// Writes bytes into the first stretch that has room for them; where they begin.
    fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let len = bytes.len() as u64;
        let at = self.take(len);
        let written = self.at(at).and_then(|file| file.write_all(bytes));
        if written.is_err() {
            self.give_back(at, len);
        }
        written.map(|()| at)
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.at(at)?.read_exact(bytes)
    }

    fn at(&mut self, at: u64) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        let file = self.file.insert(file);
        file.seek(SeekFrom::Start(at))?;
        Ok(file)
    }

    fn take(&mut self, len: u64) -> u64 {
        let found = self.free.iter().find(|(_, free)| **free >= len);
        let Some((at, free)) = found.map(|(at, free)| (*at, *free)) else {
            let at = self.end;
            self.end += len;
            return at;
        };
        self.free.remove(&at);
        if free > len {
            self.free.insert(at + len, free - len);
        }
        at
    }

    fn give_back(&mut self, mut at: u64, mut len: u64) {
        if let Some((before, free)) = self.free.range(..at).next_back()
            && before + free == at
        {
            (at, len) = (*before, free + len);
        }
        if let Some(after) = self.free.remove(&(at + len)) {
            len += after;
        }
        self.free.insert(at, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(n: usize, first: f32) -> ArcArray<f32, IxDyn> {
        let elements = (0..n).map(|i| first + i as f32).collect();
        ArcArray::from_shape_vec(vec![n], elements).unwrap()
    }

    #[test]
    fn what_memory_has_no_room_for_is_read_from_a_file() {
        let store = Store::new(40);
        let arrays = [array(6, 0.0), array(8, 10.0), array(4, 20.0), array(0, 0.0)];
        let stored = arrays.clone().map(|array| store.put(array).unwrap());
        let spilled = |stored: &Stored| matches!(stored.place, Place::Spilled(_));
        assert_eq!(stored.each_ref().map(spilled), [false, true, false, false]);
        for (stored, array) in stored.iter().zip(&arrays) {
            assert_eq!(&stored.read().unwrap(), array);
        }
        drop(stored);
        assert_eq!(store.kept.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn room_in_the_file_is_used_again() {
        let store = Store::new(0);
        let put = |n| store.put(array(n, 0.0)).unwrap();
        let [a, b, c] = [put(4), put(2), put(6)];
        let end = || store.spill.lock().unwrap().end;
        assert_eq!(end(), 48);
        drop((a, c));
        drop(b);
        let all = put(12);
        assert_eq!((end(), all.read().unwrap()), (48, array(12, 0.0)));
    }
}
