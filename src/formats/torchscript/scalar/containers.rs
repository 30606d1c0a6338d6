//! Lists, tuples, dictionaries and strings.

use std::rc::Rc;

use super::compare::same;
use crate::formats::torchscript::eval::{Args, Eval, Evaluator, MAX_ITEMS};
use crate::formats::torchscript::value::Value;

impl<'a> Evaluator<'a> {
    /// Operators on Python's own containers, whatever they contain; `None` if this is none of them.
    pub(super) fn structural(&mut self, name: &str, args: &Args<'a>) -> Eval<Option<Value<'a>>> {
        let value = match (name, args.positional.as_slice()) {
            ("append", [Value::List(list), item]) => {
                args.positional[0].deepen(item);
                self.check_depth(&args.positional[0])?;
                list.items.borrow_mut().push(item.clone());
                self.check_items(list.items.borrow().len())?;
                Value::List(list.clone())
            }
            ("extend" | "add_", [Value::List(list), more]) => {
                let Some(more) = more.items() else {
                    return Ok(None);
                };
                more.iter().for_each(|item| args.positional[0].deepen(item));
                self.check_depth(&args.positional[0])?;
                list.items.borrow_mut().extend(more);
                self.check_items(list.items.borrow().len())?;
                Value::List(list.clone())
            }
            ("insert", [Value::List(list), at, item]) => {
                let Some(at) = at.as_int() else {
                    return Ok(None);
                };
                args.positional[0].deepen(item);
                self.check_depth(&args.positional[0])?;
                let mut items = list.items.borrow_mut();
                let len = items.len() as i64;
                items.insert(
                    if at < 0 { at + len } else { at }.clamp(0, len) as usize,
                    item.clone(),
                );
                Value::None
            }
            ("pop", [Value::List(list), rest @ ..]) => {
                let mut items = list.items.borrow_mut();
                let at = rest.first().map_or(Some(-1), Value::as_int);
                match at.and_then(|at| position(at, items.len())) {
                    Some(at) => items.remove(at),
                    None => {
                        drop(items);
                        return self.fail(
                            "pop from outside a list",
                            "trace the model with another example",
                        );
                    }
                }
            }
            ("clear", [Value::List(list)]) => {
                list.items.borrow_mut().clear();
                Value::None
            }
            ("reverse", [Value::List(list)]) => {
                list.items.borrow_mut().reverse();
                Value::None
            }
            ("list" | "copy", [Value::List(list)]) => Value::list(list.items.borrow().clone()),
            ("len", [Value::Str(text)]) => Value::Int(text.chars().count() as i64),
            ("len", [Value::Dict(dict)]) => Value::Int(dict.items.borrow().len() as i64),
            ("len", [value]) => match value.items() {
                Some(items) => Value::Int(items.len() as i64),
                None => return Ok(None),
            },
            ("add", [a @ (Value::List(_) | Value::Tuple(_)), b]) => match (a.items(), b.items()) {
                (Some(mut a), Some(b)) => {
                    a.extend(b);
                    self.check_items(a.len())?;
                    Value::list(a)
                }
                _ => return Ok(None),
            },
            ("mul", [Value::List(list), n]) => {
                let (items, n) = (list.items.borrow(), n.as_int().unwrap_or(0).max(0) as usize);
                self.check_items(items.len().saturating_mul(n))?;
                Value::list(
                    items
                        .iter()
                        .cycle()
                        .take(items.len() * n)
                        .cloned()
                        .collect(),
                )
            }
            ("slice", [Value::List(_) | Value::Tuple(_), ..]) => {
                let items = args.positional[0].items().unwrap_or_default();
                let bound = |i: usize, default: i64| match args.positional.get(i) {
                    None | Some(Value::None) => Some(default),
                    Some(value) => value.as_int(),
                };
                let (Some(start), Some(end), Some(step)) =
                    (bound(1, 0), bound(2, i64::MAX), bound(3, 1))
                else {
                    return Ok(None);
                };
                let len = items.len() as i64;
                let clamp =
                    |i: i64| (if i < 0 { i.saturating_add(len) } else { i }).clamp(0, len) as usize;
                let (start, end) = (clamp(start), clamp(end));
                let part = items.get(start..end.max(start)).unwrap_or_default();
                Value::list(part.iter().step_by(step.max(1) as usize).cloned().collect())
            }
            (
                "__getitem__" | "select",
                [
                    list @ (Value::List(_) | Value::Tuple(_) | Value::Dict(_)),
                    index,
                ],
            ) => self.item(list, index)?,
            ("_set_item", [list, index, value]) => {
                self.set_item(list, index.clone(), value.clone())?;
                Value::None
            }
            ("keys", [Value::Dict(dict)]) => {
                Value::list(dict.items.borrow().iter().map(|(k, _)| k.clone()).collect())
            }
            ("values", [Value::Dict(dict)]) => {
                Value::list(dict.items.borrow().iter().map(|(_, v)| v.clone()).collect())
            }
            ("items", [Value::Dict(dict)]) => {
                let pair =
                    |(k, v): &(Value<'a>, Value<'a>)| Value::tuple(vec![k.clone(), v.clone()]);
                Value::list(dict.items.borrow().iter().map(pair).collect())
            }
            ("get", [Value::Dict(dict), key, rest @ ..]) => {
                let found = dict
                    .items
                    .borrow()
                    .iter()
                    .find(|(k, _)| same(k, key) == Some(true))
                    .map(|(_, v)| v.clone());
                found
                    .or_else(|| rest.first().cloned())
                    .unwrap_or(Value::None)
            }
            ("__contains__", [container, key]) => {
                let keys: Vec<Value<'a>> = match container {
                    Value::Dict(dict) => {
                        dict.items.borrow().iter().map(|(k, _)| k.clone()).collect()
                    }
                    value => match value.items() {
                        Some(items) => items,
                        None => return Ok(None),
                    },
                };
                match (key, keys.iter().any(|k| same(k, key) == Some(true))) {
                    (Value::Unknown(_), false) => key.clone(),
                    (_, found) => Value::Bool(found),
                }
            }
            ("__is__" | "__isnot__", [a, b]) => {
                let is = match (a, b) {
                    (Value::None, Value::None) => true,
                    (Value::None, _) | (_, Value::None) => false,
                    (Value::Tensor(a), Value::Tensor(b)) => Rc::ptr_eq(a, b),
                    (a, b) => same(a, b).unwrap_or(false),
                };
                Value::Bool(is == (name == "__is__"))
            }
            ("__not__", [value]) => match self.known_bool(value) {
                Some(b) => Value::Bool(!b),
                None => return Ok(None),
            },
            ("format", [Value::Str(pattern), rest @ ..]) => self.format(pattern, rest)?,
            ("percentFormat", [Value::Str(pattern), ..]) => Value::Str(pattern.clone()),
            ("add", [Value::Str(a), Value::Str(b)]) => {
                self.check_items(a.len() + b.len())?;
                Value::Str(format!("{a}{b}").into())
            }
            ("dict", []) => Value::dict(None, Vec::new()),
            ("warn", _) => Value::None,
            // Questions about how the code is run: answered so that the general path is taken, which computes the same.
            ("is_grad_enabled", []) => Value::Bool(true),
            (
                "is_autocast_enabled" | "is_autocast_cpu_enabled" | "is_scripting" | "is_tracing",
                _,
            )
            | ("backends.mha.get_fastpath_enabled", []) => Value::Bool(false),
            ("device", [Value::Str(name), ..]) => Value::Device(name.clone()),
            ("str", [value]) => Value::Str(self.show(value, 0)?.into()),
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    pub(super) fn check_items(&self, n: usize) -> Eval<()> {
        if n > MAX_ITEMS {
            return self.limit(format!("a list or string of {n} elements"));
        }
        Ok(())
    }

    /// `list[index]`.
    pub(in crate::formats::torchscript) fn item(
        &mut self,
        list: &Value<'a>,
        index: &Value<'a>,
    ) -> Eval<Value<'a>> {
        if let Value::Dict(dict) = list {
            let items = dict.items.borrow();
            return match items.iter().find(|(k, _)| same(k, index) == Some(true)) {
                Some((_, value)) => Ok(value.clone()),
                None => self.fail(
                    "a dictionary has no such key",
                    "trace the model with another example",
                ),
            };
        }
        if let Value::Run(run) = list {
            let args = Args {
                positional: vec![Value::Run(*run), index.clone()],
                keyword: vec![],
            };
            return self.opaque_item(args);
        }
        let (Some(items), Some(at)) = (list.items(), index.as_int()) else {
            return self.fail(
                format!("{} is indexed by {}", list.kind(), index.kind()),
                "trace the model (torch.jit.trace) instead of scripting it",
            );
        };
        match position(at, items.len()) {
            Some(at) => Ok(items[at].clone()),
            None => self.fail(
                format!("index {at} of a list of {}", items.len()),
                "trace the model with another example",
            ),
        }
    }

    /// `list[index] = value`.
    pub(in crate::formats::torchscript) fn set_item(
        &mut self,
        list: &Value<'a>,
        index: Value<'a>,
        value: Value<'a>,
    ) -> Eval<()> {
        list.deepen(&value);
        self.check_depth(list)?;
        match list {
            Value::List(list) => {
                let mut items = list.items.borrow_mut();
                if let Some(at) = index.as_int().and_then(|at| position(at, items.len())) {
                    items[at] = value;
                    return Ok(());
                }
            }
            Value::Dict(dict) => {
                let mut items = dict.items.borrow_mut();
                match items
                    .iter_mut()
                    .find(|(k, _)| same(k, &index) == Some(true))
                {
                    Some(slot) => slot.1 = value,
                    None => items.push((index, value)),
                }
                return Ok(());
            }
            _ => {}
        }
        self.fail(
            "this element cannot be assigned",
            "trace the model (torch.jit.trace) instead of scripting it",
        )
    }
}

/// Where index `at` of a list of `len` is; negative counts from the end.
fn position(at: i64, len: usize) -> Option<usize> {
    let at = if at < 0 {
        at.checked_add(len as i64)?
    } else {
        at
    };
    usize::try_from(at).ok().filter(|&at| at < len)
}
