//! Operators on Python's containers and texts: those that several of them share, and which file has the others.

use std::rc::Rc;

use super::OUTSIDE;
use super::compare::{find, same};
use crate::formats::sizes::position;
use crate::formats::torchscript::eval::{Args, Eval, Evaluator, MAX_ITEMS};
use crate::formats::torchscript::value::Value;
use crate::formats::words::among;
use crate::ir::Type;

impl<'a> Evaluator<'a> {
    /// Operators on Python's own containers, whatever they contain; `None` if this is none of them.
    pub(super) fn structural(&mut self, name: &str, args: &Args<'a>) -> Eval<Option<Value<'a>>> {
        let value = match (name, args.positional.as_slice()) {
            ("len", [value @ (Value::List(_) | Value::Tuple(_))]) => {
                Value::Int(value.items().map_or(0, |items| items.len()) as i64)
            }
            ("add", [a @ (Value::List(_) | Value::Tuple(_)), b]) => return self.joined(a, b),
            ("mul", [Value::Int(_), Value::List(list)]) => {
                let args = Args::of([args.positional[1].clone(), args.positional[0].clone()]);
                return self.list_method(name, list, &args);
            }
            ("slice", [Value::List(_) | Value::Tuple(_), ..]) => return self.list_slice(args),
            ("sorted", [value]) => return self.sorted_copy(value),
            (
                "__getitem__" | "select",
                [
                    list @ (Value::List(_) | Value::Tuple(_) | Value::Dict(_)),
                    index,
                ],
            ) => self.item(list, index)?,
            ("__contains__", [container, key]) if !matches!(container, Value::Str(_)) => {
                return self.contains(container, key, args);
            }
            ("__is__" | "__isnot__", [a, b]) => match identical(a, b) {
                Some(is) => Value::Bool(is == (name == "__is__")),
                None => return self.refuse(name, a),
            },
            ("__not__", [value]) => match self.known_bool(value) {
                Some(b) => Value::Bool(!b),
                None => return Ok(None),
            },
            ("dict", []) => Value::dict(None, Vec::new()),
            ("chr", [value]) => match value.as_int().and_then(|n| u8::try_from(n).ok()) {
                Some(n @ ..128) => Value::str((n as char).encode_utf8(&mut [0; 4])),
                _ => return self.refuse(name, value),
            },
            ("hex" | "oct" | "bin", [value]) => match value.as_int() {
                Some(n) => Value::str(&radix(name, n)),
                None => return self.refuse(name, value),
            },
            ("warn" | "manual_seed" | "_print", _) => Value::None,
            // Questions about how the code is run: answered so that the general path is taken, which computes the same.
            ("is_grad_enabled", []) => Value::Bool(true),
            (
                "is_autocast_enabled" | "is_autocast_cpu_enabled" | "is_scripting" | "is_tracing",
                _,
            )
            | ("backends.mha.get_fastpath_enabled", []) => Value::Bool(false),
            ("device", [Value::Str(name), ..]) => Value::Device(name.clone()),
            ("str", [value]) => self.str_of(value)?,
            (_, [Value::List(_) | Value::Dict(_), ..]) if self.quiet && changes(name) => {
                self.changes_something()?;
                return Ok(None);
            }
            (_, [Value::List(list), ..]) => return self.list_method(name, &list.clone(), args),
            (_, [Value::Dict(dict), ..]) => return self.dict_method(name, &dict.clone(), args),
            (_, [Value::Str(text), ..]) => return self.str_method(name, &text.clone(), args),
            // What the running network makes can be asked, not changed: nothing says when.
            (_, [list @ Value::Run(_), ..]) if changes(name) && self.list_type(list).is_some() => {
                return self.refuse(name, list);
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// Two lists or tuples as one.
    fn joined(&mut self, a: &Value<'a>, b: &Value<'a>) -> Eval<Option<Value<'a>>> {
        let (Some(mut joined), Some(more)) = (a.items(), b.items()) else {
            return Ok(None);
        };
        joined.extend(more);
        self.check_items(joined.len())?;
        Ok(Some(match a {
            Value::Tuple(_) => Value::tuple(joined),
            _ => Value::list(joined),
        }))
    }

    /// `key in container`.
    fn contains(
        &mut self,
        container: &Value<'a>,
        key: &Value<'a>,
        args: &Args<'a>,
    ) -> Eval<Option<Value<'a>>> {
        let found = match container {
            Value::Dict(dict) => find(dict.items.borrow().iter().map(|(k, _)| k), key),
            value => match value.items() {
                Some(items) => find(items.iter(), key),
                None => None,
            },
        };
        if let Some(found) = found {
            return Ok(Some(Value::Bool(found.is_some())));
        }
        let why = match key {
            Value::Unknown { why, .. } => why.to_string(),
            Value::Size(size) => {
                format!("a condition looks for the size {size}, known only when the model runs")
            }
            _ => "a condition looks for a value known only when the model runs".to_owned(),
        };
        Ok(Some(self.unknown(why.into(), "__contains__", args, "bool")))
    }

    /// What is known only at run time, with the reason, as the result of an operator.
    pub fn unknown(&mut self, why: Rc<str>, name: &str, args: &Args<'a>, ty: &str) -> Value<'a> {
        let types = vec![Type::Other(ty.into())];
        let run = match self.opaque(&format!("torch.{name}"), args.clone(), types) {
            Ok(Value::Run(value)) => Some(value),
            _ => None,
        };
        Value::Unknown { why, run }
    }

    /// `str(value)`.
    pub(super) fn str_of(&mut self, value: &Value<'a>) -> Eval<Value<'a>> {
        let mut out = String::new();
        let exact = self.show(value, 0, &mut out)?;
        Ok(self.text(out, exact))
    }

    pub(super) fn check_items(&self, n: usize) -> Eval<()> {
        if n > MAX_ITEMS {
            return self.limit(format!("a list or string of {n} elements"), OUTSIDE);
        }
        Ok(())
    }

    /// `list[index]`.
    pub fn item(&mut self, list: &Value<'a>, index: &Value<'a>) -> Eval<Value<'a>> {
        match list {
            Value::Dict(dict) => {
                return match self.entry(dict, index)? {
                    Some(at) => Ok(dict.items.borrow()[at].1.clone()),
                    None => self.no_such("an index", "a dictionary"),
                };
            }
            Value::Str(text) => {
                let args = Args::of([list.clone(), index.clone()]);
                let item = self.str_method("__getitem__", &text.clone(), &args)?;
                return Ok(item.unwrap_or(Value::None));
            }
            _ => {}
        }
        let at = match index.as_int() {
            Some(at) if !matches!(list, Value::Run(_)) => at,
            // Which one it is, or what is there, shows at run time.
            _ => return self.item_at_run_time(list, index),
        };
        let Some(items) = list.items() else {
            return self.beyond(format!("{} is indexed by {}", list.kind(), index.kind()));
        };
        match position(at, items.len()) {
            Some(at) => Ok(items[at].clone()),
            None => self.fail(
                format!("index {at} of a list of {}", items.len()),
                "trace the model with another example",
            ),
        }
    }

    fn item_at_run_time(&mut self, list: &Value<'a>, index: &Value<'a>) -> Eval<Value<'a>> {
        let ty = match (list, self.list_type(list)) {
            (Value::Run(_), ty) => Some(ty.unwrap_or_default()),
            // A list in a list would be a copy of its own.
            (_, ty) => ty.filter(|ty| ty.matches('[').count() == 1),
        };
        match ty {
            Some(ty) => {
                let element = ty.strip_prefix("List[").and_then(|ty| ty.strip_suffix(']'));
                self.opaque_item(list, index, element.unwrap_or("int"))
            }
            None => self.beyond(format!("{} is indexed by {}", list.kind(), index.kind())),
        }
    }

    /// `list[index] = value`.
    pub fn set_item(&mut self, list: &Value<'a>, index: Value<'a>, value: Value<'a>) -> Eval<()> {
        self.put_in(list, std::slice::from_ref(&value))?;
        match list {
            Value::List(list) => {
                let mut items = list.items.borrow_mut();
                if let Some(at) = index.as_int().and_then(|at| position(at, items.len())) {
                    items[at] = value;
                    return Ok(());
                }
            }
            Value::Dict(_) => return self.set_entry(list, &index, &value),
            _ => {}
        }
        self.beyond("this element cannot be assigned")
    }
}

/// `a is b`, where that can be known.
fn identical<'a>(a: &Value<'a>, b: &Value<'a>) -> Option<bool> {
    Some(match (a, b) {
        (Value::None, Value::None) => true,
        (Value::None, _) | (_, Value::None) => false,
        (Value::Tensor(a), Value::Tensor(b)) => Rc::ptr_eq(a, b),
        (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        (a, b) => return same(a, b),
    })
}

/// Whether an operator changes the list or dictionary that it is given.
pub(super) fn changes(name: &str) -> bool {
    const NAMES: &str = "
        update setdefault popitem append extend insert pop remove Delete clear reverse sort add_ mul_ _set_item";
    among(NAMES, name)
}

/// `hex(n)`, `oct(n)` or `bin(n)`.
fn radix(name: &str, n: i64) -> String {
    let (sign, n) = (if n < 0 { "-" } else { "" }, n.unsigned_abs());
    match name {
        "hex" => format!("{sign}0x{n:x}"),
        "oct" => format!("{sign}0o{n:o}"),
        _ => format!("{sign}0b{n:b}"),
    }
}
