//! The JSON of an exported program: what is interpreted has fields, what is not is kept as it came.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// Fields that a later version may have added, and those that nothing here looks at.
pub(super) type Other = Map<String, Json>;

/// `models/model.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Program {
    pub graph_module: GraphModule,
    /// Symbol -> its least and largest value.
    #[serde(default)]
    pub range_constraints: IndexMap<String, Json>,
    pub schema_version: Version,
    /// The dialect: `TRAINING`, or `ATEN` once decomposed.
    #[serde(default)]
    pub verifiers: Vec<String>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Version {
    pub major: i64,
    pub minor: i64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct GraphModule {
    pub graph: Graph,
    pub signature: Signature,
    #[serde(default)]
    pub module_call_graph: Vec<ModuleCall>,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Graph {
    /// Tagged unions, as all arguments.
    pub inputs: Vec<Json>,
    pub outputs: Vec<Json>,
    pub nodes: Vec<Node>,
    pub tensor_values: IndexMap<String, TensorMeta>,
    #[serde(default)]
    pub sym_int_values: IndexMap<String, Json>,
    #[serde(flatten)]
    pub other: Other,
}

/// A call of an operator.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Node {
    pub target: String,
    pub inputs: Vec<NamedArgument>,
    pub outputs: Vec<Json>,
    #[serde(default)]
    pub metadata: Json,
    #[serde(flatten)]
    pub other: Other,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct NamedArgument {
    /// The parameter's name in the operator's schema.
    pub name: String,
    pub arg: Json,
    /// `kind`: by position or by name.
    #[serde(flatten)]
    pub other: Other,
}

/// What is known of a tensor.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(super) struct TensorMeta {
    pub dtype: i64,
    pub sizes: Vec<Json>,
    pub requires_grad: bool,
    pub device: Json,
    pub strides: Vec<Json>,
    pub storage_offset: Json,
    #[serde(default = "strided")]
    pub layout: i64,
    #[serde(flatten)]
    pub other: Other,
}

/// The number of the layout of ordinary tensors.
pub(super) const STRIDED: i64 = 7;

fn strided() -> i64 {
    STRIDED
}

/// What each input and output of the graph is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Signature {
    pub input_specs: Vec<Json>,
    pub output_specs: Vec<Json>,
    #[serde(flatten)]
    pub other: Other,
}

/// A module of the network, as it was called.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct ModuleCall {
    pub fqn: String,
    #[serde(default)]
    pub signature: Json,
    #[serde(flatten)]
    pub other: Other,
}

/// `data/weights/model_weights_config.json`, and the same of constants.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct PayloadConfig {
    pub config: IndexMap<String, Payload>,
}

/// Where a tensor's elements are.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Payload {
    /// The entry, in the folder of the configuration.
    pub path_name: String,
    #[serde(default)]
    pub is_param: bool,
    /// Whether the entry is an archive that `torch.save` wrote, rather than the elements.
    #[serde(default)]
    pub use_pickle: bool,
    #[serde(default)]
    pub tensor_meta: Option<TensorMeta>,
    #[serde(flatten)]
    pub other: Other,
}

/// The tag and the content of a tagged union.
pub(super) fn tagged(json: &Json) -> Option<(&str, &Json)> {
    let mut entries = json.as_object()?.iter();
    match (entries.next(), entries.next()) {
        (Some((tag, content)), None) => Some((tag, content)),
        _ => None,
    }
}

/// A tagged union.
pub(super) fn tag(tag: &str, content: impl Into<Json>) -> Json {
    let mut map = Map::new();
    map.insert(tag.to_owned(), content.into());
    Json::Object(map)
}

/// An argument, or a result, that is the tensor of this name.
pub(super) fn tensor(name: impl Into<Json>) -> Json {
    tag("as_tensor", tag("name", name))
}

/// The name in an argument that is a value of the graph: a tensor, or a number known at run time.
pub(super) fn name_of(json: &Json) -> Option<&str> {
    match tagged(json)? {
        ("as_tensor", tensor) => tensor.get("name")?.as_str(),
        ("as_sym_int" | "as_sym_float" | "as_sym_bool", value) => match tagged(value)? {
            ("as_name", name) => name.as_str(),
            _ => None,
        },
        _ => None,
    }
}
