//! Masks: which elements of a constant are held at zero.

use std::fmt;
use std::sync::Arc;

use fixedbitset::FixedBitSet;

use super::bytes::Bytes;
use super::tensor::{DType, Tensor};
use super::types::TypeError;

/// For each element of a constant, in row-major order, whether it is kept: the others are zero, and passes leave them so.
///
/// One bit an element; a clone shares them.
#[derive(Clone, PartialEq, Eq)]
pub struct Mask(Arc<FixedBitSet>);

impl Mask {
    /// A mask of `len` elements, of which `kept` says whether each is kept.
    #[doc(hidden)]
    pub fn from_fn(len: usize, mut kept: impl FnMut(usize) -> bool) -> Mask {
        let mut bits = FixedBitSet::with_capacity(len);
        bits.extend((0..len).filter(|i| kept(*i)));
        Mask(Arc::new(bits))
    }

    /// The mask that keeps all elements of `tensor` but its zeros.
    pub fn of(tensor: &Tensor) -> Mask {
        let elements = tensor.elements::<f64>();
        Mask::from_fn(elements.len(), |i| elements[i] != 0.0)
    }

    /// The number of elements, kept or not.
    #[doc(hidden)]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The number of elements that are kept.
    #[doc(hidden)]
    pub fn count(&self) -> usize {
        self.0.count_ones(..)
    }

    /// Whether the element at this position is kept; none beyond the last is.
    pub fn keeps(&self, position: usize) -> bool {
        self.0.contains(position)
    }

    /// Whether each element is kept.
    #[doc(hidden)]
    pub fn iter(&self) -> impl Iterator<Item = bool> + '_ {
        (0..self.len()).map(|i| self.keeps(i))
    }

    /// `tensor`, which has as many elements, with those at zero that are not kept. One that has them there already keeps its
    /// memory.
    pub(crate) fn apply(&self, tensor: &Tensor) -> Tensor {
        if self.holds(tensor) {
            return tensor.clone();
        }
        let mut bytes = tensor.bytes().into_owned();
        let elements = bytes.chunks_exact_mut(tensor.dtype().size());
        for (element, _) in elements.zip(self.iter()).filter(|(_, kept)| !kept) {
            element.fill(0); // Zero in every type.
        }
        let zeroed = Tensor::new(tensor.dtype(), tensor.shape(), Bytes::new(Arc::new(bytes)));
        zeroed.unwrap_or_else(|_| tensor.clone())
    }

    /// Whether all elements of `tensor` that are not kept are zero.
    pub(super) fn holds(&self, tensor: &Tensor) -> bool {
        let bytes = tensor.bytes();
        let elements = bytes.chunks_exact(tensor.dtype().size());
        elements
            .zip(self.iter())
            .all(|(element, kept)| kept || element.iter().all(|b| *b == 0))
    }

    /// As a tensor of booleans, true where kept.
    ///
    /// # Errors
    /// When the shape has not as many elements.
    pub(crate) fn to_tensor(&self, shape: &[usize]) -> Result<Tensor, TypeError> {
        let bytes: Vec<u8> = self.iter().map(u8::from).collect();
        Tensor::new(DType::Bool, shape, Bytes::new(Arc::new(bytes)))
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask({} of {})", self.count(), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_becomes_zero_and_the_rest_stays() {
        let mask = Mask::from_fn(100, |i| i % 3 == 0);
        assert_eq!((mask.len(), mask.count()), (100, 34));
        assert!(
            mask.iter()
                .enumerate()
                .all(|(i, kept)| kept == (i % 3 == 0))
        );
        assert!(!mask.keeps(1) && mask.keeps(99) && !mask.keeps(102));
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::I8] {
            let tensor =
                Tensor::from_f64(dtype, &[10, 10], (0..100).map(|i| f64::from(i % 7) - 3.0));
            let masked = mask.apply(&tensor);
            let (before, after) = (tensor.elements::<f64>(), masked.elements::<f64>());
            for (i, kept) in mask.iter().enumerate() {
                assert_eq!(after[i], if kept { before[i] } else { 0.0 });
            }
            assert!(mask.apply(&masked).same_memory(&masked));
        }
        // The bits of -0 are not those of 0, and files are compared by bits.
        let negative = Tensor::from_vec(&[2], vec![-0.0f32, -0.0]);
        let mask = Mask::from_fn(2, |i| i == 0);
        let masked = mask.apply(&negative);
        assert_eq!(masked.elements::<f32>()[0].to_bits(), (-0.0f32).to_bits());
        assert_eq!(masked.elements::<f32>()[1].to_bits(), 0);
        assert_eq!(Mask::of(&masked).count(), 0);
    }
}
