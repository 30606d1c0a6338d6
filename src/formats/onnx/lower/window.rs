//! Convolutions and pools.

use super::layout::operand;
use crate::formats::onnx::import::Importer;
use crate::formats::onnx::view::View;
use crate::ir::{Dim, Dims, Ints, Op, Padding, Value, extent};

/// Non-negative numbers of an attribute, one a dimension; `default` for each if it is not there.
fn lengths(view: &View<'_>, name: &str, dims: usize, default: usize) -> Option<Ints> {
    let Some(given) = view.ints(name).filter(|given| !given.is_empty()) else {
        return Some(Ints::from_elem(default, dims));
    };
    let lengths: Ints = given
        .iter()
        .map(|n| usize::try_from(*n).ok().filter(|n| *n <= MAX_LENGTH))
        .collect::<Option<_>>()?;
    (lengths.len() == dims).then_some(lengths)
}

/// The largest stride, dilation or pad.
const MAX_LENGTH: usize = 1 << 30;

/// A window that slides: what it spans, and by how much it moves.
struct Window {
    kernel: Ints,
    stride: Ints,
    dilation: Ints,
}

impl Window {
    fn of(view: &View<'_>, kernel: Ints) -> Option<Window> {
        let dims = kernel.len();
        let window = Window {
            stride: lengths(view, "strides", dims, 1)?,
            dilation: lengths(view, "dilations", dims, 1)?,
            kernel,
        };
        let spans = window
            .kernel
            .iter()
            .chain(&window.stride)
            .chain(&window.dilation);
        spans.into_iter().all(|n| *n > 0).then_some(window)
    }

    fn extent(&self, i: usize) -> usize {
        extent(self.kernel[i], self.dilation[i])
    }

    /// The pads, as given or as `auto_pad` asks for; `x` are the spatial sizes of the input.
    fn pads(&self, view: &View<'_>, x: Option<&[Dim]>) -> Option<Padding> {
        let dims = self.kernel.len();
        let upper = match view.string("auto_pad") {
            None | Some("NOTSET" | "") => {
                let both = lengths(view, "pads", dims * 2, 0)?;
                return Some(Padding {
                    before: Ints::from_slice(&both[..dims]),
                    after: Ints::from_slice(&both[dims..]),
                });
            }
            Some("VALID") => return Some(Padding::symmetric(Ints::from_elem(0, dims))),
            Some("SAME_UPPER") => true,
            Some("SAME_LOWER") => false,
            Some(_) => return None,
        };
        let mut padding = Padding::default();
        for i in 0..dims {
            let (extent, stride) = (self.extent(i), self.stride[i]);
            let total = match (stride, x.and_then(|x| x.get(i)?.as_len())) {
                (1, _) => extent - 1,
                (_, Some(size)) => {
                    let travel = size
                        .div_ceil(stride)
                        .saturating_sub(1)
                        .saturating_mul(stride);
                    travel.saturating_add(extent).saturating_sub(size)
                }
                _ => return None,
            };
            let (less, more) = (total / 2, total - total / 2);
            padding.before.push(if upper { less } else { more });
            padding.after.push(if upper { more } else { less });
        }
        Some(padding)
    }
}

/// The spatial lengths of a weight, the same as `kernel_shape` says.
fn weight_kernel<'m>(im: &Importer<'m>, view: &View<'m>, weight: Value) -> Option<Ints> {
    let shape = im.ty(weight).shape()?;
    let kernel = shape.get(2..)?.iter().map(Dim::as_len);
    let kernel: Ints = kernel.collect::<Option<_>>()?;
    let said = lengths(view, "kernel_shape", kernel.len(), 0)?;
    let fits = view.ints("kernel_shape").is_none_or(<[i64]>::is_empty) || said == kernel;
    (fits && (1..=3).contains(&kernel.len())).then_some(kernel)
}

fn spatial<'m>(im: &Importer<'m>, x: Value) -> Option<Vec<Dim>> {
    Some(im.ty(x).shape()?.get(2..)?.to_vec())
}

fn operands<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Vec<Value>> {
    let mut operands = vec![operand(im, view, 0)?, operand(im, view, 1)?];
    if view.input(2).is_some() {
        operands.push(operand(im, view, 2)?);
    }
    let dtype = im.dtype(operands[0]);
    let alike = operands.iter().all(|v| im.dtype(*v) == dtype);
    alike.then_some(operands)
}

