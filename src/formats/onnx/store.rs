//! The bytes of the file, and of the one beside it with weights: messages are encoded, weights are copied from where they lie.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::error::OnnxError;
use super::files::Mapped;
use super::proto::{EXTERNAL, StringStringEntryProto};
use super::source::Source;
use super::write::{Weight, Written};
use crate::error::FormatError;
use crate::files::PendingFile;
use crate::ir::Tensor;
use crate::{Error, Result};

/// Field numbers that are written by hand, around what is not in memory.
const MODEL_GRAPH: u32 = 7;
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;

/// Bytes from which on weights go into a file of their own: what a protobuf can hold, with room for the rest.
const MAX_INSIDE: u64 = 2_000_000_000;
/// Bytes of the smallest weight that goes there.
const MIN_OUTSIDE: usize = 1024;
/// To what weights are aligned there.
const ALIGNMENT: u64 = 64;
/// Bytes from which on it is worth asking the system to copy from file to file.
const MIN_COPY: usize = 1 << 16;

/// Where bytes go.
pub(super) trait Sink: Write {
    /// Takes a part of a mapped file.
    fn copy(&mut self, file: &Mapped, offset: u64, len: u64) -> io::Result<()>;
}

impl Sink for BufWriter<&mut File> {
    fn copy(&mut self, file: &Mapped, offset: u64, len: u64) -> io::Result<()> {
        self.flush()?;
        file.copy(offset, len, self.get_mut())
    }
}

impl Sink for Vec<u8> {
    fn copy(&mut self, file: &Mapped, offset: u64, len: u64) -> io::Result<()> {
        let part = file
            .bytes
            .as_ref()
            .get(offset as usize..)
            .and_then(|rest| rest.get(..len as usize));
        self.write_all(part.ok_or(io::ErrorKind::UnexpectedEof)?)
    }
}

/// Stores a model that will stand at `path`, through `out`; gives the file with its weights, if it has one.
pub(super) fn store(
    mut written: Written,
    source: &Source,
    path: &Path,
    out: &mut BufWriter<&mut File>,
) -> Result<Vec<PendingFile>> {
    let mut files = Vec::new();
    let size: u64 = written.weights.iter().map(|w| w.len() as u64).sum();
    if source.external || size > MAX_INSIDE {
        let beside = beside(path);
        let same = |file: &Mapped| match (file.path.canonicalize(), beside.canonicalize()) {
            (Ok(a), Ok(b)) => a == b,
            _ => false,
        };
        if source.files.iter().any(same) {
            return Err(Error::format(&beside, FormatError::OverwritesInput));
        }
        let location = beside.file_name().unwrap_or_default().to_string_lossy();
        let offsets = place_outside(&mut written.weights, &location);
        let outside = written.weights.iter().zip(&offsets);
        let file = PendingFile::new(&beside, |out| {
            let mut at = 0;
            for (weight, offset) in outside {
                let Some(offset) = offset else { continue };
                let gap = (offset - at) as usize;
                let io = |source| refused(&beside, source);
                out.write_all(&[0; ALIGNMENT as usize][..gap]).map_err(io)?;
                weight.write(source, out).map_err(io)?;
                at = offset + weight.len() as u64;
            }
            Ok(())
        })?;
        files.push(file);
        written
            .weights
            .iter_mut()
            .zip(offsets)
            .for_each(|(weight, offset)| {
                if offset.is_some() {
                    weight.data = None;
                }
            });
    }
    encode(written, source, out).map_err(|error| match error {
        FormatError::Io { source, .. } => refused(path, source),
        error => Error::format(path, error),
    })?;
    Ok(files)
}

fn refused(path: &Path, source: io::Error) -> Error {
    Error::Io {
        doing: "write",
        path: path.to_path_buf(),
        source,
    }
}

/// The file with the weights of the model at `path`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".data");
    path.with_file_name(name)
}

