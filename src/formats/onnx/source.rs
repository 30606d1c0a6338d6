//! What an ONNX file holds beside its graph, for writing it back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::files::Mapped;
use super::kept::Kept;
use super::proto::{
    ModelProto, NodeDeviceConfigurationProto, StringStringEntryProto, TensorProto, ValueInfoProto,
};
use crate::formats::FileFacts;
use crate::ir::{Dialect, Tensor, Type};

/// What is needed to write a graph back as the ONNX file that it came from.
#[derive(Debug, Default)]
pub struct Source {
    /// The file, which is never overwritten; `None` for bytes.
    pub(crate) path: Option<PathBuf>,
    /// The file but for nodes, weights and value infos.
    pub(super) model: ModelProto,
    /// The version of ONNX's own operators.
    pub(super) opset: i64,
    /// The nodes and the tensors, as they were.
    pub(super) kept: Kept,
    /// Initializers that no node reads.
    pub(super) unread: Vec<Arc<str>>,
    /// What inputs hold where a caller gives nothing.
    pub(super) defaults: Vec<(Arc<str>, Tensor)>,
    /// What each node had beside operator and operands, by the name of its first result.
    pub(super) nodes: FxHashMap<Arc<str>, NodeInfo>,
    /// The value infos, with the type that the value had when the file was read.
    pub(super) values: FxHashMap<Arc<str>, (ValueInfoProto, Type)>,
    /// What each initializer had beside its elements.
    pub(super) weights: FxHashMap<Arc<str>, WeightInfo>,
    /// Initializers that are inputs, too.
    pub(super) weight_inputs: FxHashMap<Arc<str>, ValueInfoProto>,
    /// Names within subgraphs and functions, which no new value may have.
    pub(super) inner: FxHashSet<String>,
    /// The files that weights are mapped from, the model's own first.
    pub(super) files: Vec<Mapped>,
    /// Whether weights were in other files.
    pub(super) external: bool,
}

impl Source {
    /// What the file says of itself.
    pub(crate) fn facts(&self) -> FileFacts {
        let ModelProto {
            producer_name,
            producer_version,
            ..
        } = &self.model;
        let producer = [producer_name, producer_version].map(|text| text.as_deref().unwrap_or(""));
        let producer = producer.join(" ");
        let mut versions: BTreeMap<String, String> = self
            .model
            .opset_import
            .iter()
            .map(|set| {
                let domain = match set.domain.as_deref() {
                    None | Some("") => "ai.onnx",
                    Some(domain) => domain,
                };
                (
                    domain.to_string(),
                    set.version.unwrap_or_default().to_string(),
                )
            })
            .collect();
        versions.insert(
            "IR".into(),
            self.model.ir_version.unwrap_or_default().to_string(),
        );
        FileFacts {
            format: Dialect::Onnx.title(),
            producer: Some(producer.trim().to_string()).filter(|text| !text.is_empty()),
            versions,
        }
    }
}

/// A node beside its operator and its operands.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeInfo {
    pub op_type: String,
    pub name: Option<String>,
    pub doc_string: Option<String>,
    pub metadata_props: Vec<StringStringEntryProto>,
    pub device_configurations: Vec<NodeDeviceConfigurationProto>,
    /// The names of its results, those left out included.
    pub outputs: Vec<String>,
    /// Whether a `Gemm` has its weight as the graph does.
    pub outputs_first: bool,
    /// Of a sum of a product and a bias, which are one linear layer: the name of the product.
    pub product: Option<String>,
}

/// An initializer beside its elements.
#[derive(Clone, Debug, Default)]
pub(super) struct WeightInfo {
    pub doc_string: Option<String>,
    pub metadata_props: Vec<StringStringEntryProto>,
}

impl WeightInfo {
    pub(super) fn of(proto: &TensorProto) -> WeightInfo {
        WeightInfo {
            doc_string: proto.doc_string.clone(),
            metadata_props: proto.metadata_props.clone(),
        }
    }
}
