//! Convolutions.

use super::{Call, Entry, Read, Written, list, need, one};
use crate::formats::torchscript::eval::Evaluator;
use crate::ir::{Ints, Op, Padding};

const GENERAL: &[&str] = &[
    "input",
    "weight",
    "bias",
    "stride",
    "padding",
    "dilation",
    "transposed",
    "output_padding",
    "groups",
];

pub(super) const TABLE: &[Entry] = &[
    Entry {
        names: &["_convolution", "convolution"],
        parameters: GENERAL,
        lower: general,
    },
    Entry {
        names: &["conv1d", "conv2d", "conv3d"],
        parameters: &[
            "input", "weight", "bias", "stride", "padding", "dilation", "groups",
        ],
        lower: forward,
    },
    Entry {
        names: &["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"],
        parameters: &[
            "input",
            "weight",
            "bias",
            "stride",
            "padding",
            "output_padding",
            "groups",
            "dilation",
        ],
        lower: transposed,
    },
];

fn general(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    let transposed = need!(call.bool_or("transposed", false));
    convolution(ev, call, transposed)
}

fn forward(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    convolution(ev, call, false)
}

fn transposed(ev: &mut Evaluator<'_>, call: &Call<'_, '_>) -> Read {
    convolution(ev, call, true)
}

fn convolution(ev: &mut Evaluator<'_>, call: &Call<'_, '_>, transposed: bool) -> Read {
    let (x, weight) = (
        need!(call.tensor(ev, "input")?),
        need!(call.tensor(ev, "weight")?),
    );
    let shape = need!(ev.shape(weight));
    let n = need!(shape.len().checked_sub(2).filter(|n| (1..=3).contains(n)));
    let groups = need!(
        call.int_or("groups", 1)
            .and_then(|g| usize::try_from(g).ok())
    );
    let dtype = ev.graph.ty(weight).dtype();
    let read = if transposed {
        shape[0].clone()
    } else {
        shape[1].clone() * groups.into()
    };
    let mut sizes = vec![None; n + 2];
    sizes[1] = read.as_number();
    ev.demand(x, &sizes, dtype)?;
    // Without a batch dimension PyTorch convolves as well; the IR does not.
    if ev.shape(x).is_some_and(|x| x.len() != n + 2)
        && ev.shape(x).is_some_and(|x| x.len() == n + 1)
    {
        return Ok(None);
    }
    let stride = need!(call.spatial("stride", n, 1));
    let dilation = need!(call.spatial("dilation", n, 1));
    let pad = match call.str("padding") {
        Some("valid") => Padding::symmetric(std::iter::repeat_n(0, n)),
        Some("same") => {
            let kernel: Ints = need!(shape[2..].iter().map(|k| k.as_len()).collect::<Option<_>>());
            let total = kernel
                .iter()
                .zip(&dilation)
                .map(|(k, d)| k.saturating_sub(1).saturating_mul(*d));
            let (before, after) = total.map(|t| (t / 2, t - t / 2)).unzip();
            Padding { before, after }
        }
        Some(_) => return Ok(None),
        None => Padding::symmetric(need!(call.spatial("padding", n, 0))),
    };
    let mut operands = vec![x, weight];
    match call.tensor(ev, "bias")? {
        Some(bias) => operands.push(bias),
        None if call.lacks("bias") => {}
        None => return Ok(None),
    }
    let op = match transposed {
        false => Op::Conv {
            stride,
            pad,
            dilation,
            groups,
        },
        true => {
            let output_pad = need!(call.spatial("output_padding", n, 0));
            Op::ConvTranspose {
                stride,
                pad,
                output_pad,
                dilation,
                groups,
            }
        }
    };
    one(ev.emit(
        if transposed { "conv_transpose" } else { "conv" },
        op,
        &operands,
    )?)
}

pub(super) fn write(w: &mut Written<'_>) -> Result<Option<String>, String> {
    let (weight, bias) = (w.optional(1), w.optional(2));
    Ok(Some(match w.op {
        Op::Conv {
            stride,
            pad,
            dilation,
            groups,
        } => {
            let (x, pad) = match pad.is_symmetric() {
                true => (w.x().to_owned(), list(&pad.before)),
                false => (padded(w.x(), pad, "0"), list(pad.before.iter().map(|_| 0))),
            };
            let n = stride.len();
            format!(
                "torch.conv{n}d({x}, {weight}, {bias}, {}, {pad}, {}, {groups})",
                list(stride),
                list(dilation)
            )
        }
        Op::ConvTranspose {
            stride,
            pad,
            output_pad,
            dilation,
            groups,
        } => {
            let n = stride.len();
            // What is cut off at the end beyond the beginning's amount is added nowhere else: a smaller output padding.
            let mut extra = Ints::new();
            for i in 0..n {
                let amount = (output_pad[i] + pad.before[i]).checked_sub(pad.after[i]);
                extra.push(
                    amount.ok_or(
                        "a transposed convolution cuts more at the end than PyTorch can say",
                    )?,
                );
            }
            let (before, stride, dilation) = (list(&pad.before), list(stride), list(dilation));
            let x = w.x();
            let extra = list(&extra);
            format!(
                "torch.conv_transpose{n}d({x}, {weight}, {bias}, {stride}, {before}, {extra}, {groups}, {dilation})"
            )
        }
        _ => return Ok(None),
    }))
}

/// `x` with a pad that differs between the sides, last dimension first as PyTorch lists them.
pub(super) fn padded(x: &str, pad: &Padding, value: &str) -> String {
    let amounts = pad
        .before
        .iter()
        .zip(&pad.after)
        .rev()
        .flat_map(|(b, a)| [*b, *a]);
    format!("torch.constant_pad_nd({x}, {}, {value})", list(amounts))
}
