//! The shapes that unknown operators give, where it is known how they follow from those of the operands.

use rustc_hash::FxHashMap;

use crate::formats::aten::Builder;
use crate::formats::sizes::{bounded, position};
use crate::formats::torchscript::eval::{Args, Evaluator};
use crate::formats::torchscript::value::Value;
use crate::ir::infer::broadcast;
use crate::ir::{DType, Dim, Dims};

impl<'a> Evaluator<'a> {
    /// The shape of `x[:, index]`: one axis replaced by those of the index.
    pub(super) fn index_shape(&self, args: &Args<'a>) -> Option<Dims> {
        let [Value::Tensor(x), list] = args.positional.as_slice() else {
            return None;
        };
        let x = self.shape(x.borrow().value)?;
        let mut at = None;
        for (axis, index) in list.items()?.iter().enumerate() {
            match (index, &at) {
                (Value::None, _) => {}
                (Value::Tensor(index), None) => at = Some((axis, index.borrow().value)),
                _ => return None,
            }
        }
        let (axis, index) = at?;
        // Truth values pick as many as are true.
        let whole = self
            .graph
            .ty(index)
            .dtype()
            .is_some_and(|d| !d.is_float() && d != DType::Bool && d != DType::U8);
        let index = self.shape(index).filter(|_| whole && axis < x.len())?;
        Some(
            x[..axis]
                .iter()
                .chain(&index)
                .chain(&x[axis + 1..])
                .cloned()
                .collect(),
        )
    }

    /// The shape that all tensors of a call have once they are as large as each other.
    pub(super) fn broadcast_shape(&self, args: &Args<'a>) -> Option<Dims> {
        let shapes = args.all().filter_map(|v| match v {
            Value::Tensor(cell) => Some(self.shape(cell.borrow().value)),
            _ => None,
        });
        let shapes = shapes.collect::<Option<Vec<_>>>()?;
        let (first, others) = shapes.split_first()?;
        let join = |joined: Dims, shape: &Dims| broadcast(&joined, shape).ok();
        others.iter().try_fold(first.clone(), join)
    }

    /// The shape of a reduction whose axes and `keepdim` are these arguments.
    pub(super) fn reduced_shape(
        &self,
        args: &Args<'a>,
        (axes, keep): (usize, usize),
    ) -> Option<Dims> {
        let Value::Tensor(x) = args.positional.first()? else {
            return None;
        };
        let mut shape = self.shape(x.borrow().value)?;
        let keep = match args.positional.get(keep)? {
            Value::Bool(keep) => *keep,
            _ => return None,
        };
        let given = args.positional.get(axes)?;
        let given = given.items().unwrap_or(vec![given.clone()]);
        let at = |v: &Value<'a>| position(v.as_int()?, shape.len());
        let mut axes = given.iter().map(at).collect::<Option<Vec<_>>>()?;
        // No axes are all of them to some, and none to others.
        if axes.is_empty() {
            return None;
        }
        axes.sort_unstable_by(|a, b| b.cmp(a));
        axes.dedup();
        for axis in axes {
            if keep {
                shape[axis] = Dim::from(1)
            } else {
                drop(shape.remove(axis))
            }
        }
        Some(shape)
    }

    /// The shape of `repeat_interleave(x, n, axis)`.
    pub(super) fn repeated_shape(&self, args: &Args<'a>) -> Option<Dims> {
        let [Value::Tensor(x), n, at, ..] = args.positional.as_slice() else {
            return None;
        };
        let mut shape = self.shape(x.borrow().value)?;
        let axis = position(at.as_int()?, shape.len())?;
        shape[axis] = bounded(shape[axis].clone() * n.as_dim()?)?;
        Some(shape)
    }

    /// The shape that an equation such as `bik,kj->bij` gives.
    pub(super) fn einsum_shape(&self, args: &Args<'a>) -> Option<Dims> {
        let [Value::Str(equation), tensors, ..] = args.positional.as_slice() else {
            return None;
        };
        let equation = equation.replace(' ', "");
        if equation.contains('.') {
            return None;
        }
        let (operands, result) = equation.split_once("->")?;
        let mut sizes = FxHashMap::default();
        for (letters, tensor) in operands.split(',').zip(tensors.items()?) {
            let Value::Tensor(tensor) = tensor else {
                return None;
            };
            let shape = self.shape(tensor.borrow().value)?;
            for (letter, size) in letters.chars().zip(shape) {
                // A size of 1 is repeated.
                let known = sizes.entry(letter).or_insert(size.clone());
                if known.as_number() == Some(1) {
                    *known = size;
                }
            }
        }
        let axis = |letter: char| sizes.get(&letter).filter(|_| letter.is_ascii_alphabetic());
        result.chars().map(|letter| axis(letter).cloned()).collect()
    }

    pub(super) fn embedding_shape(&self, args: &Args<'a>) -> Option<Dims> {
        let [Value::Tensor(weight), Value::Tensor(index), ..] = args.positional.as_slice() else {
            return None;
        };
        let weight = self.shape(weight.borrow().value)?;
        let mut shape = self.shape(index.borrow().value)?;
        shape.push(weight.get(1)?.clone());
        Some(shape)
    }
}

/// The shape of `arange(end)`, `arange(start, end)` or `arange(start, end, step)` of whole numbers.
pub(super) fn range_shape(args: &Args<'_>) -> Option<Dims> {
    let given = args.positional.iter().map(Value::as_dim);
    let (start, end, step) = match &given.collect::<Option<Vec<_>>>()?[..] {
        [end] => (Dim::from(0), end.clone(), Dim::from(1)),
        [start, end] => (start.clone(), end.clone(), Dim::from(1)),
        [start, end, step] => (start.clone(), end.clone(), step.clone()),
        _ => return None,
    };
    let length = end - start;
    let known = length.is_never_negative() && step.as_number()? > 0;
    let steps = known.then(|| length.ceil_div(&step)).and_then(bounded)?;
    Some(Dims::from_iter([steps]))
}
