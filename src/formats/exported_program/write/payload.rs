//! Tensors as the archive keeps them.

use std::io::Cursor;
use std::ops::Range;

use rustc_hash::FxHashMap;
use serde_json::Map;

use super::Writer;
use super::state::Entry;
use crate::error::FormatError;
use crate::files::archive::ArchiveWriter;
use crate::formats::exported_program::schema::{Payload, PayloadConfig};
use crate::formats::exported_program::source::StateKind;
use crate::formats::pickle::Pickler;
use crate::ir::Tensor;

/// An archive as `torch.save` writes a dictionary of these tensors.
pub(super) fn saved<'l>(entries: impl Iterator<Item = &'l Entry>) -> Result<Vec<u8>, FormatError> {
    let mut pickler = Pickler::new();
    pickler.ops(b"}(");
    for entry in entries {
        pickler.str(&entry.fqn);
        let is_parameter = entry.state.kind == StateKind::Parameter;
        if is_parameter {
            pickler.global("torch._utils", "_rebuild_parameter");
            pickler.ops(b"(");
        }
        pickler.shared(&entry.tensor, entry.state.requires_grad);
        if is_parameter {
            pickler.bool(entry.state.requires_grad);
            pickler.global("collections", "OrderedDict");
            pickler.ops(b")RtR");
        }
    }
    pickler.ops(b"u");
    let (pickle, storages) = pickler.finish();
    let mut bytes = Cursor::new(Vec::new());
    let mut archive = ArchiveWriter::new(&mut bytes, "archive");
    archive.entry("data.pkl", &pickle)?;
    archive.entry("byteorder", b"little")?;
    for (key, tensor) in storages.iter().enumerate() {
        archive.entry(&format!("data/{key}"), &tensor.bytes())?;
    }
    archive.entry("version", b"3\n")?;
    archive.finish()?;
    Ok(bytes.into_inner())
}

/// Where the tensors of these names are, and those tensors; names of one tensor share it.
pub(super) fn payloads<'l>(
    entries: impl Iterator<Item = &'l Entry>,
    prefix: &str,
    writer: &Writer<'_>,
) -> (PayloadConfig, Vec<Tensor>) {
    let mut config = PayloadConfig::default();
    let mut tensors: Vec<Tensor> = Vec::new();
    let mut known: FxHashMap<(usize, Range<usize>), usize> = FxHashMap::default();
    for entry in entries {
        let tensor = &entry.tensor;
        let shared = known.get(&tensor.place()).copied();
        let shared = shared.filter(|i| !tensor.is_empty() && tensors[*i].same_memory(tensor));
        let i = shared.unwrap_or_else(|| {
            known.insert(tensor.place(), tensors.len());
            tensors.push(tensor.clone());
            tensors.len() - 1
        });
        let payload = Payload {
            path_name: format!("{prefix}{i}"),
            is_param: entry.state.kind == StateKind::Parameter,
            use_pickle: false,
            tensor_meta: writer.meta(&tensor.ty(), entry.state.requires_grad).ok(),
            other: Map::new(),
        };
        config.config.insert(entry.fqn.clone(), payload);
    }
    (config, tensors)
}