pub(super) fn conv<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let operands = operands(im, view)?;
    let window = Window::of(view, weight_kernel(im, view, operands[1])?)?;
    let pad = window.pads(view, spatial(im, operands[0]).as_deref())?;
    let op = Op::Conv {
        stride: window.stride,
        pad,
        dilation: window.dilation,
        groups: usize::try_from(view.int("group", 1)).ok()?,
    };
    im.last(view, op, &operands)
}

pub(super) fn conv_transpose<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let operands = operands(im, view)?;
    let window = Window::of(view, weight_kernel(im, view, operands[1])?)?;
    let dims = window.kernel.len();
    let output_pad = lengths(view, "output_padding", dims, 0)?;
    let target = view.ints("output_shape").filter(|t| !t.is_empty());
    let pad = match (view.string("auto_pad"), target) {
        (None | Some("NOTSET" | "" | "VALID"), None) => window.pads(view, None)?,
        (auto, target) => {
            // What is too much is cut on both sides alike; where it is odd, runtimes differ.
            let mut padding = Padding::default();
            let same = matches!(auto, Some("SAME_UPPER" | "SAME_LOWER"));
            for i in 0..dims {
                let reach = window.extent(i) + output_pad[i];
                let total = match target {
                    Some(target) => {
                        let size = spatial(im, operands[0])?.get(i)?.as_len()?;
                        let whole = size.checked_sub(1)?.checked_mul(window.stride[i])?;
                        let want = usize::try_from(*target.get(i)?).ok()?;
                        whole.checked_add(reach)?.checked_sub(want)?
                    }
                    None if same => reach.checked_sub(window.stride[i])?,
                    None => return None,
                };
                if total % 2 != 0 {
                    return None;
                }
                padding.before.push(total / 2);
                padding.after.push(total / 2);
            }
            padding
        }
    };
    let op = Op::ConvTranspose {
        stride: window.stride,
        pad,
        output_pad,
        dilation: window.dilation,
        groups: usize::try_from(view.int("group", 1)).ok()?,
    };
    im.last(view, op, &operands)
}

/// Window, pads, and whether a last window that is not full counts.
fn pool<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<(Value, Window, Padding, bool)> {
    let x = operand(im, view, 0)?;
    let dims = view.ints("kernel_shape")?.len();
    let window = Window::of(view, lengths(view, "kernel_shape", dims, 1)?)?;
    // Runtimes leave the dilation out when they work out such pads, the specification does not.
    let same = matches!(view.string("auto_pad"), Some("SAME_UPPER" | "SAME_LOWER"));
    if same && window.dilation.iter().any(|n| *n != 1) {
        return None;
    }
    let pad = window.pads(view, spatial(im, x).as_deref())?;
    let ceil = view.int("ceil_mode", 0) != 0;
    // Whether a window may start in the pad behind the input, versions and runtimes disagree.
    let starts_inside = (0..dims).all(|i| window.stride[i] + pad.after[i] <= window.extent(i));
    (!ceil || starts_inside).then_some((x, window, pad, ceil))
}

fn sizes(lengths: &[usize]) -> Dims {
    lengths.iter().map(|n| Dim::from(*n)).collect()
}

pub(super) fn max_pool<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let (x, window, pad, ceil) = pool(im, view)?;
    let op = Op::MaxPool {
        kernel: sizes(&window.kernel),
        stride: sizes(&window.stride),
        pad,
        dilation: window.dilation,
        ceil,
    };
    im.last(view, op, &[x])
}

pub(super) fn average_pool<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let (x, window, pad, ceil) = pool(im, view)?;
    let count_pad = view.int("count_include_pad", 0) != 0;
    if window.dilation.iter().any(|n| *n != 1) || (ceil && count_pad) {
        return None;
    }
    let op = Op::AvgPool {
        kernel: sizes(&window.kernel),
        stride: sizes(&window.stride),
        pad,
        ceil,
        count_pad,
    };
    im.last(view, op, &[x])
}

pub(super) fn global_pool<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let dims = im.rank(x)?.checked_sub(2)?;
    let output = Dims::from_elem(Dim::from(1), dims);
    let op = match view.op() {
        "GlobalMaxPool" => Op::AdaptiveMaxPool { output },
        _ => Op::AdaptiveAvgPool { output },
    };
    im.last(view, op, &[x])
}
