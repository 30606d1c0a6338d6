//! What a file is that is not what it was taken for.

use super::Archive;
use crate::error::Foreign;

/// What a file without a zip's signature is.
pub(super) fn without_zip(bytes: &[u8]) -> Foreign {
    // The pickled magic number of torch.save before 1.6, 0x1950a86a20f9469cfc6c, as LONG1 writes it.
    const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    let head = &bytes[..bytes.len().min(64)];
    if head.windows(MAGIC.len()).any(|w| w == MAGIC) {
        return Foreign::LegacyPickle;
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Foreign::LegacyTar;
    }
    if bytes.len() > 9 && bytes[8] == b'{' {
        let header = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| bytes[i]));
        if header <= bytes.len() as u64 {
            return Foreign::Safetensors;
        }
    }
    // ModelProto begins with ir_version (field 1, varint) and then a string or message field.
    if let [0x08, 1..=30, 0x12 | 0x1a | 0x22 | 0x3a | 0x42, ..] = bytes {
        return Foreign::Onnx;
    }
    if let [0x80, 2..=5, ..] = bytes {
        return Foreign::LegacyPickle;
    }
    Foreign::Unknown
}

/// What a zip archive without TorchScript's entries is.
pub(crate) fn other_zip(archive: &Archive) -> Option<Foreign> {
    let ends = |suffix: &str| archive.names().any(|n| n.ends_with(suffix));
    if archive.contains("data.pkl")
        && (archive.contains("constants.pkl") || archive.contains_under("code/"))
    {
        return None;
    }
    if ends("models/model.json")
        || archive.contains("archive_format")
        || ends("serialized_exported_program.json")
    {
        return Some(Foreign::ExportedProgram);
    }
    if archive.contains("data.pkl") {
        let pickle = archive.read_text("data.pkl").unwrap_or_default();
        return Some(if names_classes(&pickle) {
            Foreign::PickledModule
        } else {
            Foreign::StateDict
        });
    }
    Some(Foreign::Zip)
}

/// Whether a pickle refers to classes beyond those that rebuild tensors.
fn names_classes(pickle: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pickle);
    ["torch.nn.modules", "__main__", "_modules", "_forward_hooks"]
        .iter()
        .any(|name| text.contains(name))
}
