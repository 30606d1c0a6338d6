//! What nodes that compute sizes compute, as expressions.

use ndarray::{ArrayD, Axis};

use super::content::{Content, MAX_ELEMENTS, Number, count};
use super::import::Importer;
use super::rearrange::{concat, flatten, gather, reshape, slice, spread, squeeze, transpose};
use super::tensor;
use super::view::View;
use crate::exec::broadcast_shape;
use crate::formats::sizes::{from_front, positions};
use crate::ir::{DType, Dim};

/// What the only result of a node holds, if that is known.
pub(super) fn fold<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let node = view.node;
    if node.output.iter().filter(|name| !name.is_empty()).count() != 1 {
        return None;
    }
    let content = match view.op() {
        "Shape" => shape(im, view)?,
        "Size" => {
            let dims = im.shape_of(view.input(0)?)?;
            Content::scalar(Dim::product(&dims)?)
        }
        "Identity" => im.content(view.input(0)?)?.clone(),
        "Cast" => {
            let to = tensor::dtype(i32::try_from(view.int("to", 0)).ok()?)?;
            im.content(view.input(0)?)?.map(to, |n| n.cast(to))?
        }
        "Gather" => gather(im, view)?,
        "Slice" => slice(im, view)?,
        "Transpose" => transpose(im, view)?,
        "Concat" => concat(im, view)?,
        "Unsqueeze" => {
            let axes = axes(im, view)??;
            let mut x = im.content(view.input(0)?)?.clone();
            let mut axes = positions(&axes, x.shape().len() + axes.len())?;
            axes.sort_unstable();
            for axis in axes {
                if axis > x.shape().len() {
                    return None;
                }
                x.elements.insert_axis_inplace(Axis(axis));
            }
            x
        }
        "Squeeze" => squeeze(im, view)?,
        "Reshape" => reshape(im, view)?,
        "Flatten" => flatten(im, view)?,
        "Add" => binary(im, view, Number::add)?,
        "Sub" => binary(im, view, Number::sub)?,
        "Mul" => binary(im, view, Number::mul)?,
        "Div" => binary(im, view, Number::div)?,
        "Max" if node.input.len() == 2 => binary(im, view, |a, b, _| a.max(b))?,
        "Min" if node.input.len() == 2 => binary(im, view, |a, b, _| a.min(b))?,
        "Mod" if view.int("fmod", 0) == 0 => {
            binary(im, view, |a, b, whole| a.rem(b).filter(|_| whole))?
        }
        "Equal" => compare(im, view, |order| order.is_eq())?,
        "Less" => compare(im, view, |order| order.is_lt())?,
        "Greater" => compare(im, view, |order| order.is_gt())?,
        "LessOrEqual" => compare(im, view, |order| order.is_le())?,
        "GreaterOrEqual" => compare(im, view, |order| order.is_ge())?,
        "And" => binary(im, view, |a, b, _| a.min(b))?,
        "Or" => binary(im, view, |a, b, _| a.max(b))?,
        "Not" => unary(im, view, |n, _| Number::whole(Dim::from(1)).sub(n, true))?,
        "Neg" => unary(im, view, Number::neg)?,
        "Floor" => unary(im, view, |n, _| n.floor())?,
        "Ceil" => unary(im, view, |n, _| n.ceil())?,
        "Where" => choose(im, view)?,
        "Range" => range(im, view)?,
        "ConstantOfShape" => filled(im, view)?,
        "Expand" => {
            let target = lengths(im, view, 1)?;
            let x = im.content(view.input(0)?)?;
            spread(x, &broadcast_shape(x.shape(), &target).ok()?)?
        }
        "ReduceProd" | "ReduceSum" | "ReduceMax" | "ReduceMin" => reduce(im, view)?,
        _ => return None,
    };
    checked(content)
}

/// Whole numbers as long as they are sensible sizes, and floats rounded as such.
fn checked(mut content: Content) -> Option<Content> {
    if content.is_too_long() {
        return None;
    }
    match content.dtype {
        DType::I64 | DType::Bool => Some(content),
        DType::I32 => {
            let fits = |n: &Number| match n.value() {
                Some(x) => x >= f64::from(i32::MIN) && x <= f64::from(i32::MAX),
                None => true,
            };
            content.elements.iter().all(fits).then_some(content)
        }
        DType::F32 => {
            for element in &mut content.elements {
                if let Some(x) = element.value() {
                    *element = Number::of((x as f32).into());
                }
            }
            Some(content)
        }
        _ => None,
    }
}

/// Axes by the attribute or, since version 13, by operand 1; none where neither is there.
pub(super) fn axes<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Option<Vec<i64>>> {
    match view.ints("axes") {
        Some(axes) => Some(Some(axes.to_vec())),
        None => im.optional_ints(view, 1),
    }
}

fn shape<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let dims = im.shape_of(view.input(0)?)?;
    let rank = dims.len() as i64;
    let clamp = |n: i64| from_front(n, rank).clamp(0, rank) as usize;
    let (start, end) = (clamp(view.int("start", 0)), clamp(view.int("end", rank)));
    Some(Content::of_sizes(dims.get(start..end.max(start))?))
}

