//! Pools over windows.

use super::Emitted;
use super::layers::{all_ints, needs, pads};
use super::layout::{cut, padded};
use crate::formats::onnx::attributes::int;
use crate::formats::onnx::error::{MISTAKE, OnnxError};
use crate::ir::{DType, Dim, Ints, Op, Padding, extent};

/// The sizes as numbers, which ONNX asks for here.
fn numbers(w: &Emitted<'_, '_>, dims: &[Dim]) -> Result<Ints, OnnxError> {
    let numbers = dims.iter().map(Dim::as_len).collect::<Option<_>>();
    numbers.ok_or_else(|| {
        let name = &w.graph.node(w.id).name;
        OnnxError::unwritable(
            format!("the pool `{name}` has windows whose size depends on the input, {dims:?}"),
            "ONNX knows windows of fixed size only; write another format",
        )
    })
}

pub(super) fn pool(w: &mut Emitted<'_, '_>, op: &Op) -> Result<(), OnnxError> {
    let (Op::MaxPool {
        kernel,
        stride,
        pad,
        ceil,
        ..
    }
    | Op::AvgPool {
        kernel,
        stride,
        pad,
        ceil,
        ..
    }) = op
    else {
        return Err(OnnxError::unwritable(op.name(), MISTAKE));
    };
    let small = |dtype: &DType| dtype.is_float() || matches!(dtype, DType::I8 | DType::U8);
    if let Some(dtype) = w.result.dtype().filter(|dtype| !small(dtype)) {
        let name = &w.graph.node(w.id).name;
        return Err(OnnxError::unwritable(
            format!("`{name}` is a pool of {dtype}, which ONNX has not"),
            "cast to floating point before it and back after it",
        ));
    }
    // One window that is as large as the input.
    let whole = w.spatial(0) == Some(&kernel[..]);
    let is_number = kernel.iter().all(|k| k.as_number().is_some());
    if whole && pad.is_zero() && !is_number {
        let name = match op {
            Op::MaxPool { .. } => "GlobalMaxPool",
            _ => "GlobalAveragePool",
        };
        let x = w.operand(0)?;
        return w.last(name, &[x], vec![]);
    }
    let dims = kernel.len();
    let windows = Windows {
        kernel: numbers(w, kernel)?,
        stride: numbers(w, stride)?,
        dilation: match op {
            Op::MaxPool { dilation, .. } => dilation.clone(),
            _ => Ints::from_elem(1, dims),
        },
        pad: pad.clone(),
        ceil: vec![*ceil; dims],
        too_many: Vec::new(),
    };
    windows.emit(w, op)
}

/// The windows of a pool, all in numbers.
struct Windows {
    kernel: Ints,
    stride: Ints,
    dilation: Ints,
    pad: Padding,
    /// Along which dimensions a last window that is not full counts.
    ceil: Vec<bool>,
    /// Along which dimensions windows may be counted that start in the pad behind the input.
    too_many: Vec<usize>,
}

