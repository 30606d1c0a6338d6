//! What nodes that compute sizes compute, as expressions.

use smallvec::{SmallVec, smallvec};

use super::content::{Content, MAX_ELEMENTS, Number, count};
use super::import::Importer;
use super::tensor;
use super::view::View;
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
            let x = im.content(view.input(0)?)?;
            let elements = x.elements.iter().map(|n| n.cast(to));
            Content {
                dtype: to,
                shape: x.shape.clone(),
                elements: elements.collect::<Option<_>>()?,
            }
        }
        "Gather" => gather(im, view)?,
        "Slice" => slice(im, view)?,
        "Transpose" => transpose(im, view)?,
        "Concat" => concat(im, view)?,
        "Unsqueeze" => {
            let axes = axes(im, view)?;
            let mut x = im.content(view.input(0)?)?.clone();
            let rank = x.shape.len() + axes.len();
            let mut axes: Vec<usize> = { axes.iter() }
                .map(|axis| axis_of(*axis, rank))
                .collect::<Option<_>>()?;
            axes.sort_unstable();
            for axis in axes {
                if axis > x.shape.len() {
                    return None;
                }
                x.shape.insert(axis, 1);
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
            let target = im.ints(view, 1)?;
            let target = { target.iter() }.map(|n| usize::try_from(*n).ok());
            let target: SmallVec<[usize; 2]> = target.collect::<Option<_>>()?;
            let x = im.content(view.input(0)?)?.clone();
            let shape = broadcast(&x.shape, &target)?;
            spread(&x, &shape)?
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

/// An axis that may count from the end.
pub(super) fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let at = if axis < 0 {
        axis.checked_add(rank)?
    } else {
        axis
    };
    (0..rank).contains(&at).then_some(at as usize)
}

/// Axes by the attribute or, since version 13, by operand 1.
pub(super) fn axes<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Vec<i64>> {
    match view.ints("axes") {
        Some(axes) => Some(axes.to_vec()),
        None => im.ints(view, 1),
    }
}

fn shape<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let dims = im.shape_of(view.input(0)?)?;
    let rank = dims.len() as i64;
    let clamp = |n: i64| (if n < 0 { n.saturating_add(rank) } else { n }).clamp(0, rank) as usize;
    let (start, end) = (clamp(view.int("start", 0)), clamp(view.int("end", rank)));
    Some(Content::list(dims.get(start..end.max(start))?))
}

/// The elements at these positions of an axis.
fn select(x: &Content, axis: usize, positions: &[usize]) -> Option<Content> {
    let length = *x.shape.get(axis)?;
    let inner: usize = x.shape[axis + 1..].iter().product();
    let outer: usize = x.shape[..axis].iter().product();
    let mut elements = Vec::new();
    for block in 0..outer {
        for position in positions {
            let start = (block * length + position) * inner;
            elements.extend_from_slice(x.elements.get(start..start + inner)?);
        }
        if elements.len() > MAX_ELEMENTS {
            return None;
        }
    }
    let mut shape = x.shape.clone();
    shape[axis] = positions.len();
    Some(Content {
        dtype: x.dtype,
        shape,
        elements,
    })
}

fn gather<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let index = im.content(view.input(1)?)?.clone();
    let x = im.content(view.input(0)?)?;
    let axis = axis_of(view.int("axis", 0), x.shape.len())?;
    let length = x.shape[axis];
    let positions = { index.ints()?.into_iter() }
        .map(|n| axis_of(n, length))
        .collect::<Option<Vec<_>>>()?;
    let mut picked = select(x, axis, &positions)?;
    picked.shape.remove(axis);
    for (i, n) in index.shape.iter().enumerate() {
        picked.shape.insert(axis + i, *n);
    }
    Some(picked)
}

fn slice<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let mut lists = Vec::new();
    for (i, name) in ["starts", "ends", "axes", "steps"].into_iter().enumerate() {
        lists.push(match view.ints(name) {
            Some(ints) => Some(ints.to_vec()),
            None if view.input(i + 1).is_some() => Some(im.ints(view, i + 1)?),
            None => None,
        });
    }
    let mut x = im.content(view.input(0)?)?.clone();
    let (starts, ends) = (lists[0].take()?, lists[1].take()?);
    let axes = lists[2]
        .take()
        .unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = lists[3].take().unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return None;
    }
    for (i, axis) in axes.iter().enumerate() {
        let axis = axis_of(*axis, x.shape.len())?;
        let positions = positions(x.shape[axis], starts[i], ends[i], steps[i])?;
        x = select(&x, axis, &positions)?;
    }
    Some(x)
}

