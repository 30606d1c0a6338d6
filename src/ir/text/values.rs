//! The elements of constants.

use half::{bf16, f16};

use super::super::tensor::{DType, Tensor};

/// Tensors of up to this many elements are looked through for one repeated element.
const MAX_REPEATED: usize = 1 << 16;

/// The elements as text where there are at most `full` or all are equal; else a hash that stands for them.
pub(super) fn print(tensor: &Tensor, full: usize) -> String {
    let size = tensor.dtype().size();
    let mut elements = tensor.bytes().chunks_exact(size);
    if tensor.len() <= MAX_REPEATED
        && let Some(first) = elements.next()
        && elements.all(|e| e == first)
    {
        return element(tensor.dtype(), first);
    }
    if tensor.len() > full {
        return format!("#{:08x}", short_hash(tensor));
    }
    let mut text = String::new();
    list(tensor.dtype(), tensor.shape(), tensor.bytes(), &mut text);
    text
}

/// What a hash in the text is compared with.
pub(super) fn short_hash(tensor: &Tensor) -> u32 {
    (tensor.content_hash() >> 32) as u32
}

/// `[[1.0, 2.0], [3.0, 4.0]]`.
fn list(dtype: DType, shape: &[usize], bytes: &[u8], text: &mut String) {
    let Some((rows, rest)) = shape.split_first() else {
        *text += &element(dtype, bytes);
        return;
    };
    text.push('[');
    if let Some(row) = bytes.len().checked_div(*rows).filter(|n| *n > 0) {
        for (i, row) in bytes.chunks_exact(row).enumerate() {
            *text += if i > 0 { ", " } else { "" };
            list(dtype, rest, row, text);
        }
    }
    text.push(']');
}

/// The shortest text that is read as the same element.
fn element(dtype: DType, bytes: &[u8]) -> String {
    use bytemuck::pod_read_unaligned as read;
    match dtype {
        DType::F64 => format!("{:?}", read::<f64>(bytes)),
        DType::F32 => format!("{:?}", read::<f32>(bytes)),
        DType::F16 => format!("{:?}", read::<f16>(bytes).to_f32()),
        DType::BF16 => format!("{:?}", read::<bf16>(bytes).to_f32()),
        DType::I64 => read::<i64>(bytes).to_string(),
        DType::I32 => read::<i32>(bytes).to_string(),
        DType::I16 => read::<i16>(bytes).to_string(),
        DType::I8 => read::<i8>(bytes).to_string(),
        DType::U8 => read::<u8>(bytes).to_string(),
        DType::Bool => u8::from(read::<u8>(bytes) != 0).to_string(),
    }
}
