//! Images made larger or smaller.

use super::layout::operand;
use crate::formats::onnx::import::Importer;
use crate::formats::onnx::view::View;
use crate::formats::sizes::positions;
use crate::ir::{Dim, Dims, Op, ResizeMode, Value};

/// `Resize` as the IR computes it: neighbours or lines, of spatial dimensions only.
pub(super) fn resize<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let shape = im.shape(x)?;
    let rank = shape.len();
    let plain = view.int("antialias", 0) == 0
        && matches!(
            view.string("keep_aspect_ratio_policy"),
            None | Some("stretch")
        );
    if !(3..=5).contains(&rank) || !plain || !im.is_float(x) {
        return None;
    }
    let (scales, sizes) = match view.opset {
        10 => (1, None),
        _ => (2, view.input(3)),
    };
    let axes = match view.ints("axes") {
        Some(axes) => positions(axes, rank)?,
        None => (0..rank).collect(),
    };
    let mut target = shape.clone();
    if sizes.is_some() {
        let sizes = im.sizes(view, 3, x)?;
        if sizes.len() != axes.len() {
            return None;
        }
        for (axis, size) in axes.iter().zip(sizes) {
            target[*axis] = size;
        }
    } else {
        let scales = im.content(view.input(scales)?)?.values()?;
        if scales.len() != axes.len() {
            return None;
        }
        for (axis, scale) in axes.iter().zip(scales) {
            target[*axis] = scaled(&shape[*axis], scale)?;
        }
    }
    let mode = view.string("mode").unwrap_or("nearest");
    let coordinates = view.string("coordinate_transformation_mode");
    let coordinates = match view.opset {
        10 => "asymmetric",
        _ => coordinates.unwrap_or("half_pixel"),
    };
    let nearest = view.string("nearest_mode").unwrap_or(match view.opset {
        10 => "floor",
        _ => "round_prefer_floor",
    });
    let mode = match (mode, coordinates) {
        ("nearest", "asymmetric") if nearest == "floor" => ResizeMode::Nearest,
        // Where pixels are repeated a whole number of times it does not matter where within one it is looked.
        ("nearest", "half_pixel")
            if nearest.starts_with("round_prefer") && whole(&shape, &target) =>
        {
            ResizeMode::Nearest
        }
        ("linear", "half_pixel") => ResizeMode::Linear,
        ("linear", "pytorch_half_pixel") if more_than_one(&target[2..]) => ResizeMode::Linear,
        ("linear", "align_corners") => ResizeMode::LinearAligned,
        _ => return None,
    };
    resampled(im, view, x, &shape, target, mode)
}

/// Whether every size becomes a multiple of itself.
fn whole(shape: &[Dim], target: &[Dim]) -> bool {
    let multiple = |(from, to): (&Dim, &Dim)| {
        let times = to.floor_div(from);
        times.clone() * from.clone() == *to && times.as_number().is_some()
    };
    shape.iter().zip(target).all(multiple)
}

/// `Upsample`, until version 9.
pub(super) fn upsample<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Value> {
    let x = operand(im, view, 0)?;
    let shape = im.shape(x)?;
    let scales = match view.attribute("scales") {
        Some(attribute) => attribute.floats.iter().map(|x| f64::from(*x)).collect(),
        None => im.content(view.input(1)?)?.values()?,
    };
    let nearest = matches!(view.string("mode"), None | Some("nearest"));
    if scales.len() != shape.len() || !nearest || !im.is_float(x) {
        return None;
    }
    let target = shape
        .iter()
        .zip(scales)
        .map(|(size, scale)| scaled(size, scale));
    let target = target.collect::<Option<_>>()?;
    resampled(im, view, x, &shape, target, ResizeMode::Nearest)
}

fn more_than_one(sizes: &[Dim]) -> bool {
    sizes.iter().all(|size| size.as_number() != Some(1))
}

/// A size times a scale, where the result is whole whatever the size is.
fn scaled(size: &Dim, scale: f64) -> Option<Dim> {
    if scale >= 1.0 && scale.fract() == 0.0 && scale < 1e6 {
        return Some(size.clone() * Dim::from(scale as i64));
    }
    let product = size.as_number()? as f64 * scale;
    (product.fract() == 0.0 && product >= 1.0).then(|| Dim::from(product as i64))
}

fn resampled<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    x: Value,
    shape: &[Dim],
    target: Dims,
    mode: ResizeMode,
) -> Option<Value> {
    if target[..2] != shape[..2] || !(3..=5).contains(&shape.len()) {
        return None;
    }
    // Symbols may stand for sizes whose quotient a runtime rounds as the IR does not.
    let alike = |(from, to): (&Dim, &Dim)| is_rounded_alike(from, to);
    let sizes = || shape[2..].iter().zip(&target[2..]);
    if mode == ResizeMode::Nearest && !whole(shape, &target) && !sizes().all(alike) {
        return None;
    }
    let size = Dims::from(&target[2..]);
    im.last(view, Op::Resize { size, mode }, &[x])
}

/// Whether a position divided by the scale, in `f32` as runtimes do, is the position that the IR takes.
fn is_rounded_alike(from: &Dim, to: &Dim) -> bool {
    let (Some(from), Some(to)) = (from.as_len(), to.as_len()) else {
        return false;
    };
    let scale = to as f32 / from as f32;
    let alike = |at: usize| (at as f32 / scale) as usize == at * from / to;
    to <= MAX_POSITIONS && from <= MAX_POSITIONS && (0..to).all(alike)
}

/// The longest axis whose positions are looked at one by one.
const MAX_POSITIONS: usize = 1 << 16;
