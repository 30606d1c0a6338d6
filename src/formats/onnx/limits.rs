//! Bounds on what decoding a file may take.
//!
//! A message of two bytes becomes a struct of hundreds, so a file of nothing but small messages would fill memory many times over.
//! One walk over the bytes says beforehand how much the messages will take, without making any of them.

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::error::OnnxError;
use super::proto::{Laid, Layout, ModelProto, Part};
use crate::formats::words::among;

/// How often its own size a file's messages may take; those of exporters stay below half of that.
const MAX_RATIO: u64 = 32;
/// What they may take in any case.
const MAX_SMALL: u64 = 64 << 20;
/// Nodes, tensors and types of values, each of which takes some 2 KB once it is read; the largest models have some hundred
/// thousand.
const MAX_PARTS: u64 = 1 << 20;
/// The depth at which messages are not decoded any more, as prost has it.
const MAX_DEPTH: usize = 100;
/// What a list grows by for a field that is no message: a string, with its place in the list and what its allocation costs.
const STRING: u64 = 64;
/// What one byte of a packed list of numbers becomes.
const NUMBER: u64 = 8;

/// Refuses a file whose messages would take more memory than its size justifies. What is damaged is left to whoever decodes it.
pub(super) fn check(file: &[u8]) -> Result<(), OnnxError> {
    let most = (file.len() as u64).saturating_mul(MAX_RATIO).max(MAX_SMALL);
    let mut walk = Walk {
        taken: 0,
        parts: 0,
        most,
    };
    let _ = walk.message(ModelProto::LAYOUT, file, 0);
    let help = "no exporter writes such a file; do not trust it";
    if walk.taken > most {
        return Err(OnnxError::Limit {
            what: format!(
                "its {} bytes hold so many small messages that they would take over {most} in memory",
                file.len()
            ),
            help,
        });
    }
    if walk.parts > MAX_PARTS {
        return Err(OnnxError::Limit {
            what: format!("it has over {MAX_PARTS} nodes, tensors and types of values"),
            help,
        });
    }
    Ok(())
}

struct Walk {
    taken: u64,
    parts: u64,
    most: u64,
}

impl Walk {
    /// Counts a message, as far as it can be decoded and the bounds allow.
    fn message(&mut self, of: Layout, mut rest: &[u8], depth: usize) -> Result<(), DecodeError> {
        self.taken += of.size as u64;
        self.parts += u64::from(among("NodeProto TensorProto ValueInfoProto", of.name));
        while !rest.is_empty() && self.taken <= self.most && self.parts <= MAX_PARTS {
            let (field, wire) = decode_key(&mut rest)?;
            if wire != WireType::LengthDelimited {
                self.taken += NUMBER;
                skip_field(wire, field, &mut rest, DecodeContext::default())?;
                continue;
            }
            let length = decode_varint(&mut rest)?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let Some((part, after)) = rest.split_at_checked(length) else {
                break;
            };
            rest = after;
            match (of.part)(field) {
                Part::Message(inner) if depth < MAX_DEPTH => {
                    self.message(inner, part, depth + 1)?
                }
                Part::Message(_) => break,
                Part::Bytes => {}
                Part::Numbers => self.taken += NUMBER * length as u64,
                Part::Other => self.taken += STRING + length as u64,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::formats::onnx::proto::NodeProto;

    /// A message that holds `count` empty ones in one field.
    fn empty(field: u8, count: usize) -> Vec<u8> {
        [field << 3 | 2, 0].repeat(count)
    }

    fn within(field: u8, inner: &[u8]) -> Vec<u8> {
        let mut bytes = vec![field << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut bytes);
        bytes.extend_from_slice(inner);
        bytes
    }

    #[test]
    fn a_file_of_empty_messages_is_refused_before_it_is_decoded() {
        const COUNT: usize = 1 << 20;
        let graph = |field| within(7, &empty(field, COUNT));
        let in_node = |field| within(7, &within(1, &empty(field, COUNT)));
        for (what, file) in [
            ("nodes", graph(1)),
            ("initializers", graph(5)),
            ("inputs", graph(11)),
            ("operands", in_node(1)),
            ("attributes", in_node(5)),
        ] {
            let error = check(&file).expect_err(what).to_string();
            assert!(error.contains("small messages"), "{what}: {error}");
        }
    }

    #[test]
    fn a_file_of_more_nodes_than_any_model_has_is_refused_whatever_its_size() {
        let node = NodeProto {
            doc_string: Some("-".repeat(40)),
            ..NodeProto::default()
        };
        let node = within(1, &node.encode_to_vec());
        let file = within(7, &node.repeat(MAX_PARTS as usize + 1));
        let error = check(&file).unwrap_err().to_string();
        assert!(error.contains("over 1048576 nodes"), "{error}");
    }

    #[test]
    fn what_exporters_write_stays_far_below_the_bound() {
        for name in ["traced", "dynamo", "structured"] {
            let path = format!("tests/fixtures/onnx/{name}.onnx");
            let file = std::fs::read(path).unwrap();
            let mut walk = Walk {
                taken: 0,
                parts: 0,
                most: u64::MAX,
            };
            walk.message(ModelProto::LAYOUT, &file, 0).unwrap();
            let ratio = walk.taken as f64 / file.len() as f64;
            assert!(
                ratio > 0.1 && ratio < MAX_RATIO as f64 / 2.0,
                "{name}: {ratio}"
            );
        }
    }
}
