//! Tensors of the file as tensors of the graph, and back.

use std::sync::Arc;

use half::{bf16, f16};

use super::error::OnnxError;
use super::files::External;
use super::proto::{EXTERNAL, TensorProto};
use crate::formats::dtypes;
use crate::ir::{Bytes, DType, Tensor, byte_len};

/// Names and bits of the others, by number; 0 bits where elements have no fixed length.
const OTHERS: [(i32, &str, usize); 18] = [
    (4, "uint16", 16),
    (8, "string", 0),
    (12, "uint32", 32),
    (13, "uint64", 64),
    (14, "complex64", 64),
    (15, "complex128", 128),
    (17, "float8e4m3fn", 8),
    (18, "float8e4m3fnuz", 8),
    (19, "float8e5m2", 8),
    (20, "float8e5m2fnuz", 8),
    (21, "uint4", 4),
    (22, "int4", 4),
    (23, "float4e2m1", 4),
    (24, "float8e8m0", 8),
    (25, "uint2", 2),
    (26, "int2", 2),
    (27, "float6e2m3", 0),
    (28, "float6e3m2", 0),
];

/// The element type with this number, if the IR has it.
pub(super) fn dtype(code: i32) -> Option<DType> {
    dtypes::called(|names| names.onnx == code)
}

/// ONNX's number for an element type.
pub(super) fn code(dtype: DType) -> i32 {
    dtypes::names(dtype).onnx
}

/// The message of a tensor of this name, without its elements.
pub(super) fn header(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        dims: tensor.shape().iter().map(|n| *n as i64).collect(),
        data_type: Some(code(tensor.dtype())),
        name: Some(name.to_owned()),
        ..TensorProto::default()
    }
}

/// A tensor of whole numbers, which are as many as its shape says.
pub(super) fn of_ints(shape: &[usize], ints: &[i64]) -> Option<Tensor> {
    let bytes: Vec<u8> = ints.iter().flat_map(|n| n.to_le_bytes()).collect();
    Tensor::new(DType::I64, shape, Bytes::new(Arc::new(bytes))).ok()
}

/// How the type of a tensor with such elements, which the IR lacks, is called.
pub(super) fn other_name(code: i32) -> String {
    match OTHERS.iter().find(|(n, ..)| *n == code) {
        Some((_, name, _)) => format!("tensor({name})"),
        None => format!("tensor({code})"),
    }
}

/// The dimensions as lengths, checked against overflow.
fn lengths(proto: &TensorProto, name: &str) -> Result<Vec<usize>, OnnxError> {
    let lengths = proto.dims.iter().map(|n| usize::try_from(*n));
    lengths.collect::<Result<_, _>>().map_err(|_| {
        OnnxError::tensor(
            name,
            format!("its shape {:?} has a negative size", proto.dims),
        )
    })
}

/// A tensor of an element type that the IR has; `None` for others.
///
/// # Errors
/// When the data is not what shape and type ask for.
pub(super) fn tensor(
    proto: &TensorProto,
    name: &str,
    map: Option<&Bytes>,
    external: &mut External,
) -> Result<Option<Tensor>, OnnxError> {
    let code = proto.data_type();
    let shape = lengths(proto, name)?;
    let Some(dtype) = dtype(code) else {
        check_other(proto, name, &shape)?;
        return Ok(None);
    };
    if proto.segment.is_some() {
        return Err(OnnxError::tensor(
            name,
            "it is a segment of a larger tensor",
        ));
    }
    let needed = byte_len(dtype, &shape)
        .ok_or_else(|| OnnxError::tensor(name, format!("its shape {shape:?} is too large")))?;
    let bytes = if proto.data_location == Some(EXTERNAL) {
        external.tensor(proto, name, needed)?
    } else if let Some(raw) = &proto.raw_data {
        raw_bytes(raw, map)
    } else {
        typed_bytes(proto, dtype)
    };
    let found = bytes.len();
    if found != needed {
        let what = format!("{dtype}{shape:?} takes {needed} bytes, and there are {found}");
        return Err(OnnxError::tensor(name, what));
    }
    Tensor::new(dtype, &shape, bytes)
        .map(Some)
        .map_err(|what| OnnxError::tensor(name, what))
}