/// Says of each large weight where in the file at `location` it is.
fn place_outside(weights: &mut [Weight], location: &str) -> Vec<Option<u64>> {
    let mut at = 0u64;
    let mut offsets = Vec::with_capacity(weights.len());
    for weight in weights {
        let len = weight.len();
        if weight.data.is_none() || len < MIN_OUTSIDE {
            offsets.push(None);
            continue;
        }
        let offset = at.next_multiple_of(ALIGNMENT);
        at = offset + len as u64;
        let entry = |key: &str, value: String| StringStringEntryProto {
            key: Some(key.to_owned()),
            value: Some(value),
        };
        weight.header.data_location = Some(EXTERNAL);
        weight.header.external_data = vec![
            entry("location", location.to_owned()),
            entry("offset", offset.to_string()),
            entry("length", len.to_string()),
        ];
        offsets.push(Some(offset));
    }
    offsets
}

impl Weight {
    /// Bytes of the elements that are not in the message.
    fn len(&self) -> usize {
        self.data.as_ref().map_or(0, Tensor::byte_len)
    }

    /// Bytes of the message with the elements.
    fn encoded_len(&self) -> usize {
        let elements = match &self.data {
            None => 0,
            Some(tensor) => {
                let len = tensor.byte_len();
                key_len(TENSOR_RAW_DATA) + encoded_len_varint(len as u64) + len
            }
        };
        self.header.encoded_len() + elements
    }

    /// Writes the elements that are not in the message.
    fn write(&self, source: &Source, out: &mut dyn Sink) -> io::Result<()> {
        let Some(tensor) = &self.data else {
            return Ok(());
        };
        let bytes = tensor.bytes();
        if bytes.len() >= MIN_COPY {
            for file in &source.files {
                if let Some(offset) = file.offset(&bytes) {
                    return out.copy(file, offset, bytes.len() as u64);
                }
            }
        }
        out.write_all(&bytes)
    }
}

/// That no protobuf holds a model of so many bytes, of which `graph` are not weights.
fn too_large(graph: u64, whole: u64) -> OnnxError {
    if graph > i32::MAX as u64 {
        return OnnxError::unwritable(
            format!("the model would take {graph} bytes besides its weights"),
            "a protobuf holds 2 GB at most; leave out what makes the graph so large",
        );
    }
    OnnxError::unwritable(
        format!("the model takes {whole} bytes with its weights"),
        "a protobuf holds 2 GB at most; write the model to a path, beside which large weights get a file of their own",
    )
}

/// Writes the messages, and the weights that go into them.
pub(super) fn encode(
    mut written: Written,
    source: &Source,
    out: &mut dyn Sink,
) -> Result<(), FormatError> {
    let io = |source| FormatError::Io {
        doing: "cannot write",
        source,
    };
    let graph = written.model.graph.take().unwrap_or_default();
    let (model, graph) = (written.model.encode_to_vec(), graph.encode_to_vec());
    let weights: u64 = written
        .weights
        .iter()
        .map(|weight| {
            let len = weight.encoded_len();
            (key_len(GRAPH_INITIALIZER) + encoded_len_varint(len as u64) + len) as u64
        })
        .sum();
    let whole = graph.len() as u64 + weights;
    if whole > i32::MAX as u64 {
        return Err(too_large(graph.len() as u64, whole).into());
    }
    let mut head = Vec::with_capacity(32);
    let mut prefix = |field: u32, len: u64| {
        head.clear();
        encode_key(field, WireType::LengthDelimited, &mut head);
        encode_varint(len, &mut head);
        std::mem::take(&mut head)
    };
    out.write_all(&model).map_err(io)?;
    out.write_all(&prefix(MODEL_GRAPH, whole)).map_err(io)?;
    out.write_all(&graph).map_err(io)?;
    for weight in &written.weights {
        let len = weight.encoded_len() as u64;
        out.write_all(&prefix(GRAPH_INITIALIZER, len)).map_err(io)?;
        out.write_all(&weight.header.encode_to_vec()).map_err(io)?;
        if weight.data.is_some() {
            let len = weight.len() as u64;
            out.write_all(&prefix(TENSOR_RAW_DATA, len)).map_err(io)?;
            weight.write(source, out).map_err(io)?;
        }
    }
    Ok(())
}
