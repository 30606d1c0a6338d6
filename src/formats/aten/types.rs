//! PyTorch's numbers for element types.

use crate::ir::DType;

const DTYPES: [(i64, DType); 10] = [
    (0, DType::U8),
    (1, DType::I8),
    (2, DType::I16),
    (3, DType::I32),
    (4, DType::I64),
    (5, DType::F16),
    (6, DType::F32),
    (7, DType::F64),
    (11, DType::Bool),
    (15, DType::BF16),
];

/// PyTorch's number for an element type.
pub(in crate::formats) fn dtype_code(dtype: DType) -> i64 {
    let known = DTYPES.iter().find(|(_, d)| *d == dtype);
    known.map_or(6, |(code, _)| *code)
}

/// The element type of this number.
pub(in crate::formats) fn dtype_from_code(code: i64) -> Option<DType> {
    let known = DTYPES.iter().find(|(c, _)| *c == code);
    known.map(|(_, dtype)| *dtype)
}
