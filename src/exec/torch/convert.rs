//! Tensors of the IR, arrays and devices, as libtorch's and back.

use std::sync::Arc;

use ndarray::ArrayD;
use tch::{Kind, TchError, Tensor};

use super::{Device, reason};
use crate::ir::{self, Bytes, DType, Real};
use crate::{Error, Result};

/// libtorch's name for a device that it has.
///
/// # Errors
/// [`Error::Usage`] when it has no such device.
pub fn open(device: Device) -> Result<tch::Device> {
    let Device::Cuda(n) = device else {
        return Ok(tch::Device::Cpu);
    };
    let count = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    if n < count {
        return Ok(tch::Device::Cuda(n));
    }
    Err(Error::Usage {
        what: format!("libtorch has no device {device}"),
        help: match count {
            0 => "it sees no CUDA device, or was built without CUDA; take --device cpu".into(),
            1 => "there is cuda:0".into(),
            _ => format!("there are cuda:0 to cuda:{}", count - 1),
        },
    })
}

/// What libtorch calls a type.
pub(crate) fn kind_of(dtype: DType) -> Kind {
    match dtype {
        DType::F64 => Kind::Double,
        DType::F32 => Kind::Float,
        DType::F16 => Kind::Half,
        DType::BF16 => Kind::BFloat16,
        DType::I64 => Kind::Int64,
        DType::I32 => Kind::Int,
        DType::I16 => Kind::Int16,
        DType::I8 => Kind::Int8,
        DType::U8 => Kind::Uint8,
        DType::Bool => Kind::Bool,
    }
}

/// Lengths as libtorch takes them.
pub(super) fn ints(lengths: &[usize]) -> Vec<i64> {
    let int = |n: &usize| i64::try_from(*n).unwrap_or(i64::MAX);
    lengths.iter().map(int).collect()
}

/// The lengths of a tensor.
pub(super) fn shape(tensor: &Tensor) -> Vec<usize> {
    let length = |n: &i64| usize::try_from(*n).unwrap_or(0);
    tensor.size().iter().map(length).collect()
}

/// The same elements, those of images with the channels of a pixel side by side. Operators keep this order, and on a processor
/// convolutions and pools are up to twice as fast for it.
pub(super) fn channels_last(x: Tensor) -> Result<Tensor, TchError> {
    let [n, c, h, w] = x.size()[..] else {
        return Ok(x);
    };
    // Said by strides, since those of a single channel would otherwise be either order's.
    let pixels = x.f_permute([0, 2, 3, 1])?.f_contiguous()?;
    pixels.f_as_strided([n, c, h, w], [h * w * c, 1, w * c, c], None::<i64>)
}

/// A copy of a constant, as `kind`.
pub(super) fn weight(
    constant: &ir::Tensor,
    kind: Kind,
    device: tch::Device,
) -> Result<Tensor, TchError> {
    let own = kind_of(constant.dtype());
    Tensor::f_from_data_size(&constant.bytes(), &ints(constant.shape()), own)?
        .f_to_kind(kind)?
        .f_to_device(device)
}

/// A copy of a tensor, as a constant of `dtype`.
pub(super) fn constant(tensor: &Tensor, dtype: DType) -> Result<ir::Tensor, String> {
    let bytes = || -> Result<Vec<u8>, TchError> {
        let tensor = tensor.f_detach()?.f_to_device(tch::Device::Cpu)?;
        let tensor = tensor.f_to_kind(kind_of(dtype))?.f_contiguous()?;
        let mut bytes = vec![0; tensor.numel() * dtype.size()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        Ok(bytes)
    };
    let bytes = bytes().map_err(|error| reason(&error))?;
    Ok(ir::Tensor::new(
        dtype,
        &shape(tensor),
        Bytes::new(Arc::new(bytes)),
    )?)
}

/// A copy of an array, on the processor.
///
/// # Errors
/// [`Error::Usage`] when libtorch has no room for it.
pub fn from_array<T: Real>(array: &ArrayD<T>) -> Result<Tensor> {
    let elements = array.as_standard_layout();
    let bytes = bytemuck::cast_slice(elements.as_slice().unwrap_or_default());
    Tensor::f_from_data_size(bytes, &ints(array.shape()), kind_of(T::DTYPE)).map_err(unfit)
}

/// A copy of a tensor, as an array.
///
/// # Errors
/// [`Error::Usage`] when libtorch cannot hand it over.
pub fn to_array<T: Real>(tensor: &Tensor) -> Result<ArrayD<T>> {
    let constant = constant(tensor, T::DTYPE).map_err(|what| Error::Usage {
        what,
        help: String::new(),
    })?;
    let elements = constant.elements::<T>().into_owned();
    ArrayD::from_shape_vec(constant.shape(), elements).map_err(|error| Error::Usage {
        what: error.to_string(),
        help: String::new(),
    })
}

fn unfit(error: TchError) -> Error {
    Error::Usage {
        what: reason(&error),
        help: String::new(),
    }
}
