//! Where samples are once they are read: in memory as far as there is room, else in temporary files that are mapped.

use std::env::temp_dir;
use std::io::{self, BufWriter, Write};

use crate::files::MappedFile;
use crate::ir::Tensor;
use crate::{Error, Result};

/// Takes room for arrays from what there is; those that there is none for go into a temporary file without a name.
///
/// # Errors
/// [`Error::Io`] when there is no room in the folder of temporary files.
pub(super) fn keep(arrays: Vec<&mut Tensor>, room: &mut usize) -> Result<()> {
    let bytes = arrays.iter().map(|array| array.byte_len()).sum();
    match room.checked_sub(bytes) {
        Some(left) => *room = left,
        None => map(arrays).map_err(|source| Error::Io {
            doing: "keep samples that memory has no room for in",
            path: temp_dir(),
            source,
        })?,
    }
    Ok(())
}

fn map(arrays: Vec<&mut Tensor>) -> io::Result<()> {
    let mut file = BufWriter::new(tempfile::tempfile()?);
    for array in &arrays {
        file.write_all(&array.bytes())?;
    }
    let all = MappedFile::of(&file.into_inner()?)?;
    let mut start = 0;
    for array in arrays {
        let end = start + array.byte_len();
        if let Some(bytes) = all.slice(start..end)
            && let Ok(mapped) = Tensor::new(array.dtype(), array.shape(), bytes)
        {
            *array = mapped;
        }
        start = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_that_there_is_no_room_for_are_read_from_a_file() {
        let mut arrays = [1.0f32, 2.0, 3.0].map(|x| Tensor::from_vec(&[2], vec![x, -x]));
        let before = arrays.clone();
        let mut room = 20;
        for some in arrays.chunks_mut(2) {
            keep(some.iter_mut().collect(), &mut room).unwrap();
        }
        assert_eq!((&arrays, room), (&before, 4));
        let moved = |i: usize| !arrays[i].same_memory(&before[i]);
        assert_eq!([moved(0), moved(1), moved(2)], [false, false, true]);
    }
}