/// The positions of a slice.
fn positions(length: usize, start: i64, end: i64, step: i64) -> Option<Vec<usize>> {
    let length = i64::try_from(length).ok()?;
    let wrap = |n: i64| if n < 0 { n.saturating_add(length) } else { n };
    let (start, end) = (wrap(start), wrap(end));
    let mut positions = Vec::new();
    match step {
        0 => return None,
        _ if length == 0 => {}
        1.. => {
            let (start, end) = (start.clamp(0, length), end.clamp(0, length));
            let step = usize::try_from(step).ok()?;
            positions.extend((start..end).step_by(step).map(|i| i as usize));
        }
        // Backwards from before the first element: nothing to some, that element to others.
        _ if start < 0 => return None,
        _ => {
            let (mut at, end) = (start.min(length - 1), end.clamp(-1, length - 1));
            while at > end {
                positions.push(at as usize);
                at = at.saturating_add(step);
            }
        }
    }
    Some(positions)
}

fn reshape<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let target = im.ints(view, 1)?;
    let mut x = im.content(view.input(0)?)?.clone();
    let keep_zero = view.int("allowzero", 0) != 0;
    let mut shape: SmallVec<[usize; 2]> = smallvec![];
    let mut rest = None;
    for (axis, length) in target.iter().enumerate() {
        shape.push(match length {
            0 if !keep_zero => *x.shape.get(axis)?,
            -1 if rest.is_none() => {
                rest = Some(axis);
                1
            }
            n => usize::try_from(*n).ok()?,
        });
    }
    let known = count(&shape)?;
    if let Some(axis) = rest {
        shape[axis] = x.elements.len().checked_div(known)?;
    }
    x.shape = shape;
    (count(&x.shape)? == x.elements.len()).then_some(x)
}

/// A matrix: the axes before `axis` are its rows.
fn flatten<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let mut x = im.content(view.input(0)?)?.clone();
    let rank = x.shape.len();
    let axis = match view.int("axis", 1) {
        axis if usize::try_from(axis) == Ok(rank) => rank,
        axis => axis_of(axis, rank)?,
    };
    let (rows, columns) = x.shape.split_at(axis);
    x.shape = smallvec![count(rows)?, count(columns)?];
    Some(x)
}

fn transpose<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let x = im.content(view.input(0)?)?;
    let rank = x.shape.len();
    let perm: Vec<usize> = match view.ints("perm") {
        Some(perm) => { perm.iter() }
            .map(|axis| axis_of(*axis, rank))
            .collect::<Option<_>>()?,
        None => (0..rank).rev().collect(),
    };
    if perm.len() != rank || (0..rank).any(|axis| !perm.contains(&axis)) {
        return None;
    }
    let shape: SmallVec<[usize; 2]> = perm.iter().map(|axis| x.shape[*axis]).collect();
    let element = |mut i: usize| {
        let mut at = vec![0; rank];
        for (axis, from) in perm.iter().enumerate().rev() {
            at[*from] = i % shape[axis];
            i /= shape[axis];
        }
        let at = at
            .iter()
            .zip(&x.shape)
            .fold(0, |sum, (i, length)| sum * length + i);
        x.elements.get(at).cloned()
    };
    Some(Content {
        dtype: x.dtype,
        elements: (0..x.elements.len()).map(element).collect::<Option<_>>()?,
        shape: shape.clone(),
    })
}

fn concat<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let mut parts = Vec::with_capacity(view.node.input.len());
    for i in 0..view.node.input.len() {
        parts.push(im.content(view.input(i)?)?.clone());
    }
    let first = parts.first()?;
    let rank = first.shape.len();
    let axis = axis_of(view.int("axis", 0), rank)?;
    let alike = |part: &Content| {
        let mut shape = part.shape.clone();
        part.shape.len() == rank && {
            shape[axis] = first.shape[axis];
            shape == first.shape
        }
    };
    let total: usize = parts.iter().map(|part| part.elements.len()).sum();
    let same_type = parts.iter().all(|part| part.dtype == first.dtype);
    if total > MAX_ELEMENTS || !same_type || !parts.iter().all(alike) {
        return None;
    }
    let outer: usize = first.shape[..axis].iter().product();
    let mut shape = first.shape.clone();
    shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
    let mut elements = Vec::with_capacity(total);
    for block in 0..outer {
        for part in &parts {
            let length = part.elements.len() / outer;
            elements.extend_from_slice(&part.elements[block * length..(block + 1) * length]);
        }
    }
    Some(Content {
        dtype: first.dtype,
        shape,
        elements,
    })
}

fn squeeze<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let axes = match view.ints("axes").is_some() || view.input(1).is_some() {
        true => Some(axes(im, view)?),
        false => None,
    };
    let mut x = im.content(view.input(0)?)?.clone();
    let rank = x.shape.len();
    let axes: Option<Vec<usize>> = match axes {
        // An empty list is all axes to some, and none to others.
        Some(axes) if axes.is_empty() => return None,
        Some(axes) => Some(
            { axes.iter() }
                .map(|a| axis_of(*a, rank))
                .collect::<Option<_>>()?,
        ),
        None => None,
    };
    let mut at = 0;
    let mut fits = true;
    x.shape.retain(|n| {
        let gone = match &axes {
            Some(axes) => axes.contains(&at),
            None => *n == 1,
        };
        fits &= !gone || *n == 1;
        at += 1;
        !gone
    });
    fits.then_some(x)
}

