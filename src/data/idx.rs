//! Arrays of bytes in the format of MNIST's files, gzipped or not: a type, the sizes, then the elements.

use std::io::Read;
use std::sync::Arc;

use flate2::bufread::GzDecoder;

use super::Wrong;
use crate::files::archive::MAX_RATIO;
use crate::ir::Bytes;

const GZIP: &[u8] = b"\x1f\x8b";

/// Sizes and elements of the array of bytes with `N` dimensions in `file`.
///
/// # Errors
/// What is wrong: it is no such array, the gzip is broken, or it has not the number of bytes that its header announces.
pub(super) fn read<const N: usize>(file: &Bytes) -> Result<([usize; N], Bytes), Wrong> {
    let bytes = file.as_ref();
    let mut gzip = bytes.starts_with(GZIP).then(|| GzDecoder::new(bytes));
    let mut magic = [0; 4];
    let mut sizes = [[0; 4]; N];
    let mut plain = bytes;
    let source: &mut dyn Read = match &mut gzip {
        Some(gzip) => gzip,
        None => &mut plain,
    };
    let header = source
        .read_exact(&mut magic)
        .and_then(|()| source.read_exact(sizes.as_flattened_mut()));
    if let (Err(error), Some(_)) = (&header, &gzip) {
        return Err(broken(error));
    }
    if header.is_err() || magic != [0, 0, 8, N as u8] {
        return Err(Wrong::new(
            format!("it is no array of bytes with {N} dimensions in MNIST's format (idx{N}-ubyte)"),
            "",
        ));
    }
    let sizes = sizes.map(|size| u32::from_be_bytes(size) as usize);
    let announced = sizes
        .iter()
        .try_fold(1usize, |n, size| n.checked_mul(*size));
    let limit = match gzip {
        Some(_) => bytes.len().saturating_mul(MAX_RATIO as usize),
        None => plain.len(),
    };
    let announced = announced.filter(|n| *n <= limit).ok_or_else(|| {
        Wrong::new(
            format!(
                "its header announces an array of {sizes:?}, more than a file of {} bytes holds",
                bytes.len()
            ),
            CUT,
        )
    })?;
    let elements = match &mut gzip {
        Some(gzip) => Bytes::new(Arc::new(inflate(gzip, announced)?)),
        None => {
            let start = bytes.len() - plain.len();
            file.slice(start..bytes.len())
                .unwrap_or_else(|| file.clone())
        }
    };
    match elements.as_ref().len() {
        n if n == announced => Ok((sizes, elements)),
        n => {
            let more_or_less = if n > announced { "more" } else { "less" };
            Err(Wrong::new(
                format!(
                    "it holds {more_or_less} than the {announced} bytes of the array of {sizes:?} that its header announces"
                ),
                CUT,
            ))
        }
    }
}

const CUT: &str = "the file was cut short or altered; fetch it again";

fn broken(error: &std::io::Error) -> Wrong {
    Wrong::new(format!("its gzip is broken: {error}"), CUT)
}

/// At most one byte more than `expected`, which tells what holds more from what ends there.
fn inflate(gzip: &mut dyn Read, expected: usize) -> Result<Vec<u8>, Wrong> {
    let mut elements = Vec::with_capacity(expected);
    gzip.take(expected as u64 + 1)
        .read_to_end(&mut elements)
        .map_err(|error| broken(&error))?;
    Ok(elements)
}
