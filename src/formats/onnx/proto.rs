//! The messages of an ONNX file, by ONNX's own names and field numbers.
//!
//! Every field is here, also those that nothing looks at, so that what is read is written back whole. Lists of numbers are written
//! as proto2 does, not packed, but where ONNX asks for it.

use bytes::Bytes;
use prost::{Message, Oneof};

/// What a field of a message is to who looks at the bytes alone.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Message(Layout),
    /// A list of numbers, which may be packed.
    Numbers,
    /// Bytes that are never copied.
    Bytes,
    /// A text, or a number.
    Other,
}

/// What a message is made of.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub name: &'static str,
    /// Bytes of such a message in memory, without what it points to.
    pub size: usize,
    /// What the field of a number is.
    pub part: fn(u32) -> Part,
}

/// What is a message, or holds one.
pub(super) trait Laid {
    const LAYOUT: Layout;
}

macro_rules! holders {
    ($($holder:ident)*) => {
        $(impl<T: Laid> Laid for $holder<T> {
            const LAYOUT: Layout = T::LAYOUT;
        })*
    };
}
holders!(Box Option Vec);

macro_rules! part {
    ($type:ty: message $($_rest:tt)*) => {
        Part::Message(<$type as Laid>::LAYOUT)
    };
    ($type:ty: bytes = $_as:tt, optional) => {
        Part::Bytes
    };
    ($type:ty: $_kind:ident, repeated, packed = $_packed:tt) => {
        Part::Numbers
    };
    ($type:ty: $($_rest:tt)*) => {
        Part::Other
    };
}

macro_rules! laid {
    ($name:ident { $($number:tt $type:ty [$($label:tt)+])* } $($one:ty)?) => {
        impl Laid for $name {
            const LAYOUT: Layout = {
                fn part(number: u32) -> Part {
                    match number {
                        $($number => part!($type: $($label)+),)*
                        _ => [$((<$one as Laid>::LAYOUT.part)(number),)? Part::Other][0],
                    }
                }
                Layout { name: stringify!($name), size: size_of::<$name>(), part }
            };
        }
    };
}

/// Messages: the number and the name of each field, its type here, and what prost has to know of it. Before them fields of which a
/// message has one.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident $(($choice:ident: $one:ty [$($tags:tt)+]))? {
        $($number:tt $field:ident: $type:ty [$($label:tt)+];)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, PartialEq, Message)]
            pub struct $name {
                $(#[prost($($label)+, tag = $number)] pub $field: $type,)*
                $(#[prost($($tags)+)] pub $choice: $one,)?
            }
            laid!($name { $($number $type [$($label)+])* } $($one)?);
        )*
    };
}

