//! Dictionaries, in order of insertion.

use std::rc::Rc;

use super::compare::find;
use crate::formats::torchscript::eval::{Args, Eval, Evaluator};
use crate::formats::torchscript::value::{DictValue, Value};

impl<'a> Evaluator<'a> {
    /// A method of a dictionary; `None` if this is none.
    pub(super) fn dict_method(
        &mut self,
        name: &str,
        dict: &Rc<DictValue<'a>>,
        args: &Args<'a>,
    ) -> Eval<Option<Value<'a>>> {
        let whole = &args.positional[0];
        let rest = &args.positional[1..];
        self.spend(dict.items.borrow().len())?;
        let value = match (name, rest) {
            ("len", []) => Value::Int(dict.items.borrow().len() as i64),
            ("keys", []) => {
                Value::list(dict.items.borrow().iter().map(|(k, _)| k.clone()).collect())
            }
            ("values", []) => {
                Value::list(dict.items.borrow().iter().map(|(_, v)| v.clone()).collect())
            }
            ("items", []) => {
                let pair =
                    |(k, v): &(Value<'a>, Value<'a>)| Value::tuple(vec![k.clone(), v.clone()]);
                Value::list(dict.items.borrow().iter().map(pair).collect())
            }
            ("copy" | "dict", []) => {
                let items = dict.items.borrow().clone();
                Value::dict(dict.ty.clone(), items)
            }
            ("clear", []) => {
                dict.items.borrow_mut().clear();
                Value::None
            }
            ("get", [key, default @ ..]) => match self.entry(dict, key)? {
                Some(at) => dict.items.borrow()[at].1.clone(),
                None => default.first().cloned().unwrap_or(Value::None),
            },
            ("__getitem__", [key]) => self.item(whole, key)?,
            ("_set_item", [key, value]) => {
                self.set_entry(whole, key, value)?;
                Value::None
            }
            ("setdefault", [key, default]) => match self.entry(dict, key)? {
                Some(at) => dict.items.borrow()[at].1.clone(),
                None => {
                    self.set_entry(whole, key, default)?;
                    default.clone()
                }
            },
            ("update", [Value::Dict(more)]) => {
                let more = more.items.borrow().clone();
                for (key, value) in &more {
                    self.set_entry(whole, key, value)?;
                }
                Value::None
            }
            ("pop", [key, default @ ..]) => match (self.entry(dict, key)?, default) {
                (Some(at), _) => dict.items.borrow_mut().remove(at).1,
                (None, [default]) => default.clone(),
                (None, _) => return self.no_such("pop", "a dictionary"),
            },
            ("Delete", [key]) => match self.entry(dict, key)? {
                Some(at) => {
                    dict.items.borrow_mut().remove(at);
                    Value::None
                }
                None => return self.no_such("del", "a dictionary"),
            },
            // PyTorch takes the first one, not Python's last.
            ("popitem", []) if !dict.items.borrow().is_empty() => {
                let (key, value) = dict.items.borrow_mut().remove(0);
                Value::tuple(vec![key, value])
            }
            ("__contains__", [_]) => return Ok(None),
            _ => return self.refuse(name, whole),
        };
        Ok(Some(value))
    }

    /// Where a dictionary holds a key.
    pub(super) fn entry(&mut self, dict: &DictValue<'a>, key: &Value<'a>) -> Eval<Option<usize>> {
        self.spend(dict.items.borrow().len())?;
        let found = find(dict.items.borrow().iter().map(|(k, _)| k), key);
        match found {
            Some(found) => Ok(found),
            None => self.beyond("a dictionary's keys are known only when the model runs"),
        }
    }

    /// `dict[key] = value`.
    pub fn set_entry(&mut self, whole: &Value<'a>, key: &Value<'a>, value: &Value<'a>) -> Eval<()> {
        let Value::Dict(dict) = whole else {
            return Ok(());
        };
        self.put_in(whole, &[key.clone(), value.clone()])?;
        match self.entry(dict, key)? {
            Some(at) => dict.items.borrow_mut()[at].1 = value.clone(),
            None => dict.items.borrow_mut().push((key.clone(), value.clone())),
        }
        self.check_items(dict.items.borrow().len())
    }
}
