//! Tensors that share memory: what is written through one name is seen through the others.
//!
//! The graph knows values, not memory. So an in-place operator gives its own tensor a new value; the tensor that it is a view
//! of, the old value with that part replaced; and every other view, the same part of the new value. Where PyTorch itself decides
//! at run time whether a result is a view or a copy (`reshape`, `contiguous`), and where it is not known how to replace what an
//! operator views, the others may not be read any more.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use rustc_hash::FxHashSet;

use super::{Builder, Eval};
use crate::ir::{self, Op};

/// A tensor as all names that hold it see it: an in-place operator changes the cell, hence every name.
pub(in crate::formats) type TensorRef = Rc<RefCell<TensorCell>>;

/// One tensor object of the evaluated program.
pub(in crate::formats) struct TensorCell {
    pub value: ir::Value,
    /// Parameters and buffers: writing to them would be state.
    pub state: bool,
    /// Why the value may no longer be read: memory it shares was written through another view.
    pub stale: Option<Rc<str>>,
    link: Link,
    family: Rc<Family>,
}

/// Where a tensor's memory comes from.
enum Link {
    /// Its own.
    Own,
    /// Another tensor's: `made` was computed from its value `of`.
    View {
        base: TensorRef,
        of: ir::Value,
        made: ir::Value,
    },
    /// Its own or another's, which shows at run time.
    Either,
}

/// Tensors that may share memory.
#[derive(Default)]
struct Family {
    members: RefCell<Vec<Weak<RefCell<TensorCell>>>>,
}

/// Operators between a tensor and its view.
const MAX_CHAIN: usize = 8;

/// A tensor with memory of its own.
pub(in crate::formats) fn fresh(value: ir::Value) -> TensorRef {
    join(value, false, Link::Own, Rc::default())
}

/// A tensor of the model's state.
pub(in crate::formats) fn state(value: ir::Value) -> TensorRef {
    join(value, true, Link::Own, Rc::default())
}

/// Whether something was written into a tensor that held `first`.
pub(in crate::formats) fn is_written(cell: &TensorRef, first: ir::Value) -> bool {
    let cell = cell.borrow();
    cell.value != first || cell.stale.is_some()
}

/// A view of `base`.
pub(in crate::formats) fn view(base: &TensorRef, value: ir::Value) -> TensorRef {
    let link = Link::View {
        base: base.clone(),
        of: base.borrow().value,
        made: value,
    };
    let (state, family) = family_of(base);
    join(value, state, link, family)
}

/// A view of `base`, or a copy.
pub(in crate::formats) fn view_or_copy(base: &TensorRef, value: ir::Value) -> TensorRef {
    let (state, family) = family_of(base);
    join(value, state, Link::Either, family)
}

fn family_of(cell: &TensorRef) -> (bool, Rc<Family>) {
    let cell = cell.borrow();
    (cell.state, cell.family.clone())
}

fn join(value: ir::Value, state: bool, link: Link, family: Rc<Family>) -> TensorRef {
    let cell = Rc::new(RefCell::new(TensorCell {
        value,
        state,
        stale: None,
        link,
        family: family.clone(),
    }));
    family.members.borrow_mut().push(Rc::downgrade(&cell));
    cell
}

/// The tensor that `cell` is a view of, and the values between which the view leads.
fn base_of(cell: &TensorRef) -> Option<(TensorRef, ir::Value, ir::Value)> {
    match &cell.borrow().link {
        Link::View { base, of, made } => Some((base.clone(), *of, *made)),
        Link::Own | Link::Either => None,
    }
}

