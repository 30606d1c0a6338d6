//! The values that the partial evaluator computes with.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::code::Function;
use crate::formats::aten::TensorRef;
use crate::formats::pickle;
use crate::ir;
use crate::ir::Dim;

/// What a name of the model's code can hold while it is evaluated.
#[derive(Clone)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer that is known when the network runs: an expression over the inputs' sizes.
    Size(Dim),
    Float(f64),
    Str(Rc<str>),
    Device(Rc<str>),
    /// A tensor without dimensions that holds a number, as traces wrap sizes.
    ZeroDim(Rc<Value<'a>>),
    Tensor(TensorRef),
    /// A run-time value that is no tensor: the result of an opaque operator.
    Run(ir::Value),
    /// A number, text or truth value that depends on what is known only at run time: the reason in words, and the running
    /// network's own value where there is one.
    Unknown {
        why: Rc<str>,
        run: Option<ir::Value>,
    },
    List(Rc<ListValue<'a>>),
    Tuple(Rc<TupleValue<'a>>),
    Dict(Rc<DictValue<'a>>),
    Module(ModuleRef),
    /// An instance of a plain class that the code itself makes.
    Object(Rc<ObjectValue<'a>>),
    Function(Function<'a>),
    Uninitialized,
}

/// A list: Python's, mutable and shared.
pub(super) struct ListValue<'a> {
    /// The declared type, such as `List[int]`, where an annotation gave one.
    pub ty: Option<Rc<str>>,
    pub items: RefCell<Vec<Value<'a>>>,
    depth: Cell<u32>,
}

/// A tuple; with a class if it is a named one.
pub(super) struct TupleValue<'a> {
    /// Qualified name of its `NamedTuple` class.
    pub class: Option<Rc<str>>,
    pub items: Vec<Value<'a>>,
    depth: u32,
}

/// A dictionary in order of insertion.
pub(super) struct DictValue<'a> {
    pub ty: Option<Rc<str>>,
    pub items: RefCell<Vec<(Value<'a>, Value<'a>)>>,
    depth: Cell<u32>,
}

/// An instance made by the code.
pub(super) struct ObjectValue<'a> {
    pub class: Rc<str>,
    pub attrs: RefCell<Vec<(Rc<str>, Value<'a>)>>,
    depth: Cell<u32>,
}

/// A module of the archive, and the attribute path by which it was reached.
#[derive(Clone)]
pub(super) struct ModuleRef {
    pub id: pickle::Id,
    pub path: Rc<str>,
}

impl<'a> Value<'a> {
    pub(super) fn str(text: &str) -> Self {
        Value::Str(text.into())
    }

    pub(super) fn list(items: Vec<Value<'a>>) -> Self {
        Value::typed_list(None, items)
    }

    pub(super) fn typed_list(ty: Option<Rc<str>>, items: Vec<Value<'a>>) -> Self {
        let depth = Cell::new(depth_of(items.iter()));
        Value::List(Rc::new(ListValue {
            ty,
            items: RefCell::new(items),
            depth,
        }))
    }

    pub(super) fn tuple(items: Vec<Value<'a>>) -> Self {
        Value::named_tuple(None, items)
    }

    pub(super) fn named_tuple(class: Option<Rc<str>>, items: Vec<Value<'a>>) -> Self {
        let depth = depth_of(items.iter());
        Value::Tuple(Rc::new(TupleValue {
            class,
            items,
            depth,
        }))
    }

    pub(super) fn dict(ty: Option<Rc<str>>, items: Vec<(Value<'a>, Value<'a>)>) -> Self {
        let depth = Cell::new(depth_of(items.iter().map(|(_, v)| v)));
        Value::Dict(Rc::new(DictValue {
            ty,
            items: RefCell::new(items),
            depth,
        }))
    }

    pub(super) fn object(class: &str) -> Rc<ObjectValue<'a>> {
        Rc::new(ObjectValue {
            class: class.into(),
            attrs: RefCell::default(),
            depth: Cell::new(1),
        })
    }

    /// How deeply containers nest in this value: bounded, as dropping and printing them recurse.
    pub(super) fn depth(&self) -> u32 {
        match self {
            Value::List(list) => list.depth.get(),
            Value::Tuple(tuple) => tuple.depth,
            Value::Dict(dict) => dict.depth.get(),
            Value::Object(object) => object.depth.get(),
            Value::ZeroDim(inner) => inner.depth() + 1,
            _ => 0,
        }
    }

    /// Notes that `item` was put into this container.
    pub(super) fn deepen(&self, item: &Value<'a>) {
        let cell = match self {
            Value::List(list) => &list.depth,
            Value::Dict(dict) => &dict.depth,
            Value::Object(object) => &object.depth,
            _ => return,
        };
        cell.set(cell.get().max(item.depth().saturating_add(1)));
    }

    /// A size, as a number where it is one.
    pub(super) fn size(dim: Dim) -> Self {
        match dim.as_number() {
            Some(n) => Value::Int(n),
            None => Value::Size(dim),
        }
    }

    /// The elements of a list or tuple.
    pub(super) fn items(&self) -> Option<Vec<Value<'a>>> {
        match self {
            Value::List(list) => Some(list.items.borrow().clone()),
            Value::Tuple(tuple) => Some(tuple.items.clone()),
            _ => None,
        }
    }

    /// The value inside a tensor without dimensions, or the value itself.
    pub(super) fn unwrap_zero_dim(&self) -> &Value<'a> {
        match self {
            Value::ZeroDim(inner) => inner,
            other => other,
        }
    }

    pub(super) fn as_dim(&self) -> Option<Dim> {
        match self.unwrap_zero_dim() {
            Value::Int(n) => Some(Dim::from(*n)),
            Value::Bool(b) => Some(Dim::from(i64::from(*b))),
            Value::Size(dim) => Some(dim.clone()),
            _ => None,
        }
    }

    pub(super) fn as_int(&self) -> Option<i64> {
        self.as_dim()?.as_number()
    }

    pub(super) fn as_f64(&self) -> Option<f64> {
        match self.unwrap_zero_dim() {
            Value::Float(x) => Some(*x),
            other => other.as_int().map(|n| n as f64),
        }
    }

    /// Whether this is decided by the running network: a tensor, or the result of an opaque operator.
    pub(super) fn is_run(&self) -> bool {
        self.is_run_within(&mut MAX_VISITS.clone())
    }

    fn is_run_within(&self, visits: &mut u32) -> bool {
        *visits = visits.saturating_sub(1);
        if *visits == 0 {
            return false;
        }
        match self {
            Value::Tensor(_) | Value::Run(_) => true,
            Value::List(list) => list.items.borrow().iter().any(|v| v.is_run_within(visits)),
            Value::Tuple(tuple) => tuple.items.iter().any(|v| v.is_run_within(visits)),
            Value::Dict(dict) => dict
                .items
                .borrow()
                .iter()
                .any(|(_, v)| v.is_run_within(visits)),
            _ => false,
        }
    }

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) | Value::Size(_) => "an int",
            Value::Float(_) => "a float",
            Value::Str(_) => "a str",
            Value::Device(_) => "a device",
            Value::Tensor(_) | Value::ZeroDim(_) => "a tensor",
            Value::Run(_) | Value::Unknown { .. } => "a value known only at run time",
            Value::List(_) => "a list",
            Value::Tuple(_) => "a tuple",
            Value::Dict(_) => "a dict",
            Value::Module(_) => "a module",
            Value::Object(_) => "an object",
            Value::Function(_) => "a function",
            Value::Uninitialized => "an uninitialized value",
        }
    }
}

/// Values looked at in one walk over a container: lists may share their items, and grow exponentially when unshared.
pub(super) const MAX_VISITS: u32 = 1 << 17;

fn depth_of<'v, 'a: 'v>(items: impl Iterator<Item = &'v Value<'a>>) -> u32 {
    items.map(Value::depth).max().unwrap_or(0).saturating_add(1)
}

/// A float as Python reads it back to the same bits.
pub(super) fn print_float(x: f64) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let text = format!("{x:?}");
    // Rust prints `1e-5` and `1e16`: Python reads both as floats.
    if text.contains(['.', 'e']) {
        text
    } else {
        format!("{text}.0")
    }
}

/// A string as a Python literal.
pub(super) fn print_str(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if (c as u32) < 32 || c as u32 == 127 => out.push_str(&format!("\\{:03o}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
