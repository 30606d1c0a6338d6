//! Pooling and resizing.

use super::convolution::padded;
use super::{Call, Entry, Read, Written, list, need, one};
use crate::formats::torchscript::eval::Evaluator;
use crate::formats::torchscript::value::Value;
use crate::ir::{Dim, Dims, Op, Padding, ResizeMode};

pub(super) const TABLE: &[Entry] = &[
    Entry {
        names: &["max_pool1d", "max_pool2d", "max_pool3d"],
        parameters: &[
            "self",
            "kernel_size",
            "stride",
            "padding",
            "dilation",
            "ceil_mode",
        ],
        lower: max_pool,
    },
    Entry {
        names: &["avg_pool1d", "avg_pool2d", "avg_pool3d"],
        parameters: &[
            "self",
            "kernel_size",
            "stride",
            "padding",
            "ceil_mode",
            "count_include_pad",
            "divisor_override",
        ],
        lower: avg_pool,
    },
    Entry {
        names: &[
            "adaptive_avg_pool1d",
            "adaptive_avg_pool2d",
            "adaptive_avg_pool3d",
        ],
        parameters: &["self", "output_size"],
        lower: adaptive_avg_pool,
    },
    Entry {
        names: &[
            "upsample_nearest1d",
            "upsample_nearest2d",
            "upsample_nearest3d",
        ],
        parameters: &["input", "output_size", "scale_factors"],
        lower: nearest,
    },
    Entry {
        names: &[
            "upsample_linear1d",
            "upsample_bilinear2d",
            "upsample_trilinear3d",
        ],
        parameters: &["input", "output_size", "align_corners", "scale_factors"],
        lower: linear,
    },
];

/// The number of spatial dimensions, from the operator's name.
fn dimensions(name: &str) -> usize {
    name.bytes()
        .rev()
        .find(u8::is_ascii_digit)
        .map_or(2, |d| usize::from(d - b'0'))
}

fn max_pool(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let n = dimensions(call.name);
    ev.demand(x, &vec![None; n + 2], None)?;
    let kernel = need!(call.spatial_dims("kernel_size", n, &Dims::new())).clone();
    let stride = need!(call.spatial_dims("stride", n, &kernel));
    let pad = Padding::symmetric(need!(call.spatial("padding", n, 0)));
    let dilation = need!(call.spatial("dilation", n, 1));
    let ceil = need!(call.bool_or("ceil_mode", false));
    if ev.shape(x).is_none_or(|x| x.len() != n + 2) {
        return Ok(None);
    }
    one(ev.emit(
        "max_pool",
        Op::MaxPool {
            kernel,
            stride,
            pad,
            dilation,
            ceil,
        },
        &[x],
    )?)
}

fn avg_pool(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let n = dimensions(call.name);
    ev.demand(x, &vec![None; n + 2], None)?;
    let kernel = need!(call.spatial_dims("kernel_size", n, &Dims::new()));
    let stride = need!(call.spatial_dims("stride", n, &kernel));
    let pad = Padding::symmetric(need!(call.spatial("padding", n, 0)));
    let ceil = need!(call.bool_or("ceil_mode", false));
    let count_pad = need!(call.bool_or("count_include_pad", true));
    if !call.lacks("divisor_override") || ev.shape(x).is_none_or(|x| x.len() != n + 2) {
        return Ok(None);
    }
    one(ev.emit(
        "avg_pool",
        Op::AvgPool {
            kernel,
            stride,
            pad,
            ceil,
            count_pad,
        },
        &[x],
    )?)
}

fn adaptive_avg_pool(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let x = need!(call.tensor(ev, "self")?);
    let n = dimensions(call.name);
    ev.demand(x, &vec![None; n + 2], None)?;
    let output = need!(call.spatial_dims("output_size", n, &Dims::new()));
    if ev.shape(x).is_none_or(|x| x.len() != n + 2) {
        return Ok(None);
    }
    one(ev.emit("adaptive_avg_pool", Op::AdaptiveAvgPool { output }, &[x])?)
}

fn nearest(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    resize(ev, call, ResizeMode::Nearest)
}

fn linear(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let aligned = need!(call.bool_or("align_corners", false));
    resize(
        ev,
        call,
        if aligned {
            ResizeMode::LinearAligned
        } else {
            ResizeMode::Linear
        },
    )
}

