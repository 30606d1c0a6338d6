//! Shape inference: the types of an operator's results, from the types of its operands.

use smallvec::SmallVec;

use super::op::Op;
use super::types::Type;

/// The types of the results of `op` on operands of these types.
///
/// # Errors
/// What does not fit, in words.
pub fn infer(op: &Op, operands: &[&Type]) -> Result<SmallVec<[Type; 1]>, String> {
    let _ = (op, operands);
    Err("not yet".into())
}
