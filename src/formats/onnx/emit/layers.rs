//! Convolutions, linear layers, and images resampled.

use super::Emitted;
use crate::formats::onnx::attributes::{int, ints, string};
use crate::formats::onnx::error::{MISTAKE, OnnxError};
use crate::formats::onnx::proto::AttributeProto;
use crate::ir::{DType, Dim, Op, Padding, ResizeMode, Tensor};

pub(super) fn all_ints(name: &str, lengths: &[usize]) -> AttributeProto {
    ints(name, lengths.iter().map(|n| *n as i64))
}

pub(super) fn pads(pad: &Padding) -> AttributeProto {
    let both = pad.before.iter().chain(&pad.after);
    ints("pads", both.map(|n| *n as i64))
}

pub(super) fn conv(w: &mut Emitted<'_, '_>, op: &Op) -> Result<(), OnnxError> {
    let Some((stride, pad, dilation, groups)) = op.convolution() else {
        return Err(OnnxError::unwritable(op.name(), MISTAKE));
    };
    let inputs = w.operand_names()?;
    let (mut pad, mut extra) = (pad.clone(), None);
    if let Op::ConvTranspose { output_pad, .. } = op {
        let mut output_pad = output_pad.clone();
        for (i, more) in output_pad.iter_mut().enumerate() {
            // ONNX Runtime takes no more than the stride, but cutting off less is the same.
            let less = (*more).min(pad.after[i]);
            if *more >= stride[i] {
                pad.after[i] -= less;
                *more -= less;
            }
            if *more >= stride[i] {
                let name = &w.graph.node(w.id).name;
                return Err(OnnxError::unwritable(
                    format!("`{name}` has an output padding of its stride or more"),
                    "write another format",
                ));
            }
        }
        extra = Some(output_pad).filter(|pad| pad.iter().any(|n| *n > 0));
    }
    let mut attributes = vec![
        all_ints("dilations", dilation),
        int("group", groups as i64),
        pads(&pad),
        all_ints("strides", stride),
    ];
    let kernel = w
        .spatial(1)
        .and_then(|k| k.iter().map(Dim::as_number).collect::<Option<Vec<_>>>());
    if let Some(kernel) = kernel {
        attributes.push(ints("kernel_shape", kernel));
    }
    let name = match op {
        Op::ConvTranspose { .. } => {
            if let Some(extra) = extra {
                attributes.push(all_ints("output_padding", &extra));
            }
            "ConvTranspose"
        }
        _ => "Conv",
    };
    w.last(name, &inputs, attributes)
}

/// A `Gemm` for matrices; a product and a sum for what has more dimensions, or where the file had a product.
pub(super) fn linear(w: &mut Emitted<'_, '_>) -> Result<(), OnnxError> {
    let (x, weight) = (w.operands[0], w.operands[1]);
    let bias = w.operands.get(2).copied();
    let known = w
        .info(w.id)
        .map(|info| (info.op_type.clone(), info.outputs_first));
    let matrix = w.types[0].rank() == Some(2);
    let product = known
        .as_ref()
        .is_some_and(|(op, _)| op == "MatMul" || op == "Add");
    // As the file has the weight, so that it is stored once for all that read it.
    let outputs_first = match w.is_transposed(weight.node) {
        Some(transposed) => !transposed,
        None => known.is_none_or(|(_, outputs_first)| outputs_first),
    };
    let x = w.value(x)?;
    let is_constant = w.graph.constant(weight.node).is_some();
    if matrix && !product {
        let first = outputs_first || !is_constant;
        let weight = if first {
            w.value(weight)?
        } else {
            w.transposed(weight)?
        };
        let mut inputs = vec![x, weight];
        // Versions before 11 ask for all three.
        match bias {
            Some(bias) => inputs.push(w.value(bias)?),
            None if w.opset < 11 => {
                let dtype = w.dtype();
                inputs.push(w.literal(Tensor::from_f64(dtype, &[1], [0.0])));
            }
            None => {}
        }
        let attributes = vec![int("transB", first.into())];
        return w.last("Gemm", &inputs, attributes);
    }
    let weight = if is_constant {
        w.transposed(weight)?
    } else {
        let weight = w.value(weight)?;
        w.step("Transpose", &[weight], vec![ints("perm", [1, 0])])
    };
    let Some(bias) = bias else {
        return w.last("MatMul", &[x, weight], vec![]);
    };
    // Under the name that it had in the file.
    let product = match w.info(w.id).and_then(|info| info.product.clone()) {
        Some(name) => {
            let name = w.claim(&name);
            w.claimed.insert(name.clone());
            name
        }
        None => w.writer.fresh(&format!("{}/MatMul", w.out)),
    };
    w.emit("MatMul", &[x, weight], vec![], &product);
    let bias = w.value(bias)?;
    w.last("Add", &[product, bias], vec![])
}