/// Fields of which a message has one.
macro_rules! choices {
    ($($name:ident { $($number:tt $variant:ident($type:ty) [$($label:tt)+];)* })*) => {
        $(
            #[derive(Clone, PartialEq, Oneof)]
            pub enum $name {
                $(#[prost($($label)+, tag = $number)] $variant($type),)*
            }
            laid!($name { $($number $type [$($label)+])* });
        )*
    };
}

messages! {
    /// A file.
    ModelProto {
        1 ir_version: Option<i64> [int64, optional];
        8 opset_import: Vec<OperatorSetIdProto> [message, repeated];
        2 producer_name: Option<String> [string, optional];
        3 producer_version: Option<String> [string, optional];
        4 domain: Option<String> [string, optional];
        5 model_version: Option<i64> [int64, optional];
        6 doc_string: Option<String> [string, optional];
        7 graph: Option<GraphProto> [message, optional];
        14 metadata_props: Vec<StringStringEntryProto> [message, repeated];
        20 training_info: Vec<TrainingInfoProto> [message, repeated];
        25 functions: Vec<FunctionProto> [message, repeated];
        26 configuration: Vec<DeviceConfigurationProto> [message, repeated];
    }

    OperatorSetIdProto {
        1 domain: Option<String> [string, optional];
        2 version: Option<i64> [int64, optional];
    }

    StringStringEntryProto {
        1 key: Option<String> [string, optional];
        2 value: Option<String> [string, optional];
    }

    TrainingInfoProto {
        1 initialization: Option<Box<GraphProto>> [message, optional, boxed];
        2 algorithm: Option<Box<GraphProto>> [message, optional, boxed];
        3 initialization_binding: Vec<StringStringEntryProto> [message, repeated];
        4 update_binding: Vec<StringStringEntryProto> [message, repeated];
    }

    DeviceConfigurationProto {
        1 name: Option<String> [string, optional];
        2 num_devices: Option<i32> [int32, optional];
        3 device: Vec<String> [string, repeated];
    }

    FunctionProto {
        1 name: Option<String> [string, optional];
        4 input: Vec<String> [string, repeated];
        5 output: Vec<String> [string, repeated];
        6 attribute: Vec<String> [string, repeated];
        11 attribute_proto: Vec<AttributeProto> [message, repeated];
        7 node: Vec<NodeProto> [message, repeated];
        8 doc_string: Option<String> [string, optional];
        9 opset_import: Vec<OperatorSetIdProto> [message, repeated];
        10 domain: Option<String> [string, optional];
        13 overload: Option<String> [string, optional];
        12 value_info: Vec<ValueInfoProto> [message, repeated];
        14 metadata_props: Vec<StringStringEntryProto> [message, repeated];
    }

    GraphProto {
        1 node: Vec<NodeProto> [message, repeated];
        2 name: Option<String> [string, optional];
        5 initializer: Vec<TensorProto> [message, repeated];
        15 sparse_initializer: Vec<SparseTensorProto> [message, repeated];
        10 doc_string: Option<String> [string, optional];
        11 input: Vec<ValueInfoProto> [message, repeated];
        12 output: Vec<ValueInfoProto> [message, repeated];
        13 value_info: Vec<ValueInfoProto> [message, repeated];
        14 quantization_annotation: Vec<TensorAnnotation> [message, repeated];
        16 metadata_props: Vec<StringStringEntryProto> [message, repeated];
    }

    TensorAnnotation {
        1 tensor_name: Option<String> [string, optional];
        2 quant_parameter_tensor_names: Vec<StringStringEntryProto> [message, repeated];
    }

    NodeProto {
        1 input: Vec<String> [string, repeated];
        2 output: Vec<String> [string, repeated];
        3 name: Option<String> [string, optional];
        4 op_type: Option<String> [string, optional];
        7 domain: Option<String> [string, optional];
        8 overload: Option<String> [string, optional];
        5 attribute: Vec<AttributeProto> [message, repeated];
        6 doc_string: Option<String> [string, optional];
        9 metadata_props: Vec<StringStringEntryProto> [message, repeated];
        10 device_configurations: Vec<NodeDeviceConfigurationProto> [message, repeated];
    }

    NodeDeviceConfigurationProto {
        1 configuration_id: Option<String> [string, optional];
        2 sharding_spec: Vec<ShardingSpecProto> [message, repeated];
        3 pipeline_stage: Option<i32> [int32, optional];
    }

    ShardingSpecProto {
        1 tensor_name: Option<String> [string, optional];
        2 device: Vec<i64> [int64, repeated, packed = "false"];
        3 index_to_device_group_map: Vec<IntIntListEntryProto> [message, repeated];
        4 sharded_dim: Vec<ShardedDimProto> [message, repeated];
    }

    IntIntListEntryProto {
        1 key: Option<i64> [int64, optional];
        2 value: Vec<i64> [int64, repeated, packed = "false"];
    }

    ShardedDimProto {
        1 axis: Option<i64> [int64, optional];
        2 simple_sharding: Vec<SimpleShardedDimProto> [message, repeated];
    }

    SimpleShardedDimProto (dim: Option<DimensionValue> [oneof = "DimensionValue", tags = "1, 2"]) {
        3 num_shards: Option<i64> [int64, optional];
    }

    AttributeProto {
        1 name: Option<String> [string, optional];
        21 ref_attr_name: Option<String> [string, optional];
        13 doc_string: Option<String> [string, optional];
        20 r#type: Option<i32> [enumeration = "AttributeType", optional];
        2 f: Option<f32> [float, optional];
        3 i: Option<i64> [int64, optional];
        4 s: Option<Bytes> [bytes = "bytes", optional];
        5 t: Option<Box<TensorProto>> [message, optional, boxed];
        6 g: Option<Box<GraphProto>> [message, optional, boxed];
        22 sparse_tensor: Option<Box<SparseTensorProto>> [message, optional, boxed];
        14 tp: Option<Box<TypeProto>> [message, optional, boxed];
        7 floats: Vec<f32> [float, repeated, packed = "false"];
        8 ints: Vec<i64> [int64, repeated, packed = "false"];
        9 strings: Vec<Bytes> [bytes = "bytes", repeated];
        10 tensors: Vec<TensorProto> [message, repeated];
        11 graphs: Vec<GraphProto> [message, repeated];
        23 sparse_tensors: Vec<SparseTensorProto> [message, repeated];
        15 type_protos: Vec<TypeProto> [message, repeated];
    }

    ValueInfoProto {
        1 name: Option<String> [string, optional];
        2 r#type: Option<TypeProto> [message, optional];
        3 doc_string: Option<String> [string, optional];
        4 metadata_props: Vec<StringStringEntryProto> [message, repeated];
    }

    TensorProto {
        1 dims: Vec<i64> [int64, repeated, packed = "false"];
        2 data_type: Option<i32> [int32, optional];
        3 segment: Option<Segment> [message, optional];
        4 float_data: Vec<f32> [float, repeated, packed = "true"];
        5 int32_data: Vec<i32> [int32, repeated, packed = "true"];
        6 string_data: Vec<Bytes> [bytes = "bytes", repeated];
        7 int64_data: Vec<i64> [int64, repeated, packed = "true"];
        8 name: Option<String> [string, optional];
        12 doc_string: Option<String> [string, optional];
        9 raw_data: Option<Bytes> [bytes = "bytes", optional];
        13 external_data: Vec<StringStringEntryProto> [message, repeated];
        14 data_location: Option<i32> [int32, optional];
        10 double_data: Vec<f64> [double, repeated, packed = "true"];
        11 uint64_data: Vec<u64> [uint64, repeated, packed = "true"];
        16 metadata_props: Vec<StringStringEntryProto> [message, repeated];
    }

    Segment {
        1 begin: Option<i64> [int64, optional];
        2 end: Option<i64> [int64, optional];
    }

    SparseTensorProto {
        1 values: Option<TensorProto> [message, optional];
        2 indices: Option<TensorProto> [message, optional];
        3 dims: Vec<i64> [int64, repeated, packed = "false"];
    }

    TypeProto (value: Option<TypeValue> [oneof = "TypeValue", tags = "1, 4, 5, 9, 8, 7"]) {
        6 denotation: Option<String> [string, optional];
    }

    /// `TypeProto.Tensor`, and `TypeProto.SparseTensor`, which has the same fields.
    TensorType {
        1 elem_type: Option<i32> [int32, optional];
        2 shape: Option<TensorShapeProto> [message, optional];
    }

    /// `TypeProto.Sequence`, and `TypeProto.Optional`.
    ElementType {
        1 elem_type: Option<Box<TypeProto>> [message, optional, boxed];
    }

    MapType {
        1 key_type: Option<i32> [int32, optional];
        2 value_type: Option<Box<TypeProto>> [message, optional, boxed];
    }

    OpaqueType {
        1 domain: Option<String> [string, optional];
        2 name: Option<String> [string, optional];
    }

    TensorShapeProto {
        1 dim: Vec<Dimension> [message, repeated];
    }

    Dimension (value: Option<DimensionValue> [oneof = "DimensionValue", tags = "1, 2"]) {
        3 denotation: Option<String> [string, optional];
    }
}

choices! {
    TypeValue {
        1 Tensor(TensorType) [message];
        4 Sequence(Box<ElementType>) [message, boxed];
        5 Map(Box<MapType>) [message, boxed];
        9 Optional(Box<ElementType>) [message, boxed];
        8 SparseTensor(TensorType) [message];
        7 Opaque(OpaqueType) [message];
    }

    DimensionValue {
        1 DimValue(i64) [int64];
        2 DimParam(String) [string];
    }
}

/// Which field of an attribute has its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AttributeType {
    Undefined = 0,
    Float = 1,
    Int = 2,
    String = 3,
    Tensor = 4,
    Graph = 5,
    Floats = 6,
    Ints = 7,
    Strings = 8,
    Tensors = 9,
    Graphs = 10,
    SparseTensor = 11,
    SparseTensors = 12,
    TypeProto = 13,
    TypeProtos = 14,
}

/// `TensorProto.data_location` of data in another file.
pub const EXTERNAL: i32 = 1;
