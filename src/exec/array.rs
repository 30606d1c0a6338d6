//! Values while a graph runs: arrays that are borrowed from the weights or shared between readers.

use std::borrow::Cow;

use ndarray::{ArcArray, ArrayD, ArrayViewD, CowArray, IxDyn, ShapeBuilder};

use crate::ir::{Real, Tensor};

/// The most bytes that one array may take; a graph that asks for more gets an error instead of an abort.
pub const MAX_ARRAY_BYTES: u64 = 1 << 32;

/// An array of any layout. Cloning copies no elements.
#[derive(Clone, Debug)]
pub enum Array<'a, T> {
    /// The elements of a constant, where they lie.
    Borrowed(ArrayViewD<'a, T>),
    /// Elements that the interpreter computed; written in place once nobody else reads them.
    Shared(ArcArray<T, IxDyn>),
}

impl<'a, T: Real> Array<'a, T> {
    /// The elements, whoever owns them.
    pub fn view(&self) -> ArrayViewD<'_, T> {
        match self {
            Array::Borrowed(view) => view.view(),
            Array::Shared(array) => array.view(),
        }
    }

    /// The shape; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        match self {
            Array::Borrowed(view) => view.shape(),
            Array::Shared(array) => array.shape(),
        }
    }

    /// The elements in row-major order, copied only if they lie otherwise.
    pub fn contiguous(&self) -> CowArray<'_, T, IxDyn> {
        match self {
            Array::Borrowed(view) => view.as_standard_layout(),
            Array::Shared(array) => array.as_standard_layout(),
        }
    }

    /// The elements to keep or to change: copied unless nobody else reads them.
    pub fn into_owned(self) -> ArrayD<T> {
        match self {
            Array::Borrowed(view) => view.to_owned(),
            Array::Shared(array) => array.into_owned(),
        }
    }

    /// The elements to change in place, or the array back where somebody else reads it too.
    pub(super) fn into_unique(self) -> Result<ArrayD<T>, Array<'a, T>> {
        match self {
            Array::Shared(array) => array.try_into_owned_nocopy().map_err(Array::Shared),
            borrowed => Err(borrowed),
        }
    }

    /// The elements in row-major order as a vector: the array's own memory where that is possible.
    pub(super) fn into_vec(self) -> Vec<T> {
        let array = match self.into_unique() {
            Ok(array) if array.is_standard_layout() => array,
            Ok(array) => array.as_standard_layout().into_owned(),
            Err(array) => array.contiguous().into_owned(),
        };
        // An array that was sliced in place still owns the elements around it.
        let len = array.len();
        let (mut elements, offset) = array.into_raw_vec_and_offset();
        if let Some(offset) = offset.filter(|offset| *offset > 0) {
            elements = elements.split_off(offset.min(elements.len()));
        }
        elements.truncate(len);
        elements
    }

    /// The same elements in row-major order under another shape; a view where the layout allows it.
    pub(super) fn reshaped(self, shape: &[usize]) -> Result<Array<'a, T>, String> {
        let (have, want) = (self.view().len(), element_count::<T>(shape)?);
        if have != want {
            return Err(format!(
                "{have} elements of {:?} do not fit the shape {shape:?}",
                self.shape()
            ));
        }
        if self.view().is_standard_layout() {
            let fits = |_| format!("the shape {shape:?} cannot be taken");
            return Ok(match self {
                Array::Borrowed(view) => {
                    Array::Borrowed(view.into_shape_with_order(shape).map_err(fits)?)
                }
                Array::Shared(array) => {
                    Array::Shared(array.into_shape_with_order(shape).map_err(fits)?)
                }
            });
        }
        from_vec(shape, self.into_vec())
    }

    /// The elements as a weight of `T`'s type.
    pub fn to_tensor(&self) -> Tensor {
        let elements = self.view().iter().copied().collect();
        Tensor::from_vec(self.shape(), elements)
    }
}

impl<T: Clone> From<ArrayD<T>> for Array<'_, T> {
    fn from(array: ArrayD<T>) -> Self {
        Array::Shared(array.into_shared())
    }
}

impl<'a, T: Real> From<&'a Tensor> for Array<'a, T> {
    fn from(tensor: &'a Tensor) -> Self {
        let layout = IxDyn(tensor.shape()).set_f(tensor.by_columns().is_some());
        let shaped = match tensor.stored_elements::<T>() {
            Cow::Borrowed(elements) => {
                ArrayViewD::from_shape(layout, elements).map(Array::Borrowed)
            }
            Cow::Owned(elements) => ArrayD::from_shape_vec(layout, elements).map(Array::from),
        };
        // A tensor holds as many elements as its shape says.
        shaped.unwrap_or_else(|_| ArrayD::zeros(IxDyn(&[0])).into())
    }
}

/// The number of elements of `shape`.
///
/// # Errors
/// When they would take more than [`MAX_ARRAY_BYTES`].
pub(crate) fn element_count<T>(shape: &[usize]) -> Result<usize, String> {
    let count = shape
        .iter()
        .try_fold(1usize, |product, n| product.checked_mul(*n));
    // Lengths of 0 hide the others, which must not overflow either.
    let extent = shape.iter().try_fold(size_of::<T>(), |product, n| {
        product.checked_mul((*n).max(1))
    });
    match (count, extent.map(|n| n as u64)) {
        (Some(count), Some(bytes)) if bytes <= MAX_ARRAY_BYTES => Ok(count),
        _ => Err(format!(
            "an array of shape {shape:?} takes over {} GiB",
            MAX_ARRAY_BYTES >> 30
        )),
    }
}

/// Zeros, as row-major elements of an array of this shape.
pub(super) fn zeros<T: Real>(shape: &[usize]) -> Result<Vec<T>, String> {
    Ok(vec![T::zero(); element_count::<T>(shape)?])
}

/// An array of these row-major elements.
pub(super) fn from_vec<'a, T: Real>(
    shape: &[usize],
    elements: Vec<T>,
) -> Result<Array<'a, T>, String> {
    let found = elements.len();
    ArrayD::from_shape_vec(shape, elements)
        .map(Array::from)
        .map_err(|_| format!("{found} elements do not fit the shape {shape:?}"))
}