/// Refuses what an old version cannot say.
pub(super) fn needs(w: &Emitted<'_, '_>, version: i64, what: &str) -> Result<(), OnnxError> {
    if w.opset >= version {
        return Ok(());
    }
    let name = &w.graph.node(w.id).name;
    Err(OnnxError::unwritable(
        format!(
            "`{name}` is {what}, which ONNX has since version {version} of its operators, and the model uses {}",
            w.opset
        ),
        "convert the model first: onnx.version_converter.convert_version(model, 20)",
    ))
}

pub(super) fn resize(
    w: &mut Emitted<'_, '_>,
    size: &[Dim],
    mode: ResizeMode,
) -> Result<(), OnnxError> {
    let x = w.operand(0)?;
    let from = w.spatial(0).unwrap_or_default();
    let times = |(from, to): (&Dim, &Dim)| {
        let times = to.floor_div(from);
        (times.clone() * from.clone() == *to)
            .then(|| times.as_number())
            .flatten()
    };
    let scales: Option<Vec<f64>> = from
        .iter()
        .zip(size)
        .map(|pair| times(pair).map(|n| n as f64))
        .collect();
    let scales = scales.filter(|scales| scales.len() == size.len());
    let scale_list = |w: &mut Emitted<'_, '_>, scales: &[f64]| {
        let all: Vec<f64> = [1.0, 1.0].iter().chain(scales).copied().collect();
        w.literal(Tensor::from_f64(DType::F32, &[all.len()], all))
    };
    if w.opset < 11 {
        let (ResizeMode::Nearest, Some(scales)) = (mode, &scales) else {
            return needs(w, 11, "an image resampled to a given size");
        };
        let scales = scale_list(w, scales);
        let name = if w.opset < 10 { "Upsample" } else { "Resize" };
        return w.last(name, &[x, scales], vec![string("mode", "nearest")]);
    }
    let (mode, coordinates) = match mode {
        ResizeMode::Nearest => ("nearest", "asymmetric"),
        ResizeMode::Linear => ("linear", "half_pixel"),
        ResizeMode::LinearAligned => ("linear", "align_corners"),
    };
    let mut attributes = vec![
        string("mode", mode),
        string("coordinate_transformation_mode", coordinates),
    ];
    if mode == "nearest" {
        attributes.push(string("nearest_mode", "floor"));
    }
    // Version 11 asks for a region of interest even where it is of no interest.
    let region = match w.opset {
        11 | 12 => w.literal(Tensor::from_f64(DType::F32, &[0], [])),
        _ => String::new(),
    };
    let inputs = match scales {
        Some(scales) => vec![x, region, scale_list(w, &scales)],
        None => {
            let Some(shape) = w.types[0].shape() else {
                return w.known_rank(0).map(|_| ());
            };
            let all: Vec<Dim> = shape.iter().take(2).chain(size).cloned().collect();
            let none = match w.opset {
                11 | 12 => w.literal(Tensor::from_f64(DType::F32, &[0], [])),
                _ => String::new(),
            };
            vec![x, region, none, w.size_list(&all)]
        }
    };
    w.last("Resize", &inputs, attributes)
}