fn unary<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    f: impl Fn(&Number, bool) -> Option<Number>,
) -> Option<Content> {
    let x = im.content(view.input(0)?)?;
    x.map(x.dtype, |n| f(n, !x.dtype.is_float()))
}

fn binary<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    f: impl Fn(&Number, &Number, bool) -> Option<Number>,
) -> Option<Content> {
    let a = im.content(view.input(0)?)?.clone();
    let b = im.content(view.input(1)?)?;
    if a.dtype != b.dtype {
        return None;
    }
    let shape = broadcast_shape(a.shape(), b.shape()).ok()?;
    let (a, b) = (spread(&a, &shape)?, spread(b, &shape)?);
    let pairs = a.elements.iter().zip(&b.elements);
    let elements = pairs.map(|(x, y)| f(x, y, !a.dtype.is_float()));
    Content::new(a.dtype, &shape, elements.collect::<Option<_>>()?)
}

fn compare<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    f: impl Fn(std::cmp::Ordering) -> bool,
) -> Option<Content> {
    let content = binary(im, view, |a, b, _| {
        let holds = f(a.order(b)?);
        Some(Number::whole(Dim::from(i64::from(holds))))
    })?;
    Some(Content {
        dtype: DType::Bool,
        ..content
    })
}

/// `Where`: each element from one side or the other.
fn choose<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let condition = im.content(view.input(0)?)?.clone();
    let a = im.content(view.input(1)?)?.clone();
    let b = im.content(view.input(2)?)?.clone();
    let shape = broadcast_shape(condition.shape(), a.shape()).ok()?;
    let shape = broadcast_shape(&shape, b.shape()).ok()?;
    let condition = spread(&condition, &shape)?.ints()?;
    let (a, b) = (spread(&a, &shape)?, spread(&b, &shape)?);
    if a.dtype != b.dtype {
        return None;
    }
    let sides = a.elements.into_iter().zip(b.elements).zip(condition);
    let elements = sides.map(|((a, b), yes)| if yes != 0 { a } else { b });
    Content::new(a.dtype, &shape, elements.collect())
}

fn range<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let mut bounds = Vec::new();
    for i in 0..3 {
        let content = im.content(view.input(i)?)?;
        let whole = matches!(content.dtype, DType::I64 | DType::I32);
        bounds.push((
            content.only()?.size()?.as_number().filter(|_| whole)?,
            content.dtype,
        ));
    }
    let [(start, dtype), (end, _), (step, _)] = bounds[..] else {
        return None;
    };
    let mut elements = Vec::new();
    let mut at = start;
    while step != 0 && (if step > 0 { at < end } else { at > end }) {
        if elements.len() == MAX_ELEMENTS {
            return None;
        }
        elements.push(Number::whole(Dim::from(at)));
        at = at.checked_add(step)?;
    }
    (step != 0).then(|| Content::list(dtype, elements))
}

fn filled<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let shape = lengths(im, view, 0)?;
    count(&shape).filter(|_| shape.len() <= 4)?;
    let (dtype, value) = match view.attribute("value").and_then(|a| a.t.as_deref()) {
        None => (DType::F32, Number::of(0.0)),
        Some(proto) => {
            let value = tensor::tensor(proto, "", None, &mut im.external).ok()??;
            let content = Content::of(&value)?;
            (content.dtype, content.only()?.clone())
        }
    };
    let elements = ArrayD::from_elem(shape, value);
    Some(Content { dtype, elements })
}

/// The shape that operand `i` holds.
fn lengths<'m>(im: &mut Importer<'m>, view: &View<'m>, i: usize) -> Option<Vec<usize>> {
    let given = im.ints(view, i)?;
    given.iter().map(|n| usize::try_from(*n).ok()).collect()
}

/// A reduction over all elements of a list.
fn reduce<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let axes = axes(im, view)?;
    let given = axes.is_some();
    if !given && view.int("noop_with_empty_axes", 0) != 0 {
        return None;
    }
    let axes = axes.unwrap_or_default();
    let x = im.content(view.input(0)?)?;
    let over_all = x.shape().len() == 1 && axes.iter().all(|a| matches!(a, 0 | -1));
    if !over_all || (given && axes.is_empty()) {
        return None;
    }
    let whole = !x.dtype.is_float();
    // Runtimes add up in orders of their own, which is the same where nothing is rounded.
    let exact = |result: Number, exact: Option<f64>| match (whole, result.value(), exact) {
        (false, Some(x), Some(exact)) => (x == exact).then_some(result),
        _ => Some(result),
    };
    let mut numbers = x.elements.iter();
    let first = numbers.next()?.clone();
    let result = numbers.try_fold(first, |acc, n| {
        let pair = acc.value().zip(n.value());
        match view.op() {
            "ReduceProd" => exact(acc.mul(n, whole)?, pair.map(|(a, b)| a * b)),
            "ReduceSum" => exact(acc.add(n, whole)?, pair.map(|(a, b)| a + b)),
            "ReduceMax" => acc.max(n),
            _ => acc.min(n),
        }
    })?;
    let shape: &[usize] = match view.int("keepdims", 1) {
        0 => &[],
        _ => &[1],
    };
    Content::new(x.dtype, shape, vec![result])
}