impl Windows {
    fn emit(mut self, w: &mut Emitted<'_, '_>, op: &Op) -> Result<(), OnnxError> {
        let mut x = w.operand(0)?;
        let said = self.pad.after.clone();
        if self.ceil.contains(&true) {
            x = self.end_pads(w, x);
        }
        let maximum = matches!(op, Op::MaxPool { .. });
        let mut count_pad = matches!(op, Op::AvgPool { count_pad, .. } if *count_pad);
        let beyond = |i: usize| self.pad.after[i].saturating_sub(said[i]);
        let beyond: Ints = (0..said.len()).map(beyond).collect();
        // Of a pad, ONNX Runtime takes less than the kernel.
        let wide = |i: usize| self.pad.before[i].max(self.pad.after[i]) >= self.kernel[i];
        let wide: Vec<bool> = (0..said.len()).map(wide).collect();
        if count_pad && beyond.iter().any(|n| *n > 0) {
            // What lies beyond the pad never counts.
            let after = self.pad.after.iter_mut();
            after.zip(&beyond).for_each(|(all, beyond)| *all -= beyond);
            x = self.padded(w, x, 0.0, &vec![true; said.len()])?;
            self.pad.after = beyond;
            count_pad = false;
        } else if maximum && wide.contains(&true) {
            let dtype = w.dtype();
            x = self.padded(w, x, least(dtype), &wide)?;
        }
        let mut attributes = vec![
            all_ints("kernel_shape", &self.kernel),
            pads(&self.pad),
            all_ints("strides", &self.stride),
        ];
        if self.ceil.contains(&true) {
            let what = "a pool that counts its last window though it is not full";
            needs(w, 10, what)?;
            attributes.push(int("ceil_mode", 1));
        }
        if maximum && self.dilation.iter().any(|n| *n != 1) {
            needs(w, 10, "a pool with a dilation")?;
            attributes.push(all_ints("dilations", &self.dilation));
        }
        if !maximum {
            attributes.push(int("count_include_pad", count_pad.into()));
        }
        let name = if maximum { "MaxPool" } else { "AveragePool" };
        if self.too_many.is_empty() {
            return w.last(name, &[x], attributes);
        }
        let mut value = w.step(name, &[x], attributes);
        let Some(shape) = w.result.shape() else {
            return Err(OnnxError::unwritable(
                format!("the shape of `{}` is not known", w.out),
                "give the inputs' shapes with --input",
            ));
        };
        for (axis, end) in shape.iter().enumerate().skip(2) {
            if self.too_many.contains(&(axis - 2)) {
                value = cut(w, &value, axis, &Dim::from(0), end);
            }
        }
        w.last("Identity", &[value], vec![])
    }

    /// Where sizes are numbers, pads at the end that the last window just fills: versions of ONNX, and what ONNX Runtime infers and
    /// what it computes, disagree on which windows count that are not full. `x`, without what no window reads where it must not be.
    fn end_pads(&mut self, w: &mut Emitted<'_, '_>, mut x: String) -> String {
        let from = w.spatial(0).unwrap_or_default();
        let to = w.result.shape().and_then(|shape| shape.get(2..));
        let to = to.unwrap_or_default();
        let lengths = |i: usize| {
            let (from, to) = (from.get(i)?.as_len()?, to.get(i)?.as_len()?);
            let last = to.checked_sub(1)?.checked_mul(self.stride[i])?;
            let reach = last.checked_add(self.extent(i))?;
            Some((self.pad.before[i].checked_add(from)?, reach))
        };
        let lengths: Vec<_> = (0..self.kernel.len()).map(lengths).collect();
        self.ceil = lengths.iter().map(Option::is_none).collect();
        let some = self.ceil.contains(&true);
        for (i, there, reach) in { lengths.iter().enumerate() }
            .filter_map(|(i, lengths)| lengths.map(|(there, reach)| (i, there, reach)))
        {
            self.pad.after[i] = reach.saturating_sub(there);
            // Another axis may need what counts one window more here.
            if some && reach < there {
                let end = Dim::from(reach.saturating_sub(self.pad.before[i]));
                x = cut(w, &x, i + 2, &Dim::from(0), &end);
            }
        }
        x
    }

    /// `x` with the pad of these axes as elements of it; none is left there.
    fn padded(
        &mut self,
        w: &mut Emitted<'_, '_>,
        x: String,
        value: f64,
        axes: &[bool],
    ) -> Result<String, OnnxError> {
        let mut amounts = vec![Dim::from(0); 4 + 2 * axes.len()];
        for i in (0..axes.len()).filter(|i| axes[*i]) {
            let after = std::mem::take(&mut self.pad.after[i]);
            if self.ceil[i] && self.stride[i].saturating_add(after) > self.extent(i) {
                self.too_many.push(i);
            }
            amounts[2 + i] = std::mem::take(&mut self.pad.before[i]).into();
            amounts[4 + axes.len() + i] = after.into();
        }
        let dtype = w.dtype();
        padded(w, x, &amounts, (value, dtype))
    }

    fn extent(&self, i: usize) -> usize {
        extent(self.kernel[i], self.dilation[i])
    }
}

/// What is never the maximum beside another.
fn least(dtype: DType) -> f64 {
    match dtype {
        DType::U8 => 0.0,
        DType::I8 => i8::MIN.into(),
        _ => f64::NEG_INFINITY,
    }
}
