//! What each format calls an element type: one table for all of them.

use crate::ir::DType;

/// The names and numbers of an element type.
pub(super) struct Names {
    /// PyTorch's number, which stands in code.
    pub aten: i64,
    /// The number in the schema of exported programs.
    pub program: i64,
    /// ONNX's number.
    pub onnx: i32,
    /// PyTorch's class of storages.
    pub storage: &'static str,
}

/// What an element type is called.
pub(super) fn names(dtype: DType) -> Names {
    let (aten, program, onnx, storage) = match dtype {
        DType::U8 => (0, 1, 2, "ByteStorage"),
        DType::I8 => (1, 2, 3, "CharStorage"),
        DType::I16 => (2, 3, 5, "ShortStorage"),
        DType::I32 => (3, 4, 6, "IntStorage"),
        DType::I64 => (4, 5, 7, "LongStorage"),
        DType::F16 => (5, 6, 10, "HalfStorage"),
        DType::F32 => (6, 7, 1, "FloatStorage"),
        DType::F64 => (7, 8, 11, "DoubleStorage"),
        DType::Bool => (11, 12, 9, "BoolStorage"),
        DType::BF16 => (15, 13, 16, "BFloat16Storage"),
    };
    Names {
        aten,
        program,
        onnx,
        storage,
    }
}

/// The element type that is called so.
pub(super) fn called(is: impl Fn(Names) -> bool) -> Option<DType> {
    let mut all = DType::ALL.into_iter().map(|(dtype, _)| dtype);
    all.find(|dtype| is(names(*dtype)))
}