/// Bytes decoded out of the map, as a part of it.
fn raw_bytes(raw: &bytes::Bytes, map: Option<&Bytes>) -> Bytes {
    let part = map.and_then(|map| {
        let start = (raw.as_ptr() as usize).checked_sub(map.as_ref().as_ptr() as usize)?;
        map.slice(start..start.checked_add(raw.len())?)
    });
    part.unwrap_or_else(|| Bytes::new(Arc::new(raw.clone())))
}

/// The elements that lie in a field of their own type, or of a wider one.
fn typed_bytes(proto: &TensorProto, dtype: DType) -> Bytes {
    fn packed<T: Copy, const N: usize>(items: &[T], to_bytes: impl Fn(T) -> [u8; N]) -> Bytes {
        let bytes: Vec<u8> = items.iter().flat_map(|item| to_bytes(*item)).collect();
        Bytes::new(Arc::new(bytes))
    }
    let ints = &proto.int32_data;
    match dtype {
        DType::F32 => packed(&proto.float_data, f32::to_le_bytes),
        DType::F64 => packed(&proto.double_data, f64::to_le_bytes),
        DType::I64 => packed(&proto.int64_data, i64::to_le_bytes),
        DType::I32 => packed(ints, i32::to_le_bytes),
        DType::I16 => packed(ints, |n| (n as i16).to_le_bytes()),
        DType::I8 => packed(ints, |n| (n as i8).to_le_bytes()),
        DType::U8 | DType::Bool => packed(ints, |n| [n as u8]),
        DType::F16 => packed(ints, |n| f16::from_bits(n as u16).to_le_bytes()),
        DType::BF16 => packed(ints, |n| bf16::from_bits(n as u16).to_le_bytes()),
    }
}

/// Bits of an element of another type, by its number.
fn bits(code: i32) -> Option<usize> {
    let other = OTHERS.iter().find(|(n, ..)| *n == code);
    other.map(|(.., bits)| *bits)
}

/// Bytes of so many elements, without gaps.
fn packed_len(shape: &[usize], bits: usize) -> Option<usize> {
    let count = shape.iter().try_fold(1usize, |n, len| n.checked_mul(*len));
    Some(count?.checked_mul(bits)?.div_ceil(8))
}

/// Checks the length of a tensor that is kept as it is.
fn check_other(proto: &TensorProto, name: &str, shape: &[usize]) -> Result<(), OnnxError> {
    let code = proto.data_type();
    let Some(bits) = bits(code) else {
        let what = format!("its element type, number {code}, is not known");
        return Err(OnnxError::tensor(name, what));
    };
    let needed = packed_len(shape, bits)
        .ok_or_else(|| OnnxError::tensor(name, format!("its shape {shape:?} is too large")))?;
    match &proto.raw_data {
        Some(raw) if bits > 0 && raw.len() != needed => {
            let what = format!(
                "{}{shape:?} takes {needed} bytes, and there are {}",
                other_name(code),
                raw.len()
            );
            Err(OnnxError::tensor(name, what))
        }
        _ => Ok(()),
    }
}

/// The bytes of a tensor that is kept as it is, brought into the message itself.
pub(super) fn inlined(
    proto: &TensorProto,
    name: &str,
    external: &mut External,
) -> Result<TensorProto, OnnxError> {
    let mut own = proto.clone();
    if proto.data_location != Some(EXTERNAL) {
        return Ok(own);
    }
    let shape = lengths(proto, name)?;
    let code = proto.data_type();
    let own_bits = dtype(code).map(|dtype| dtype.size() * 8);
    let needed = packed_len(&shape, own_bits.or(bits(code)).unwrap_or(0))
        .filter(|n| *n <= MAX_INLINED)
        .ok_or_else(|| OnnxError::Limit {
            what: format!(
                "`{name}`, which optc keeps as it is, has over {MAX_INLINED} bytes in another file"
            ),
            help: "export the model with weights of a common type, outside of subgraphs",
        })?;
    let bytes = external.tensor(proto, name, needed)?;
    own.raw_data = Some(bytes::Bytes::copy_from_slice(bytes.as_ref()));
    own.data_location = None;
    own.external_data.clear();
    Ok(own)
}

/// The largest tensor that is taken out of another file into an opaque node.
const MAX_INLINED: usize = 1 << 30;
