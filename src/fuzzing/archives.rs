//! Archives as bytes, and unpacked into one text-like stretch that mutations can get at.

use std::borrow::Cow;
use std::io::{Cursor, Read, Write};
use std::sync::Arc;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::data::in_memory;
use crate::error::FormatError;
use crate::exec::top1;
use crate::formats::torchscript::{Source, read_bytes, write};
use crate::formats::{ReadOptions, exported_program};
use crate::ir::{Bytes, Graph, verify};

/// What stands before each entry's name in an unpacked archive; a line end follows the name.
const ENTRY: &[u8] = b"\n=== ";

/// The archive that holds `graph`, if the format can.
pub fn archive_of(graph: &Graph) -> Option<Vec<u8>> {
    written(graph, &Source::default()).ok()
}

fn written(graph: &Graph, source: &Source) -> Result<Vec<u8>, FormatError> {
    let mut archive = Cursor::new(Vec::new());
    write(graph, source, "net", &mut archive)?;
    Ok(archive.into_inner())
}

/// Every entry of an archive, each after its name.
pub fn unpacked(archive: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
    let mut archive = ZipArchive::new(Cursor::new(archive))?;
    let mut bytes = Vec::new();
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i)?;
        bytes.extend_from_slice(ENTRY);
        bytes.extend_from_slice(entry.name()?.as_bytes());
        bytes.push(b'\n');
        entry.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Names and contents of unpacked entries.
fn entries(bytes: &[u8]) -> Vec<(Cow<'_, str>, &[u8])> {
    let mut entries = Vec::new();
    let mut rest = bytes.strip_prefix(ENTRY).unwrap_or(bytes);
    while !rest.is_empty() {
        let end = rest.windows(ENTRY.len()).position(|w| w == ENTRY);
        let (entry, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.strip_prefix(ENTRY).unwrap_or(after);
        let line = entry.iter().position(|b| *b == b'\n');
        let (name, content) = entry.split_at(line.unwrap_or(entry.len()));
        let content = content.get(1..).unwrap_or_default();
        entries.push((String::from_utf8_lossy(name), content));
    }
    entries
}

/// The archive whose entries these are.
fn packed(bytes: &[u8]) -> zip::result::ZipResult<Vec<u8>> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in entries(bytes) {
        archive.start_file(name, options)?;
        archive.write_all(content)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// Reads an archive. One that can be read gives a graph that keeps the rules, and where it can be written is read again.
pub fn archive(bytes: &[u8]) {
    let read = |bytes: Vec<u8>| read_bytes(Bytes::new(Arc::new(bytes)), &ReadOptions::default());
    let Ok((graph, source)) = read(bytes.to_vec()) else {
        return;
    };
    if let Err(violations) = verify(&graph) {
        panic!("{}\n{graph}", violations[0]);
    }
    if let Ok(written) = written(&graph, &source)
        && let Err(error) = read(written)
    {
        panic!("{error}\n{graph}");
    }
}

/// Reads samples from files of the kind of data that the first entry is named for, one file an entry, or else from an archive
/// of NumPy's with these entries. Those that can be read are what they are said to be.
pub fn samples(bytes: &[u8]) {
    let entries = entries(bytes);
    let in_files = || entries.iter().map(|(_, file)| file.to_vec()).collect();
    let (kind, sample, files): (_, _, Vec<Vec<u8>>) = match entries.first().map(|(name, _)| &**name)
    {
        Some("folder") => ("folder", "3,4,4", in_files()),
        Some("mnist") => ("mnist", "1,H,W", in_files()),
        Some("cifar10") => ("cifar10", "3,32,32", in_files()),
        _ => ("npz", "2", packed(bytes).into_iter().collect()),
    };
    let graph = format!("graph net(%x: f32[N,{sample}]) {{ return %x }}");
    let Ok(graph) = graph.parse::<Graph>() else {
        return;
    };
    let files = files.into_iter().map(|file| Bytes::new(Arc::new(file)));
    let Ok(data) = in_memory(kind, files.collect(), &graph) else {
        return;
    };
    if let Ok(samples) = data.sample(64, 0) {
        for array in samples.inputs.iter().flat_map(|input| &input.samples) {
            let row = 1 + sample.matches(',').count();
            assert!((row..=row + 1).contains(&array.shape().len()));
            assert!(array.elements::<f32>().iter().all(|x| x.is_finite()));
        }
        let labels = samples.labels.as_ref();
        assert!(labels.is_none_or(|labels| labels.len() == samples.len()));
    }
    if let Ok(set) = data.training_set() {
        let (rest, held) = set.hold_out(0.5, 0);
        let batches = rest.epoch(2, 0, 0).chain(held.in_order(2));
        let count: usize = batches.map(|batch| batch.images.shape()[0]).sum();
        assert_eq!(count, data.len() - set.left_out().len());
    }
    let _ = top1(&graph, &data, |_| {});
}

/// Reads an archive of an exported program, as [`archive`] one of TorchScript.
pub fn program(bytes: &[u8]) {
    let read = |bytes: Vec<u8>| exported_program::read_bytes(Bytes::new(Arc::new(bytes)));
    let Ok((graph, source)) = read(bytes.to_vec()) else {
        return;
    };
    if let Err(violations) = verify(&graph) {
        panic!("{}\n{graph}", violations[0]);
    }
    let mut written = Cursor::new(Vec::new());
    if exported_program::write(&graph, Some(&source), "net", &mut written).is_ok()
        && let Err(error) = read(written.into_inner())
    {
        panic!("{error}\n{graph}");
    }
}

/// As [`program`], on the archive with these unpacked entries.
pub fn unpacked_program(bytes: &[u8]) {
    if let Ok(packed) = packed(bytes) {
        program(&packed);
    }
}

/// The archive that holds `graph` as an exported program, if the format can.
pub fn program_of(graph: &Graph) -> Option<Vec<u8>> {
    let mut archive = Cursor::new(Vec::new());
    exported_program::write(graph, None, "net", &mut archive).ok()?;
    Some(archive.into_inner())
}

/// As [`archive`], on the archive with these unpacked entries.
pub fn unpacked_archive(bytes: &[u8]) {
    if let Ok(packed) = packed(bytes) {
        archive(&packed);
    }
}