fn resize(ev: &mut Evaluator<'_>, call: &Call<'_, '_>, mode: ResizeMode) -> Read {
    let x = need!(call.tensor(ev, "input")?);
    let n = dimensions(call.name);
    ev.demand(x, &vec![None; n + 2], None)?;
    let shape = need!(ev.shape(x).filter(|shape| shape.len() == n + 2));
    let factors = match call.get("scale_factors") {
        None => None,
        // Only whole factors give the same samples as the sizes that they lead to.
        Some(value) => Some(need!(
            whole_numbers(value).filter(|factors| factors.len() == n)
        )),
    };
    let size = match (call.get("output_size"), factors) {
        (Some(_), None) => need!(call.spatial_dims("output_size", n, &Dims::new())),
        (None, Some(factors)) => shape[2..]
            .iter()
            .zip(factors)
            .map(|(size, f)| size.clone() * Dim::from(f))
            .collect(),
        _ => return Ok(None),
    };
    one(ev.emit("resize", Op::Resize { size, mode }, &[x])?)
}

fn whole_numbers(value: &Value<'_>) -> Option<Vec<i64>> {
    let items = value.items()?;
    let whole = |v: &Value<'_>| {
        v.as_f64()
            .filter(|x| x.fract() == 0.0 && *x >= 1.0 && *x <= 1e6)
            .map(|x| x as i64)
    };
    items.iter().map(whole).collect()
}

pub(super) fn write(w: &mut Written<'_>) -> Result<Option<String>, String> {
    let op = w.op;
    let operand = w.x().to_owned();
    let zeros = |n: usize| list(std::iter::repeat_n(0, n));
    Ok(Some(match op {
        Op::MaxPool {
            kernel,
            stride,
            pad,
            dilation,
            ceil,
        } => {
            let n = kernel.len();
            let (x, pad) = match pad.is_symmetric() {
                true => (operand, list(&pad.before)),
                false => (padded(&operand, pad, "-inf"), zeros(n)),
            };
            let (kernel, stride, dilation) = (w.sizes(kernel), w.sizes(stride), list(dilation));
            format!(
                "torch.max_pool{n}d({x}, {kernel}, {stride}, {pad}, {dilation}, {})",
                boolean(*ceil)
            )
        }
        Op::AvgPool {
            kernel,
            stride,
            pad,
            ceil,
            count_pad,
        } => {
            let n = kernel.len();
            let (x, pad) = match (pad.is_symmetric(), count_pad) {
                (true, _) => (operand, list(&pad.before)),
                (false, true) => (padded(&operand, pad, "0"), zeros(n)),
                (false, false) => {
                    return Err(
                        "an average pool pads unevenly and does not count the pad".to_owned()
                    );
                }
            };
            let (kernel, stride) = (w.sizes(kernel), w.sizes(stride));
            format!(
                "torch.avg_pool{n}d({x}, {kernel}, {stride}, {pad}, {}, {})",
                boolean(*ceil),
                boolean(*count_pad)
            )
        }
        Op::AdaptiveAvgPool { output } => {
            format!(
                "torch.adaptive_avg_pool{}d({operand}, {})",
                output.len(),
                w.sizes(output)
            )
        }
        Op::AdaptiveMaxPool { output } => {
            let n = output.len();
            format!(
                "(torch.adaptive_max_pool{n}d({operand}, {}))[0]",
                w.sizes(output)
            )
        }
        Op::Resize { size, mode } => {
            let n = size.len();
            let size = w.sizes(size);
            let linear = ["linear1d", "bilinear2d", "trilinear3d"]
                .get(n.wrapping_sub(1))
                .copied()
                .unwrap_or_default();
            match mode {
                ResizeMode::Nearest => {
                    format!("torch.upsample_nearest{n}d({operand}, {size}, None)")
                }
                ResizeMode::Linear => {
                    format!("torch.upsample_{linear}({operand}, {size}, False, None)")
                }
                ResizeMode::LinearAligned => {
                    format!("torch.upsample_{linear}({operand}, {size}, True, None)")
                }
            }
        }
        _ => return Ok(None),
    }))
}

pub(super) fn boolean(b: bool) -> &'static str {
    if b { "True" } else { "False" }
}