/// Gives `cell` the value that an in-place operator computed, and all that share its memory what follows from it.
pub(in crate::formats) fn overwrite(
    ev: &mut dyn Builder,
    cell: &TensorRef,
    value: ir::Value,
    why: &Rc<str>,
) -> Eval<()> {
    cell.borrow_mut().value = value;
    let mut current = FxHashSet::from_iter([Rc::as_ptr(cell)]);
    let mut child = cell.clone();
    while let Some((base, of, made)) = base_of(&child) {
        let (whole, part) = (base.borrow().value, child.borrow().value);
        let is_stale = base.borrow().stale.is_some();
        let Some(value) = put(ev, made, of, whole, part)?.filter(|_| !is_stale) else {
            break;
        };
        base.borrow_mut().value = value;
        current.insert(Rc::as_ptr(&base));
        child = base;
    }
    // In the order of their making a tensor comes before its views.
    let family = cell.borrow().family.clone();
    let members: Vec<TensorRef> = family
        .members
        .borrow()
        .iter()
        .filter_map(Weak::upgrade)
        .collect();
    family
        .members
        .borrow_mut()
        .retain(|member| member.strong_count() > 0);
    for member in members {
        if current.contains(&Rc::as_ptr(&member)) {
            continue;
        }
        let value = match base_of(&member) {
            Some((base, of, made)) if current.contains(&Rc::as_ptr(&base)) => {
                let whole = base.borrow().value;
                take(ev, made, of, whole)?
            }
            _ => None,
        };
        let mut tensor = member.borrow_mut();
        match value {
            Some(value) => {
                tensor.value = value;
                tensor.stale = None;
                current.insert(Rc::as_ptr(&member));
            }
            None => tensor.stale = Some(why.clone()),
        }
    }
    Ok(())
}

/// An operator between a tensor and its view.
struct Step {
    op: Op,
    /// What it views, and the sizes that an unknown operator reads at run time.
    operands: Vec<ir::Value>,
}

impl Step {
    /// The operands with another tensor to view.
    fn of(&self, viewed: ir::Value) -> Vec<ir::Value> {
        let sizes = self.operands.iter().skip(1).copied();
        std::iter::once(viewed).chain(sizes).collect()
    }
}

/// The operators that lead from `of` to `made`, the last one first.
fn chain(ev: &dyn Builder, made: ir::Value, of: ir::Value) -> Option<Vec<Step>> {
    let mut chain = Vec::new();
    let mut value = made;
    while value != of {
        let op = ev.graph().op(value.node)?.clone();
        let operands = ev.graph().operands(value.node).to_vec();
        let first = *operands.first()?;
        let is_view = operands.len() == 1 || matches!(op, Op::Opaque(_));
        if !is_view || value.port > 0 || chain.len() == MAX_CHAIN {
            return None;
        }
        chain.push(Step { op, operands });
        value = first;
    }
    Some(chain)
}

/// The part of `whole` that `made` is of `of`.
fn take(
    ev: &mut dyn Builder,
    made: ir::Value,
    of: ir::Value,
    whole: ir::Value,
) -> Eval<Option<ir::Value>> {
    let Some(chain) = chain(ev, made, of) else {
        return Ok(None);
    };
    let mut value = whole;
    for step in chain.iter().rev() {
        match ev.emit(step.op.name(), step.op.clone(), &step.of(value))? {
            Some(part) => value = part,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

/// `whole` with the part that `made` is of `of` replaced by `part`.
fn put(
    ev: &mut dyn Builder,
    made: ir::Value,
    of: ir::Value,
    whole: ir::Value,
    part: ir::Value,
) -> Eval<Option<ir::Value>> {
    let Some(chain) = chain(ev, made, of) else {
        return Ok(None);
    };
    let mut part = part;
    for step in chain {
        let operand = step.operands[0];
        let value = match &step.op {
            Op::Dropout { .. } | Op::Identity {} => Some(part),
            Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => {
                match ev.shape(operand) {
                    Some(shape) => ev.emit("reshape", Op::Reshape { shape }, &[part])?,
                    None => None,
                }
            }
            Op::Transpose { perm } => {
                let mut inverse = perm.clone();
                perm.iter()
                    .enumerate()
                    .for_each(|(i, axis)| inverse[*axis] = i);
                ev.emit("permute", Op::Transpose { perm: inverse }, &[part])?
            }
            Op::Slice {
                axis,
                start,
                end,
                step,
            } if operand == of => {
                Some(ev.slice_scatter([whole, part], *axis, [start, end], *step)?)
            }
            Op::Opaque(view) if operand == of => ev.scatter(view, &step.of(whole), part)?,
            _ => None,
        };
        match value {
            Some(value) => part = value,
            None => return Ok(None),
        }
    }
    Ok(Some(part))
}
