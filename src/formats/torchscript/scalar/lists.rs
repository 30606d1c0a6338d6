//! Lists and tuples.

use std::rc::Rc;

use super::compare::{find, sort_key};
use super::containers::changes;
use crate::formats::sizes::{from_front, position, slice_positions};
use crate::formats::torchscript::eval::{Args, Eval, Evaluator};
use crate::formats::torchscript::value::{ListValue, Value};
use crate::ir::Type;

impl<'a> Evaluator<'a> {
    /// A method of a list; `None` if this is none.
    pub(super) fn list_method(
        &mut self,
        name: &str,
        list: &Rc<ListValue<'a>>,
        args: &Args<'a>,
    ) -> Eval<Option<Value<'a>>> {
        self.spend(list.items.borrow().len())?;
        if changes(name) {
            return self.change_list(name, list, args);
        }
        let value = match (name, &args.positional[1..]) {
            ("copy" | "list", []) => {
                let items = list.items.borrow().clone();
                Value::typed_list(list.ty.clone(), items)
            }
            ("index", [item]) => {
                let found = find(list.items.borrow().iter(), item);
                match found {
                    Some(Some(at)) => Value::Int(at as i64),
                    Some(None) => return self.no_such("index", "a list"),
                    None => return self.asked_at_run_time(name, args, "int").map(Some),
                }
            }
            ("count", [item]) => {
                let items = list.items.borrow().clone();
                let equal = items.iter().map(|v| find([v].into_iter(), item));
                match equal.collect::<Option<Vec<_>>>() {
                    Some(found) => Value::Int(found.iter().flatten().count() as i64),
                    None => return self.asked_at_run_time(name, args, "int").map(Some),
                }
            }
            ("mul", [times]) => match times.as_int() {
                Some(times) => {
                    let items = list.items.borrow().clone();
                    Value::list(self.repeated(&items, times)?)
                }
                None => return Ok(None),
            },
            // Of known elements they are arithmetic.
            ("any" | "all" | "sum", []) if self.is_open(list) => {
                let element = list
                    .items
                    .borrow()
                    .first()
                    .and_then(|item| self.type_name(item));
                let ty = match name {
                    "sum" => element.unwrap_or_else(|| "int".to_owned()),
                    _ => "bool".to_owned(),
                };
                return self.asked_at_run_time(name, args, &ty).map(Some);
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// A method that changes a list.
    fn change_list(
        &mut self,
        name: &str,
        list: &Rc<ListValue<'a>>,
        args: &Args<'a>,
    ) -> Eval<Option<Value<'a>>> {
        let (whole, rest) = (&args.positional[0], &args.positional[1..]);
        let value = match (name, rest) {
            ("append", [item]) => {
                self.put_in(whole, std::slice::from_ref(item))?;
                list.items.borrow_mut().push(item.clone());
                whole.clone()
            }
            ("extend" | "add_", [more]) => {
                let Some(more) = more.items() else {
                    return self.refuse(name, whole);
                };
                self.check_items(list.items.borrow().len() + more.len())?;
                self.put_in(whole, &more)?;
                list.items.borrow_mut().extend(more);
                whole.clone()
            }
            ("mul_", [times]) => {
                let Some(times) = times.as_int() else {
                    return self.refuse(name, whole);
                };
                let repeated = self.repeated(&list.items.borrow().clone(), times)?;
                *list.items.borrow_mut() = repeated;
                whole.clone()
            }
            ("insert", [at, item]) => {
                let Some(at) = at.as_int() else {
                    return self.refuse(name, whole);
                };
                self.put_in(whole, std::slice::from_ref(item))?;
                let mut items = list.items.borrow_mut();
                let len = items.len() as i64;
                let at = from_front(at, len).clamp(0, len);
                items.insert(at as usize, item.clone());
                Value::None
            }
            ("pop", [] | [_]) => self.take_out(list, rest.first())?,
            ("Delete", [at]) => {
                self.take_out(list, Some(at))?;
                Value::None
            }
            ("remove", [item]) => {
                let found = find(list.items.borrow().iter(), item);
                match found {
                    Some(Some(at)) => drop(list.items.borrow_mut().remove(at)),
                    Some(None) => return self.no_such("remove", "a list"),
                    None => return self.refuse(name, whole),
                }
                Value::None
            }
            ("clear", []) => {
                list.items.borrow_mut().clear();
                Value::None
            }
            ("reverse", []) => {
                list.items.borrow_mut().reverse();
                Value::None
            }
            ("sort", [] | [Value::Bool(_)]) => {
                let falling = matches!(rest, [Value::Bool(true)]);
                let items = list.items.borrow().clone();
                match sorted(items, falling) {
                    Some(items) => *list.items.borrow_mut() = items,
                    None => return self.refuse(name, whole),
                }
                Value::None
            }
            ("_set_item", [index, value]) => {
                self.set_item(whole, index.clone(), value.clone())?;
                whole.clone()
            }
            _ => return Ok(None),
        };
        Ok(Some(value))
    }

    /// `sorted(list)`.
    pub(super) fn sorted_copy(&mut self, value: &Value<'a>) -> Eval<Option<Value<'a>>> {
        let Some(items) = value.items() else {
            return Ok(None);
        };
        self.spend(items.len())?;
        match sorted(items, false) {
            Some(items) => Ok(Some(Value::list(items))),
            None => self.refuse("sorted", value),
        }
    }

    /// `list[start:end:step]`; `None` where a bound is known only at run time.
    pub(super) fn list_slice(&mut self, args: &Args<'a>) -> Eval<Option<Value<'a>>> {
        let items = args.positional[0].items().unwrap_or_default();
        self.spend(items.len())?;
        let Some(bounds) = slice_bounds(&args.positional[1..]) else {
            return Ok(None);
        };
        let Some(positions) = slice_positions(items.len(), bounds) else {
            return self.damaged("a slice has a step of 0");
        };
        let part = positions.into_iter().map(|at| items[at].clone()).collect();
        Ok(Some(match &args.positional[0] {
            Value::Tuple(_) => Value::tuple(part),
            Value::List(list) => Value::typed_list(list.ty.clone(), part),
            _ => Value::list(part),
        }))
    }

    /// Notes that items are put into a list or dictionary, within the bounds of both.
    pub(super) fn put_in(&mut self, whole: &Value<'a>, items: &[Value<'a>]) -> Eval<()> {
        items.iter().for_each(|item| whole.deepen(item));
        self.check_depth(whole)?;
        match whole {
            Value::List(list) => self.check_items(list.items.borrow().len() + items.len()),
            _ => Ok(()),
        }
    }

    /// Removes an item, the last one if none is named.
    fn take_out(&mut self, list: &Rc<ListValue<'a>>, at: Option<&Value<'a>>) -> Eval<Value<'a>> {
        let Some(at) = at.map_or(Some(-1), Value::as_int) else {
            return self.refuse("pop", &Value::List(list.clone()));
        };
        let mut items = list.items.borrow_mut();
        match position(at, items.len()) {
            Some(at) => Ok(items.remove(at)),
            None => {
                drop(items);
                self.no_such("an index", "a list")
            }
        }
    }

    fn repeated(&mut self, items: &[Value<'a>], times: i64) -> Eval<Vec<Value<'a>>> {
        let times = usize::try_from(times).unwrap_or(0);
        let len = items.len().saturating_mul(times);
        self.check_items(len)?;
        Ok(items.iter().cycle().take(len).cloned().collect())
    }

    /// Whether an element is known only at run time, other than as a size.
    fn is_open(&self, list: &ListValue<'a>) -> bool {
        let open = |v: &Value<'a>| matches!(v, Value::Run(_) | Value::Unknown { .. });
        list.items.borrow().iter().any(open)
    }

    /// The error of asking a container for what it does not hold.
    pub(super) fn no_such<T>(&self, what: &str, container: &str) -> Eval<T> {
        self.fail(
            format!("{what} asks {container} for what it does not hold"),
            "trace the model with another example",
        )
    }

    /// The error of an operator that is not evaluated here, and may not be left to run time as it changes what it is given.
    pub(super) fn refuse<T>(&self, name: &str, value: &Value<'a>) -> Eval<T> {
        self.beyond(format!(
            "`{name}` of {} is not supported with these arguments",
            value.kind()
        ))
    }

    /// A question that only the running network answers.
    fn asked_at_run_time(&mut self, name: &str, args: &Args<'a>, ty: &str) -> Eval<Value<'a>> {
        let types = vec![Type::Other(ty.into())];
        self.opaque(&format!("torch.{name}"), args.clone(), types)
    }

    /// The type of a list as TorchScript writes it, where its elements tell.
    pub fn list_type(&self, value: &Value<'a>) -> Option<String> {
        match value {
            Value::List(list) => {
                let items = list.items.borrow();
                let declared = list.ty.as_deref().map(str::to_owned);
                let element = items.first().and_then(|item| self.type_name(item));
                element.map(|ty| format!("List[{ty}]")).or(declared)
            }
            Value::Run(value) => match self.graph.ty(*value) {
                Type::Other(name) if name.starts_with("List") => Some(name.to_string()),
                _ => None,
            },
            _ => None,
        }
    }

    /// The type of a value as TorchScript writes it, if it is a number, a text or a tensor.
    pub fn type_name(&self, value: &Value<'a>) -> Option<String> {
        Some(match value {
            Value::Int(_) | Value::Size(_) => "int".to_owned(),
            Value::Float(_) => "float".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Str(_) => "str".to_owned(),
            Value::Tensor(_) | Value::ZeroDim(_) => "Tensor".to_owned(),
            Value::Run(value)
            | Value::Unknown {
                run: Some(value), ..
            } => match self.graph.ty(*value) {
                Type::Other(name) => name.to_string(),
                Type::Tensor(..) => "Tensor".to_owned(),
            },
            _ => return None,
        })
    }
}

fn sorted<'a>(items: Vec<Value<'a>>, falling: bool) -> Option<Vec<Value<'a>>> {
    let mut keyed = Vec::with_capacity(items.len());
    for item in items {
        keyed.push((sort_key(&item)?, item));
    }
    keyed.sort_by(|(a, _), (b, _)| if falling { b.cmp(a) } else { a.cmp(b) });
    Some(keyed.into_iter().map(|(_, item)| item).collect())
}

/// Start, end and step, as far as they are given; `None` where one is known only at run time.
pub(super) fn slice_bounds(args: &[Value<'_>]) -> Option<[Option<i64>; 3]> {
    let mut bounds = [None; 3];
    for (bound, value) in bounds.iter_mut().zip(args) {
        *bound = match value {
            Value::None => None,
            value => Some(value.as_int()?),
        };
    }
    Some(bounds)
}