fn unary<'m>(
    im: &mut Importer<'m>,
    view: &View<'m>,
    f: impl Fn(&Number, bool) -> Option<Number>,
) -> Option<Content> {
    let x = im.content(view.input(0)?)?;
    let whole = !x.dtype.is_float();
    let elements = x.elements.iter().map(|n| f(n, whole));
    let elements = elements.collect::<Option<_>>()?;
    Some(Content {
        dtype: x.dtype,
        shape: x.shape.clone(),
        elements,
    })
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
    let shape = broadcast(&a.shape, &b.shape)?;
    let (a, b) = (spread(&a, &shape)?, spread(b, &shape)?);
    let pairs = a.elements.iter().zip(&b.elements);
    let elements = pairs.map(|(x, y)| f(x, y, !a.dtype.is_float()));
    Some(Content {
        dtype: a.dtype,
        shape,
        elements: elements.collect::<Option<_>>()?,
    })
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
    let shape = broadcast(&broadcast(&condition.shape, &a.shape)?, &b.shape)?;
    let condition = spread(&condition, &shape)?.ints()?;
    let (a, b) = (spread(&a, &shape)?, spread(&b, &shape)?);
    if a.dtype != b.dtype {
        return None;
    }
    let sides = a.elements.into_iter().zip(b.elements).zip(condition);
    let elements = sides.map(|((a, b), yes)| if yes != 0 { a } else { b });
    Some(Content {
        dtype: a.dtype,
        shape,
        elements: elements.collect(),
    })
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
    (step != 0).then(|| Content {
        dtype,
        shape: smallvec![elements.len()],
        elements,
    })
}

fn filled<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let shape = im.ints(view, 0)?;
    let shape = { shape.iter() }.map(|n| usize::try_from(*n).ok());
    let shape: SmallVec<[usize; 2]> = shape.collect::<Option<_>>()?;
    let count = count(&shape).filter(|_| shape.len() <= 4)?;
    let (dtype, value) = match view.attribute("value").and_then(|a| a.t.as_deref()) {
        None => (DType::F32, Number::of(0.0)),
        Some(proto) => {
            let value = tensor::tensor(proto, "", None, &mut im.external).ok()??;
            let content = Content::of(&value)?;
            (content.dtype, content.only()?.clone())
        }
    };
    Some(Content {
        dtype,
        shape,
        elements: vec![value; count],
    })
}

/// A reduction over all elements of a list.
fn reduce<'m>(im: &mut Importer<'m>, view: &View<'m>) -> Option<Content> {
    let given = view.ints("axes").is_some() || view.input(1).is_some();
    let axes = match given {
        true => axes(im, view)?,
        false if view.int("noop_with_empty_axes", 0) == 0 => Vec::new(),
        false => return None,
    };
    let x = im.content(view.input(0)?)?;
    let over_all = x.shape.len() == 1 && axes.iter().all(|a| matches!(a, 0 | -1));
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
    Some(Content {
        dtype: x.dtype,
        shape: match view.int("keepdims", 1) {
            0 => smallvec![],
            _ => smallvec![1],
        },
        elements: vec![result],
    })
}

/// The shape that both have, lengths of 1 being repeated.
fn broadcast(a: &[usize], b: &[usize]) -> Option<SmallVec<[usize; 2]>> {
    let rank = a.len().max(b.len());
    let at = |shape: &[usize], axis: usize| match (axis + shape.len()).checked_sub(rank) {
        Some(i) => shape[i],
        None => 1,
    };
    let length = |axis| match (at(a, axis), at(b, axis)) {
        (n, m) if n == m || m == 1 => Some(n),
        (1, m) => Some(m),
        _ => None,
    };
    (0..rank).map(length).collect()
}

/// The elements repeated to this shape.
fn spread(x: &Content, shape: &[usize]) -> Option<Content> {
    if x.shape[..] == *shape {
        return Some(x.clone());
    }
    let count = count(shape).filter(|_| shape.len() >= x.shape.len())?;
    let skipped = shape.len() - x.shape.len();
    let element = |mut i: usize| {
        let (mut at, mut stride) = (0, 1);
        for (axis, length) in shape.iter().enumerate().rev() {
            let position = i % length;
            i /= length;
            if let Some(own) = axis.checked_sub(skipped).map(|axis| x.shape[axis]) {
                at += if own == 1 { 0 } else { position * stride };
                stride *= own;
            }
        }
        x.elements.get(at).cloned()
    };
    Some(Content {
        dtype: x.dtype,
        shape: shape.into(),
        elements: (0..count).map(element).collect::<Option<_>>()?,
    })
}
