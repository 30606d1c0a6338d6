//! `safetensors:FILE`: arrays in a file of safetensors.

use ::safetensors::{Dtype, SafeTensors};

use super::arrays::{self, Arrays};
use super::spec::Kind;
use super::training::Augment;
use super::{DataSpec, Opened, Wanted, Wrong};
use crate::Result;
use crate::ir::{Bytes, DType, Tensor};

pub(super) static SAFETENSORS: Kind = Kind {
    name: "safetensors",
    takes: "FILE",
    help: "arrays as in npz:FILE",
    options: &["x", "y", "mean", "std", "flip", "crop"],
    mean_std: None,
    augment: Augment::NONE,
    open,
};

fn open(spec: &DataSpec, wanted: &Wanted) -> Result<Opened> {
    read(spec, wanted, super::map(&spec.path)?)
}

/// As [`open`], for a file that is in memory.
pub(super) fn read(spec: &DataSpec, wanted: &Wanted, map: Bytes) -> Result<Opened> {
    let tensors = SafeTensors::deserialize(map.as_ref());
    let tensors = tensors.map_err(|error| {
        spec.wrong(Wrong::new(
            format!("it is not a file of safetensors: {error}"),
            "write one with safetensors.numpy.save_file(arrays, \"data.safetensors\")",
        ))
    })?;
    let file = File {
        spec,
        map: &map,
        tensors,
    };
    arrays::open(spec, wanted, &file)
}

struct File<'f> {
    spec: &'f DataSpec,
    map: &'f Bytes,
    tensors: SafeTensors<'f>,
}

impl Arrays for File<'_> {
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = { self.tensors.names().into_iter() }
            .map(ToString::to_string)
            .collect();
        names.sort_unstable();
        names
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let wrong = |what: String| self.spec.wrong(Wrong::new(what, ""));
        let view = self.tensors.tensor(name);
        let view = view.map_err(|error| wrong(format!("the array `{name}`: {error}")))?;
        let dtype = match view.dtype() {
            Dtype::F64 => DType::F64,
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            Dtype::I64 => DType::I64,
            Dtype::I32 => DType::I32,
            Dtype::I16 => DType::I16,
            Dtype::I8 => DType::I8,
            Dtype::U8 => DType::U8,
            Dtype::BOOL => DType::Bool,
            other => {
                return Err(wrong(format!(
                    "the array `{name}` is of the type {other:?}"
                )));
            }
        };
        // The view is a stretch of the file.
        let start = view.data().as_ptr() as usize - self.map.as_ref().as_ptr() as usize;
        let bytes = self.map.slice(start..start + view.data().len());
        let bytes = bytes.ok_or_else(|| wrong(format!("the array `{name}` is cut off")))?;
        Tensor::new(dtype, view.shape(), bytes)
            .map_err(|what| wrong(format!("the array `{name}` does not hold together: {what}")))
    }
}
